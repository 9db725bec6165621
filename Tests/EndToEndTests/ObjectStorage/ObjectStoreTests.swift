// Volumes that keep their history on a real object storage, with the log and the image here;
// through kills of the mount and of the gateway, and without a network.

import CommandText
import Foundation
import ObjectEngines
import Testing

extension EndToEnd {
    @Suite struct ObjectStoreTests {
        private static func segments(_ volume: TestVolume) -> [String] {
            TestServer.segments(volume.path)
        }

        /// Until the store has all that was written.
        private static func settle(_ volume: TestVolume) throws {
            try volume.logdisk(["ship", volume.path, "--now", "--wait", "--json"])
        }

        /// What was shipped lies there only; reading joins both, mounted or not.
        @Test(needs(), needsEngine)
        func historyLiesThereAndIsReadHere() throws {
            try forEachEngine { engine, scratch in
                let bucket = try TestBucket(engine, in: scratch)
                let volume = try bucket.newVolume("vol", ["--size", "32M", "--batch", "1s"])
                let made = try engine.keys(in: bucket.name, prefix: "vol/segments/")
                #expect(made.count == 1, "the base is there before create returns: \(made)")
                try volume.mount()
                var sums: [(String, String)] = []
                for name in ["one", "two", "three"] {
                    try fill(volume.disk, with: name, count: 3 << 20)
                    _ = try volume.mark(name)
                    sums.append(("mark:\(name)", try digest(scratch, volume.disk)))
                    try Self.settle(volume)
                    if name == "two" { try volume.logdisk(["snapshot", volume.path]) }
                }
                try Self.settle(volume)
                eventually("one segment is left here") { Self.segments(volume).count == 1 }
                func check() throws {
                    for (target, sum) in sums + [("now", sums[2].1)] {
                        #expect(try digest(scratch, volume.replay(target)) == sum, "\(target)")
                        #expect(try bucket.replayed(volume, at: target) == sum, "\(target)")
                    }
                }
                try check()
                let at = volume.mountPoint + "/at/mark:one/disk.img"
                #expect(try digest(scratch, at) == sums[0].1)
                let report = try TestBucket.report(volume, "store")
                let usage = try #require(report.usage)
                #expect(report.isStore == true && usage.total > 0 && usage.sentBytes > 6 << 20)
                let quiet = try TestBucket.report(volume, "store").usage?.total
                #expect(quiet == usage.total, "an idle volume asks nothing")
                try volume.unmount()
                try check()
                try volume.verify()
                try volume.logdisk(["remote", "remove", volume.path, "store"], expecting: 64)
                try volume.logdisk(["prune", volume.path, "--keep", "newest 1h"], expecting: 64)
                try bucket.checkSecrets(volume)
            }
        }

        /// The volume opens, takes writes and goes on without its store; what waits goes later.
        @Test(needs(), needsEngine)
        func withoutTheStoreItGoesOn() throws {
            for kind in ObjectEngine.Kind.toTest {
                let engine = try ObjectEngine.own(kind)
                defer { engine.stop() }
                try Scratch.with { scratch in
                    let bucket = try TestBucket(engine, in: scratch)
                    let volume = try bucket.newVolume("vol", ["--size", "32M", "--batch", "1s"])
                    try volume.mount()
                    try fill(volume.disk, with: "before", count: 2 << 20)
                    try Self.settle(volume)
                    try volume.unmount()
                    engine.kill(.gateway)
                    try volume.mount()
                    try fill(volume.disk, with: "away", count: 6 << 20)
                    let mark = try volume.mark("away")
                    try volume.kill()
                    try volume.revive()
                    let sum = try digest(scratch, volume.disk)
                    eventually("it is told") {
                        (try? TestBucket.report(volume, "store").failure) != nil
                    }
                    #expect(try TestBucket.report(volume, "store").lagRecords > 0)
                    // What lies there cannot be had; nothing is shown in its place.
                    try volume.logdisk(
                        ["replay", volume.path, "--at", "now", "--output", scratch.path("x")],
                        expecting: 14)
                    try engine.start(.gateway)
                    try engine.waitUntilReady()
                    try Self.settle(volume)
                    #expect(try bucket.replayed(volume, at: "lsn:\(mark.lsn)") == sum)
                    #expect(try digest(scratch, volume.replay("now")) == sum)
                    try volume.unmount()
                    try volume.verify()
                }
            }
        }

