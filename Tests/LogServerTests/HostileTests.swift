// Clients that are broken, slow or hostile: the server answers or closes, stays as small as it was,
// touches nothing outside its store, and serves the next one.

import DiskIO
import Foundation
import LogServer
import ServerAPI
import Testing

@Suite struct HostileTests {
    private let maker = SegmentMaker()

    @Test func tricksWithPaths() throws {
        let server = try TestServer()
        let client = server.client()
        try client.make("db1")
        server.storage.tracing = true
        let words = [
            "..", ".", "%2e%2e", "..%2f..", "%00", "a%00b", "a\u{0}b", "-", "_a", ".logdisk", " ",
            "db1%2f..", "ä", "%c3%a4", "db1;x", "db1\\..", "\\", "con:", "~", "*", "db1?",
            String(repeating: "a", count: 101), String(repeating: "%41", count: 200),
            String(repeating: "a", count: 900), "db1\u{7f}",
        ]
        for word in words {
            for path in [
                "/v1/volumes/\(word)", "/v1/volumes/\(word)/segments",
                "/v1/volumes/db1/segments/\(word)", "/v1/volumes/db1/uploads/\(word)",
                "/v1/volumes/\(word)/uploads/u", "/\(word)", "/v1/\(word)/db1",
            ] {
                for method in ["GET", "PUT", "PATCH", "POST", "DELETE"] {
                    let reply = try client.send(method, path, Array("{}".utf8))
                    let isQuery = word.hasSuffix("?")
                    #expect((400..<500).contains(reply.status) || isQuery, "\(method) \(path)")
                }
            }
        }
        for path in server.storage.trace.map(\.path) {
            #expect(path.hasPrefix("/store/db1/"), "\(path)")
        }
    }

    /// Whatever comes, at most one answer each, and the server lives.
    @Test func fiftyThousandBrokenRequests() throws {
        let server = try TestServer()
        let client = server.client()
        try client.make("db1")
        let segment = maker.records(1...10)
        #expect(try client.put("db1", segment).code == "200")
        let before = try client.state("db1")
        let resident = Self.residentBytes()
        var random = SeededRandom(seed: 50_000)
        var broken = BrokenRequests(token: server.token, segment: segment)
        var connection = try RawClient(port: server.port)
        var sent = 0
        while sent < 50_000 {
            // Some hundred to a connection, until one of them breaks it.
            let isAlive = connection.send(broken.next(&random))
            sent += 1
            if !isAlive || random.chance(0.3) {
                if random.chance(0.5) { connection.cut() }
                connection = try RawClient(port: server.port)
            }
        }
        #expect(try server.client().state("db1") == before)
        #expect(try server.client().send("GET", "/v1/health").status == 200)
        let grown = Self.residentBytes() - resident
        #expect(grown < 128 << 20, "\(grown) bytes more than before")
    }

    private static func residentBytes() -> Int {
        let text = (try? String(contentsOfFile: "/proc/self/statm", encoding: .utf8)) ?? ""
        let words = text.split(separator: " ")
        return words.count > 1 ? (Int(words[1]) ?? 0) * 4096 : 0
    }

