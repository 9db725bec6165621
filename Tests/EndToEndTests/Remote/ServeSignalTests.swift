// `logdisk serve` as a process that gets signals: SIGHUP takes up a new certificate, SIGTERM lets
// an upload end or go on at the byte later. And readers that get SIGINT in the middle.

import CommandText
import Foundation
import Testing

extension EndToEnd {
    @Suite struct ServeSignalTests {
        /// A connection over TLS that is kept open, and asks whether the server answers.
        private final class OpenConnection {
            private let client: Child

            init(to server: TestServer, authority: String) throws {
                let address = String(server.url.dropFirst("https://".count))
                client = try Child(
                    [
                        "openssl", "s_client", "-quiet", "-verify_return_error", "-connect",
                        address, "-CAfile", authority,
                    ], in: server.scratch)
            }

            /// The answer's body has no line of its own, so the next answer may begin behind it.
            func isAnswered() -> Bool {
                client.send("GET /v1/health HTTP/1.1\r\nHost: x\r\n\r")
                while let line = client.line() {
                    if line.contains("HTTP/1.1 ") { return line.contains("HTTP/1.1 200") }
                }
                return false
            }
        }

        @Test(needs("openssl"))
        func aNewCertificateIsTakenUp() throws {
            try Scratch.with { scratch in
                let server = try TestServer(in: scratch, withTLS: true)
                let volume = try TestVolume(in: scratch, size: "8M")
                try volume.logdisk(
                    ["remote", "add", volume.path, "home", server.url("vol")] + server.options)
                try volume.logdisk(["ship", volume.path, "--now"])
                let files = try #require(server.certificate)
                let new = try TestCertificate(in: scratch, for: "127.0.0.1")
                func points(_ authority: String) throws -> Outcome {
                    try scratch.attempt(
                        Machine.logdisk, "points", server.url("vol"), "--token-file",
                        server.token, "--ca", authority)
                }
                let connection = try OpenConnection(to: server, authority: files.authority)
                #expect(connection.isAnswered())
                #expect(try points(files.authority).status == 0)
                #expect(try points(new.authority).status == 15)

                // One that cannot be read leaves the old one in use.
                try Data("no certificate".utf8).write(to: URL(fileURLWithPath: files.chain))
                try server.signal(SIGHUP)
                #expect(try points(files.authority).status == 0)
                for (from, to) in [(new.chain, files.chain), (new.key, files.key)] {
                    try scratch.run("cp", from, to)
                }
                try server.signal(SIGHUP)
                try eventually("the new one counts") { try points(new.authority).status == 0 }
                let refused = try points(files.authority)
                #expect(refused.status == 15 && refused.errors.contains("hint: "), "\(refused)")
                // Who came before stays, and the server can go on to be read.
                #expect(connection.isAnswered())
                let end = try server.stop()
                #expect(end.errors.contains("the certificate stays as it was"), "\(end)")
                #expect(end.errors.contains("the certificate was read again"), "\(end)")
            }
        }

        /// Slow enough to be under way for seconds; the server waits for half a minute.
        @Test(needs("openssl"))
        func anUploadUnderWayIsNotLost() throws {
            try Scratch.with { scratch in
                let server = try TestServer(in: scratch, withTLS: true)
                let volume = try TestVolume(in: scratch, size: "32M")
                try volume.mount()
                try fill(volume.disk, with: "noise", count: 6 << 20)
                try volume.unmount()
                try volume.logdisk(
                    ["remote", "add", volume.path, "home", server.url("vol"), "--rate", "1MB/s"]
                        + server.options)
                let shipping = try scratch.start(
                    [Machine.logdisk, "ship", volume.path, "--now"], input: nil)
                let uploads = "\(server.store)/vol/uploads"
                eventually("an upload is under way") { Self.bytes(uploads) > 1 << 20 }
                // Exit code 0, whatever was under way.
                try server.stop()
                let kept = Self.bytes(uploads)
                let whole = server.segments("vol")
                #expect(kept > 1 << 20 || whole == TestServer.segments(volume.path))
                try server.start()
                let outcome = shipping.wait()
                if outcome.status != 0 {
                    #expect(outcome.status == 14, "\(outcome)")
                    try volume.logdisk(["ship", volume.path, "--now"])
                }
                #expect(server.segments("vol") == TestServer.segments(volume.path))
                #expect(Self.bytes(uploads) == 0)
                let file = scratch.newPath("far")
                try volume.logdisk(
                    ["replay", server.url("vol"), "--at", "now", "--output", file]
                        + server.options)
                #expect(try digest(scratch, file) == digest(scratch, volume.replay("now")))
            }
        }

        private static func bytes(_ folder: String) -> Int {
            let files = FileManager.default
            return ((try? files.contentsOfDirectory(atPath: folder)) ?? []).reduce(0) {
                let facts = try? files.attributesOfItem(atPath: "\(folder)/\($1)")
                return $0 + (facts?[.size] as? Int ?? 0)
            }
        }

        /// In the middle of reading from a server that has stopped to answer: 130, and nothing
        /// half-made is left.
        @Test(needs(), arguments: ["replay", "verify"])
        func readersAreInterrupted(_ verb: String) throws {
            try Scratch.with { scratch in
                let server = try TestServer(in: scratch)
                let volume = try TestVolume(in: scratch, size: "192M")
                try volume.mount()
                try fill(volume.disk, with: "noise", count: 160 << 20)
                try volume.unmount()
                try volume.logdisk(
                    ["remote", "add", volume.path, "home", server.url("vol")] + server.options)
                try volume.logdisk(["ship", volume.path, "--now"])
                let folder = try scratch.newFolder("out")
                let leases = "\(server.store)/vol/leases"
                func names(_ folder: String) -> [String] {
                    (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
                }
                let output = ["--at", "now", "--output", "\(folder)/image"]
                let reader = try scratch.start(
                    [Machine.logdisk, verb, server.url("vol")]
                        + (verb == "replay" ? output : []) + server.options, input: nil)
                // It reads from now on; more than fits into what is on its way.
                eventually("it holds a lease") { !names(leases).isEmpty || reader.hasEnded }
                try server.signal(SIGSTOP)
                try #require(Glibc.kill(reader.process, SIGINT) == 0)
                let outcome = reader.wait()
                try server.signal(SIGCONT)
                #expect(outcome.status == 130, "\(outcome)")
                #expect(names(folder).isEmpty)
                // The same again, to its end.
                try volume.logdisk(
                    ["replay", server.url("vol"), "--at", "now", "--output", "\(folder)/image"]
                        + server.options)
                try scratch.run("cmp", "\(folder)/image", volume.path + "/image.raw")
            }
        }
    }
}
