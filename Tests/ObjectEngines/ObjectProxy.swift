// Stands between a client and an object store over plain HTTP, reads the requests, and does to each
// what a plan says: the store is busy, an answer is lost after the work was done, a body is cut or
// comes back changed. `Proxy` (RawSockets) does the same to bytes without knowing requests. The
// Host header is passed on as it is, so signatures stay right. Threads: one for each connection;
// the plan is called on it.

import Foundation
import RawSockets
import Synchronization

public final class ObjectProxy: Sendable {
    /// What happens to one request.
    public enum Fault: Sendable, Equatable {
        case none
        /// Not passed on; answered with this status and S3's error code.
        case refuse(status: Int, code: String)
        /// Passed on and carried out; the client gets this instead of the answer.
        case answerAfter(status: Int, code: String)
        /// Passed on and carried out; the connection ends without an answer.
        case loseAnswer
        /// The answer's body ends, with the connection, after so many bytes.
        case cutBody(after: Int)
        /// The byte of this number in the answer's body is changed.
        case flipBody(at: Int)
        /// The same with the request's body. A store that checks digests refuses it.
        case flipRequest(at: Int)
        /// The request's body ends, with both connections, after so many bytes.
        case cutRequest(after: Int)
        /// Carried out, and the answer comes when the connections are cut: never.
        case stall

        public static let slowDown = Fault.refuse(status: 503, code: "SlowDown")
    }

    public struct Request: Sendable, Equatable {
        /// From 0, over all connections, in the order of arrival.
        public var number: Int
        public var method: String
        /// With its query.
        public var target: String
        /// Names in lower case.
        public var headers: [String: String]
        public var bodyBytes: Int

        /// Whether it is one of a multipart upload's (`uploads`, `uploadId`).
        public var isMultipart: Bool {
            target.contains("?upload") || target.contains("&upload")
        }
    }

    private final class Shared: Sendable {
        struct State {
            var plan: @Sendable (Request) -> Fault
            var seen: [Request] = []
        }
        let port: Int
        let state: Mutex<State>

        init(port: Int, plan: @escaping @Sendable (Request) -> Fault) {
            self.port = port
            state = Mutex(State(plan: plan))
        }
    }
    private let shared: Shared
    private let server: RawServer

    public var port: Int { server.port }
    public var endpoint: String { "http://127.0.0.1:\(port)" }
    /// All that came so far.
    public var seen: [Request] { shared.state.withLock { $0.seen } }

    public init(
        toPort port: Int, plan: @escaping @Sendable (Request) -> Fault = { _ in .none }
    ) throws {
        let shared = Shared(port: port, plan: plan)
        self.shared = shared
        server = try RawServer { client in Connection(shared, client)?.serve() }
    }

    /// From the next request on.
    public func follow(_ plan: @escaping @Sendable (Request) -> Fault) {
        shared.state.withLock { $0.plan = plan }
    }

    public func cutAll() { server.cutAll() }

    /// One client's connection and its twin to the store; one request after the other.
    private final class Connection {
        private let shared: Shared
        private let client: Stream
        private let store: Stream

        init?(_ shared: Shared, _ client: RawConnection) {
            guard let upstream = try? RawConnection(toPort: shared.port) else { return nil }
            self.shared = shared
            self.client = Stream(client)
            store = Stream(upstream)
        }

        func serve() {
            while serveOne() {}
            store.connection.cut()
        }

        /// Whether another request may follow.
        private func serveOne() -> Bool {
            guard let (head, raw) = client.head() else { return false }
            let words = head.first.split(separator: " ")
            guard words.count == 3 else { return false }
            let length = head["content-length"].flatMap { Int($0) } ?? 0
            // Answered here, so that bodies come at once.
            if head["expect"] != nil { client.write(Array("HTTP/1.1 100 Continue\r\n\r\n".utf8)) }
            let (request, plan) = shared.state.withLock { state in
                let request = Request(
                    number: state.seen.count, method: String(words[0]), target: String(words[1]),
                    headers: head.headers, bodyBytes: length)
                state.seen.append(request)
                return (request, state.plan)
            }
            let fault = plan(request)
            if case .refuse(let status, let code) = fault {
                return client.skip(length) && client.write(Self.answer(status, code, request))
            }
            guard store.write(Self.withoutExpect(raw)) else { return false }
            var change: Change?
            if case .flipRequest(let place) = fault { change = .flip(place) }
            if case .cutRequest(let count) = fault { change = .cut(count) }
            guard client.pass(length, to: store, change) else { return false }
            return passAnswer(to: request, fault)
        }

