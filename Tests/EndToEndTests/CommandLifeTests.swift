// The life of a volume by its commands, on real mounts: where its content comes from, what it
// refuses, what it says, and how it ends.

import CommandText
import Foundation
import Testing

extension EndToEnd {
    @Suite struct CommandLifeTests {
        @Test(needs())
        func fromCreateToVerify() throws {
            try Scratch.with { scratch in
                let volume = try TestVolume(in: scratch, size: "32M")
                #expect(try volume.status().isMounted == false)
                try volume.mount()
                let live = try volume.status()
                #expect(live.isMounted && live.health == .ok && live.pid != nil)

                try fill(volume.disk, with: "one", count: 3 << 20)
                _ = try volume.mark("one")
                let firstTime = presentTime()
                try fill(volume.disk, with: "two", count: 2 << 20)
                let two = try scratch.run("sha256sum", volume.disk).output.prefix(64)
                let one = try digest(scratch, volume.replay("mark:one"))
                #expect(one != two)
                #expect(try digest(scratch, volume.replay(firstTime)) == one)
                #expect(try digest(scratch, volume.replay("now")) == two)

                let points = try volume.logdisk(["points", volume.path]).output
                #expect(points.contains("one"), "\(points)")
                let unknown = try volume.logdisk(
                    ["replay", volume.path, "--at", "mark:onne", "--output", scratch.path("no")],
                    expecting: 12)
                #expect(unknown.errors.contains("one"), "\(unknown)")
                #expect(access(scratch.path("no"), F_OK) != 0)
                try volume.verify()
                try volume.unmount()
                #expect(try digest(scratch, volume.replay("mark:one")) == one)
                #expect(try digest(scratch, volume.replay("now", "--barrier")) == two)
                try volume.verify()
            }
        }

        @Test(needs("root", "loop", "losetup"))
        func contentFromFilesAndDevices() throws {
            try Scratch.with { scratch in
                let source = scratch.path("source.img")
                try scratch.run("truncate", "-s", "16M", source)
                try fill(source, with: "source", count: 5 << 20)
                let content = try digest(scratch, source)
                let device = try LoopDevice.attach(source, in: scratch)
                let own = scratch.path("own.img")
                try scratch.run("cp", source, own)
                let ownDevice = try LoopDevice.attach(own, in: scratch)
                let kinds = [
                    ("copied", ["--from", source]), ("device", ["--from", device]),
                    ("place", ["--image", source + ".2"]), ("disk", ["--image", ownDevice]),
                ]
                try scratch.run("cp", source, source + ".2")
                for (name, options) in kinds {
                    let volume = try TestVolume(in: scratch, name: name, options)
                    try volume.mount()
                    #expect(try digest(scratch, volume.disk) == content, "\(name)")
                    try fill(volume.disk, with: name, count: 1 << 20)
                    let changed = try digest(scratch, volume.disk)
                    if options[0] == "--image" {
                        try refuseSecondOwner(scratch, of: options[1], "mounted-" + name)
                    }
                    try volume.kill()
                    try volume.revive()
                    #expect(try digest(scratch, volume.disk) == changed, "\(name)")
                    try volume.unmount()
                    if options[0] == "--image" {
                        #expect(try digest(scratch, options[1]) == changed, "\(name)")
                    }
                    #expect(try digest(scratch, volume.replay("lsn:0")) == content, "\(name)")
                    try volume.verify()
                }
                #expect(try digest(scratch, source) == content, "--from leaves its source alone")
                try refuseSecondOwner(scratch, of: source + ".2", "file")
            }
        }

        /// Two volumes on one image would destroy each other's history.
        private func refuseSecondOwner(
            _ scratch: Scratch, of image: String, _ name: String
        ) throws {
            let again = try scratch.attempt(
                Machine.logdisk, "create", scratch.path("again-" + name), "--image", image)
            #expect(again.status == 11, "the image of another volume: \(again)")
            #expect(access(scratch.path("again-" + name), F_OK) != 0, "something is left")
        }

