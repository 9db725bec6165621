// Sets on a log server: a process of its own over TLS, killed in the middle of a run, and at the
// end of a network that is slow, far away, or cut.

import Foundation
import Testing

extension EndToEnd {
    @Suite struct SpreadServerTests {
        /// Files of random bytes.
        private func makeSource(
            _ scratch: Scratch, count: Int, bytes: Int
        ) throws -> String {
            let source = try scratch.newFolder("source")
            for i in 0..<count {
                try scratch.run(
                    "bash", "-c", "head -c \(bytes) /dev/urandom > \"$0\"", "\(source)/f\(i)")
            }
            return source
        }

        private func device(_ server: TestServer, _ name: String, _ options: String = "") -> String
        {
            let ca = server.certificate.map { "&ca=\($0.authority)" } ?? ""
            return "\(server.url(name))?token-file=\(server.token)\(ca)\(options)"
        }

        private func spread(
            _ scratch: Scratch, _ words: [String], _ devices: [String],
            on host: ([String]) -> [String] = { $0 }
        ) throws -> Child {
            let named = devices.flatMap { ["--device", $0] }
            return try scratch.start(
                host([Machine.logdisk, "spread"] + words + named), input: nil)
        }

        /// Restores from the devices and compares; what differs.
        private func differences(
            _ scratch: Scratch, _ source: String, _ devices: [String], expecting status: Int32 = 0,
            on host: ([String]) -> [String] = { $0 }
        ) throws -> [String] {
            let output = scratch.newPath("restored")
            let back = try spread(
                scratch, ["restore", "--set", "s", "--output", output], devices, on: host
            ).wait()
            try #require(back.status == status, "\(back)")
            let names = try FileManager.default.contentsOfDirectory(atPath: source)
            return names.filter {
                !FileManager.default.contentsEqual(
                    atPath: "\(source)/\($0)", andPath: "\(output)/source/\($0)")
            }.sorted()
        }

        /// Bytes of items that have reached a device of the server, whole or not.
        private func arrived(_ server: TestServer, _ name: String) -> Int {
            let work = "\(server.store)/.backups/\(name)/.s.unfinished"
            return ["segments", "uploads"].reduce(0) { sum, folder in
                let names = try? FileManager.default.contentsOfDirectory(
                    atPath: "\(work)/\(folder)")
                return (names ?? []).reduce(sum) { sum, name in
                    var info = stat()
                    return stat("\(work)/\(folder)/\(name)", &info) == 0
                        ? sum + Int(info.st_size) : sum
                }
            }
        }

