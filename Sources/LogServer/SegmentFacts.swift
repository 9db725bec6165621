// What a file says of itself as a segment, from its first and last bytes: what
// History makes of them, for files of the server.

import BlockModel
import DiskIO
import History
import LogFormat
import ServerAPI

extension SegmentFacts {
    /// From the file of an upload, `byteCount` long; throws `.damaged` where header or footer are
    /// not right or do not fit `name`, `.failed` where the disk fails.
    static func read(
        _ file: StorageFile, byteCount: UInt64, as name: SegmentName, isSealed: Bool
    ) throws(ErrorReply) -> SegmentFacts {
        let head = try bytes(of: file, at: 0, count: SegmentFormat.headerBytes, byteCount)
        let count = isSealed ? SealedFormat.footerBytes : SegmentFormat.footerBytes
        let start = byteCount - min(byteCount, UInt64(count))
        let tail = try bytes(of: file, at: start, count: count, byteCount)
        let facts = try facts(head: head, tail: tail, byteCount: byteCount, isSealed: isSealed)
        guard facts.name == name else {
            throw ErrorReply(.damaged, "the segment is \(facts.name), not \(name)")
        }
        return facts
    }

    private static func bytes(
        of file: StorageFile, at offset: UInt64, count: Int, _ size: UInt64
    ) throws(ErrorReply) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: Int(min(UInt64(count), size - offset)))
        var outcome: Result<Int, IOError> = .success(0)
        bytes.withUnsafeMutableBytes { target in
            do throws(IOError) {
                outcome = .success(try file.read(into: target, at: offset))
            } catch { outcome = .failure(error) }
        }
        switch outcome {
        case .success(let done):
            guard done == bytes.count else {
                throw ErrorReply(.damaged, "the upload is shorter than it was")
            }
            return bytes
        case .failure(let error): throw ErrorReply(error)
        }
    }
}

extension ErrorReply {
    /// A failed disk, as the client hears of it: no paths of the server.
    init(_ error: IOError) {
        if error.isNoSpace {
            self.init(.full, "the server has no room")
        } else {
            self.init(.failed, "the server's disk failed (\(error.operation): \(error.reason))")
        }
    }

    init(_ error: StoreError) {
        switch error.cause {
        case .missing: self.init(.missing, "there is no segment of that name")
        case .io(let cause): self.init(cause)
        default: self.init(.failed, "the server's store failed")
        }
    }
}
