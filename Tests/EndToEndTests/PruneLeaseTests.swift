// What stands on history while it is pruned: a past mount, a file open below `at`, and a branch.

import CommandText
import Foundation
import Testing

extension EndToEnd {
    @Suite struct PruneLeaseTests {
        private struct State {
            var lsn: UInt64
            var digest: String
        }

        /// Reads a file in two parts, with something done in between.
        private struct HalfRead {
            private let file: FileHandle
            private var bytes: Data

            init(_ path: String) throws {
                file = try #require(FileHandle(forReadingAtPath: path))
                bytes = try #require(try file.read(upToCount: 128 << 10))
            }

            /// The digest of the whole, read to the end now.
            mutating func finish(_ scratch: Scratch) throws -> String {
                while let more = try file.read(upToCount: 1 << 20), !more.isEmpty { bytes += more }
                try file.close()
                let copy = scratch.newPath("read")
                try bytes.write(to: URL(fileURLWithPath: copy))
                return try EndToEndTests.digest(scratch, copy)
            }
        }

        /// Overwrites the same places again and again: all but the newest is superseded.
        private func write(_ volume: TestVolume, _ count: Int, _ name: String) throws -> [State] {
            try (0..<count).map { number in
                try fill(volume.disk, with: "\(name) \(number)", count: 1 << 20)
                return State(
                    lsn: try volume.status().durableLSN,
                    digest: try digest(volume.scratch, volume.disk))
            }
        }

        private func expectGone(_ volume: TestVolume, _ state: State) throws {
            let output = volume.scratch.newPath("none")
            let outcome = try volume.logdisk(
                ["replay", volume.path, "--at", "lsn:\(state.lsn)", "--output", output],
                expecting: 12)
            #expect(outcome.errors.contains("nearest"), "\(outcome)")
        }

        @Test(needs(), arguments: ["newest 1w", "every 1s, 1h 1w", "1h 1d, 1d 1w"])
        func whatIsInUseStays(_ ladder: String) throws {
            try Scratch.with { scratch in
                let volume = try TestVolume(in: scratch, size: "4M")
                try volume.mount()
                let states = try write(volume, 6, "old")
                let (past, below, branched) = (states[1], states[2], states[3])
                let prune = ["prune", volume.path, "--keep", ladder]

                let pastFolder = try scratch.newFolder("past")
                try volume.logdisk(
                    ["mount", volume.path, pastFolder, "--at", "lsn:\(past.lsn)"])
                let branchFolder = try scratch.newFolder("branch-mnt")
                let branch = scratch.path("branch")
                try volume.logdisk([
                    "mount", volume.path, branchFolder, "--at", "lsn:\(branched.lsn)",
                    "--branch", branch,
                ])
                var pastReader = try HalfRead(pastFolder + "/disk.img")
                var belowReader = try HalfRead(
                    "\(volume.mountPoint)/at/lsn:\(below.lsn)/disk.img")
                var branchReader = try HalfRead(branchFolder + "/disk.img")
                // Every rung is over for what is there by now.
                let last = try write(volume, 2, "new")[1]
                sleep(2)

                // What is new goes, what is in use stays.
                let refused = try volume.logdisk(prune, expecting: 3)
                #expect(refused.errors.contains("past mount: process"), "\(refused)")
                #expect(refused.errors.contains(pastFolder), "\(refused)")
                #expect(refused.errors.contains("file below at: process"), "\(refused)")
                #expect(refused.errors.contains("branch"), "\(refused)")
                #expect(refused.errors.contains("hint: "), "\(refused)")
                #expect(try pastReader.finish(scratch) == past.digest)
                #expect(try belowReader.finish(scratch) == below.digest)
                #expect(try branchReader.finish(scratch) == branched.digest)

                // One after the other they go; the rest is still held.
                try volume.logdisk(["unmount", pastFolder])
                let again = try volume.logdisk(prune, expecting: 11)
                #expect(!again.errors.contains("past mount"), "\(again)")
                #expect(try digest(scratch, branchFolder + "/disk.img") == branched.digest)
                try volume.logdisk(["unmount", branchFolder])
                try volume.logdisk(prune)
                try expectGone(volume, past)
                try expectGone(volume, below)

                // A branch that is not mounted holds its point.
                #expect(
                    try digest(scratch, volume.replay("lsn:\(branched.lsn)")) == branched.digest)
                try volume.logdisk(["mount", branch, branchFolder])
                #expect(try digest(scratch, branchFolder + "/disk.img") == branched.digest)
                try volume.logdisk(["unmount", branchFolder])
                try volume.logdisk(["branch", "delete", branch])
                try volume.logdisk(prune)
                try expectGone(volume, branched)
                #expect(try digest(scratch, volume.replay("now")) == last.digest)
                try volume.verify()
                try volume.unmount()
                try volume.verify()
            }
        }
    }
}