        /// A snapshot while the disk is written holds one moment: going back to it from there and
        /// from the base comes to the same.
        @Test(needs("fio"))
        func snapshotUnderLoad() throws {
            try Scratch.with { scratch in
                let volume = try TestVolume(in: scratch, ["--size", "64M", "--wal-size", "64M"])
                try volume.mount()
                let load = try scratch.start(
                    [
                        "fio", "--name=load", "--filename=\(volume.disk)", "--size=64M",
                        "--rw=randwrite", "--bs=4k", "--direct=1", "--ioengine=libaio",
                        "--iodepth=8", "--time_based", "--runtime=600", "--thread",
                    ], input: nil)
                let volumeLSN = { try volume.status().publishedLSN }
                for name in ["first", "second"] {
                    let before = try volumeLSN()
                    try eventually("writes") { try volumeLSN() > before + 500 }
                    try volume.logdisk(["snapshot", volume.path, "--name", name])
                }
                load.kill()
                for name in ["first", "second"] {
                    let near = try digest(scratch, volume.replay("mark:\(name)"))
                    let far = try digest(scratch, volume.replay("mark:\(name)", "--snapshot", "0"))
                    #expect(near == far, "\(name)")
                }
                let live = try digest(scratch, volume.disk)
                #expect(try digest(scratch, volume.replay("now")) == live)
                try volume.unmount()
                try volume.verify()
            }
        }

        @Test(needs())
        func refusalsAndEnds() throws {
            try Scratch.with { scratch in
                let volume = try TestVolume(in: scratch, size: "16M")
                try volume.mount()
                let other = try scratch.newFolder("other")
                let twice = try volume.logdisk(["mount", volume.path, other], expecting: 11)
                #expect(twice.errors.contains(volume.mountPoint), "names the holder: \(twice)")
                try volume.logdisk(["mount", volume.path, volume.mountPoint], expecting: 11)
                try volume.logdisk(["create", volume.path, "--size", "1M"], expecting: 64)

                // In use: left alone, and told by whom.
                let descriptor = open(volume.disk, O_RDWR | O_CLOEXEC)
                #expect(descriptor >= 0)
                let busy = try volume.logdisk(["unmount", volume.mountPoint], expecting: 11)
                #expect(busy.errors.contains("\(getpid())"), "\(busy)")
                #expect(pwrite(descriptor, "still there", 11, 0) == 11)
                close(descriptor)

                // SIGTERM is a clean end.
                let daemon = try #require(TestVolume.lockHolder(volume.path))
                #expect(kill(daemon, SIGTERM) == 0)
                eventually("the end of the daemon") { !isAlive(daemon) }
                #expect(Scratch.mountPoints(below: scratch.folder) == [])
                let rest = try volume.status()
                #expect(rest.isMounted == false && rest.appliedLSN == rest.durableLSN)
                let log = try String(contentsOfFile: volume.path + "/mount.log", encoding: .utf8)
                #expect(log.contains("closed cleanly"), "\(log)")
                try volume.mount()
                try volume.unmount()
                let after = try String(contentsOfFile: volume.path + "/mount.log", encoding: .utf8)
                #expect(!after.contains("recovered"), "\(after)")
                let none = try scratch.attempt(Machine.logdisk, "unmount", volume.mountPoint)
                #expect(none.status != 0)
            }
        }