        /// Nothing that was acknowledged is lost, whoever dies, and the writer never notices.
        @Test(needs(), needsEngine)
        func killsAtBothEndsUnderLoad() throws {
            let seed = freshSeed()
            for kind in ObjectEngine.Kind.toTest {
                let engine = try ObjectEngine.own(kind)
                defer { engine.stop() }
                var random = SeededGenerator(seed: seed)
                try Scratch.with { scratch in
                    let bucket = try TestBucket(engine, in: scratch)
                    let volume = try bucket.newVolume(
                        "vol", ["--size", "64M", "--wal-size", "32M", "--ring", "4M"])
                    try volume.mount()
                    var sums: [(String, String)] = []
                    for round in 0..<6 {
                        for i in 0..<4 + random.below(8) {
                            try fill(
                                volume.disk, with: "\(round).\(i)",
                                count: (1 + random.below(24)) << 18)
                        }
                        let mark = try volume.mark("round-\(round)")
                        sums.append(("lsn:\(mark.lsn)", try digest(scratch, volume.disk)))
                        try Self.disturb(volume, engine, &random)
                    }
                    try Self.settle(volume)
                    for (target, sum) in sums {
                        #expect(
                            try digest(scratch, volume.replay(target)) == sum,
                            "\(target), seed \(seed)")
                        #expect(
                            try bucket.replayed(volume, at: target) == sum,
                            "\(target) there, seed \(seed)")
                    }
                    try volume.unmount()
                    try volume.verify()
                    try volume.logdisk(["verify", bucket.url("vol")] + bucket.options)
                }
            }
        }

        /// Kills the mount, the gateway, the storage or some of them, and starts them again.
        private static func disturb(
            _ volume: TestVolume, _ engine: ObjectEngine, _ random: inout SeededGenerator
        ) throws {
            let choice = random.below(4)
            let parts: [ObjectEngine.Part] =
                switch choice {
                case 0: [.gateway]
                case 1: [.storage]
                case 2: [.gateway, .storage]
                default: []
                }
            for part in parts { engine.kill(part) }
            if choice == 3 || random.below(2) == 0 {
                try volume.kill()
                try volume.revive()
            }
            try fill(volume.disk, with: "meanwhile", count: 1 << 20)
            for part in parts { try engine.start(part) }
        }

        /// A ladder is kept by the mount: what it lets go is hidden there, and the rest restorable.
        @Test(needs(), needsEngine)
        func theMountThinsTheStore() throws {
            try forEachEngine { engine, scratch in
                let bucket = try TestBucket(engine, in: scratch)
                let volume = try bucket.newVolume(
                    "vol", ["--size", "16M", "--batch", "1s", "--keep", "every 1s, newest 1d"])
                try volume.mount()
                for i in 0..<6 {
                    try fill(volume.disk, with: "\(i)", count: 1 << 20)
                    try Self.settle(volume)
                }
                try eventually("something is pruned") {
                    // It becomes due with what is written after.
                    try fill(volume.disk, with: "more", count: 4096)
                    try Self.settle(volume)
                    return (try TestBucket.report(volume, "store").retention?.pruned ?? 0) > 0
                }
                let report = try TestBucket.report(volume, "store").retention
                #expect(report?.failure == nil && report?.undeletable == [], "\(report as Any)")
                let sum = try digest(scratch, volume.disk)
                #expect(try bucket.replayed(volume, at: "now") == sum)
                try volume.unmount()
                try volume.logdisk(["verify", bucket.url("vol")] + bucket.options)
            }
        }
    }
}
