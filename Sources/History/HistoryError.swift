// What can go wrong with history, apart from a target that cannot be restored (NotRestorable).
// Values only; the command line makes sentences and exit codes of them.

import BlockModel
import DiskIO
import LogFormat

/// A failed operation on history.
public enum HistoryError: Error, Sendable {
    /// The store failed.
    case store(StoreError)
    /// A segment is not what it should be.
    case damaged(SegmentName, SegmentError)
    /// The source of records, of a snapshot's content or of the tail of the log failed.
    case source(any Error)
    /// A record's payload does not have its checksum.
    case payload(LSN)
    /// The source gave another record than the one that must follow.
    case order(expected: LSN, found: LSN)
    /// The source ended before the record it should reach.
    case sourceEnds(expected: LSN)
    /// A record reaches past the end of the volume.
    case outsideVolume(LSN)
    /// The file or device to be written failed.
    case output(IOError)
    /// The file to be made exists already.
    case outputExists(String)
    /// The device to be written is smaller than the volume.
    case outputTooSmall(path: String, bytes: UInt64, needed: UInt64)
    /// The target cannot be restored.
    case notRestorable(NotRestorable)
    /// Stopped on demand; nothing was left behind.
    case cancelled
}

extension HistoryError {
    /// A segment could not be read: it is damaged where the store says so, or the store failed.
    init(reading name: SegmentName, _ error: StoreError) {
        if case .damaged(let why) = error.cause {
            self = .damaged(name, why)
        } else {
            self = .store(error)
        }
    }

    /// Whether the store has no room: what failed can go well later.
    public var isNoSpace: Bool {
        if case .store(let error) = self, case .io(let cause) = error.cause {
            return cause.isNoSpace
        }
        return false
    }
}

extension HistoryError: CustomStringConvertible {
    public var description: String {
        switch self {
        case .store(let error): error.description
        case .damaged(let name, let error): "segment \(name) is damaged (\(error))"
        case .source(let error): "\(error)"
        case .payload(let lsn): "record \(lsn) does not have its checksum"
        case .order(let expected, let found): "record \(expected) should follow, not \(found)"
        case .sourceEnds(let expected): "the log ends before record \(expected)"
        case .outsideVolume(let lsn): "record \(lsn) reaches past the end of the volume"
        case .output(let error): error.description
        case .outputExists(let path): "\(path) exists"
        case .outputTooSmall(let path, let bytes, let needed):
            "\(path) has \(bytes) bytes, the volume has \(needed)"
        case .notRestorable(let error): error.description
        case .cancelled: "cancelled"
        }
    }
}

/// How far long work is.
public struct WorkProgress: Hashable, Sendable {
    public var doneBytes: UInt64
    public var totalBytes: UInt64

    public init(doneBytes: UInt64, totalBytes: UInt64) {
        self.doneBytes = doneBytes
        self.totalBytes = totalBytes
    }
}

/// How long work tells how far it is, and learns that it shall stop. Both closures are called from
/// the working threads, a few times a second to some hundred times.
public struct WorkMonitor: Sendable {
    public var report: @Sendable (WorkProgress) -> Void
    public var isCancelled: @Sendable () -> Bool

    public init(
        report: @escaping @Sendable (WorkProgress) -> Void = { _ in },
        isCancelled: @escaping @Sendable () -> Bool = { false }
    ) {
        self.report = report
        self.isCancelled = isCancelled
    }

    public static let none = WorkMonitor()
}

/// What every segment of a volume says about the volume.
public struct SegmentIdentity: Hashable, Sendable {
    public var volume: VolumeID
    public var volumeBytes: UInt64
    public var epoch: UInt64

    public init(volume: VolumeID, volumeBytes: UInt64, epoch: UInt64) {
        self.volume = volume
        self.volumeBytes = volumeBytes
        self.epoch = epoch
    }
}