    @Test func whoIsTooSlowIsLeft() throws {
        let server = try TestServer {
            $0.limits.firstHeadSeconds = 1
            $0.limits.idleSeconds = 1
            $0.limits.stallSeconds = 1
        }
        let client = server.client()
        try client.make("db1")
        let nothing = try RawClient(port: server.port)
        let half = try RawClient(port: server.port)
        half.send("GET /v1/health HT")
        let idle = try RawClient(port: server.port)
        idle.send("GET /v1/health HTTP/1.1\r\nHost: x\r\n\r\n")
        #expect(idle.reply()?.status == 200)
        let body = try RawClient(port: server.port)
        body.send(upload(server, "slow", length: 1000) + "abc")
        for connection in [nothing, half, idle, body] { #expect(connection.waitForEnd()) }
        // What the slow one brought is there.
        while try client.send("GET", "/v1/volumes/db1/uploads/slow").json(UploadReply.self).bytes
            != 3
        {}
    }

    /// Nobody takes the answer: its sender does not hold a whole segment in memory for ever.
    @Test func whoTakesNoAnswerIsLeft() throws {
        let server = try TestServer { $0.limits.stallSeconds = 1 }
        let client = server.client()
        try client.make("db1")
        let large = maker.records(1...20_000, fill: 0)
        #expect(try client.put("db1", large).code == "200")
        let connection = try RawClient(port: server.port, receiveBytes: 4096)
        let request =
            "GET /v1/volumes/db1/segments/\(large.name) HTTP/1.1\r\nHost: x\r\n"
            + "Authorization: Bearer \(server.token)\r\n\r\n"
        for _ in 0..<200 { connection.send(request) }
        #expect(connection.waitForEnd())
        #expect(try client.send("GET", "/v1/health").status == 200)
    }

    private func upload(_ server: TestServer, _ id: String, length: Int) -> String {
        "PATCH /v1/volumes/db1/uploads/\(id) HTTP/1.1\r\nHost: x\r\nUpload-Offset: 0\r\n"
            + "Authorization: Bearer \(server.token)\r\nLogdisk-Writer: writer-1\r\n"
            + "Content-Length: \(length)\r\n\r\n"
    }

    /// A connection that is cut leaves the bytes that came; its successor does not wait for it.
    @Test func cutUploads() throws {
        let server = try TestServer()
        let client = server.client()
        try client.make("db1")
        let segment = maker.records(1...3000)
        let bytes = segment.bytes
        let half = bytes.count / 2
        let connection = try RawClient(port: server.port)
        connection.send(upload(server, "u", length: bytes.count))
        connection.send(Array(bytes[..<half]))
        connection.endSending()
        _ = connection.waitForEnd()
        var there = 0
        while there < half {
            let reply = try client.send("GET", "/v1/volumes/db1/uploads/u")
            there = reply.status == 200 ? Int(try reply.json(UploadReply.self).bytes) : 0
        }
        #expect(there == half)
        // One that looks alive is overtaken.
        let stale = try RawClient(port: server.port)
        stale.send(
            upload(server, "u", length: bytes.count)
                .replacingOccurrences(of: "Upload-Offset: 0", with: "Upload-Offset: \(half)"))
        #expect(try client.append("db1", "u", bytes[half...], at: half).code == "200")
        stale.send(Array(bytes[half...]))
        #expect(stale.reply().map { $0.code == "409 offset" } ?? true)
        #expect(try client.commit("db1", "u", segment).code == "200")
        #expect(
            try client.send("GET", "/v1/volumes/db1/segments/\(segment.name)").body == bytes)
    }

    @Test func tooManyUploadsAreAskedToWait() throws {
        let server = try TestServer { $0.limits.uploads = 2 }
        let client = server.client()
        try client.make("db1")
        let busy = try (0..<2).map { number in
            let connection = try RawClient(port: server.port)
            connection.send(upload(server, "u\(number)", length: 10))
            return connection
        }
        for number in 0..<2 {
            while try client.send("GET", "/v1/volumes/db1/uploads/u\(number)").status != 200 {}
        }
        let reply = try client.append("db1", "v", [1])
        #expect(reply.code == "503 busy" && reply.fields["retry-after"] == "5")
        for connection in busy {
            connection.send("0123456789")
            #expect(connection.reply()?.status == 200)
        }
        #expect(try client.append("db1", "v", [1]).code == "200")
    }

    @Test func aClientThatWaitsIsToldToGoOn() throws {
        let server = try TestServer()
        try server.client().make("db1")
        let connection = try RawClient(port: server.port)
        let head = upload(server, "u", length: 3)
        connection.send(head.dropLast(2) + "Expect: 100-continue\r\n\r\n")
        #expect(connection.reply()?.status == 100)
        connection.send("abc")
        #expect(connection.reply()?.status == 200)
        // One that is refused is not.
        connection.send(
            head.replacingOccurrences(of: "Offset: 0", with: "Offset: 9").dropLast(2)
                + "Expect: 100-continue\r\n\r\n")
        #expect(connection.reply()?.status == 409)
        #expect(connection.waitForEnd())
    }

    @Test func stoppingLetsRequestsEnd() throws {
        let server = try TestServer()
        try server.client().make("db1")
        let connection = try RawClient(port: server.port)
        connection.send(upload(server, "u", length: 6) + "abc")
        while try server.client().send("GET", "/v1/volumes/db1/uploads/u").status != 200 {}
        let idle = try RawClient(port: server.port)
        idle.send("GET /v1/health HTTP/1.1\r\nHost: x\r\n\r\n")
        #expect(idle.reply()?.status == 200)
        let inner = server.server
        let stopping = Thread { inner.stop(graceSeconds: 60) }
        stopping.start()
        // Idle ones go at once; then no new ones come in.
        #expect(idle.waitForEnd())
        connection.send("def")
        let reply = connection.reply()
        #expect(reply?.status == 200)
        #expect(try reply?.json(UploadReply.self).bytes == 6)
        #expect(connection.waitForEnd())
        while !stopping.isFinished { sched_yield() }
        #expect(throws: SocketFailure.self) { _ = try RawClient(port: server.port) }
    }
}
