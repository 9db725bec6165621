// A log server in a few lines, in memory and over plain HTTP, that checks nothing but what it says
// it checks: for what the client does when the other side behaves in ways a real one seldom does.

import Crypto
import Foundation
import RawSockets
import ServerAPI
import Synchronization

final class FakeServer: Sendable {
    struct Request: Sendable {
        var method = ""
        var path = ""
        /// Names in lower case.
        var headers: [String: String] = [:]
        var body: [UInt8] = []

        var upload: String { path.split(separator: "/").last.map(String.init) ?? "" }
        var offset: Int { headers["upload-offset"].flatMap { Int($0) } ?? 0 }
    }
    struct Answer: Sendable {
        var status = 200
        var headers: [(String, String)] = []
        var body: [UInt8] = []
        /// Says another length than there is.
        var lengthSaid: Int?
        /// Ends the connection after so many bytes of the answer.
        var cutAfter: Int?

        init(_ status: Int = 200, _ body: [UInt8] = [], _ headers: [(String, String)] = []) {
            (self.status, self.body, self.headers) = (status, body, headers)
        }

        init(json value: some Encodable, _ status: Int = 200) {
            self.init(status, (try? JSONEncoder().encode(value)).map { Array($0) } ?? [])
        }

        init(_ error: ErrorReply, retryAfter: Int? = nil) {
            self.init(json: error, error.code.httpStatus)
            if let retryAfter { headers.append(("Retry-After", "\(retryAfter)")) }
        }
    }
    struct State: Sendable {
        var uploads: [String: [UInt8]] = [:]
        var segments: [String: [UInt8]] = [:]
        /// "METHOD path", in order.
        var log: [String] = []
        /// Bytes of PATCH bodies that came in.
        var bodyBytes = 0
        var leases: Set<String> = []
        /// Asked first, once the head is there; nil: as usual.
        var special: (@Sendable (Request) -> Answer?)?
        /// Takes only so many bytes of a PATCH body, then cuts the connection.
        var cutBodies: [Int] = []
        /// What every request must carry.
        var token: String?
    }
    private final class Shared: Sendable { let state = Mutex(State()) }
    private let shared = Shared()
    private let server: RawServer

    var port: Int { server.port }
    var connections: Int { server.accepted }
    func cutAll() { server.cutAll() }

    func with<T: Sendable>(_ body: (inout State) -> T) -> T {
        shared.state.withLock { body(&$0) }
    }
    var log: [String] { shared.state.withLock { $0.log } }

    init() throws {
        server = try RawServer { [shared] connection in
            var input: [UInt8] = []
            while Self.serveOne(connection, &input, shared) {}
        }
    }

    private static func serveOne(
        _ connection: RawConnection, _ input: inout [UInt8], _ shared: Shared
    ) -> Bool {
        var end = find(input)
        while end == nil {
            let more = connection.read()
            if more.isEmpty { return false }
            input += more
            end = find(input)
        }
        guard let end else { return false }
        var request = parse(input[..<end])
        input.removeFirst(end + 4)
        let length = request.headers["content-length"].flatMap { Int($0) } ?? 0
        let line = "\(request.method) \(request.path)"
        let isPatch = request.method == "PATCH"
        var special: (@Sendable (Request) -> Answer?)?
        var limit: Int?
        shared.state.withLock { state in
            state.log.append(line)
            special = state.special
            if isPatch, !state.cutBodies.isEmpty { limit = state.cutBodies.removeFirst() }
        }
        if let special, let answer = special(request) { return write(answer, connection) }
        let wanted = min(length, limit ?? length)
        while input.count < wanted {
            let more = connection.read()
            if more.isEmpty { break }
            input += more
        }
        request.body = Array(input.prefix(wanted))
        input.removeFirst(request.body.count)
        let answer = shared.state.withLock { Self.answer(to: request, &$0) }
        if request.body.count < length { return false }
        return write(answer, connection)
    }

    private static func find(_ bytes: [UInt8]) -> Int? {
        guard bytes.count >= 4 else { return nil }
        return (0...bytes.count - 4).first { bytes[$0..<$0 + 4].elementsEqual([13, 10, 13, 10]) }
    }

    private static func parse(_ bytes: ArraySlice<UInt8>) -> Request {
        let lines = String(decoding: bytes, as: UTF8.self).components(separatedBy: "\r\n")
        let words = lines[0].split(separator: " ")
        var request = Request()
        request.method = String(words[0])
        request.path = String(words[1])
        for line in lines.dropFirst() {
            guard let colon = line.firstIndex(of: ":") else { continue }
            let value = line[line.index(after: colon)...].drop { $0 == " " }
            request.headers[line[..<colon].lowercased()] = String(value)
        }
        return request
    }

    private static func write(_ answer: Answer, _ connection: RawConnection) -> Bool {
        var text = "HTTP/1.1 \(answer.status) X\r\n"
        if !answer.headers.contains(where: { $0.0 == "Content-Length" }) {
            text += "Content-Length: \(answer.lengthSaid ?? answer.body.count)\r\n"
        }
        for (name, value) in answer.headers { text += "\(name): \(value)\r\n" }
        let bytes = Array((text + "\r\n").utf8) + answer.body
        if let cut = answer.cutAfter {
            connection.write(bytes.prefix(cut))
            return false
        }
        return connection.write(bytes)
    }

