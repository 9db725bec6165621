// Sets of backups at a server: call by call, refusal by refusal, and with the power cut at every
// operation of the disk.

import Crypto
import DiskIO
import Foundation
import LogServer
import ServerAPI
import Testing

/// Requests about one set of the device `dev`.
private struct SetClient {
    let client: TestClient
    var id = String(repeating: "a1", count: 16)
    var name = "monday"
    var path: String { "/v1/backups/dev/\(id)" }

    func begin() throws -> RawReply {
        try client.send(
            "PUT", path,
            json: SetRequest(
                name: name, deviceID: String(repeating: "0f", count: 16), createdNanoseconds: 7))
    }

    func append(_ file: String, _ bytes: [UInt8], at offset: Int, head: Int = 0) throws -> RawReply
    {
        try client.send(
            "PATCH", "\(path)/files/\(file)", bytes,
            fields: ["Upload-Offset": "\(offset)", "Logdisk-Head-Bytes": "\(head)"])
    }

    /// `content` is all of it; what lies before `offset` is there already.
    func finish(
        _ file: String, _ content: [UInt8], from offset: Int = 0, head: [UInt8] = []
    ) throws -> RawReply {
        let digest = SHA256.hash(data: content).map {
            String($0 >> 4, radix: 16) + String($0 & 15, radix: 16)
        }
        return try client.send(
            "POST", "\(path)/files/\(file)", head + content[offset...],
            fields: [
                "Upload-Offset": "\(offset)", "Logdisk-Head-Bytes": "\(head.count)",
                "Logdisk-SHA256": digest.joined(),
            ])
    }

    func commit() throws -> RawReply { try client.send("POST", path) }
    func remove() throws -> RawReply { try client.send("DELETE", path) }
    func get(_ file: String) throws -> RawReply { try client.send("GET", "\(path)/files/\(file)") }
    func files() throws -> [String] {
        try client.send("GET", "\(path)/files").json(SetFileListing.self).files.map(\.name)
    }
}

extension TestServer {
    fileprivate func set(
        _ level: AccessLevel = .full, patterns: [String] = ["*"], token: String? = nil
    ) throws -> SetClient {
        let name = "t\(UInt32.random(in: 0...UInt32.max))"
        let token =
            try token ?? tokens.create(name: name, level: level, volumes: patterns, now: 0)
        return SetClient(client: client(token))
    }
}

@Suite struct BackupSetTests {
    private let head = [UInt8](repeating: 0x68, count: 4096)
    private let content = (0..<100_000).map { UInt8(truncatingIfNeeded: $0 &* 31) }

