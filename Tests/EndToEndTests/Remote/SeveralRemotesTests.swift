// One volume, several remotes: each gets all at its own pace, a paused or unreachable one holds up
// no other, the local history keeps what the slowest lacks, and `remote list` tells each apart.

import CommandText
import Foundation
import Testing

extension EndToEnd {
    @Suite struct SeveralRemotesTests {
        private struct World {
            let volume: TestVolume
            /// `near` serves the volume plain and sealed; `far` is away for a while.
            let (near, far): (TestServer, TestServer)
            let key: String

            init(_ scratch: Scratch) throws {
                near = try TestServer(in: scratch)
                far = try TestServer(in: scratch, withTLS: true)
                key = scratch.path("key")
                volume = try TestVolume(in: scratch, ["--size", "32M", "--wal-size", "32M"])
                try scratch.logdisk("key", "create", key)
                try volume.mount()
            }

            func add(_ name: String, _ server: TestServer, _ options: String...) throws {
                try volume.logdisk(
                    ["remote", "add", volume.path, name, server.url(name)] + server.options
                        + ["--when", "always", "--batch", "1s"] + options)
            }

            func remotes() throws -> [String: RemoteReport] {
                let words = try volume.logdisk(["remote", "list", volume.path, "--json"]).output
                let all = try JSONDecoder().decode([RemoteReport].self, from: Data(words.utf8))
                return Dictionary(uniqueKeysWithValues: all.map { ($0.name, $0) })
            }

            func wait(_ name: String, for kind: String) throws {
                try eventually("\(name) is at \(kind)") {
                    try remotes()[name]?.stateKind == kind
                }
            }

            /// Ends a segment, writes on, and brings that into segments, too.
            func write(_ words: String...) throws {
                for word in words {
                    try fill(volume.disk, with: word, count: 2 << 20)
                    _ = try volume.mark(word)
                    try volume.logdisk(["snapshot", volume.path])
                }
            }

            /// Local segments that thinning to the newest state deletes.
            func prune() throws -> [String] {
                let before = TestServer.segments(volume.path)
                try volume.logdisk(["prune", volume.path, "--keep", "newest 1h"])
                let after = Set(TestServer.segments(volume.path))
                return before.filter { !after.contains($0) }
            }

            /// The state at a mark, as each of the remotes has it.
            func compare(
                _ targets: String..., with options: [(TestServer, String, [String])]
            ) throws {
                for target in targets {
                    let sum = try digest(volume.scratch, volume.replay(target))
                    for (server, name, more) in options {
                        let file = volume.scratch.newPath("far")
                        try volume.logdisk(
                            ["replay", server.url(name), "--at", target, "--output", file]
                                + server.options + more)
                        #expect(try digest(volume.scratch, file) == sum, "\(name), \(target)")
                    }
                }
            }
        }

        @Test(needs("openssl"))
        func eachGetsAllAtItsPace() throws {
            try Scratch.with { scratch in
                let world = try World(scratch)
                let volume = world.volume
                try world.add("plain", world.near)
                try world.add("sealed", world.near, "--key-file", world.key)
                try world.add("away", world.far)
                try world.write("one")
                for name in ["plain", "sealed", "away"] {
                    try world.wait(name, for: "hold:up-to-date")
                }
                try world.far.stop()
                try volume.logdisk(["remote", "pause", volume.path, "sealed"])
                let held = try #require(try world.remotes()["sealed"]?.ackedLSN)
                try world.write("two", "three")
                try world.wait("plain", for: "hold:up-to-date")
                try world.wait("away", for: "hold:failed")

                let told = try world.remotes()
                #expect(told.keys.sorted() == ["away", "plain", "sealed"])
                let plain = try #require(told["plain"])
                #expect(!plain.isSealed && !plain.isPaused && plain.lagRecords == 0)
                #expect(plain.failure == nil && plain.problem == nil)
                let sealed = try #require(told["sealed"])
                #expect(sealed.isSealed && sealed.isPaused && sealed.stateKind == "hold:paused")
                #expect(sealed.ackedLSN == held && sealed.lagRecords > 0 && sealed.lagBytes > 0)
                let away = try #require(told["away"])
                #expect(!away.isPaused && away.failure != nil && away.lagRecords > 0)
                #expect((away.ackedLSN ?? 0) < (plain.ackedLSN ?? 0))

                // The slowest counts, whoever has it already.
                let slowest = min(held, away.ackedLSN ?? 0)
                for name in try world.prune() {
                    #expect(try #require(Self.last(name)) <= slowest, "\(name), \(slowest)")
                }
                try world.far.start()
                try volume.logdisk(["remote", "resume", volume.path, "sealed"])
                try volume.logdisk(["ship", volume.path, "--now", "--wait"])
                #expect(try world.remotes().values.allSatisfy { $0.lagRecords == 0 })
                try world.compare(
                    "mark:two", "mark:three", "now",
                    with: [
                        (world.near, "plain", []), (world.far, "away", []),
                        (world.near, "sealed", ["--key-file", world.key]),
                    ])
                // Now nobody needs it any more.
                #expect(try world.prune().contains { try #require(Self.last($0)) > slowest })
                try volume.unmount()
                try volume.verify()
            }
        }

        /// A remote that gives up points when too much waits keeps the local history no longer.
        @Test(needs("openssl"))
        func aBoundLetsTheHistoryGo() throws {
            try Scratch.with { scratch in
                let world = try World(scratch)
                let volume = world.volume
                try world.add("plain", world.near)
                try world.add(
                    "bounded", world.far, "--max-backlog", "1M", "--on-backlog", "drop-to-gap")
                try world.write("one")
                try world.wait("bounded", for: "hold:up-to-date")
                let acked = try #require(try world.remotes()["bounded"]?.ackedLSN)
                try world.far.stop()
                try world.write("two", "three")
                try world.wait("plain", for: "hold:up-to-date")
                try eventually("points are given up") {
                    try world.remotes()["bounded"]?.drops ?? 0 > 0
                }
                let bounded = try #require(try world.remotes()["bounded"])
                #expect(bounded.lastDropTime != nil && bounded.ackedLSN == acked)
                #expect(try world.remotes()["plain"]?.drops == 0)
                // What it gave up may go; its end arrives all the same.
                #expect(try world.prune().contains { try #require(Self.last($0)) > acked })
                try world.far.start()
                try volume.logdisk(["ship", volume.path, "--now", "--wait"])
                try world.compare(
                    "now", with: [(world.near, "plain", []), (world.far, "bounded", [])])
                try volume.unmount()
                try volume.verify()
            }
        }

        /// The last LSN that a segment's name tells.
        private static func last(_ segment: String) -> UInt64? {
            segment.split(separator: ".").first?.split(separator: "-").last.flatMap { UInt64($0) }
        }
    }
}
