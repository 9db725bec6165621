// ext4, xfs and btrfs on a volume, over a loop device with direct I/O: killed while files are
// written, checked by their own tools, and brought back as they were at remembered moments.

import CommandText
import Foundation
import Synchronization
import Testing

extension EndToEnd {
    @Suite struct FileSystemTests {
        @Test(
            needs("root", "loop", "mount", "losetup", "mkfs.ext4", "mkfs.xfs", "mkfs.btrfs"),
            arguments: FileSystemKind.allCases)
        func killedAndReplayed(_ kind: FileSystemKind) throws {
            let seed = freshSeed()
            var generator = SeededGenerator(seed: seed)
            try Scratch.with { scratch in
                let volume = try TestVolume(in: scratch, size: "512M")
                try volume.mount()
                let files = try MountedFileSystem(kind, in: scratch)
                try files.make(on: volume.disk)

                var first = Self.manifest("first", 30, &generator)
                try files.write(first)
                try files.sync()
                _ = try volume.mark("first")

                let gone = first.keys.sorted().prefix(10)
                var second = first
                for name in gone { second[name] = nil }
                for name in first.keys.sorted().suffix(10) { second[name] = generator.next() }
                second.merge(Self.manifest("second", 10, &generator)) { $1 }
                try files.remove(gone)
                try files.write(second)
                try files.sync()
                let secondTime = presentTime()

                let acknowledged = try Self.killWhileWriting(volume, files, seed)
                try volume.revive()
                try Self.checkAfterKill(volume, files, second.merging(acknowledged) { $1 })

                for (target, manifest) in [("mark:first", first), (secondTime, second)] {
                    try Self.checkReplay(volume, kind, target, manifest, "seed \(seed)")
                }
                first.removeAll()
                try volume.unmount()
                try volume.verify()
            }
        }

        /// What fstrim gives back becomes discards: the image and the log hold zeros there.
        @Test(needs("root", "loop", "mount", "losetup", "mkfs.ext4", "fstrim"))
        func trimGivesSpaceBack() throws {
            try Scratch.with { scratch in
                let volume = try TestVolume(in: scratch, size: "256M")
                try volume.mount()
                let files = try MountedFileSystem(.ext4, in: scratch)
                try files.make(on: volume.disk)
                let big = files.folder + "/big"
                try scratch.run(
                    "dd", "if=/dev/urandom", "of=\(big)", "bs=1M", "count=64", "conv=fsync")
                try files.sync()
                _ = try volume.mark("full")
                try volume.logdisk(["snapshot", volume.path])
                let digest = try scratch.run("sha256sum", big).output.prefix(64)
                #expect(unlink(big) == 0)
                try files.sync()
                try scratch.run("fstrim", files.folder)
                try files.sync()
                try files.unmount()
                try volume.unmount()
                let status = try volume.status()
                #expect(status.imageAllocatedBytes < 32 << 20, "the image keeps what was trimmed")

                let copy = try volume.replay("now")
                #expect(try scratch.run("cmp", copy, volume.path + "/image.raw").output.isEmpty)
                let old = try MountedFileSystem(.ext4, in: scratch)
                try old.mount(volume.replay("mark:full"))
                #expect(
                    try scratch.run("sha256sum", old.folder + "/big").output.prefix(64) == digest)
                try old.unmount()
            }
        }

        private static func manifest(
            _ prefix: String, _ count: Int, _ generator: inout SeededGenerator
        ) -> Manifest {
            var manifest: Manifest = [:]
            for index in 0..<count { manifest["\(prefix)-\(index)"] = generator.next() }
            return manifest
        }

        /// Writers make files until the daemon dies under them; what they were told is durable.
        private static func killWhileWriting(
            _ volume: TestVolume, _ files: MountedFileSystem, _ seed: UInt64
        ) throws -> Manifest {
            let acknowledged = Mutex<Manifest>([:])
            let ended = DispatchSemaphore(value: 0)
            let folder = files.folder
            let writers = 3
            for writer in 0..<writers {
                Thread.detachNewThread {
                    var generator = SeededGenerator(seed: seed &+ UInt64(writer) + 1)
                    for index in 0... {
                        let name = "live-\(writer)-\(index)"
                        let content = generator.next()
                        guard MountedFileSystem.write(folder, name, content) == 0 else { break }
                        acknowledged.withLock { $0[name] = content }
                    }
                    ended.signal()
                }
            }
            var generator = SeededGenerator(seed: seed)
            let count = 30 + generator.below(100)
            eventually("\(count) files") { acknowledged.withLock { $0.count } >= count }
            try volume.kill()
            for _ in 0..<writers { ended.wait() }
            try files.unmount()
            return acknowledged.withLock { $0 }
        }

        private static func checkAfterKill(
            _ volume: TestVolume, _ files: MountedFileSystem, _ manifest: Manifest
        ) throws {
            try files.mount(volume.disk)
            #expect(try files.difference(from: manifest, exactly: false) == [])
            try files.write(["after": 1])
            try files.unmountDevice()
            try files.check()
            LoopDevice.release(files.device)
        }

        private static func checkReplay(
            _ volume: TestVolume, _ kind: FileSystemKind, _ target: String, _ manifest: Manifest,
            _ context: String
        ) throws {
            let old = try MountedFileSystem(kind, in: volume.scratch)
            try old.mount(volume.replay(target))
            #expect(
                try old.difference(from: manifest, exactly: true) == [], "\(target) (\(context))")
            try old.unmountDevice()
            try old.check()
            LoopDevice.release(old.device)
        }
    }
}
