// What a file says of itself as a segment, from its first and last bytes: the plain segment and
// the sealed container, in one form for the chain rule.

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

    static func facts(
        head: [UInt8], tail: [UInt8], byteCount: UInt64, isSealed: Bool
    ) throws(ErrorReply) -> SegmentFacts {
        var result: Result<SegmentFacts, FormatFault> = .failure(FormatFault(text: ""))
        head.withUnsafeBytes { head in
            tail.withUnsafeBytes { tail in
                do {
                    result = .success(
                        isSealed
                            ? try sealed(head: head, tail: tail, byteCount: byteCount)
                            : try plain(head: head, tail: tail, byteCount: byteCount))
                } catch { result = .failure(FormatFault(text: "\(error)")) }
            }
        }
        do throws(FormatFault) {
            return try result.get()
        } catch {
            let what = isSealed ? "sealed segment" : "segment"
            throw ErrorReply(.damaged, "these bytes are no valid \(what): \(error.text)")
        }
    }

    private struct FormatFault: Error {
        var text: String
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
        let predecessor = text(header.predecessor)
        return SegmentFacts(
            name: SegmentName(first: header.first.lsn, last: footer.last.lsn, kind: header.kind),
            first: header.first, last: footer.last, volume: header.volume,
            volumeBytes: header.volumeBytes,
            chainDigest: header.kind == .log
                ? "\(footer.digest)" : header.kind == .merged ? predecessor : nil,
            predecessor: header.kind == .log ? predecessor : nil, digest: "\(footer.digest)",
            digestBytes: SegmentFormat.footerBytes - SegmentFooter.digestOffset)
    }

    /// Chain ids take the place of digests: they are equal where the digests are.
    private static func sealed(
        head: UnsafeRawBufferPointer, tail: UnsafeRawBufferPointer, byteCount: UInt64
    ) throws(SealedError) -> SegmentFacts {
        let footer = try SealedFooter.decode(tail, fileBytes: byteCount)
        guard footer.header.isAt(start: head) else { throw .malformed(.header, rule: 4) }
        let label = footer.label
        guard let content = label.content else { throw .misplaced }
        return SegmentFacts(
            name: label.name, first: label.first, last: label.last, volume: content.volume,
            volumeBytes: content.volumeBytes, chainDigest: content.chainID.flatMap(text),
            predecessor: label.kind == .log ? content.predecessorID.flatMap(text) : nil,
            digest: "\(footer.digest)",
            digestBytes: SealedFormat.footerBytes - SealedFormat.digestOffset)
    }

    private static func text(_ digest: SegmentDigest) -> String? {
        digest == .none ? nil : "\(digest)"
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
