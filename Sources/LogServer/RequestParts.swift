// A request as it comes in on a connection, and an answer before it is written.

import DiskIO
import Foundation
import HTTPTypes
import History
import NIOCore
import NIOHTTPTypes
import ServerAPI

/// The other side went away in the middle; there is nobody to answer.
struct ConnectionCut: Error {}

/// Reads the parts of the requests of one connection, in order. One task.
struct RequestReader {
    private var parts: NIOAsyncChannelInboundStream<HTTPRequestPart>.AsyncIterator
    /// The body of the request at hand has been read to its end.
    private(set) var isAtEnd = true

    init(_ parts: NIOAsyncChannelInboundStream<HTTPRequestPart>.AsyncIterator) {
        self.parts = parts
    }

    /// The head of the next request; nil when the connection ends.
    mutating func nextHead() async throws -> HTTPRequest? {
        guard let part = try await parts.next() else { return nil }
        guard case .head(let head) = part else { throw ConnectionCut() }
        isAtEnd = false
        return head
    }

    /// The next piece of the body; nil at its end.
    mutating func next() async throws -> ByteBuffer? {
        if isAtEnd { return nil }
        switch try await parts.next() {
        case .body(let bytes): return bytes
        case .end:
            isAtEnd = true
            return nil
        default: throw ConnectionCut()
        }
    }

    /// Reads a body of at most `limit` bytes; throws `.tooLarge` beyond.
    mutating func collect(limit: Int) async throws -> [UInt8] {
        var bytes: [UInt8] = []
        while let piece = try await next() {
            guard bytes.count + piece.readableBytes <= limit else {
                throw ErrorReply(.tooLarge, "the body is larger than \(limit) bytes")
            }
            bytes += piece.readableBytesView
        }
        return bytes
    }

    /// Takes what still comes, and drops it.
    mutating func discard() async {
        while let _ = try? await parts.next() {}
    }
}

extension HTTPRequest {
    /// Whether a body follows the head.
    var hasBody: Bool {
        headerFields[.transferEncoding] != nil
            || (headerFields[.contentLength].map { $0 != "0" } ?? false)
    }

    /// Length of the body, where it is told.
    var contentLength: UInt64? { headerFields[.contentLength].flatMap { UInt64($0) } }

    /// Whether the client waits before it sends the body.
    var expectsContinue: Bool {
        headerFields[.expect]?.lowercased() == "100-continue"
    }

    /// The token of `Authorization: Bearer TOKEN`.
    var token: Substring? {
        guard let field = headerFields[.authorization] else { return nil }
        let words = field.split(separator: " ", maxSplits: 1)
        guard words.count == 2, words[0].lowercased() == "bearer" else { return nil }
        return words[1]
    }
}

extension HTTPField.Name {
    static let logdiskWriter = named(ServerAPI.writerHeader)
    static let logdiskLoad = named(ServerAPI.loadHeader)
    static let uploadOffset = named(ServerAPI.uploadOffsetHeader)
    static let headBytes = named(ServerAPI.headBytesHeader)
    static let contentDigest = named(ServerAPI.digestHeader)
    static let zeros = named(ServerAPI.zerosHeader)

    private static func named(_ text: String) -> HTTPField.Name {
        guard let name = HTTPField.Name(text) else {
            preconditionFailure("\(text) is no name of a header field")
        }
        return name
    }
}

/// What is answered.
struct Reply: Sendable {
    enum Body: Sendable {
        case none
        case bytes([UInt8])
        /// A range of a segment.
        case segment(ServedSegments, SegmentName, RequestedRange)
        /// A range of a file.
        case file(StorageFile, RequestedRange)
    }
    var status: HTTPResponse.Status
    var fields: HTTPFields = [:]
    var body: Body = .none

    init(_ status: HTTPResponse.Status) { self.status = status }

    init(text: String, _ type: String) {
        status = .ok
        fields[.contentType] = type
        body = .bytes(Array(text.utf8))
    }

    init(_ value: some Encodable, _ status: HTTPResponse.Status = .ok) {
        self.status = status
        fields[.contentType] = "application/json"
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        // Plain values of our own: they always encode.
        body = .bytes(Array((try? encoder.encode(value)) ?? Data("{}".utf8)) + [0x0A])
    }

    /// Bytes of something, or a range of them.
    init(_ range: RequestedRange, _ body: Body) {
        self.init(range.isWhole ? .ok : .partialContent)
        fields[.contentType] = "application/octet-stream"
        fields[.acceptRanges] = "bytes"
        if !range.isWhole { fields[.contentRange] = range.contentRange }
        self.body = body
    }

    /// `retrySeconds`: what 503 asks to wait.
    init(_ error: ErrorReply, retrySeconds: Int64) {
        self.init(error, HTTPResponse.Status(code: error.code.httpStatus))
        if status.code == 503 { fields[.retryAfter] = "\(retrySeconds)" }
        if status.code == 401 { fields[.wwwAuthenticate] = "Bearer" }
    }

    var byteCount: UInt64 {
        switch body {
        case .none: 0
        case .bytes(let bytes): UInt64(bytes.count)
        case .segment(_, _, let range), .file(_, let range): UInt64(range.bytes.count)
        }
    }
}
