// The interface, call by call and refusal by refusal, on a real server.

import DiskIO
import Foundation
import History
import ServerAPI
import Testing

@Suite struct ContractTests {
    private let maker = SegmentMaker()

    @Test func aVolumeAndItsSegments() throws {
        let server = try TestServer()
        let client = server.client()
        #expect(try client.send("GET", "/v1/volumes/db1").code == "404 no_volume")
        let made = try client.make("db1").json(VolumeReply.self)
        #expect(made.head == nil && made.generation == 1 && made.segmentCount == 0)
        #expect(try client.make("db1").status == 200)
        let base = maker.snapshot(0)
        let first = maker.records(1...10)
        let second = maker.log(11...20, after: first)
        #expect(try client.put("db1", base).code == "200")
        #expect(try client.put("db1", first).code == "200")
        let reply = try client.put("db1", second, after: first.chainDigest)
            .json(CommitReply.self)
        #expect(!reply.wasThere)
        #expect(reply.head?.lsn == 20 && reply.head?.digest == second.chainDigest)
        let state = try client.state("db1")
        #expect(state.head == reply.head && state.segmentCount == 3 && state.snapshotCount == 1)
        let total = [base, first, second].reduce(0) { $0 + $1.bytes.count }
        #expect(state.segmentBytes == UInt64(total))
        #expect(
            try client.segments("db1") == [base, first, second].map { "\($0.name)" }.sorted())
        let listing = try client.send("GET", "/v1/volumes").json(VolumeListing.self)
        #expect(listing.volumes == [state])
    }

    @Test func rangesOfASegment() throws {
        let server = try TestServer()
        let client = server.client()
        try client.make("db1")
        let segment = maker.records(1...40)
        #expect(try client.put("db1", segment).code == "200")
        let path = "/v1/volumes/db1/segments/\(segment.name)"
        let size = segment.bytes.count
        #expect(try client.send("GET", path).body == segment.bytes)
        let head = try client.send("HEAD", path)
        #expect(head.status == 200 && head.fields["content-length"] == "\(size)")
        let table: [(String, Int, Range<Int>?)] = [
            ("bytes=0-9", 206, 0..<10), ("bytes=5-5", 206, 5..<6),
            ("bytes=10-", 206, 10..<size), ("bytes=-7", 206, size - 7..<size),
            ("bytes=-99999999", 206, 0..<size), ("bytes=0-99999999", 206, 0..<size),
            ("bytes=\(size)-", 416, nil), ("bytes=-0", 416, nil), ("bytes=0-1,3-4", 416, nil),
            ("bytes=9-3", 200, 0..<size), ("bytes=x-", 200, 0..<size), ("lines=1-2", 200, 0..<size),
            ("bytes=18446744073709551615-", 416, nil),
            ("bytes=99999999999999999999-", 200, 0..<size),
        ]
        for (range, status, bytes) in table {
            let reply = try client.send("GET", path, fields: ["Range": range])
            #expect(reply.status == status, "\(range)")
            if let bytes {
                #expect(reply.body == Array(segment.bytes[bytes]), "\(range)")
                if status == 206 {
                    let expected = "bytes \(bytes.lowerBound)-\(bytes.upperBound - 1)/\(size)"
                    #expect(reply.fields["content-range"] == expected)
                }
            } else {
                #expect(reply.code == "416 range" && reply.fields["content-range"] != nil)
            }
        }
    }

    @Test func uploadsGoOnAtTheByte() throws {
        let server = try TestServer()
        let client = server.client()
        try client.make("db1")
        let segment = maker.records(1...10)
        #expect(try client.send("GET", "/v1/volumes/db1/uploads/u").code == "404 missing")
        let none = try client.append("db1", "u", [1], at: 5)
        #expect(none.code == "409 offset")
        #expect(try none.json(ErrorReply.self).bytes == 0)
        // A byte at a time, then two at once, with wrong offsets in between.
        for (i, byte) in segment.bytes.prefix(50).enumerated() {
            let reply = try client.append("db1", "u", [byte], at: i)
            #expect(try reply.json(UploadReply.self).bytes == UInt64(i + 1))
            #expect(reply.fields["logdisk-load"] != nil)
            let wrong = try client.append("db1", "u", [byte], at: i)
            #expect(try wrong.json(ErrorReply.self).bytes == UInt64(i + 1))
        }
        #expect(
            try client.send("GET", "/v1/volumes/db1/uploads/u").json(UploadReply.self).bytes == 50)
        #expect(try client.commit("db1", "u", segment).code == "409 offset")
        #expect(try client.append("db1", "u", segment.bytes[50...], at: 50).code == "200")
        #expect(try client.commit("db1", "u", segment).code == "200")
        let again = try client.commit("db1", "u", segment).json(CommitReply.self)
        #expect(again.wasThere && again.head?.lsn == 10)
        #expect(try client.send("DELETE", "/v1/volumes/db1/uploads/u").code == "404 missing")
        #expect(try client.append("db1", "v", [1, 2, 3]).code == "200")
        #expect(try client.send("DELETE", "/v1/volumes/db1/uploads/v").code == "204")
        #expect(try server.storage.list("/store/db1/uploads") == [])
    }

    /// The digest that the segment carries does as well as one over all bytes: no second pass.
    @Test func theDigestInTheFooterAnnouncesASegment() throws {
        let server = try TestServer()
        let client = server.client()
        try client.make("db1")
        let segment = maker.records(1...10)
        #expect(try client.append("db1", "u", segment.bytes).code == "200")
        for digest in [
            AnnouncedDigest.none, .other(""), .other("xyz"), .other(segment.digest + "0"),
        ] {
            #expect(try client.commit("db1", "u", segment, by: digest).code == "400 malformed")
        }
        #expect(
            try client.commit("db1", "u", segment, by: .other(segment.sha256)).code
                == "422 damaged")
        #expect(try client.append("db1", "u", segment.bytes).code == "200")
        #expect(try client.commit("db1", "u", segment, by: .inFooter).code == "200")
        #expect(
            try client.commit("db1", "u", segment, by: .inFooter).json(CommitReply.self).wasThere)
        #expect(
            try client.commit("db1", "u", segment, by: .other(segment.sha256)).code
                == "409 exists")
        var bad = segment
        bad.bytes[500] ^= 1
        let next = try TestServer()
        try next.client().make("db1")
        #expect(try next.client().append("db1", "u", bad.bytes).code == "200")
        #expect(try next.client().commit("db1", "u", bad, by: .inFooter).code == "422 damaged")
    }

    @Test func anUploadOutlivesTheServer() throws {
        let storage = SimulatedStorage(seed: 7)
        let segment = maker.records(1...10)
        var server: TestServer? = try TestServer(storage)
        let token = server?.token ?? ""
        var client = try #require(server).client()
        try client.make("db1")
        #expect(try client.append("db1", "u", segment.bytes.prefix(100)).code == "200")
        server?.stop()
        server = nil
        let next = try TestServer(storage)
        client = next.client(token)
        #expect(
            try client.send("GET", "/v1/volumes/db1/uploads/u").json(UploadReply.self).bytes == 100)
        #expect(try client.append("db1", "u", segment.bytes[100...], at: 100).code == "200")
        #expect(try client.commit("db1", "u", segment).code == "200")
        #expect(try client.state("db1").head?.lsn == 10)
    }

    @Test func whatIsNotTheSegmentIsRefused() throws {
        let server = try TestServer()
        let client = server.client()
        try client.make("db1")
        let good = maker.records(1...10)
        func refusal(_ bytes: [UInt8], as name: MadeSegment) throws -> String {
            let made = MadeSegment(name: name.name, bytes: bytes)
            return try client.put("db1", made).code
        }
        // Announced with another digest.
        _ = try client.append("db1", "u", good.bytes)
        var other = good
        other.bytes[0] ^= 1
        #expect(try client.commit("db1", "u", other).code == "422 damaged")
        #expect(try client.send("GET", "/v1/volumes/db1/uploads/u").code == "404 missing")
        // Every single changed byte of header and footer, and some between, under a right digest.
        let ends =
            Array(0..<128) + stride(from: 130, to: good.bytes.count - 256, by: 97)
            + Array(good.bytes.count - 256..<good.bytes.count)
        for i in ends {
            var bytes = good.bytes
            bytes[i] ^= 0x40
            #expect(try refusal(bytes, as: good) == "422 damaged", "byte \(i)")
        }
        #expect(try refusal(Array(good.bytes.dropLast()), as: good) == "422 damaged")
        #expect(try refusal([], as: good) == "422 damaged")
        #expect(try refusal(good.bytes, as: maker.records(1...11)) == "422 damaged")
        #expect(
            try refusal(good.bytes, as: maker.records(1...10, kind: .merged)) == "422 damaged")
        // Of another volume, of another size, from the future.
        var elsewhere = maker
        elsewhere.volume.low ^= 1
        #expect(try client.put("db1", elsewhere.records(1...10)).code == "409 other_volume")
        elsewhere = maker
        elsewhere.volumeBytes *= 2
        #expect(try client.put("db1", elsewhere.records(1...10)).code == "409 other_volume")
        var future = maker
        future.start = Int64(Date.now.timeIntervalSince1970) * 1_000_000_000 + 3700 * 1_000_000_000
        #expect(try client.put("db1", future.records(1...10)).code == "409 clock")
        #expect(try client.segments("db1") == [])
        #expect(try client.state("db1").head == nil)
        #expect(try client.put("db1", good).code == "200")
    }

    @Test func whoIsNotTheWriterIsFenced() throws {
        let server = try TestServer()
        let (old, new) = (server.client(), server.client())
        new.writer = "writer-2"
        try old.make("db1")
        let first = maker.records(1...10)
        #expect(try old.put("db1", first).code == "200")
        #expect(try new.make("db1").code == "409 fenced")
        #expect(try new.append("db1", "u", [1]).code == "409 fenced")
        #expect(try new.commit("db1", "u", first).code == "409 fenced")
        #expect(try new.send("DELETE", "/v1/volumes/db1/uploads/u").code == "409 fenced")
        func take(_ client: TestClient, _ generation: UInt64) throws -> String {
            try client.send(
                "POST", "/v1/volumes/db1/writer",
                json: WriterRequest(writer: client.writer, host: "new", generation: generation)
            ).code
        }
        #expect(try take(new, 7) == "409 fenced")
        // What the old one sends meanwhile does not become history.
        let second = maker.log(11...20, after: first)
        #expect(try old.append("db1", "v", second.bytes).code == "200")
        #expect(try take(new, 1) == "200")
        #expect(try take(new, 1) == "200", "the answer to the first may have been lost")
        #expect(try old.commit("db1", "v", second, after: first.chainDigest).code == "409 fenced")
        #expect(try old.make("db1").code == "409 fenced")
        #expect(try take(old, 1) == "409 fenced")
        #expect(try new.commit("db1", "v", second, after: first.chainDigest).code == "200")
        #expect(try new.state("db1").generation == 2)
        #expect(try new.state("db1").host == "new")
    }

    @Test func anotherVolumeOfThatNameIsRefused() throws {
        let server = try TestServer()
        let client = server.client()
        try client.make("db1")
        var other = maker
        other.volume.high ^= 1
        #expect(try client.make("db1", other).code == "409 other_volume")
        other = maker
        other.volumeBytes += 512
        #expect(try client.make("db1", other).code == "409 other_volume")
    }

    @Test func malformedRequests() throws {
        let server = try TestServer()
        let client = server.client()
        try client.make("db1")
        let uuid = "\(maker.volume)"
        let volume = { (more: String) in Array("{\(more)}".utf8) }
        let rest = "\"writer\":\"w\",\"host\":\"h\",\"sealed\":false"
        let bodies: [[UInt8]] = [
            [], Array("null".utf8), Array("[]".utf8), volume(""), volume(rest),
            volume("\"uuid\":\"x\",\"size_bytes\":512,\(rest)"),
            volume("\"uuid\":\"\(uuid)\",\"size_bytes\":0,\(rest)"),
            volume("\"uuid\":\"\(uuid)\",\"size_bytes\":-512,\(rest)"),
            volume("\"uuid\":\"\(uuid)\",\"size_bytes\":513,\(rest)"),
            volume("\"uuid\":\"\(uuid)\",\"size_bytes\":512.5,\(rest)"),
            volume("\"uuid\":\"\(uuid)\",\"size_bytes\":18446744073709551104,\(rest)"),
            volume("\"uuid\":\"\(uuid)\",\"size_bytes\":512,\"keep\":\"often\",\(rest)"),
            volume(
                "\"uuid\":\"\(uuid)\",\"size_bytes\":512,\"writer\":\"../x\",\"host\":\"h\","
                    + "\"sealed\":false"),
        ]
        for body in bodies {
            let reply = try client.send("PUT", "/v1/volumes/new", body)
            #expect(reply.code == "400 malformed", "\(String(decoding: body, as: UTF8.self))")
        }
        let segment = maker.records(1...10)
        _ = try client.append("db1", "u", segment.bytes)
        for name in ["", "../../x", "1-2.log.segment", "\(segment.name)\0", "volume.json"] {
            let reply = try client.send(
                "POST", "/v1/volumes/db1/uploads/u",
                json: CommitRequest(
                    name: name, bytes: UInt64(segment.bytes.count), sha256: segment.sha256,
                    after: nil, isGap: false))
            #expect(reply.code == "400 malformed", "\(name)")
        }
        #expect(try client.send("PATCH", "/v1/volumes/db1/uploads/w", [1]).code == "400 malformed")
        for offset in ["", "-1", "x", "1.5", "99999999999999999999"] {
            let reply = try client.send(
                "PATCH", "/v1/volumes/db1/uploads/w", [1], fields: ["Upload-Offset": offset])
            #expect(reply.code == "400 malformed", "\(offset)")
        }
        let big = [UInt8](repeating: 0x20, count: 70 << 10)
        #expect(try client.send("PUT", "/v1/volumes/new", big).code == "413 too_large")
    }

    @Test func noSuchPathOrMethod() throws {
        let server = try TestServer()
        let client = server.client()
        try client.make("db1")
        for (method, path) in [
            ("GET", "/"), ("GET", "/v1"), ("GET", "/v2/volumes"), ("POST", "/v1/volumes"),
            ("DELETE", "/v1/volumes/db1"), ("PATCH", "/v1/volumes/db1/segments"),
            ("GET", "/v1/volumes/db1/segments/a/b"), ("OPTIONS", "/v1/volumes/db1"),
            ("POST", "/v1/health"), ("GET", "/v1/volumes/db1/leases/x"), ("GET", "//v1/health"),
        ] {
            #expect(try client.send(method, path).code == "404 no_path", "\(method) \(path)")
        }
        for path in ["/v1/health", "/openapi.yaml", "/metrics", "/v1/health?x=1"] {
            #expect(try client.send("GET", path).status == 200, "\(path)")
            #expect(try client.send("HEAD", path).status == 200, "\(path)")
        }
        client.token = ""
        for path in ["/v1/health", "/openapi.yaml"] {
            #expect(try client.send("GET", path).status == 200, "\(path)")
        }
        #expect(try client.send("GET", "/metrics").code == "401 unauthenticated")
    }

    @Test func everyCodeHasAStatus() {
        for code in ErrorReply.Code.allCases { #expect(code.httpStatus >= 400) }
    }
}
