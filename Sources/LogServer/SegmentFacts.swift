// What a file says of itself as a segment, from its first and last bytes: the plain segment and
// the sealed container, in one form for the chain rule.

import BlockModel
import Crypto
import DiskIO
import History
import LogFormat
import ServerAPI

extension SegmentFacts {
    /// Bytes at either end that tell all.
    static let endBytes = SegmentFormat.footerBytes

    /// From the file of an upload, `byteCount` long; throws `.damaged` where header or footer are
    /// not right or do not fit `name`, `.failed` where the disk fails.
    static func read(
        _ file: StorageFile, byteCount: UInt64, as name: SegmentName, isSealed: Bool
    ) throws(ErrorReply) -> SegmentFacts {
        let head = try bytes(of: file, at: 0, count: SegmentFormat.headerBytes, byteCount)
        let count = UInt64(endBytes)
        let tail = try bytes(
            of: file, at: byteCount > count ? byteCount - count : 0, count: endBytes, byteCount)
        let facts = try facts(head: head, tail: tail, byteCount: byteCount, isSealed: isSealed)
        guard facts.name == name else {
            throw ErrorReply(.damaged, "the segment is \(facts.name), not \(name)")
        }
        return facts
    }

    static func facts(
        head: [UInt8], tail: [UInt8], byteCount: UInt64, isSealed: Bool
    ) throws(ErrorReply) -> SegmentFacts {
        guard !isSealed else {
            throw ErrorReply(.damaged, "sealed segments are not known to this server")
        }
        var result: Result<SegmentFacts, SegmentError> = .failure(.notASegment)
        head.withUnsafeBytes { head in
            tail.withUnsafeBytes { tail in
                do throws(SegmentError) {
                    result = .success(try plain(head: head, tail: tail, byteCount: byteCount))
                } catch { result = .failure(error) }
            }
        }
        do throws(SegmentError) {
            return try result.get()
        } catch {
            throw ErrorReply(.damaged, "these bytes are no valid segment: \(error)")
        }
    }

    private static func plain(
        head: UnsafeRawBufferPointer, tail: UnsafeRawBufferPointer, byteCount: UInt64
    ) throws(SegmentError) -> SegmentFacts {
        let footer = try SegmentFooter.decode(tail, fileBytes: byteCount)
        guard try SegmentHeader.decode(head) == footer.header else {
            throw .malformed(.header, rule: 8)
        }
        let header = footer.header
        guard header.kind != .snapshot || header.first == footer.last else {
            throw .malformed(.footer, rule: 7)
        }
        let predecessor = header.predecessor == .none ? nil : "\(header.predecessor)"
        return SegmentFacts(
            name: SegmentName(first: header.first.lsn, last: footer.last.lsn, kind: header.kind),
            first: header.first, last: footer.last, volume: header.volume,
            volumeBytes: header.volumeBytes,
            chainDigest: header.kind == .log
                ? "\(footer.digest)" : header.kind == .merged ? predecessor : nil,
            predecessor: header.kind == .log ? predecessor : nil)
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
