// A past state as a read-only disk. What cannot be read because a segment is damaged gives EIO,
// for the sectors that lie there and no others, never a wrong byte; and the segment is named.

import BlockModel
import History
import Synchronization

/// The disk of a view. Any thread may call.
final class PastDevice: BlockDevice, @unchecked Sendable {
    // @unchecked: inherited; atomics and a lock.
    private let view: PointInTimeView
    /// What the view needs to live as long: its leases.
    private let state: PastState?
    private let failures = Mutex<[HistoryError]>([])
    private let readCount = Atomic<UInt64>(0)
    private let readByteCount = Atomic<UInt64>(0)
    private static let failuresMax = 16
    private let didFail: @Sendable (String) -> Void

    /// The caller sees to it that what the view reads stays.
    init(_ view: PointInTimeView) {
        self.view = view
        state = nil
        didFail = { _ in }
        super.init()
    }

    /// Keeps the state and so its leases. `didFail` is told, on the thread that reads, why a read
    /// failed.
    init(_ state: PastState, didFail: @escaping @Sendable (String) -> Void = { _ in }) {
        view = state.view
        self.state = state
        self.didFail = didFail
        super.init()
    }

    override var byteCount: UInt64 { view.byteCount }
    override var isReadOnly: Bool { true }

    /// What was read.
    var reads: (count: UInt64, bytes: UInt64) {
        (readCount.load(ordering: .relaxed), readByteCount.load(ordering: .relaxed))
    }

    /// Why the first read that failed did.
    var failure: HistoryError? { failures.withLock { $0.first } }

    /// Why reads failed, each reason once.
    var problems: [String] { failures.withLock { $0.map(Self.words) } }

    private static func words(_ error: HistoryError) -> String {
        "some sectors cannot be read: \(error)"
    }

    override func read(
        into target: UnsafeMutableRawBufferPointer, at offset: UInt64
    ) throws(DeviceError) {
        readCount.add(1, ordering: .relaxed)
        readByteCount.add(UInt64(target.count), ordering: .relaxed)
        do throws(HistoryError) {
            try view.read(into: target, at: offset)
        } catch {
            let text = Self.words(error)
            failures.withLock { known in
                if known.count < Self.failuresMax, !known.map(Self.words).contains(text) {
                    known.append(error)
                }
            }
            didFail(text)
            throw .io
        }
    }
}
