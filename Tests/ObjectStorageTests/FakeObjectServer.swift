// An object store in a few lines, in memory, over real sockets and plain HTTP: what S3 promises of
// the requests that logdisk makes, and on demand what real stores and networks do wrong. It checks
// that requests are signed with the right keys by signing them again with Signature V4 of its own
// reading, so that a mistake of the client's is not met with the same mistake.
//
// Honest by default: create-only puts hold, a part but the last has 5 MiB at least, ranges are
// those asked for, listings show what is there.

import Crypto
import Foundation
import RawSockets
import Synchronization

final class FakeObjectServer: Sendable {
    struct Object: Sendable {
        var bytes: [UInt8]
        var metadata: [(String, String)] = []
        var modified: Date
    }
    struct Upload: Sendable {
        var key: String
        var metadata: [(String, String)]
        var parts: [Int: [UInt8]] = [:]
        var initiated: Date
    }
    /// What create-only conditions do.
    enum Conditions: Sendable { case honoured, ignored, refused }
    /// What happens to a request instead of what should.
    enum Fault: Sendable, CaseIterable {
        /// 503; nothing is done.
        case busy
        /// 500; nothing is done.
        case failed
        /// The connection is cut; nothing is done.
        case cut
        /// It is done, and the connection is cut without an answer.
        case lostAnswer
        /// It is done, and 500 is answered.
        case doneButFailed
        /// The answer's body is cut short.
        case cutBody
        /// A byte of the answer's body is another one.
        case wrongByte
    }
    struct State: Sendable {
        var objects: [String: Object] = [:]
        var uploads: [String: Upload] = [:]
        var conditions = Conditions.honoured
        /// Listings show nothing of what was put since; nil: they are up to date.
        var listingAsOf: [String: Object]?
        /// For each request in turn, by its head; nil: as usual.
        var fault: (@Sendable (FakeObjectServer.Request) -> Fault?)?
        /// "METHOD key?query", in order.
        var log: [String] = []
        /// Their clock minus ours, seconds.
        var clockSkew: TimeInterval = 0
        var keys: [String: String] = ["AKFAKE": "secret/of+fake"]
        var sessionToken: String?
        var readOnlyKeys: Set<String> = []
        var bucket = "bucket"
        /// Deletions of these keys are answered AccessDenied.
        var lockedKeys: Set<String> = []
        var nextUpload = 1
        /// Does not give metadata back.
        var dropsMetadata = false
    }
    struct Request: Sendable {
        var method = ""
        var target = ""
        /// Below the bucket, decoded; nil: the bucket itself.
        var key: String?
        var bucket = ""
        var query: [String: String] = [:]
        /// Names in lower case.
        var headers: [String: String] = [:]
        var body: [UInt8] = []
    }
    struct Answer: Sendable {
        var status = 200
        var headers: [(String, String)] = []
        var body: [UInt8] = []
        /// Of an answer to HEAD.
        var lengthSaid: Int?
    }

    final class Shared: Sendable { let state = Mutex(State()) }
    private let shared = Shared()
    private let server: RawServer

    var port: Int { server.port }
    var endpoint: String { "http://127.0.0.1:\(port)" }
    func cutAll() { server.cutAll() }
    func with<T: Sendable>(_ body: (inout State) -> T) -> T {
        shared.state.withLock { body(&$0) }
    }
    var log: [String] { with { $0.log } }

    init() throws {
        server = try RawServer { [shared] connection in
            var input: [UInt8] = []
            while Self.serveOne(connection, &input, shared) {}
        }
    }

    // MARK: - the wire

    private static func serveOne(
        _ connection: RawConnection, _ input: inout [UInt8], _ shared: Shared
    ) -> Bool {
        guard let request = read(connection, &input) else { return false }
        let (fault, skew) = shared.state.withLock { state in
            let query = request.target.split(separator: "?").dropFirst().first.map { "?\($0)" }
            state.log.append("\(request.method) \(request.key ?? "")\(query ?? "")")
            return (state.fault, state.clockSkew)
        }
        let chosen = fault?(request)
        switch chosen {
        case .busy?: return write(error(503, "SlowDown"), request, connection, skew)
        case .failed?: return write(error(500, "InternalError"), request, connection, skew)
        case .cut?: return false
        default: break
        }
        var answer = shared.state.withLock { FakeAnswers.answer(to: request, &$0) }
        switch chosen {
        case .lostAnswer?: return false
        case .doneButFailed?: answer = error(500, "InternalError")
        case .wrongByte? where !answer.body.isEmpty: answer.body[answer.body.count / 2] ^= 0x10
        case .cutBody? where !answer.body.isEmpty:
            _ = write(answer, request, connection, skew, cutTo: answer.body.count / 2)
            return false
        default: break
        }
        return write(answer, request, connection, skew)
    }

