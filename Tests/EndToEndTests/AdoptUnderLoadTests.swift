// A volume is adopted while its old writer goes on: SQLite commits on ext4 on a loop device, and
// that is shipped over TLS, sealed; meanwhile another machine takes the volume over. It gets a
// prefix of what was acknowledged, to the byte; the old writer is fenced, says so, and goes on.

import CommandText
import Foundation
import Testing

extension EndToEnd {
    @Suite struct AdoptUnderLoadTests {
        /// The answer to `adopt --json`, as far as it matters here.
        private struct Adopted: Decodable {
            struct Point: Decodable { var lsn: UInt64 }
            var restored: Point
            var start: Point
            var isWhole: Bool

            enum CodingKeys: String, CodingKey {
                case restored, start
                case isWhole = "is_whole"
            }
        }

        /// The old machine, its database, and the server.
        private final class World {
            let scratch: Scratch
            let server: TestServer
            let old: TestVolume
            let files: MountedFileSystem
            let writer: Child
            /// Commits that were acknowledged.
            private(set) var rows = 0
            private let key: String

            /// What a reader needs.
            var options: [String] { server.options + ["--key-file", key] }

            init(_ scratch: Scratch) throws {
                self.scratch = scratch
                server = try TestServer(in: scratch, withTLS: true)
                old = try TestVolume(in: scratch, name: "old", size: "192M")
                key = scratch.path("key")
                try scratch.logdisk("key", "create", key)
                try old.logdisk(
                    ["remote", "add", old.path, "home", server.url("vol")] + server.options
                        + ["--key-file", key, "--when", "always", "--max-lag", "2s"])
                try old.mount()
                files = try MountedFileSystem(.ext4, in: scratch)
                try files.make(on: old.disk)
                // So that bringing it over takes its time.
                try scratch.run(
                    "dd", "if=/dev/urandom", "of=\(files.folder)/big", "bs=1M", "count=48",
                    "conv=fsync")
                writer = try SQLiteTests.begin(files)
            }

            func commit(_ count: Int) throws {
                rows = try SQLiteTests.insert(count, writer, from: rows)
            }

            func remote() throws -> RemoteReport {
                try #require(try old.status().remotes?.first)
            }

            func replayed(_ url: String, at target: String) throws -> String {
                let file = scratch.newPath("far")
                try old.logdisk(["replay", url, "--at", target, "--output", file] + options)
                return try digest(scratch, file)
            }
        }

        @Test(
            needs("root", "loop", "mount", "losetup", "mkfs.ext4", "python3", "openssl"))
        func theOldWriterGoesOnMeanwhile() throws {
            try Scratch.with { scratch in
                let world = try World(scratch)
                let (old, server) = (world.old, world.server)
                try world.commit(50)
                try old.logdisk(["ship", old.path, "--now", "--wait"])
                let sure = world.rows

                let new = TestVolume(
                    adopted: scratch.path("new"), in: scratch,
                    mountPoint: try scratch.newFolder("new-mnt"))
                let adoption = try scratch.start(
                    [Machine.logdisk, "adopt", server.url("vol"), new.path, "--json"]
                        + world.options, input: nil)
                while !adoption.hasEnded { try world.commit(3) }
                let durable = try old.status().durableLSN
                let outcome = adoption.wait()
                try #require(outcome.status == 0, "\(outcome)")
                let adopted = try JSONDecoder().decode(
                    Adopted.self, from: Data(outcome.output.utf8))
                #expect(adopted.isWhole && adopted.restored.lsn == adopted.start.lsn)
                #expect(adopted.restored.lsn <= durable)
                let most = world.rows
                #expect(most > sure, "nothing was committed meanwhile")

                try fenced(world)
                // The same bytes here, there, and where they were written.
                let point = "lsn:\(adopted.restored.lsn)"
                let sum = try digest(scratch, new.replay("now"))
                #expect(try digest(scratch, old.replay(point)) == sum)
                #expect(try world.replayed(server.url("vol"), at: point) == sum)

                try goOn(new, world, from: sure...most)
                try old.logdisk(["ship", old.path, "--now", "--wait"], expecting: 15)
                world.writer.kill()
                #expect(try SQLiteTests.count(world.files) == world.rows)
                try world.files.unmount()
                try old.unmount()
                try old.verify()
            }
        }

        /// The old one: it learns that it is not the writer any more, and goes on by itself.
        private func fenced(_ world: World) throws {
            try eventually("the old writer is fenced") {
                try world.commit(1)
                return try world.remote().stateKind == "hold:standing"
            }
            let status = try world.old.status()
            #expect(status.health == .degraded && !(status.remotes?[0].isHoldingWriters ?? true))
            #expect(
                status.problems.contains { $0.contains("somebody else writes this volume") },
                "\(status.problems)")
            let before = status.durableLSN
            try world.commit(5)
            #expect(try world.old.status().durableLSN > before)
            #expect(try world.remote().lagRecords > 0)
        }

        /// The new one: a sound file system and base with a prefix of the commits, to which it adds
        /// its own; they are what the server has from now on.
        private func goOn(
            _ new: TestVolume, _ world: World, from expected: ClosedRange<Int>
        ) throws {
            try new.mount()
            let files = try MountedFileSystem(.ext4, in: world.scratch)
            try files.mount(new.disk)
            let rows = try SQLiteTests.count(files)
            #expect(expected.contains(rows), "\(rows) of \(expected)")
            let writer = try SQLiteTests.begin(files)
            _ = try SQLiteTests.insert(20, writer, from: rows)
            writer.kill()
            #expect(try SQLiteTests.count(files) == rows + 20)
            try files.unmountDevice()
            try files.check()
            LoopDevice.release(files.device)
            try new.logdisk(["unmount", new.mountPoint, "--wait-shipped"])
            try new.verify()
            let (url, now) = (world.server.url("vol"), try digest(world.scratch, new.replay("now")))
            #expect(try world.replayed(url, at: "now") == now)
            try new.logdisk(["verify", url] + world.options)
        }
    }
}