    @Test func aSetFromItsBeginToItsEnd() throws {
        let server = try TestServer()
        let set = try server.set()
        let none = try set.client.send("GET", "/v1/backups/dev").json(BackupReply.self)
        #expect(none.sets.isEmpty && none.access == "full" && none.freeBytes > 0)
        let begun = try set.begin().json(SetReply.self)
        #expect(!begun.isComplete && !begun.hasManifest && begun.createdNanoseconds == 7)
        #expect(try set.begin().json(SetReply.self) == begun)
        // In three requests, then the head and the rest.
        #expect(try set.append("00000003", Array(content[..<10]), at: 0, head: 4096).code == "200")
        let zeros = try set.client.send(
            "PATCH", "\(set.path)/files/00000004",
            fields: ["Upload-Offset": "0", "Logdisk-Zeros": "70000"])
        #expect(try zeros.json(UploadReply.self).bytes == 70_000)
        let wrong = try set.append("00000003", [1], at: 7, head: 4096)
        #expect(wrong.code == "409 offset")
        #expect(try wrong.json(ErrorReply.self).bytes == 10)
        #expect(try set.get("00000003").code == "404 missing", "what is not whole is not there")
        #expect(try set.finish("00000003", content, from: 10, head: head).code == "200")
        #expect(try set.get("00000003").body == head + content)
        let again = try set.finish("00000003", content, from: 10, head: head)
        #expect(try again.json(SetFileReply.self).wasThere)
        #expect(try set.finish("00000003", [1, 2], head: head).code == "409 exists")
        #expect(try set.append("00000003", [1], at: 0).code == "409 exists")
        #expect(
            try set.finish("00000004", [UInt8](repeating: 0, count: 70_000) + [5], from: 70_000)
                .code == "200")
        #expect(try set.finish("journal-00000001", [1]).code == "200")
        #expect(try set.commit().code == "404 missing", "without a manifest")
        #expect(try set.finish("MANIFEST", [9, 9]).code == "200")
        #expect(try set.files() == ["00000003", "00000004", "MANIFEST", "journal-00000001"])
        let made = try set.commit().json(SetReply.self)
        #expect(made.isComplete && made.fileCount == 3 && made.bytes == 4096 + 100_000 + 70_003)
        #expect(try set.commit().json(SetReply.self) == made)
        #expect(try set.files() == ["00000003", "00000004", "MANIFEST"])
        let range = try set.client.send(
            "GET", "\(set.path)/files/00000003", fields: ["Range": "bytes=4096-4099"])
        #expect(range.status == 206 && range.body == Array(content[..<4]))
        #expect(
            try set.client.send("HEAD", "\(set.path)/files/MANIFEST").fields["content-length"]
                == "2")
        let metrics = String(
            decoding: try set.client.send("GET", "/metrics").body, as: UTF8.self)
        #expect(metrics.contains("logdisk_server_backup_sets 1\n"))
        #expect(metrics.contains("logdisk_server_backup_bytes 174099\n"), "\(metrics)")
        #expect(metrics.contains("logdisk_server_backup_files_total 4\n"))
        #expect(try set.remove().code == "204")
        #expect(try set.get("MANIFEST").code == "404 missing")
        #expect(try server.storage.list("/store/.backups/dev") == [])
    }

    @Test func whatIsVisibleDoesNotChange() throws {
        let server = try TestServer()
        let set = try server.set()
        _ = try set.begin()
        #expect(try set.finish("MANIFEST", [1]).code == "200")
        #expect(try set.commit().code == "200")
        #expect(try set.append("00000001", [1], at: 0).code == "409 complete")
        #expect(try set.finish("00000001", [1]).code == "409 complete")
        let path = "\(set.path)/files/MANIFEST"
        #expect(try set.client.send("DELETE", path).code == "409 complete")
        // Another set of the same name; and one of the same id under another name.
        var other = set
        other.id = String(repeating: "b2", count: 16)
        #expect(try other.begin().code == "409 exists")
        var renamed = set
        renamed.name = "tuesday"
        #expect(try renamed.begin().code == "409 exists")
    }

    @Test func levelsAndPatterns() throws {
        let server = try TestServer()
        let (full, writer) = (try server.set(), try server.set(.appendOnly))
        let (reader, stranger) = (
            try server.set(.readOnly), try server.set(patterns: ["other*"])
        )
        #expect(try reader.begin().code == "403 forbidden")
        #expect(try stranger.begin().code == "403 forbidden")
        #expect(try writer.begin().code == "200")
        #expect(try writer.append("00000001", [1], at: 0).code == "200")
        #expect(
            try writer.client.send("DELETE", "\(writer.path)/files/00000001").code == "204")
        #expect(try writer.finish("00000001", [1]).code == "200")
        #expect(try writer.finish("MANIFEST", [1]).code == "200")
        for refused in [reader, stranger] {
            #expect(try refused.finish("00000002", [1]).code == "403 forbidden")
            #expect(try refused.append("00000002", [1], at: 0).code == "403 forbidden")
            #expect(try refused.commit().code == "403 forbidden")
            #expect(try refused.remove().code == "403 forbidden")
        }
        #expect(try writer.commit().code == "200")
        #expect(try writer.remove().code == "403 forbidden")
        #expect(try reader.get("00000001").body == [1])
        #expect(try stranger.get("00000001").code == "403 forbidden")
        let seen = try reader.client.send("GET", "/v1/backups/dev").json(BackupReply.self)
        #expect(seen.access == "read-only" && seen.sets.count == 1)
        #expect(try stranger.client.send("GET", "/v1/backups/dev").code == "403 forbidden")
        #expect(try full.remove().code == "204")
        // What is not visible yet may go.
        #expect(try writer.begin().code == "200")
        #expect(try writer.remove().code == "204")
    }

    @Test func oneWriterAtATime() throws {
        let clock = TestClock()
        let server = try TestServer { $0.clock = { clock.now } }
        let (one, other) = (try server.set(), try server.set())
        other.client.writer = "writer-2"
        #expect(try one.begin().code == "200")
        #expect(try other.begin().code == "503 busy")
        #expect(try other.finish("00000001", [1]).code == "409 fenced")
        #expect(try other.remove().code == "503 busy")
        #expect(try one.finish("00000001", [1]).code == "200")
        // Silent for long, or gone: then the other one goes on, and the first is refused.
        clock.advance(seconds: ServerAPI.writerSeconds + 1)
        #expect(try other.begin().code == "200")
        #expect(try one.finish("00000002", [1]).code == "409 fenced")
        #expect(try other.client.send("DELETE", "\(other.path)/writer").code == "204")
        #expect(try one.finish("00000002", [1]).code == "200")
        one.client.writer = ""
        #expect(try one.finish("00000003", [1]).code == "400 malformed")
    }

    @Test func badRequests() throws {
        let server = try TestServer()
        let set = try server.set()
        _ = try set.begin()
        for name in [
            "x", "MANIFEST.tmp", "..", "%2e", "0000001", "000000001", "journal-1", "DEVICE",
            "set.json",
        ] {
            #expect(try set.finish(name, [1]).status == 404, "\(name)")
        }
        for name in ["", ".x", "-x", "a/b", "a b", "a\u{7F}", String(repeating: "x", count: 101)] {
            var named = set
            named.id = String(repeating: "c3", count: 16)
            named.name = name
            #expect(try named.begin().code == "400 malformed", "\(name)")
        }
        for path in [
            "/v1/backups/dev/xyz", "/v1/backups/..", "/v1/backups/dev/\(set.id)/files",
            "/v1/backups/dev/\(set.id.uppercased())",
        ] { #expect(try set.client.send("PUT", path, [123]).status >= 400, "\(path)") }
        func post(_ fields: [String: String]) throws -> String {
            try set.client.send("POST", "\(set.path)/files/00000009", [1, 2], fields: fields).code
        }
        let zeros = String(repeating: "0", count: 64)
        #expect(try post([:]) == "400 malformed")
        #expect(try post(["Upload-Offset": "0"]) == "400 malformed")
        #expect(try post(["Upload-Offset": "-1", "Logdisk-SHA256": zeros]) == "400 malformed")
        #expect(try post(["Upload-Offset": "0", "Logdisk-SHA256": zeros]) == "422 damaged")
        #expect(try post(["Upload-Offset": "5", "Logdisk-SHA256": zeros]) == "409 offset")
        #expect(
            try post([
                "Upload-Offset": "0", "Logdisk-SHA256": zeros, "Logdisk-Head-Bytes": "3",
            ]) == "400 malformed")
        #expect(
            try post([
                "Upload-Offset": "0", "Logdisk-SHA256": zeros,
                "Logdisk-Head-Bytes": "\(ServerAPI.headBytesMax + 1)",
            ]) == "400 malformed")
        #expect(try set.get("00000009").code == "404 missing")
        #expect(try set.finish("00000009", [1]).code == "200", "damage leaves nothing behind")
    }

    @Test func noRoom() throws {
        let server = try TestServer { $0.reserveBytes = 200 << 10 }
        let set = try server.set()
        #expect(try set.begin().code == "200")
        server.storage.faults.capacityBytes = 150 << 10
        #expect(try set.finish("00000001", [1]).code == "503 full")
        // What ends the set may use half of the reserve.
        #expect(try set.finish("MANIFEST", [1]).code == "200")
        #expect(try set.commit().code == "200")
    }

    // MARK: - power

    /// Sends a set as far as it goes: the answers that were good.
    private func send(_ set: SetClient) -> [String] {
        var done: [String] = []
        func isGood(_ word: String, _ body: () throws -> RawReply) -> Bool {
            guard let reply = try? body(), reply.status == 200 else { return false }
            done.append(word)
            return true
        }
        guard isGood("begin", set.begin) else { return done }
        for file in ["00000001", "00000002", "MANIFEST"] {
            let bytes = Array(content[..<(file == "MANIFEST" ? 50 : 3000)])
            let front = file == "MANIFEST" ? [] : head
            // In two requests where there is nothing of it yet.
            var from = 0
            if let reply = try? set.append(file, Array(bytes[..<20]), at: 0, head: front.count) {
                if reply.status == 200 { from = 20 }
                if reply.code == "409 offset", let there = try? reply.json(ErrorReply.self).bytes {
                    from = min(Int(there), bytes.count)
                }
            }
            var isDone = isGood(file) { try set.finish(file, bytes, from: from, head: front) }
            // What the disk has lost of it is sent again.
            if !isDone { isDone = isGood(file) { try set.finish(file, bytes, head: front) } }
            guard isDone else { return done }
        }
        _ = isGood("commit", set.commit)
        return done
    }

    private func check(_ set: SetClient, _ words: String) throws -> Bool {
        let reply = try set.client.send("GET", "/v1/backups/dev").json(BackupReply.self)
        guard let found = reply.sets.first else { return false }
        #expect(reply.sets.count == 1, "\(words)")
        for file in try set.files() {
            let expected =
                file == "MANIFEST" ? Array(content[..<50]) : head + Array(content[..<3000])
            #expect(try set.get(file).body == expected, "\(words): \(file)")
        }
        if found.isComplete {
            #expect(try set.files() == ["00000001", "00000002", "MANIFEST"], "\(words)")
        }
        return found.isComplete
    }

    @Test(arguments: [false, true]) func atEveryOperation(_ isPowerCut: Bool) throws {
        let counting = try TestServer()
        let first = try counting.set()
        let start = counting.storage.operationCount
        #expect(send(first).count == 5)
        let count = counting.storage.operationCount - start
        for operation in 1...count {
            for seed in 0..<(isPowerCut ? 3 : 1) as Range<UInt64> {
                let words = "cut \(isPowerCut) at \(operation), seed \(seed)"
                let storage = SimulatedStorage(seed: seed &* 1000 &+ operation)
                let acknowledged: [String]
                let token: String
                do {
                    let server = try TestServer(storage)
                    let set = try server.set()
                    token = set.client.token
                    storage.crash(atOperation: storage.operationCount + operation)
                    acknowledged = send(set)
                    server.stop()
                }
                if isPowerCut { storage.crash() } else { storage.kill() }
                let server = try TestServer(storage)
                let set = try server.set(token: token)
                let isComplete = try check(set, words)
                #expect(isComplete || !acknowledged.contains("commit"), "\(words): lost")
                if !isComplete, acknowledged.contains("begin") {
                    let files = try set.files()
                    for file in acknowledged where file != "begin" {
                        #expect(files.contains(file), "\(words): \(file) is gone")
                    }
                }
                // The client goes on, and in the end everything is there, once.
                if !isComplete { #expect(send(set).contains("commit"), "\(words)") }
                #expect(try check(set, words), "\(words)")
            }
        }
    }
}