        @Test(needs("openssl"))
        func overTLS() throws {
            try Scratch.with { scratch in
                let source = try makeSource(scratch, count: 12, bytes: 700_000)
                let server = try TestServer(in: scratch, withTLS: true)
                let folder = "dir:\(try scratch.newFolder("a"))"
                let devices = [folder, device(server, "one"), device(server, "two", "&site=b")]
                let run = try spread(scratch, ["run", source, "--set", "s"], devices).wait()
                try #require(run.status == 0, "\(run)")
                #expect(try differences(scratch, source, devices).isEmpty)
                let verify = try spread(scratch, ["verify"], devices).wait()
                #expect(verify.status == 0 && verify.output.contains("0 damaged"), "\(verify)")
                // From one alone: what it lacks is named.
                let list = try spread(scratch, ["list"], [devices[1]]).wait()
                #expect(list.status == 0 && list.output.contains("missing: \(folder)"), "\(list)")
                #expect(
                    try !differences(scratch, source, [devices[1]], expecting: 3).isEmpty)
                let again = try spread(scratch, ["run", source, "--set", "s"], devices).wait()
                #expect(again.status == 64, "\(again)")
                // What may only append forgets nothing; what only reads is left out of a run.
                let forget = try spread(scratch, ["forget", "--set", "s"], [devices[1]]).wait()
                #expect(forget.status == 1 && forget.errors.contains("may not"), "\(forget)")
                let ca = "&ca=\(try #require(server.certificate).authority)"
                let full = try server.newToken("--full")
                let reading = try server.newToken("--read-only")
                let others = ["one", "two"].map {
                    "\(server.url($0))?token-file=\(full)\(ca)"
                }
                let gone = try spread(scratch, ["forget", "--set", "s"], [folder] + others).wait()
                #expect(gone.status == 0, "\(gone)")
                let none = try spread(scratch, ["list"], devices).wait()
                #expect(none.output == "no sets\n", "\(none)")
                let reader = "\(server.url("one"))?token-file=\(reading)\(ca)"
                let partly = try spread(
                    scratch, ["run", source, "--set", "s"], [folder, reader]
                ).wait()
                #expect(partly.status == 0 && partly.errors.contains("is read-only"), "\(partly)")
                // A token of another server, and a certificate that nobody knows: 15.
                let wrong = scratch.path("wrong")
                try #require(
                    FileManager.default.createFile(
                        atPath: wrong,
                        contents: Data("x.\(String(repeating: "A", count: 43))".utf8),
                        attributes: [.posixPermissions: 0o600]))
                for options in ["?token-file=\(wrong)\(ca)", "?token-file=\(full)"] {
                    let denied = try spread(
                        scratch, ["run", source, "--set", "t"], [server.url("one") + options]
                    ).wait()
                    #expect(denied.status == 15, "\(denied)")
                }
                try server.stop()
                let away = try spread(scratch, ["list"], [devices[1]]).wait()
                #expect(away.status == 14, "\(away)")
            }
        }

        /// SIGKILL of the server in the middle of a run: the others take it.
        @Test(needs("openssl"))
        func theServerIsKilled() throws {
            try Scratch.with { scratch in
                let source = try makeSource(scratch, count: 30, bytes: 400_000)
                let server = try TestServer(in: scratch, withTLS: true)
                let folder = "dir:\(try scratch.newFolder("a"))"
                let devices = [folder + "?rate=3M/s", device(server, "one", "&rate=3M/s")]
                let child = try spread(scratch, ["run", source, "--set", "s"], devices)
                eventually("bytes at the server") { arrived(server, "one") > 1_000_000 }
                server.kill()
                let run = child.wait()
                try #require(run.status == 0, "\(run)")
                #expect(run.errors.contains("is offline"), "\(run)")
                #expect(run.errors.contains("planned again"), "\(run)")
                #expect(try differences(scratch, source, [folder]).isEmpty)
                // The remains at the server are no set; they go when asked to.
                try server.start()
                let list = try spread(scratch, ["list"], [devices[1]]).wait()
                #expect(list.output.contains("unfinished"), "\(list)")
            }
        }

        /// SIGKILL of both in the middle: the server starts again, and the same command goes on.
        @Test(needs("openssl"))
        func bothAreKilledAndGoOn() throws {
            try Scratch.with { scratch in
                let source = try makeSource(scratch, count: 60, bytes: 300_000)
                let server = try TestServer(in: scratch, withTLS: true)
                let folder = "dir:\(try scratch.newFolder("a"))"
                let words = ["run", source, "--set", "s"]
                let slow = [folder + "?rate=800K/s", device(server, "one", "&rate=800K/s")]
                let child = try spread(scratch, words, slow)
                // What is in a journal is durable, and known to the next run.
                eventually("a journal at the server") {
                    let work = "\(server.store)/.backups/one/.s.unfinished"
                    let names = try? FileManager.default.contentsOfDirectory(atPath: work)
                    return (names ?? []).contains { $0.hasPrefix("journal-") }
                }
                kill(child.process, SIGKILL)
                server.kill()
                _ = child.wait()
                try server.start()
                let devices = [folder, device(server, "one")]
                let run = try spread(scratch, words, devices).wait()
                try #require(run.status == 0, "\(run)")
                #expect(run.errors.contains("going on"), "\(run)")
                #expect(try differences(scratch, source, devices).isEmpty)
            }
        }

        // MARK: - networks

        /// A slow link that is cut in the middle.
        @Test(needs("root", "ip", "tc", "nsenter", "openssl"), arguments: [false, true])
        func partitioned(_ isTooSmall: Bool) throws {
            try Scratch.with { scratch in
                let network = try TestNetwork(
                    in: scratch, hosts: ["writer", "server"], rateMbit: 20)
                let server = try TestServer(
                    in: scratch, withTLS: true, address: network.address(of: "server")
                ) { network.on("server", $0) }
                let source = try makeSource(scratch, count: 40, bytes: 500_000)
                let folder = "dir:\(try scratch.newFolder("a"))"
                // Half of it goes to each; what was the server's fits beside the rest, or not.
                let own = folder + (isTooSmall ? "?capacity=14000000" : "")
                let child = try spread(
                    scratch, ["run", source, "--set", "s", "--json"],
                    [own, device(server, "one")]
                ) { network.on("writer", $0) }
                eventually("bytes at the server") { arrived(server, "one") > 2_000_000 }
                try network.setConnected("server", false)
                let run = child.wait()
                try #require(run.status == (isTooSmall ? 3 : 0), "\(run)")
                struct Report: Decodable {
                    struct Missing: Decodable { var path: String }
                    var missing: [Missing]
                }
                let report = try JSONDecoder().decode(Report.self, from: Data(run.output.utf8))
                let missing = Set(report.missing.map { String($0.path.dropFirst(7)) }).sorted()
                #expect(missing.isEmpty != isTooSmall, "\(run)")
                let differing = try differences(
                    scratch, source, [folder], expecting: isTooSmall ? 3 : 0)
                #expect(differing == missing, "the list is exact")
            }
        }

        /// A server that is far away: each byte needs a tenth of a second in each direction.
        @Test(needs("openssl", "python3"))
        func farAway() throws {
            try Scratch.with { scratch in
                let source = try makeSource(scratch, count: 6, bytes: 1_500_000)
                let server = try TestServer(in: scratch, withTLS: true)
                let port = try #require(server.url.split(separator: ":").last)
                let proxy = try Child(["python3", "-c", Self.delay, String(port)], in: scratch)
                let far = try #require(proxy.line())
                let folder = "dir:\(try scratch.newFolder("a"))"
                let devices = [
                    folder,
                    device(server, "one").replacingOccurrences(of: ":\(port)/", with: ":\(far)/"),
                ]
                let run = try spread(scratch, ["run", source, "--set", "s"], devices).wait()
                try #require(run.status == 0, "\(run)")
                #expect(try differences(scratch, source, devices).isEmpty)
                // Something of it went that way.
                let list = try spread(scratch, ["list"], [device(server, "one")]).wait()
                #expect(list.status == 0 && list.output.contains("s "), "\(list)")
            }
        }

        /// Prints its port, then passes bytes on to port argv[1] after a tenth of a second.
        private static let delay = """
            import asyncio, sys
            async def pump(source, target):
                queue = asyncio.Queue()
                async def send():
                    while True:
                        due, data = await queue.get()
                        await asyncio.sleep(max(0, due - asyncio.get_event_loop().time()))
                        if not data:
                            target.close()
                            return
                        target.write(data)
                        await target.drain()
                sender = asyncio.ensure_future(send())
                while True:
                    try:
                        data = await source.read(65536)
                    except OSError:
                        data = b''
                    queue.put_nowait((asyncio.get_event_loop().time() + 0.1, data))
                    if not data:
                        break
                try:
                    await sender
                except OSError:
                    pass
            async def meet(reader, writer):
                other, out = await asyncio.open_connection('127.0.0.1', int(sys.argv[1]))
                await asyncio.gather(pump(reader, out), pump(other, writer))
            async def main():
                server = await asyncio.start_server(meet, '127.0.0.1', 0)
                print(server.sockets[0].getsockname()[1], flush=True)
                await server.serve_forever()
            asyncio.run(main())
            """
    }
}
