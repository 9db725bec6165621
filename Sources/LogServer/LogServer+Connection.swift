// One connection: requests in order, an answer to each. One task, on the channel's event loop.

import class DiskIO.StorageFile
import HTTPTypes
import History
import Logging
import NIOCore
import NIOHTTPTypes
import NIOPosix
import NIOSSL
import ServerAPI

typealias ReplyWriter = NIOAsyncChannelOutboundWriter<HTTPResponsePart>

extension LogServer {
    /// Serves until the client or the guard closes the connection, or the server stops.
    func converse(_ connection: ServedConnection) async {
        do {
            try await connection.executeThenClose { inbound, outbound in
                var reader = RequestReader(inbound.makeAsyncIterator())
                do {
                    while let head = try await reader.nextHead() {
                        guard try await answer(head, &reader, outbound) else { break }
                    }
                } catch {
                    try await refuse(error, outbound)
                }
                outbound.finish()
                // The answer reaches a client that still sends: a connection that is closed with
                // bytes unread is reset. The guard ends this.
                await reader.discard()
            }
        } catch {
            configuration.log.trace("a connection ended: \(error)")
        }
    }

    /// What cannot be read as HTTP is answered once, where there is still somebody.
    private func refuse(_ error: any Error, _ outbound: ReplyWriter) async throws {
        switch error {
        case is ConnectionCut, is IOError, is ChannelError, is NIOSSLError, is CutShort: return
        default:
            counters.note(status: 400)
            let reply = Reply(
                ErrorReply(.malformed, "this is no request of HTTP/1.1"), retrySeconds: 0)
            try await write(reply, isHead: false, closes: true, outbound)
        }
    }

    /// Answers one request; false when the connection is to end.
    private func answer(
        _ head: HTTPRequest, _ reader: inout RequestReader, _ outbound: ReplyWriter
    ) async throws -> Bool {
        var reply: Reply
        do {
            reply = try await self.reply(to: head, &reader, outbound)
        } catch let error as ErrorReply {
            note(error, head)
            reply = Reply(error, retrySeconds: configuration.limits.retrySeconds)
            if error.code == .range, let size = error.bytes {
                reply.fields[.contentRange] = "bytes */\(size)"
            }
        }
        if head.path?.contains("/uploads/") ?? false {
            reply.fields[.logdiskLoad] = Self.decimal(load.load(now: Self.monotonic))
        }
        counters.note(status: reply.status.code)
        // A body that nobody wants is not read to its end.
        let closes =
            isDraining || (head.hasBody && !reader.isAtEnd)
            || head.headerFields[.connection]?.lowercased() == "close"
        try await write(reply, isHead: head.method == .head, closes: closes, outbound)
        if closes { return false }
        while let _ = try await reader.next() {}
        return true
    }

    private func write(
        _ reply: Reply, isHead: Bool, closes: Bool, _ outbound: ReplyWriter
    ) async throws {
        var head = HTTPResponse(status: reply.status, headerFields: reply.fields)
        if reply.status != .noContent {
            head.headerFields[.contentLength] = "\(reply.byteCount)"
        }
        head.headerFields[.cacheControl] = "no-store"
        head.headerFields[.xContentTypeOptions] = "nosniff"
        if closes { head.headerFields[.connection] = "close" }
        switch reply.body {
        case .bytes(let bytes) where !isHead:
            try await outbound.write(
                contentsOf: [.head(head), .body(ByteBuffer(bytes: bytes)), .end(nil)])
        case .segment(let segments, let name, let range) where !isHead:
            try await outbound.write(.head(head))
            try await send(range, "segment \(name)", outbound) {
                (offset, count) throws(ErrorReply) in
                try Self.read(segments, name, at: offset, count: count)
            }
            try await outbound.write(.end(nil))
        case .file(let file, let range) where !isHead:
            try await outbound.write(.head(head))
            try await send(range, "a file of a set", outbound) {
                (offset, count) throws(ErrorReply) in
                try Self.read(file, at: offset, count: count)
            }
            try await outbound.write(.end(nil))
        default:
            try await outbound.write(contentsOf: [.head(head), .end(nil)])
        }
    }

    /// What goes out at once.
    private static let pieceBytes: UInt64 = 256 << 10

    private func send(
        _ range: RequestedRange, _ object: String, _ outbound: ReplyWriter,
        _ read: @escaping @Sendable (UInt64, Int) throws(ErrorReply) -> ByteBuffer
    ) async throws {
        var offset = range.bytes.lowerBound
        while offset < range.bytes.upperBound {
            let start = offset
            let count = min(Self.pieceBytes, range.bytes.upperBound - start)
            let piece: ByteBuffer
            do throws(ErrorReply) {
                piece = try await disk { try read(start, Int(count)) }
            } catch {
                configuration.log.error("\(object) cannot be sent: \(error.what)")
                throw CutShort()
            }
            try await outbound.write(.body(piece))
            counters.sentBytes.add(Int(count), ordering: .relaxed)
            offset += count
        }
    }

    private static func read(
        _ file: StorageFile, at offset: UInt64, count: Int
    ) throws(ErrorReply) -> ByteBuffer {
        var buffer = ByteBufferAllocator().buffer(capacity: count)
        var failure: ErrorReply?
        buffer.writeWithUnsafeMutableBytes(minimumWritableBytes: count) { memory in
            do throws(ErrorReply) {
                try file.fill(
                    UnsafeMutableRawBufferPointer(rebasing: memory[..<count]), at: offset)
                return count
            } catch {
                failure = error
                return 0
            }
        }
        if let failure { throw failure }
        return buffer
    }

    private static func read(
        _ segments: ServedSegments, _ name: SegmentName, at offset: UInt64, count: Int
    ) throws(ErrorReply) -> ByteBuffer {
        var buffer = ByteBufferAllocator().buffer(capacity: count)
        var failure: StoreError?
        buffer.writeWithUnsafeMutableBytes(minimumWritableBytes: count) { memory in
            do throws(StoreError) {
                try segments.read(
                    name, into: UnsafeMutableRawBufferPointer(rebasing: memory[..<count]),
                    at: offset)
                return count
            } catch {
                failure = error
                return 0
            }
        }
        if let failure { throw ErrorReply(failure) }
        return buffer
    }

    static var monotonic: UInt64 { NIODeadline.now().uptimeNanoseconds }

    private static func decimal(_ share: Double) -> String {
        let thousandths = Int((share * 1000).rounded())
        let digits = String(thousandths % 1000)
        return "\(thousandths / 1000)." + String(repeating: "0", count: 3 - digits.count) + digits
    }

    /// What went wrong here is an error; who was refused shows now and then.
    private func note(_ error: ErrorReply, _ head: HTTPRequest) {
        let path = ServedStore.word(String((head.path ?? "").prefix { $0 != "?" }))
        switch error.code {
        case .failed: configuration.log.error("\(head.method) \(path): \(error.what)")
        case .full: configuration.log.warning("\(head.method) \(path): \(error.what)")
        case .unauthenticated, .forbidden, .fenced:
            if counters.mayLogRefusal(now: Self.monotonic) {
                configuration.log.notice("refused \(head.method) \(path): \(error.what)")
            }
        default: configuration.log.debug("\(head.method) \(path): \(error.what)")
        }
    }
}

/// An answer could not be brought to its end; the connection is closed in its middle.
struct CutShort: Error {}
