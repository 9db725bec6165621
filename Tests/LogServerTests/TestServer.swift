// A real log server on a loopback port, and a client that speaks to it by hand.

import DiskIO
import Foundation
import History
import LogServer
import Logging
import ServerAPI
import Testing

/// A server over simulated storage, in `/store`. Stops when it goes.
final class TestServer {
    let storage: SimulatedStorage
    let server: LogServer
    let port: Int
    let tokens: AccessFolder
    private(set) var token = ""

    init(
        _ storage: SimulatedStorage = SimulatedStorage(seed: 1),
        _ change: (inout LogServerConfiguration) -> Void = { _ in }
    ) throws {
        self.storage = storage
        var log = Logger(label: "test")
        log.logLevel = .critical
        var configuration = LogServerConfiguration(storage: storage, store: "/store", log: log)
        configuration.limits.pruneRestSeconds = 0
        configuration.limits.pruneEverySeconds = 0
        change(&configuration)
        server = try LogServer(configuration)
        port = try server.start()
        tokens = AccessFolder(try ServerStore(opening: "/store", in: storage))
        if !storage.exists("/store/.logdisk/access/tests") {
            token = try tokens.create(name: "tests", level: .full, volumes: ["*"], now: 0)
        }
    }

    deinit { server.stop(graceSeconds: 1) }

    func stop() { server.stop(graceSeconds: 1) }

    func client(_ token: String? = nil) -> TestClient {
        TestClient(port: port, token: token ?? self.token)
    }
}

/// Requests with a token, over one connection that is made anew when it was closed.
final class TestClient {
    let port: Int
    var token: String
    var writer = "writer-1"
    private var connection: RawClient?
    private var uploads = 0

    init(port: Int, token: String) {
        self.port = port
        self.token = token
    }

    func send(
        _ method: String, _ path: String, _ body: [UInt8] = [], fields: [String: String] = [:]
    ) throws -> RawReply {
        var text = "\(method) \(path) HTTP/1.1\r\nHost: localhost\r\n"
        if !token.isEmpty { text += "Authorization: Bearer \(token)\r\n" }
        if !writer.isEmpty { text += "Logdisk-Writer: \(writer)\r\n" }
        for (name, value) in fields { text += "\(name): \(value)\r\n" }
        if !body.isEmpty || method != "GET" { text += "Content-Length: \(body.count)\r\n" }
        let bytes = Array((text + "\r\n").utf8) + body
        for isLast in [false, true] {
            let connection = try self.connection ?? RawClient(port: port)
            self.connection = nil
            connection.send(bytes)
            if let reply = connection.reply(isHead: method == "HEAD") {
                if reply.fields["connection"] != "close" { self.connection = connection }
                return reply
            }
            if isLast { break }
        }
        throw SocketFailure(what: "no answer to \(method) \(path)")
    }

    func send(
        _ method: String, _ path: String, json: some Encodable
    ) throws -> RawReply {
        try send(method, path, Array(JSONEncoder().encode(json)))
    }

    // MARK: the interface

    @discardableResult
    func make(
        _ name: String, _ maker: SegmentMaker = SegmentMaker(), keep: String? = nil,
        isSealed: Bool = false
    ) throws -> RawReply {
        try send(
            "PUT", "/v1/volumes/\(name)",
            json: VolumeRequest(
                uuid: "\(maker.volume)", sizeBytes: maker.volumeBytes, writer: writer,
                host: "host of the tests", isSealed: isSealed, keep: keep))
    }

    func append(
        _ name: String, _ id: String, _ bytes: some Sequence<UInt8>, at offset: Int = 0
    ) throws -> RawReply {
        try send(
            "PATCH", "/v1/volumes/\(name)/uploads/\(id)", Array(bytes),
            fields: ["Upload-Offset": "\(offset)"])
    }

    func commit(
        _ name: String, _ id: String, _ segment: MadeSegment, after: String? = nil,
        isGap: Bool = false, by digest: AnnouncedDigest = .ofAll
    ) throws -> RawReply {
        var request = CommitRequest(
            name: "\(segment.name)", bytes: UInt64(segment.bytes.count), after: after,
            isGap: isGap)
        switch digest {
        case .ofAll: request.sha256 = segment.sha256
        case .inFooter: request.digest = segment.digest
        case .none: break
        case .other(let text): request.digest = text
        }
        return try send("POST", "/v1/volumes/\(name)/uploads/\(id)", json: request)
    }

    /// Uploads and commits.
    func put(
        _ name: String, _ segment: MadeSegment, after: String? = nil, isGap: Bool = false
    ) throws -> RawReply {
        // An upload that is refused stays: each try is one of its own.
        uploads += 1
        let id = "up-\(uploads)"
        let reply = try append(name, id, segment.bytes)
        guard reply.status == 200 else { return reply }
        return try commit(name, id, segment, after: after, isGap: isGap)
    }

    func state(_ name: String) throws -> VolumeReply {
        try send("GET", "/v1/volumes/\(name)").json()
    }

    func segments(_ name: String) throws -> [String] {
        try send("GET", "/v1/volumes/\(name)/segments").json(SegmentListing.self)
            .segments.map(\.name)
    }
}

/// The status and code of an answer, as a word for comparisons.
extension RawReply {
    var code: String {
        if status < 300 { return "\(status)" }
        return (try? json(ErrorReply.self)).map { "\(status) \($0.code.rawValue)" } ?? "\(status) ?"
    }
}

/// Which digest a commit names.
enum AnnouncedDigest {
    case ofAll, inFooter, none
    case other(String)
}
