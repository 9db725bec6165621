// Volumes on a real object storage come back on another machine (another folder), also while the
// machine before still writes: it is told, and goes on by itself.

import CommandText
import Foundation
import ObjectEngines
import Testing

extension EndToEnd {
    @Suite struct ObjectAdoptTests {
        private static func second(_ scratch: Scratch) throws -> TestVolume {
            TestVolume(
                adopted: scratch.path("new"), in: scratch,
                mountPoint: try scratch.newFolder("new-mnt"))
        }

        @Test(needs(), needsEngine)
        func theOldWriterIsToldAndGoesOn() throws {
            try forEachEngine { engine, scratch in
                let bucket = try TestBucket(engine, in: scratch)
                let volume = try TestVolume(in: scratch, size: "32M")
                try volume.mount()
                try volume.logdisk(
                    ["remote", "add", volume.path, "far", bucket.url("vol"), "--when", "always"]
                        + ["--batch", "1s"] + bucket.options)
                try fill(volume.disk, with: "one", count: 3 << 20)
                let mark = try volume.mark("one")
                let one = try digest(scratch, volume.disk)
                try volume.logdisk(["ship", volume.path, "--now", "--wait"])
                let new = try Self.second(scratch)
                try volume.logdisk(["adopt", bucket.url("vol"), new.path] + bucket.options)
                // What was before the adoption is there, not here.
                #expect(try digest(scratch, new.replay("now")) == one)

                try fill(volume.disk, with: "lost", count: 1 << 20)
                eventually("the old one is told") {
                    (try? TestBucket.report(volume, "far").stateKind) == "hold:standing"
                }
                let problems = try volume.status().problems
                #expect(
                    problems.contains { $0.contains("somebody else writes this volume") },
                    "\(problems)")
                try fill(volume.disk, with: "it goes on", count: 1 << 20)
                try volume.logdisk(["ship", volume.path, "--now", "--wait"], expecting: 15)
                try volume.unmount()

                try new.mount()
                try fill(new.disk, with: "two", count: 2 << 20)
                #expect(try new.mark("two").lsn > mark.lsn)
                let two = try digest(scratch, new.disk)
                try new.logdisk(["ship", new.path, "--now", "--wait"])
                for (target, sum) in [("mark:one", one), ("mark:two", two), ("now", two)] {
                    #expect(try bucket.replayed(new, at: target) == sum, "\(target)")
                }
                try new.unmount()
                try new.verify()
                try new.logdisk(["verify", bucket.url("vol")] + bucket.options)
            }
        }

        /// A volume that kept its history there, with its machine gone; used before all is here.
        @Test(needs(), needsEngine)
        func mountedFirstItFills() throws {
            try forEachEngine { engine, scratch in
                let bucket = try TestBucket(engine, in: scratch)
                let volume = try bucket.newVolume("vol", ["--size", "32M", "--batch", "1s"])
                try volume.mount()
                try fill(volume.disk, with: "one", count: 8 << 20)
                let one = try digest(scratch, volume.disk)
                try volume.logdisk(["ship", volume.path, "--now", "--wait"])
                try volume.kill()
                try volume.clearDeadMount()
                let new = try Self.second(scratch)
                try volume.logdisk(
                    ["adopt", bucket.url("vol"), new.path, "--mount-first", new.mountPoint]
                        + bucket.options)
                #expect(try digest(scratch, new.disk) == one)
                try fill(new.disk, with: "two", count: 1 << 20)
                let two = try digest(scratch, new.disk)
                eventually("all of it is here") { !exists(new.path + "/filling.json") }
                try new.logdisk(["ship", new.path, "--now", "--wait"])
                try new.unmount()
                try new.verify()
                #expect(try bucket.replayed(new, at: "now") == two)
                // The machine before comes back, and is not the writer any more.
                try volume.mount()
                try fill(volume.disk, with: "lost", count: 1 << 20)
                try volume.logdisk(["ship", volume.path, "--now", "--wait"], expecting: 15)
                try volume.unmount()
                #expect(try bucket.replayed(new, at: "now") == two)
            }
        }
    }
}
