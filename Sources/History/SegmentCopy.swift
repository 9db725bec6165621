// Copies whole segments from one store to another. What arrives is checked before it is visible.

import BlockModel
import Crypto
import LogFormat

/// The copying of segments. A value; any thread may call.
public struct SegmentCopy: Sendable {
    private let source: any SegmentStore
    private let target: any SegmentStore
    private static let pieceBytes = 1 << 20

    public init(from source: any SegmentStore, to target: any SegmentStore) {
        (self.source, self.target) = (source, target)
    }

    /// Copies one segment: durable in the target when this returns, nothing of it there when it
    /// throws. `.damaged` where its bytes do not have the digest that they end with.
    public func copy(
        _ segment: StoredSegment, monitor: WorkMonitor = .none
    ) throws(HistoryError) {
        let footer = try SegmentReader.footer(of: segment, in: source)
        let covered = footer.footerOffset + UInt64(SegmentFooter.digestOffset)
        let upload: any SegmentUpload
        do throws(StoreError) { upload = try target.upload() } catch { throw .store(error) }
        defer { upload.abort() }
        let memory = RawMemory(count: Self.pieceBytes)
        var digest = SHA256()
        var position: UInt64 = 0
        while position < segment.byteCount {
            guard !monitor.isCancelled() else { throw .cancelled }
            let count = Int(min(UInt64(Self.pieceBytes), segment.byteCount - position))
            let piece = UnsafeMutableRawBufferPointer(rebasing: memory.bytes[..<count])
            do throws(StoreError) {
                try source.read(segment.name, into: piece, at: position)
                try upload.append(UnsafeRawBufferPointer(piece))
            } catch { throw .store(error) }
            let hashed = Int(min(UInt64(count), max(covered, position) - position))
            digest.update(bufferPointer: UnsafeRawBufferPointer(rebasing: piece[..<hashed]))
            position += UInt64(count)
            monitor.report(WorkProgress(doneBytes: position, totalBytes: segment.byteCount))
        }
        let found = digest.finalize().withUnsafeBytes { SegmentDigest($0.baseAddress!) }
        guard found == footer.digest else {
            throw .damaged(segment.name, .checksum(.digest))
        }
        do throws(StoreError) {
            try upload.commit(as: segment.name)
        } catch { throw .store(error) }
    }
}
