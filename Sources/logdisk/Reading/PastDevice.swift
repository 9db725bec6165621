// A past state as a read-only disk. What cannot be read because a segment is damaged gives EIO,
// for the sectors that lie there and no others, and the segment is named.

import BlockModel
import History
import Synchronization

/// The disk of a past state. Holds the state's lease. Any thread may call.
final class PastDevice: BlockDevice, @unchecked Sendable {
    // @unchecked: inherited; atomics and a lock.
    let state: PastState
    private let failures = Mutex<[String]>([])
    private let readCount = Atomic<UInt64>(0)
    private let readByteCount = Atomic<UInt64>(0)
    private static let failuresMax = 16
    private let didFail: @Sendable (String) -> Void

    /// `didFail` is told, on the thread that reads, why a read failed.
    init(_ state: PastState, didFail: @escaping @Sendable (String) -> Void = { _ in }) {
        self.state = state
        self.didFail = didFail
        super.init()
    }

    override var byteCount: UInt64 { state.view.byteCount }
    override var isReadOnly: Bool { true }

    /// What was read.
    var reads: (count: UInt64, bytes: UInt64) {
        (readCount.load(ordering: .relaxed), readByteCount.load(ordering: .relaxed))
    }

    /// Why reads failed, each reason once.
    var problems: [String] { failures.withLock { $0 } }

    override func read(
        into target: UnsafeMutableRawBufferPointer, at offset: UInt64
    ) throws(DeviceError) {
        readCount.add(1, ordering: .relaxed)
        readByteCount.add(UInt64(target.count), ordering: .relaxed)
        do throws(HistoryError) {
            try state.view.read(into: target, at: offset)
        } catch {
            let text = "some sectors cannot be read: \(error)"
            failures.withLock {
                if !$0.contains(text), $0.count < Self.failuresMax { $0.append(text) }
            }
            didFail(text)
            throw .io
        }
    }
}