    // MARK: - What it answers

    private static func answer(to request: Request, _ state: inout State) -> Answer {
        if let token = state.token, request.headers["authorization"] != "Bearer \(token)" {
            return Answer(ErrorReply(.unauthenticated, "the token is not known"))
        }
        let parts = request.path.split(separator: "/").map(String.init)
        guard parts.count >= 3, parts[0] == "v1", parts[1] == "volumes" else {
            return Answer(ErrorReply(.noPath, "no such path"))
        }
        switch parts.dropFirst(3).first {
        case "uploads": return upload(request, &state)
        case "segments": return segment(request, parts.count > 4 ? parts[4] : nil, &state)
        case "leases": return lease(request, parts.count > 4 ? parts[4] : nil, &state)
        default: return Answer(ErrorReply(.noVolume, "there is no volume \(parts[2])"))
        }
    }

    private static func upload(_ request: Request, _ state: inout State) -> Answer {
        let id = request.upload
        switch request.method {
        case "GET":
            guard let bytes = state.uploads[id] else {
                return Answer(ErrorReply(.missing, "no such upload"))
            }
            return Answer(json: UploadReply(bytes: UInt64(bytes.count)))
        case "PATCH":
            let count = state.uploads[id]?.count ?? 0
            guard request.offset == count else {
                return Answer(ErrorReply(.offset, "not there", bytes: UInt64(count)))
            }
            state.bodyBytes += request.body.count
            state.uploads[id, default: []] += request.body
            return Answer(json: UploadReply(bytes: UInt64(count + request.body.count)))
        case "DELETE":
            return state.uploads.removeValue(forKey: id) == nil
                ? Answer(ErrorReply(.missing, "no such upload")) : Answer(204)
        default: return commit(request, id, &state)
        }
    }

    private static func commit(_ request: Request, _ id: String, _ state: inout State) -> Answer {
        guard
            let commit = try? JSONDecoder().decode(CommitRequest.self, from: Data(request.body))
        else { return Answer(ErrorReply(.malformed, "not understood")) }
        /// Of what lies before the digest in the footer; what lies behind it are 16 bytes.
        func digest(_ bytes: [UInt8]) -> String {
            SHA256.hash(data: bytes.dropLast(48)).map { String(format: "%02x", $0) }.joined()
        }
        if let there = state.segments[commit.name] {
            guard digest(there) == commit.digest else {
                return Answer(ErrorReply(.exists, "other bytes are there"))
            }
            return Answer(json: CommitReply(wasThere: true, head: nil))
        }
        guard let bytes = state.uploads[id] else {
            return Answer(ErrorReply(.missing, "no such upload"))
        }
        guard UInt64(bytes.count) == commit.bytes, digest(bytes) == commit.digest else {
            return Answer(ErrorReply(.damaged, "other bytes than announced"))
        }
        state.uploads[id] = nil
        state.segments[commit.name] = bytes
        return Answer(json: CommitReply(wasThere: false, head: nil))
    }

    private static func segment(
        _ request: Request, _ name: String?, _ state: inout State
    ) -> Answer {
        guard let name else {
            let entries = state.segments.map { ($0.key, UInt64($0.value.count)) }
                .sorted { $0.0 < $1.0 }
            return Answer(
                json: SegmentListing(segments: entries.map { .init(name: $0.0, bytes: $0.1) }))
        }
        guard let bytes = state.segments[name] else {
            return Answer(ErrorReply(.missing, "no such segment"))
        }
        switch request.method {
        case "HEAD": return Answer(200, [], [("Content-Length", "\(bytes.count)")])
        case "DELETE":
            state.segments[name] = nil
            return Answer(204)
        default: break
        }
        let ends = (request.headers["range"] ?? "").dropFirst(6).split(separator: "-")
        guard ends.count == 2, let first = Int(ends[0]), let last = Int(ends[1]),
            first < bytes.count
        else { return Answer(ErrorReply(.range, "outside")) }
        let part = bytes[first...min(last, bytes.count - 1)]
        return Answer(
            206, Array(part),
            [("Content-Range", "bytes \(first)-\(part.endIndex - 1)/\(bytes.count)")])
    }

    private static func lease(
        _ request: Request, _ id: String?, _ state: inout State
    ) -> Answer {
        switch request.method {
        case "POST":
            let id = "lease-\(state.log.count)"
            state.leases.insert(id)
            return Answer(json: LeaseReply(id: id, seconds: 1))
        case "PUT":
            guard let id, state.leases.contains(id) else {
                return Answer(ErrorReply(.missing, "no such lease"))
            }
            return Answer(json: LeaseReply(id: id, seconds: 1))
        default:
            return id.flatMap { state.leases.remove($0) } == nil
                ? Answer(ErrorReply(.missing, "no such lease")) : Answer(204)
        }
    }
}