    private static func read(_ connection: RawConnection, _ input: inout [UInt8]) -> Request? {
        var end: Int?
        var searched = 0
        while true {
            end = find(input, from: searched)
            if end != nil { break }
            searched = max(0, input.count - 3)
            let more = connection.read()
            if more.isEmpty { return nil }
            input += more
        }
        guard let end, var request = parse(input[..<end]) else { return nil }
        let length = request.headers["content-length"].flatMap { Int($0) } ?? 0
        var body = Array(input[(end + 4)...])
        body.reserveCapacity(length)
        while body.count < length {
            let more = connection.read(1 << 20)
            if more.isEmpty { return nil }
            body += more
        }
        input = Array(body[length...])
        request.body = Array(body[..<length])
        return request
    }

    private static func find(_ bytes: [UInt8], from start: Int) -> Int? {
        guard bytes.count >= 4 else { return nil }
        var i = start
        while i + 4 <= bytes.count {
            if bytes[i] == 13, bytes[i + 1] == 10, bytes[i + 2] == 13, bytes[i + 3] == 10 {
                return i
            }
            i += 1
        }
        return nil
    }

    private static func parse(_ bytes: ArraySlice<UInt8>) -> Request? {
        let lines = String(decoding: bytes, as: UTF8.self).components(separatedBy: "\r\n")
        let words = lines[0].split(separator: " ")
        guard words.count == 3 else { return nil }
        var request = Request()
        request.method = String(words[0])
        request.target = String(words[1])
        for line in lines.dropFirst() {
            guard let colon = line.firstIndex(of: ":") else { continue }
            let value = line[line.index(after: colon)...].drop { $0 == " " }
            request.headers[line[..<colon].lowercased()] = String(value)
        }
        let parts = request.target.split(separator: "?", maxSplits: 1)
        let path = parts.first.map(String.init) ?? "/"
        let names = path.dropFirst().split(separator: "/", maxSplits: 1)
        request.bucket = names.first.map(String.init) ?? ""
        request.key = names.count > 1 ? String(names[1]).removingPercentEncoding : nil
        for pair in (parts.count > 1 ? String(parts[1]) : "").split(separator: "&") {
            let halves = pair.split(separator: "=", maxSplits: 1).map {
                String($0).removingPercentEncoding ?? ""
            }
            request.query[halves[0]] = halves.count > 1 ? halves[1] : ""
        }
        return request
    }

    private static func write(
        _ answer: Answer, _ request: Request, _ connection: RawConnection, _ skew: TimeInterval,
        cutTo: Int? = nil
    ) -> Bool {
        var text = "HTTP/1.1 \(answer.status) X\r\n"
        text += "Content-Length: \(answer.lengthSaid ?? answer.body.count)\r\n"
        text += "Date: \(FakeTime.http(Date(timeIntervalSinceNow: skew)))\r\n"
        for (name, value) in answer.headers { text += "\(name): \(value)\r\n" }
        let head = Array((text + "\r\n").utf8)
        if request.method == "HEAD" { return connection.write(head) }
        return connection.write(head + answer.body.prefix(cutTo ?? answer.body.count))
    }

    static func error(_ status: Int, _ code: String, _ message: String = "") -> Answer {
        let text =
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
            + "<Error><Code>\(code)</Code><Message>\(message)</Message></Error>"
        return Answer(
            status: status, headers: [("Content-Type", "application/xml")], body: Array(text.utf8))
    }
}

/// Times as S3 writes them.
enum FakeTime {
    private static func text(_ date: Date, _ format: String) -> String {
        var seconds = time_t(date.timeIntervalSince1970.rounded(.down))
        var parts = tm()
        gmtime_r(&seconds, &parts)
        var bytes = [CChar](repeating: 0, count: 64)
        let count = strftime(&bytes, bytes.count, format, &parts)
        return String(decoding: bytes[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
    static func http(_ date: Date) -> String { text(date, "%a, %d %b %Y %H:%M:%S GMT") }
    static func iso(_ date: Date) -> String { text(date, "%Y-%m-%dT%H:%M:%S.000Z") }
}
