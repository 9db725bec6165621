// The proxy that knows requests: each fault does what it says, and nothing else.

import Foundation
import ObjectEngines
import RawSockets
import Testing

@Suite struct ObjectProxyTests {
    /// Answers every request with 200 and its body, or the fixed body to one without; keeps alive.
    private final class Echo: Sendable {
        let server: RawServer
        static let text = Array("0123456789".utf8)

        init(isChunked: Bool = false) throws {
            server = try RawServer { connection in
                var pending: [UInt8] = []
                while true {
                    let bytes = connection.read()
                    if bytes.isEmpty { return }
                    pending += bytes
                    let text = String(decoding: pending, as: UTF8.self)
                    guard let end = text.range(of: "\r\n\r\n") else { continue }
                    let head = text[..<end.lowerBound].lowercased()
                    let length = head.components(separatedBy: "content-length: ").last.flatMap {
                        Int($0.prefix { $0.isNumber })
                    }
                    let body = Array(text[end.upperBound...].utf8)
                    guard body.count >= length ?? 0 else { continue }
                    pending = []
                    let answer = body.isEmpty ? Self.text : body
                    let lines =
                        isChunked
                        ? "Transfer-Encoding: chunked\r\n\r\n\(String(answer.count, radix: 16))\r\n"
                        : "Content-Length: \(answer.count)\r\n\r\n"
                    connection.write(Array("HTTP/1.1 200 OK\r\n\(lines)".utf8) + answer)
                    if isChunked { connection.write(Array("\r\n0\r\n\r\n".utf8)) }
                }
            }
        }
    }

    private static let key = ObjectEngine.Key(access: "a", secret: "b")

    private func send(
        _ proxy: ObjectProxy, _ method: String = "GET", _ body: [UInt8] = []
    ) throws -> SignedRequest.Answer {
        try SignedRequest(method: method, path: "/bucket/key", body: body)
            .send(toPort: proxy.port, key: Self.key, region: "r")
    }

    @Test func passesOn() throws {
        let echo = try Echo()
        let proxy = try ObjectProxy(toPort: echo.server.port)
        #expect(try send(proxy).body == Echo.text)
        let body = Array("a body of its own".utf8)
        #expect(try send(proxy, "PUT", body).body == body)
        #expect(proxy.seen.map(\.method) == ["GET", "PUT"])
        #expect(proxy.seen.map(\.number) == [0, 1])
        #expect(proxy.seen[1].target == "/bucket/key" && proxy.seen[1].bodyBytes == body.count)
    }

    @Test func refusesWithoutPassingOn() throws {
        let echo = try Echo()
        let proxy = try ObjectProxy(toPort: echo.server.port) { $0.number == 0 ? .slowDown : .none }
        let answer = try send(proxy, "PUT", [1, 2, 3])
        #expect(answer.status == 503 && answer.code == "SlowDown")
        #expect(try send(proxy).status == 200)
    }

    @Test func losesAnswers() throws {
        let echo = try Echo()
        let proxy = try ObjectProxy(toPort: echo.server.port) { _ in .loseAnswer }
        #expect(throws: EngineFailure.self) { try send(proxy) }
        proxy.follow { _ in .answerAfter(status: 504, code: "GatewayTimeout") }
        #expect(try send(proxy).status == 504)
    }

    @Test(arguments: [false, true]) func cutsAndFlipsAnswers(isChunked: Bool) throws {
        let echo = try Echo(isChunked: isChunked)
        let proxy = try ObjectProxy(toPort: echo.server.port) { _ in .cutBody(after: 4) }
        #expect(try send(proxy).body == Array("0123".utf8))
        proxy.follow { _ in .flipBody(at: 9) }
        var flipped = Echo.text
        flipped[9] ^= 0x10
        #expect(try send(proxy).body == flipped)
    }

    @Test func cutsAndFlipsRequests() throws {
        let echo = try Echo()
        let proxy = try ObjectProxy(toPort: echo.server.port) { _ in .flipRequest(at: 1) }
        #expect(try send(proxy, "PUT", [1, 2, 3]).body == [1, 2 ^ 0x10, 3])
        proxy.follow { _ in .cutRequest(after: 1) }
        #expect(throws: EngineFailure.self) { try send(proxy, "PUT", [1, 2, 3]) }
    }

    @Test func stallsUntilCut() throws {
        let echo = try Echo()
        let proxy = try ObjectProxy(toPort: echo.server.port) { _ in .stall }
        let client = try RawConnection(toPort: proxy.port)
        client.write(Array("GET / HTTP/1.1\r\nHost: x\r\n\r\n".utf8))
        while proxy.seen.isEmpty { usleep(1000) }
        proxy.cutAll()
        #expect(client.read().isEmpty)
    }
}