        /// Every byte of every segment counts; verify says what a flipped one costs.
        @Test(needs())
        func verifyFindsFlippedBits() throws {
            let seed = freshSeed()
            var generator = SeededGenerator(seed: seed)
            try Scratch.with { scratch in
                let volume = try TestVolume(in: scratch, size: "16M")
                try volume.mount()
                try fill(volume.disk, with: "content", count: 4 << 20)
                _ = try volume.mark("content")
                try volume.unmount()
                try volume.verify()
                let folder = volume.path + "/segments"
                let names = try FileManager.default.contentsOfDirectory(atPath: folder)
                #expect(names.count >= 2)
                for name in names.sorted() {
                    for _ in 0..<3 {
                        let path = "\(folder)/\(name)"
                        let offset = generator.below(Int(try size(path)))
                        try flip(path, offset)
                        let outcome = try scratch.attempt(Machine.logdisk, "verify", volume.path)
                        #expect(outcome.status == 13, "\(name) at \(offset), \(seed): \(outcome)")
                        #expect((outcome.output + outcome.errors).contains(name), "\(outcome)")
                        try flip(path, offset)
                    }
                }
                try volume.verify()
                try flip(volume.path + "/image.raw", 1 << 20)
                try volume.logdisk(["verify", volume.path], expecting: 13)
            }
        }

        /// A record rots in the log after the image has it and before it is archived.
        @Test(needs(), arguments: [false, true])
        func historyGoesOnBehindDecay(isKilled: Bool) throws {
            try Scratch.with { scratch in
                let volume = try TestVolume(in: scratch, size: "32M")
                try volume.mount()
                try fill(volume.disk, with: "one", count: 3 << 20)
                eventually("the checkpoint") {
                    guard let status = try? volume.status() else { return false }
                    return status.checkpointLSN == status.durableLSN
                }
                if isKilled { try volume.kill() }
                try flip(volume.path + "/wal/000000000001.wal", 4096 + 512 + 1000)
                if isKilled { try volume.revive() }
                try volume.logdisk(
                    ["replay", volume.path, "--at", "now", "--output", scratch.path("no")],
                    expecting: 13)
                #expect(try volume.status().health == .degraded)
                try volume.logdisk(["snapshot", volume.path])
                try fill(volume.disk, with: "two", count: 2 << 20)
                let two = try digest(scratch, volume.disk)
                #expect(try digest(scratch, volume.replay("now")) == two)
                try volume.unmount()
                #expect(try digest(scratch, volume.replay("now")) == two)
                try volume.mount()
                #expect(try digest(scratch, volume.disk) == two)
                try volume.unmount()
                try volume.logdisk(["verify", volume.path], expecting: 13)
            }
        }

        @Test(needs("root", "mount"))
        func logOnAnotherFileSystem() throws {
            try Scratch.with { scratch in
                let memory = try scratch.newFolder("memory")
                try scratch.run("mount", "-t", "tmpfs", "-o", "size=256M", "tmpfs", memory)
                try scratch.run("mkdir", memory + "/log")
                let volume = try TestVolume(
                    in: scratch,
                    ["--size", "64M", "--log-dir", memory + "/log", "--wal-size", "64M"])
                try volume.mount()
                try fill(volume.disk, with: "content", count: 20 << 20)
                let content = try digest(scratch, volume.disk)
                #expect(try volume.status().logDirectory.hasPrefix(memory))
                try volume.kill()
                try volume.revive()
                #expect(try digest(scratch, volume.disk) == content)
                #expect(try digest(scratch, volume.replay("now")) == content)
                try volume.unmount()
                try volume.verify()
                try scratch.run("mv", memory + "/log", memory + "/away")
                try volume.logdisk(["mount", volume.path, volume.mountPoint], expecting: 10)
                try scratch.run("mv", memory + "/away", memory + "/log")
                try volume.mount()
                try volume.unmount()
            }
        }

        private func size(_ path: String) throws -> UInt64 {
            var status = stat()
            try #require(stat(path, &status) == 0)
            return UInt64(status.st_size)
        }

        private func flip(_ path: String, _ offset: Int) throws {
            let descriptor = open(path, O_RDWR | O_CLOEXEC)
            try #require(descriptor >= 0)
            defer { close(descriptor) }
            var byte: UInt8 = 0
            try #require(pread(descriptor, &byte, 1, off_t(offset)) == 1)
            byte ^= 1 << UInt8(offset % 8)
            try #require(pwrite(descriptor, &byte, 1, off_t(offset)) == 1)
        }
    }
}
