// Deliberate faults. In builds for the tests each can be switched on, and the simulator must then
// find it (docs/durability.md); in every other build `isOn` is the constant false, at no cost.

#if DELIBERATE_FAULTS
    import Synchronization
#endif

/// A mistake that a log-structured volume must not make, switchable to prove that tests notice.
public enum Fault: Int, CaseIterable, Sendable {
    /// The applier writes published but not yet durable records to the image.
    case imageBeforeLog
    /// A flush answers after the write, without the sync.
    case flushWithoutSync
    /// Record checksums do not depend on the epoch's salt.
    case saltIgnored
    /// The checkpoint is written without syncing the image first.
    case checkpointWithoutImageSync
    /// Payload checksums are not verified at recovery.
    case payloadUnchecked
    /// A failed sync is retried as if it had never failed.
    case syncErrorForgotten
    /// WAL files are recycled when applied, without waiting for the archiver.
    case recycledBeforeArchived
    /// The wall clock is taken as it comes.
    case clockUnclamped

    #if DELIBERATE_FAULTS
        private static let mask = Atomic<UInt64>(0)

        public var isOn: Bool {
            Self.mask.load(ordering: .relaxed) & (1 << UInt64(rawValue)) != 0
        }
        /// Switches exactly these faults on, for the whole process.
        public static func set(_ faults: [Fault]) {
            mask.store(faults.reduce(0) { $0 | 1 << UInt64($1.rawValue) }, ordering: .relaxed)
        }
    #else
        @inlinable @inline(__always)
        public var isOn: Bool { false }
    #endif
}
