// Pruning of a mounted volume, by command and by the clock, while it is written.

import CommandText
import Foundation
import Testing

extension EndToEnd {
    @Suite struct PruneTests {
        @Test(needs())
        func thinsWhileMounted() throws {
            try Scratch.with { scratch in
                let volume = try TestVolume(in: scratch, size: "32M")
                try volume.mount()
                var digests: [(name: String, digest: String)] = []
                for i in 0..<5 {
                    try fill(volume.disk, with: "state \(i)", count: 1 << 20)
                    _ = try volume.mark("m\(i)")
                    digests.append(("m\(i)", try digest(scratch, volume.disk)))
                    try fill(volume.disk, with: "between \(i)", count: 2 << 20)
                }
                try volume.logdisk(["pin", volume.mountPoint, "m1"])
                let between = try volume.status().durableLSN - 1
                try fill(volume.disk, with: "end", count: 1 << 20)
                let before = try volume.status().segmentBytes
                let plan = try volume.logdisk([
                    "prune", volume.path, "--keep", "newest 1h", "--dry-run",
                ]).output
                #expect(plan.contains("would delete"), "\(plan)")
                try volume.logdisk(["prune", volume.path, "--keep", "newest 1h"])
                #expect(try volume.status().segmentBytes < before)
                for (name, expected) in digests {
                    #expect(try digest(scratch, volume.replay("mark:\(name)")) == expected)
                }
                let refused = try volume.logdisk(
                    [
                        "replay", volume.path, "--at", "lsn:\(between)", "--output",
                        scratch.path("no"),
                    ], expecting: 12)
                #expect(refused.errors.contains("nearest before: lsn:"), "\(refused)")
                let points = try volume.logdisk(["points", volume.path]).output
                #expect(points.contains("single points: ") && points.contains("thinned: between"))
                // It goes on: more writes, another prune, the end and a restart.
                try fill(volume.disk, with: "later", count: 3 << 20)
                let later = try digest(scratch, volume.disk)
                try volume.logdisk(["prune", volume.path, "--keep", "newest 1h"])
                try volume.verify()
                try volume.unmount()
                #expect(try digest(scratch, volume.replay("now")) == later)
                try volume.mount()
                #expect(try digest(scratch, volume.disk) == later)
                try fill(volume.disk, with: "again", count: 1 << 20)
                #expect(try digest(scratch, volume.replay("mark:m1")) == digests[1].digest)
                try volume.verify()
                try volume.unmount()
                try volume.verify()
            }
        }

        @Test(needs())
        func thinsByTheClock() throws {
            try Scratch.with { scratch in
                let volume = try TestVolume(in: scratch, size: "16M")
                try volume.mount("--keep", "every 2s, newest 1h")
                try fill(volume.disk, with: "one", count: 1 << 20)
                _ = try volume.mark("one")
                let one = try digest(scratch, volume.disk)
                try fill(volume.disk, with: "two", count: 1 << 20)
                // What is not in segments is not thinned.
                try volume.logdisk(["points", volume.path])
                eventually("a merged segment") {
                    let names = try? FileManager.default.contentsOfDirectory(
                        atPath: volume.path + "/segments")
                    return names?.contains { $0.contains(".merged.") } ?? false
                }
                #expect(try volume.status().health == .ok)
                #expect(try digest(scratch, volume.replay("mark:one")) == one)
                try volume.unmount()
                try volume.verify()
            }
        }

        /// Reproducible noise at 64 KiB.
        private func fill(_ path: String, with words: String, count: Int) throws {
            let descriptor = open(path, O_WRONLY | O_CLOEXEC)
            try #require(descriptor >= 0)
            defer { close(descriptor) }
            var noise = SeededGenerator(seed: UInt64(words.utf8.reduce(7) { $0 * 31 + Int($1) }))
            let block = (0..<count / 8).map { _ in noise.next() }
            let n = block.withUnsafeBytes { pwrite(descriptor, $0.baseAddress, $0.count, 65536) }
            try #require(n == block.count * 8 && fsync(descriptor) == 0)
        }

        private func digest(_ scratch: Scratch, _ path: String) throws -> String {
            String(try scratch.run("sha256sum", path).output.prefix(64))
        }
    }
}
