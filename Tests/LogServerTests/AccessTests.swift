// Who may do what: levels, patterns, revocation, and 200 clients that see only their own.

import DiskIO
import Foundation
import LogServer
import ServerAPI
import Testing

@Suite struct AccessTests {
    private let maker = SegmentMaker()

    @Test(arguments: [
        ("db1", "*", true), ("db1", "db*", true), ("db1", "db?", true), ("db12", "db?", false),
        ("db1", "db1", true), ("db", "db1", false), ("a.b-c_d", "a*d", true),
        ("a.b-c_d", "*.b*_?", true), ("ab", "a*b*c", false), ("aXbXc", "a*b*c", true),
        ("abab", "*ab", true), ("aba", "*ab", false), ("a", "**", true),
        (String(repeating: "a", count: 100), String(repeating: "*a", count: 49) + "b", false),
    ]) func patterns(_ name: String, _ pattern: String, _ fits: Bool) {
        #expect(Glob.matches(name, pattern: pattern) == fits)
    }

    @Test func levels() throws {
        let server = try TestServer()
        let admin = server.client()
        try admin.make("db1")
        let segment = maker.records(1...10)
        #expect(try admin.put("db1", segment).code == "200")
        let path = "/v1/volumes/db1/segments/\(segment.name)"
        func client(_ level: AccessLevel) throws -> TestClient {
            server.client(
                try server.tokens.create(
                    name: level.rawValue, level: level, volumes: ["db*"], now: 0))
        }
        let (reader, writer) = (try client(.readOnly), try client(.appendOnly))
        for client in [reader, writer] {
            #expect(try client.send("GET", path).body == segment.bytes)
            #expect(try client.send("DELETE", path).code == "403 forbidden")
            let lease = try client.send(
                "POST", "/v1/volumes/db1/leases",
                json: LeaseRequest(purpose: "p", holder: "h", at: nil, segments: nil)
            ).json(LeaseReply.self)
            let leasePath = "/v1/volumes/db1/leases/\(lease.id)"
            #expect(try admin.send("DELETE", path).code == "409 leased")
            #expect(try client.send("PUT", leasePath).code == "200")
            #expect(try client.send("DELETE", leasePath).code == "204")
            #expect(try client.send("PUT", leasePath).code == "404 missing")
        }
        #expect(try reader.make("db2").code == "403 forbidden")
        #expect(try reader.append("db1", "u", [1]).code == "403 forbidden")
        #expect(try reader.commit("db1", "u", segment).code == "403 forbidden")
        #expect(try reader.send("DELETE", "/v1/volumes/db1/uploads/u").code == "403 forbidden")
        let takeover = WriterRequest(writer: "w", host: "h", generation: 1)
        let writerPath = "/v1/volumes/db1/writer"
        #expect(try reader.send("POST", writerPath, json: takeover).code == "403 forbidden")
        let ladder = RetentionRequest(keep: "newest 1s")
        let keepPath = "/v1/volumes/db1/retention"
        for client in [reader, writer] {
            #expect(try client.send("PUT", keepPath, json: ladder).code == "403 forbidden")
        }
        #expect(try writer.make("db2", keep: "every 1d").code == "200")
        #expect(try writer.state("db2").keep == "every 1d")
        #expect(
            try admin.send("PUT", keepPath, json: RetentionRequest(keep: "every 1d")).code == "200")
        #expect(try admin.send("DELETE", path).code == "204")
        #expect(try admin.send("DELETE", path).code == "404 missing")
    }

    @Test func aLadderForAnEmptyVolumeOnly() throws {
        let server = try TestServer()
        let writer = server.client(
            try server.tokens.create(name: "w", level: .appendOnly, volumes: ["*"], now: 0))
        try writer.make("v")
        let path = "/v1/volumes/v/retention"
        #expect(
            try writer.send("PUT", path, json: RetentionRequest(keep: "every 2d")).code == "200")
        #expect(try writer.put("v", maker.records(1...3)).code == "200")
        #expect(
            try writer.send("PUT", path, json: RetentionRequest(keep: "newest 1s")).code
                == "403 forbidden")
        #expect(try writer.make("v", keep: "newest 1s").code == "200")
        #expect(try writer.state("v").keep == "every 2d")
    }

    @Test func tokensThatAreNone() throws {
        let server = try TestServer()
        let good = server.token
        let secret = good.split(separator: ".")[1]
        var changed = Array(good.utf8)
        changed[changed.count - 2] ^= 1
        for token in [
            "x", "tests", "tests.", ".\(secret)", "nobody.\(secret)", "tests.\(secret)A",
            "tests.\(secret.dropLast())", String(decoding: changed, as: UTF8.self),
            "../access/tests.\(secret)", "tests\0.\(secret)", "TESTS.\(secret)",
            "tests.tmp.\(secret)", String(repeating: "a", count: 4000),
        ] where token != good {
            let reply = try RawClient(port: server.port)
            reply.send(
                "GET /v1/volumes HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer \(token)\r\n\r\n")
            let answer = try #require(reply.reply(), "\(token.prefix(60))")
            #expect(answer.status == 401 || token.contains("\0"), "\(token.prefix(60))")
        }
        for field in ["Basic \(good)", "Bearer", "Bearer  ", good] {
            let client = server.client("")
            let reply = try client.send("GET", "/v1/volumes", fields: ["Authorization": field])
            #expect(reply.code == "401 unauthenticated", "\(field.prefix(12))")
            #expect(reply.fields["www-authenticate"] == "Bearer")
        }
        #expect(try server.client().send("GET", "/v1/volumes").status == 200)
    }

    @Test func nothingOfASecretIsKept() throws {
        let server = try TestServer()
        let secret = String(server.token.split(separator: ".")[1])
        let file = try server.storage.contents(of: "/store/.logdisk/access/tests")
        let text = String(decoding: file, as: UTF8.self)
        #expect(!text.contains(secret.prefix(12)))
        let standard = secret.replacingOccurrences(of: "-", with: "+")
            .replacingOccurrences(of: "_", with: "/")
        let bytes = try #require(Data(base64Encoded: standard + "="))
        #expect(!text.contains(bytes.prefix(8).base64EncodedString().prefix(10)))
        let hex = bytes.map { String($0, radix: 16) }.joined()
        #expect(!text.contains(hex.prefix(12)))
    }

    @Test func revocationTakesEffectAtOnce() throws {
        let server = try TestServer()
        let token = try server.tokens.create(name: "r", level: .full, volumes: ["*"], now: 0)
        let client = server.client(token)
        try client.make("v")
        #expect(try client.send("GET", "/v1/volumes/v").code == "200")
        try server.tokens.revoke(name: "r")
        #expect(try client.send("GET", "/v1/volumes/v").code == "401 unauthenticated")
        #expect(throws: AccessError.self) { try server.tokens.revoke(name: "r") }
        // Another one of the same name is another one.
        let next = try server.tokens.create(name: "r", level: .readOnly, volumes: ["v"], now: 0)
        #expect(try client.send("GET", "/v1/volumes/v").code == "401 unauthenticated")
        client.token = next
        #expect(try client.send("GET", "/v1/volumes/v").code == "200")
        #expect(try client.append("v", "u", [1]).code == "403 forbidden")
    }

    @Test func twoHundredClientsSeeOnlyTheirOwn() throws {
        let server = try TestServer()
        let clients = try (0..<200).map { number in
            let client = server.client(
                try server.tokens.create(
                    name: "c\(number)", level: .appendOnly, volumes: ["host\(number)-*"], now: 0))
            client.writer = "w\(number)"
            return client
        }
        for (number, client) in clients.enumerated() {
            try #require(try client.make("host\(number)-disk").code == "200")
            let segment = maker.records(1...3, fill: UInt8(truncatingIfNeeded: number))
            try #require(try client.put("host\(number)-disk", segment).code == "200")
        }
        for (number, client) in clients.enumerated() {
            let listing = try client.send("GET", "/v1/volumes").json(VolumeListing.self)
            #expect(listing.volumes.map(\.name) == ["host\(number)-disk"])
            let other = (number + 1) % 200
            let name = "host\(other)-disk"
            #expect(try client.send("GET", "/v1/volumes/\(name)").code == "403 forbidden")
            #expect(try client.send("GET", "/v1/volumes/\(name)/segments").code == "403 forbidden")
            #expect(try client.append(name, "u", [1]).code == "403 forbidden")
            // Whether it exists is none of its business.
            #expect(try client.send("GET", "/v1/volumes/hostx").code == "403 forbidden")
        }
    }
}