        private func passAnswer(to request: Request, _ fault: Fault) -> Bool {
            guard let (head, raw) = store.head() else { return false }
            let hasBody = request.method != "HEAD" && head.status != 204 && head.status != 304
            let isChunked = head["transfer-encoding"]?.lowercased() == "chunked"
            let length = hasBody ? head["content-length"].flatMap { Int($0) } : 0
            if case .loseAnswer = fault { return false }
            if case .stall = fault {
                while !client.connection.read().isEmpty {}
                return false
            }
            if case .answerAfter(let status, let code) = fault {
                // What the store says is not read, so this connection is at its end.
                client.write(Self.answer(status, code, request, isLast: true))
                return false
            }
            guard client.write(raw) else { return false }
            var change: Change?
            if case .cutBody(let count) = fault { change = .cut(count) }
            if case .flipBody(let place) = fault { change = .flip(place) }
            if isChunked, hasBody { return store.passChunks(to: client, change) }
            guard let length else {
                _ = store.pass(.max, to: client, change)
                return false
            }
            return store.pass(length, to: client, change)
                && head["connection"]?.lowercased() != "close"
        }

        private static func withoutExpect(_ raw: [UInt8]) -> [UInt8] {
            let lines = String(decoding: raw, as: UTF8.self).components(separatedBy: "\r\n")
            let kept = lines.filter { !$0.lowercased().hasPrefix("expect:") }
            return kept.count == lines.count ? raw : Array(kept.joined(separator: "\r\n").utf8)
        }

        private static func answer(
            _ status: Int, _ code: String, _ request: Request, isLast: Bool = false
        ) -> [UInt8] {
            let body = request.method == "HEAD" ? "" : "<Error><Code>\(code)</Code></Error>"
            let lines = [
                "HTTP/1.1 \(status) \(code)", "Content-Type: application/xml",
                "Content-Length: \(body.utf8.count)", isLast ? "Connection: close" : "X-Fault: 1",
            ]
            return Array((lines.joined(separator: "\r\n") + "\r\n\r\n" + body).utf8)
        }
    }

    private enum Change {
        case cut(Int)
        case flip(Int)
    }

    /// A connection with what was read too far.
    private final class Stream {
        let connection: RawConnection
        private var pending: [UInt8] = []

        init(_ connection: RawConnection) { self.connection = connection }

        @discardableResult
        func write(_ bytes: [UInt8]) -> Bool { connection.write(bytes) }

        /// The next head, and its bytes with the empty line.
        func head() -> (HTTPHead, [UInt8])? {
            while true {
                if let (head, end) = HTTPHead.find(in: pending) {
                    let raw = Array(pending[..<end])
                    pending.removeFirst(end)
                    return (head, raw)
                }
                let bytes = connection.read()
                if bytes.isEmpty || pending.count > 1 << 20 { return nil }
                pending += bytes
            }
        }

        private func next(_ countMax: Int) -> [UInt8] {
            if pending.isEmpty { return connection.read(min(countMax, 256 << 10)) }
            let bytes = Array(pending.prefix(countMax))
            pending.removeFirst(bytes.count)
            return bytes
        }

        func skip(_ count: Int) -> Bool {
            var left = count
            while left > 0 {
                let bytes = next(left)
                if bytes.isEmpty { return false }
                left -= bytes.count
            }
            return true
        }

        /// False: something ended, or was to be cut.
        func pass(_ count: Int, to target: Stream, _ change: Change?) -> Bool {
            var passed = 0
            while passed < count {
                var bytes = next(count - passed)
                if bytes.isEmpty { return false }
                switch change {
                case .flip(let place) where (passed..<passed + bytes.count).contains(place):
                    bytes[place - passed] ^= 0x10
                case .cut(let end) where passed + bytes.count >= end:
                    target.write(Array(bytes.prefix(end - passed)))
                    return false
                default: break
                }
                passed += bytes.count
                if !target.write(bytes) { return false }
            }
            return true
        }

        /// A chunked body with its last chunk. Only its first chunk is cut or changed.
        func passChunks(to target: Stream, _ change: Change?) -> Bool {
            var change = change
            while let line = line() {
                target.write(line)
                let digits = String(decoding: line, as: UTF8.self).prefix { $0.isHexDigit }
                guard let count = Int(digits, radix: 16) else { return false }
                guard pass(count, to: target, change), pass(2, to: target, nil) else {
                    return false
                }
                if count == 0 { return true }
                change = nil
            }
            return false
        }

        private func line() -> [UInt8]? {
            while true {
                if let end = pending.firstIndex(of: UInt8(ascii: "\n")) {
                    let line = Array(pending[...end])
                    pending.removeFirst(end + 1)
                    return line
                }
                let bytes = connection.read()
                if bytes.isEmpty { return nil }
                pending += bytes
            }
        }
    }
}
