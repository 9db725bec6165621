// A mounted volume and a log server as processes: what is written arrives, in order and once,
// through outages, restarts and kills at both ends; the writer never notices.

import CommandText
import Foundation
import Testing

extension EndToEnd {
    @Suite struct ShippingTests {
        private static func add(
            _ volume: TestVolume, _ server: TestServer, _ options: String...
        ) throws {
            try volume.logdisk(
                ["remote", "add", volume.path, "home", server.url + "/vol"]
                    + ["--token-file", server.token] + options)
        }

        private static func remote(_ volume: TestVolume) throws -> RemoteReport {
            let words = try volume.logdisk(["remote", "show", volume.path, "home", "--json"])
            return try JSONDecoder().decode(RemoteReport.self, from: Data(words.output.utf8))
        }

        /// Waits until everything that was written before is there.
        private static func shipped(_ volume: TestVolume) throws {
            try volume.logdisk(["ship", volume.path, "--now", "--wait", "--json"])
        }

        /// The same segments, byte for byte, and the same newest state.
        private static func compare(_ volume: TestVolume, _ server: TestServer) throws {
            let (here, there) = (TestServer.segments(volume.path), server.segments("vol"))
            #expect(here == there)
            for name in here where there.contains(name) {
                try volume.scratch.run(
                    "cmp", "\(volume.path)/segments/\(name)",
                    "\(server.store)/vol/segments/\(name)")
            }
            let file = volume.scratch.newPath("from-remote")
            try volume.logdisk([
                "replay", "\(server.store)/vol", "--at", "now", "--output", file,
            ])
            #expect(
                try digest(volume.scratch, file)
                    == digest(volume.scratch, volume.replay("now")))
        }

        @Test(needs())
        func shipsByItself() throws {
            try Scratch.with { scratch in
                let server = try TestServer(in: scratch)
                let volume = try TestVolume(in: scratch, size: "32M")
                try volume.mount()
                try Self.add(volume, server, "--when", "always", "--batch", "1s")
                try fill(volume.disk, with: "one", count: 3 << 20)
                _ = try volume.mark("one")
                let newest = try volume.status().durableLSN
                eventually("the mark is there") {
                    (try? Self.remote(volume).ackedLSN ?? 0 >= newest) ?? false
                }
                eventually("nothing waits") {
                    (try? Self.remote(volume).stateKind) == "hold:up-to-date"
                }
                let status = try volume.status()
                #expect(status.remotes?.first?.lagRecords == 0 && status.health == .ok)
                try Self.compare(volume, server)
                let kinds = try Self.remote(volume).decisions.map(\.kind)
                #expect(kinds.contains("ship:always") && kinds.last == "hold:up-to-date")
                // A paused remote gets nothing; unmount tells what it lacks.
                try volume.logdisk(["remote", "pause", volume.path, "home"])
                try fill(volume.disk, with: "two", count: 1 << 20)
                #expect(try Self.remote(volume).isPaused)
                let told = try volume.logdisk(["unmount", volume.mountPoint])
                #expect(told.errors.contains("remote home lacks"), "\(told)")
                try volume.logdisk(["ship", volume.path], expecting: 15)
                try volume.logdisk(["remote", "resume", volume.path, "home"])
                try volume.logdisk(["ship", volume.path, "--now"])
                try Self.compare(volume, server)
                #expect(try Self.remote(volume).lagRecords == 0)
                try volume.logdisk(["remote", "remove", volume.path, "home"])
                #expect(try volume.logdisk(["remote", "list", volume.path]).output.contains("no"))
            }
        }

        @Test(needs())
        func shipsWhenQuiet() throws {
            try Scratch.with { scratch in
                let server = try TestServer(in: scratch)
                let volume = try TestVolume(in: scratch, size: "32M")
                try Self.add(volume, server, "--quiet-below", "100GB/s", "--batch", "1s")
                #expect(try Self.remote(volume).stateKind == "hold:unmounted")
                try volume.mount()
                try fill(volume.disk, with: "one", count: 2 << 20)
                eventually("it is there") {
                    (try? Self.remote(volume).stateKind) == "hold:up-to-date"
                }
                let report = try Self.remote(volume)
                #expect(report.interface == "lo")
                let kinds = report.decisions.map(\.kind)
                let measured = kinds.firstIndex(of: "hold:measuring")
                let shipped = kinds.firstIndex(of: "ship:quiet")
                #expect(measured != nil && shipped != nil, "\(kinds)")
                try volume.logdisk(["unmount", volume.mountPoint, "--wait-shipped"])
                try Self.compare(volume, server)
            }
        }

        @Test(needs())
        func anOutageIsCaughtUp() throws {
            try Scratch.with { scratch in
                let server = try TestServer(in: scratch)
                let volume = try TestVolume(in: scratch, ["--size", "32M", "--wal-size", "32M"])
                try volume.mount()
                try Self.add(volume, server, "--when", "always", "--batch", "1s")
                try fill(volume.disk, with: "before", count: 2 << 20)
                try Self.shipped(volume)
                try server.stop()
                for i in 0..<6 { try fill(volume.disk, with: "away \(i)", count: 4 << 20) }
                eventually("it is told") {
                    (try? Self.remote(volume).stateKind) == "hold:failed"
                }
                let report = try Self.remote(volume)
                #expect(report.failure != nil && report.lagRecords > 0 && report.lagBytes > 0)
                // Thinning waits for the remote (R5).
                let segments = TestServer.segments(volume.path)
                try volume.logdisk(["prune", volume.path, "--keep", "newest 1h"])
                let gone = segments.filter { !TestServer.segments(volume.path).contains($0) }
                #expect(gone.allSatisfy { server.segments("vol").contains($0) }, "\(gone)")
                try server.start()
                try Self.shipped(volume)
                try volume.unmount()
                try volume.verify()
                let file = scratch.newPath("from-remote")
                try volume.logdisk([
                    "replay", "\(server.store)/vol", "--at", "now", "--output", file,
                ])
                #expect(try digest(scratch, file) == digest(scratch, volume.replay("now")))
                try volume.logdisk(["verify", "\(server.store)/vol"])
            }
        }

        @Test(needs())
        func killsAtBothEndsUnderLoad() throws {
            let seed = freshSeed()
            var random = SeededGenerator(seed: seed)
            try Scratch.with { scratch in
                let server = try TestServer(in: scratch)
                let volume = try TestVolume(
                    in: scratch, ["--size", "64M", "--wal-size", "32M", "--ring", "4M"])
                try volume.mount()
                try Self.add(
                    volume, server, "--when", "always", "--batch", "1s", "--max-lag", "2s")
                for round in 0..<6 {
                    for i in 0..<4 + random.below(8) {
                        try fill(
                            volume.disk, with: "\(round).\(i)",
                            count: (1 + random.below(24)) << 18)
                    }
                    switch random.below(3) {
                    case 0: server.kill()
                    case 1: try volume.kill()
                    default:
                        server.kill()
                        try volume.kill()
                    }
                    if random.below(2) == 0 { try? volume.revive() }
                    server.kill()
                    try server.start()
                    if TestVolume.lockHolder(volume.path).map({ !isAlive($0) }) ?? true {
                        try volume.revive()
                    }
                }
                try Self.shipped(volume)
                try Self.compare(volume, server)
                try volume.unmount()
                try volume.logdisk(["ship", volume.path, "--now"])
                try Self.compare(volume, server)
                try volume.logdisk(["verify", "\(server.store)/vol"])
            }
        }
    }
}
