// A past point of a volume as a disk that can be read.

import BlockModel
import CommandText
import History
import Synchronization

/// A view as a read-only block device. What cannot be read is EIO to the reader, never a wrong
/// byte, and is remembered. Any thread may call.
final class PastDevice: BlockDevice, @unchecked Sendable {
    // @unchecked: immutable but for the failure, which lies behind a lock.
    private let view: PointInTimeView
    private let firstFailure = Mutex<HistoryError?>(nil)

    init(_ view: PointInTimeView) {
        self.view = view
        super.init()
    }

    override var byteCount: UInt64 { view.byteCount }
    override var isReadOnly: Bool { true }

    /// Why the first read that failed did.
    var failure: HistoryError? { firstFailure.withLock { $0 } }

    override func read(
        into target: UnsafeMutableRawBufferPointer, at offset: UInt64
    ) throws(DeviceError) {
        do throws(HistoryError) {
            try view.read(into: target, at: offset)
        } catch {
            firstFailure.withLock { $0 = $0 ?? error }
            throw .io
        }
    }
}
