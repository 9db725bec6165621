// What the first and last bytes of a segment say of it: the plain segment and the sealed container,
// in one form for the chain rule. Pure.

import BlockModel
import LogFormat
import ServerAPI

extension SegmentFacts {
    /// So many bytes at the front of a segment, plain or sealed, tell what it is.
    package static let headBytes = SegmentFormat.headerBytes

    /// So many at its end.
    package static func tailBytes(isSealed: Bool) -> Int {
        isSealed ? SealedFormat.footerBytes : SegmentFormat.footerBytes
    }

    /// `.damaged` where header and footer are not right or do not fit each other.
    package static func facts(
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
}
