// Segments and uploads at a log server: listing, ranges, and bytes that become a segment.

import History
import LogFormat
import NIOHTTP1
import ServerAPI

extension LogServerClient {
    /// Bytes of a streamed body that are read and handed over at once.
    public static let pieceBytes = 256 << 10

    // MARK: - Reading

    /// All segments of the volume, sorted by name.
    public func segments() throws(ShipError) -> SegmentListing {
        try get(volumePath + "/segments")
    }

    /// Bytes of a segment; nil when there is none of that name.
    public func segmentBytes(_ name: SegmentName) throws(ShipError) -> UInt64? {
        let answer = try answer(to: Request(.HEAD, path(name)))
        // An answer to HEAD has no body that could say more.
        if answer.status == 404 { return nil }
        guard let text = try good(answer).headers.first(name: "Content-Length"),
            let count = UInt64(text)
        else { throw .unreachable("\(url.authority) does not tell the length of \(name)") }
        return count
    }

    /// Fills `target`, which is not empty, with the bytes at `offset`. `.rejected(.range)` where
    /// the segment ends before. The server's memory of what it sent is not trusted: an answer
    /// that is not exactly that range counts as none.
    public func readSegment(
        _ name: SegmentName, into target: UnsafeMutableRawBufferPointer, at offset: UInt64
    ) throws(ShipError) {
        let count = try read(path(name), into: target, at: offset)
        if count < target.count {
            throw .rejected(
                ErrorReply(.range, "\(name) ends at \(offset + UInt64(count))"))
        }
    }

    /// Fills the front of `target` with what there is at `offset`: all of it but at the end.
    func read(
        _ path: String, into target: UnsafeMutableRawBufferPointer, at offset: UInt64
    ) throws(ShipError) -> Int {
        let last = offset + UInt64(target.count) - 1
        let answer = try call(
            Request(.GET, path, [("Range", "bytes=\(offset)-\(last)")]), into: target)
        let range = answer.headers.first(name: "Content-Range").flatMap(ByteRange.init)
        guard answer.status == 206, let range, range.first == offset, range.last <= last,
            UInt64(answer.filled) == range.last - range.first + 1
        else {
            throw .unreachable("\(url.authority) does not answer with the range asked for")
        }
        return answer.filled
    }

    /// `Content-Range: bytes FIRST-LAST/SIZE`.
    package struct ByteRange {
        package var first: UInt64
        package var last: UInt64

        package init?(_ text: String) {
            guard text.hasPrefix("bytes ") else { return nil }
            let parts = text.dropFirst(6).split(separator: "/")
            let ends = parts.first?.split(separator: "-") ?? []
            guard parts.count == 2, ends.count == 2, let first = UInt64(ends[0]),
                let last = UInt64(ends[1]), first <= last
            else { return nil }
            (self.first, self.last) = (first, last)
        }
    }

    /// Needs a token with full access.
    public func deleteSegment(_ name: SegmentName) throws(ShipError) {
        _ = try call(Request(.DELETE, path(name)))
    }

    // MARK: - Uploads

    /// How many bytes of an upload the server has; 0 for one that it does not know.
    public func uploadedBytes(_ id: String) throws(ShipError) -> UInt64 {
        do throws(ShipError) {
            let reply: UploadReply = try get(path(upload: id))
            return reply.bytes
        } catch {
            if case .rejected(let reply) = error, reply.code == .missing { return 0 }
            throw error
        }
    }

    /// Sends `count` bytes of an upload from `offset` on, where it must stand: otherwise
    /// `.rejected(.offset)`, which says where it does. `next` fills each piece in turn; it may
    /// wait, and ends the request by throwing. Not repeated: ask `uploadedBytes` and go on.
    public func append(
        to id: String, at offset: UInt64, count: UInt64,
        _ next: (UnsafeMutableRawBufferPointer) throws(ShipError) -> Void
    ) throws(ShipError) {
        let request = Request(
            .PATCH, path(upload: id),
            [
                (ServerAPI.uploadOffsetHeader, "\(offset)"),
                ("Content-Type", "application/octet-stream"),
            ])
        _ = try stream(request, count: count, pieceBytes: Self.pieceBytes, next)
    }

    /// Makes an upload a segment. May be repeated: what is there already is answered as that.
    public func commit(
        _ id: String, _ request: CommitRequest
    ) throws(ShipError) -> CommitReply {
        // The server reads and syncs all of it before it answers.
        let seconds = access.idleSeconds + 60 + Int64(request.bytes / 20_000_000)
        return try send(.POST, path(upload: id), request, idleSeconds: seconds)
    }

    /// Gives an upload up; one that is not there is no error.
    public func abandon(_ id: String) throws(ShipError) {
        try deleteIfThere(path(upload: id))
    }

    private func path(_ name: SegmentName) -> String { "\(volumePath)/segments/\(name)" }
    private func path(upload id: String) -> String { "\(volumePath)/uploads/\(id)" }
}
