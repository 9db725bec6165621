// A volume that goes back by itself: file systems, random content, kills half-way, a log without
// room.

import CLinux
import CommandText
import Foundation
import Testing

extension EndToEnd {
    @Suite struct RevertTests {
        private static let volumeBytes = 32 << 20

        @Test(needs("root", "loop", "mount", "losetup", "mkfs.ext4"))
        func aDeletedFileIsBack() throws {
            try Scratch.with { scratch in
                let volume = try TestVolume(in: scratch, size: "128M")
                try volume.mount()
                let files = try MountedFileSystem(.ext4, in: scratch)
                try files.make(on: volume.disk)
                let manifest: Manifest = ["kept": 1, "lost": 2, "other": 3]
                try files.write(manifest)
                try files.sync()
                _ = try volume.mark("good")
                try files.remove(["lost", "other"])
                try files.write(["new": 4, "kept": 5])
                try files.sync()

                // Mounted by a loop device: never.
                let refused = try volume.logdisk(
                    ["revert", volume.path, "--at", "mark:good", "--force"], expecting: 11)
                #expect(refused.errors.contains(files.device), "\(refused)")
                try files.unmount()

                try volume.logdisk(["revert", volume.path, "--at", "mark:good", "--force"])
                try files.mount(volume.disk)
                #expect(try files.difference(from: manifest, exactly: true) == [])
                try files.unmountDevice()
                try files.check()
                LoopDevice.release(files.device)
                try volume.unmount()

                // The future that was left, in the same way, with the volume not mounted.
                try volume.logdisk(["revert", volume.path, "--at", "mark:before-revert-1"])
                try volume.verify()
                try volume.mount()
                try files.mount(volume.disk)
                let future: Manifest = ["kept": 5, "new": 4]
                #expect(try files.difference(from: future, exactly: true) == [])
                try files.unmountDevice()
                try files.check()
                LoopDevice.release(files.device)
                try volume.unmount()
                let old = try MountedFileSystem(.ext4, in: scratch)
                try old.mount(volume.replay("mark:good"))
                #expect(try old.difference(from: manifest, exactly: true) == [])
                try old.unmount()
            }
        }

        /// Random content, back and forth, mounted and not; all that ever was stays restorable.
        @Test(needs())
        func backAndForth() throws {
            let seed = freshSeed()
            var generator = SeededGenerator(seed: seed)
            try Scratch.with { scratch in
                let volume = try TestVolume(in: scratch, size: "32M")
                try volume.mount()
                var states: [(target: String, digest: String)] = []
                var isMounted = true
                for round in 0..<8 {
                    if !isMounted { try volume.mount() }
                    try scribble(volume.disk, &generator)
                    let lsn = try volume.mark("state-\(round)").lsn
                    states.append(("lsn:\(lsn)", try digest(scratch, volume.disk)))
                    isMounted = generator.below(2) == 0
                    if !isMounted { try volume.unmount() }
                    let state = states[generator.below(states.count)]
                    let words = ["revert", volume.path, "--at", state.target]
                    try volume.logdisk(words + (isMounted ? ["--force"] : []))
                    let place = isMounted ? volume.disk : volume.path + "/image.raw"
                    #expect(
                        try digest(scratch, place) == state.digest, "\(state) (seed \(seed))")
                }
                if isMounted { try volume.unmount() }
                try volume.verify()
                for state in states {
                    let copy = try volume.replay(state.target)
                    #expect(try digest(scratch, copy) == state.digest, "\(state) (seed \(seed))")
                    unlink(copy)
                }
            }
        }

        /// Killed or interrupted anywhere, a second one ends it, and the first mark leads back.
        @Test(needs(), arguments: [SIGKILL, SIGINT])
        func stoppedHalfWay(_ signal: Int32) throws {
            let seed = freshSeed()
            var generator = SeededGenerator(seed: seed)
            try Scratch.with { scratch in
                let volume = try TestVolume(in: scratch, size: "32M")
                try volume.mount()
                try fill(volume.disk, &generator)
                let lsn = try volume.mark("one").lsn
                let one = try digest(scratch, volume.disk)
                try fill(volume.disk, &generator)
                let two = try digest(scratch, volume.disk)
                try volume.unmount()
                var stopped = 0
                for round in 0..<12 {
                    let child = try scratch.start(
                        [Machine.logdisk, "revert", volume.path, "--at", "lsn:\(lsn)"], input: nil)
                    usleep(UInt32(generator.below(round < 6 ? 60_000 : 400_000)))
                    Glibc.kill(child.process, signal)
                    let end = child.wait()
                    if signal == SIGKILL {
                        eventually("its death") { !isAlive(child.process) }
                    } else {
                        #expect([0, 130].contains(end.status), "\(end)")
                        if end.errors.contains("half-way") {
                            #expect(end.errors.contains("go on: logdisk revert"), "\(end)")
                        }
                    }
                    if try hasMark(volume, "before-revert-1") { stopped += 1 }
                }
                #expect(stopped > 0, "it was never under way (seed \(seed))")
                try volume.logdisk(["revert", volume.path, "--at", "lsn:\(lsn)"])
                #expect(try digest(scratch, volume.path + "/image.raw") == one, "seed \(seed)")
                try volume.logdisk(["revert", volume.path, "--at", "mark:before-revert-1"])
                #expect(try digest(scratch, volume.path + "/image.raw") == two, "seed \(seed)")
                #expect(try digest(scratch, volume.replay("lsn:\(lsn)")) == one)
                try volume.verify()
            }
        }

        /// On a mount: its process dies, or the command is interrupted, while it reverts.
        @Test(needs(), arguments: [SIGKILL, SIGINT])
        func stoppedOnAMount(_ signal: Int32) throws {
            var generator = SeededGenerator(seed: freshSeed())
            try Scratch.with { scratch in
                let volume = try TestVolume(in: scratch, size: "32M")
                try volume.mount()
                try fill(volume.disk, &generator)
                let lsn = try volume.mark("one").lsn
                let one = try digest(scratch, volume.disk)
                try fill(volume.disk, &generator)
                let two = try digest(scratch, volume.disk)
                let words = ["revert", volume.path, "--at", "lsn:\(lsn)", "--force"]
                let child = try scratch.start([Machine.logdisk] + words, input: nil)
                usleep(UInt32(generator.below(200_000)))
                if signal == SIGKILL {
                    try volume.kill()
                    _ = child.wait()
                    try volume.revive()
                } else {
                    Glibc.kill(child.process, signal)
                    let end = child.wait()
                    #expect([0, 130].contains(end.status), "\(end)")
                    // A later one is not refused: the first has ended.
                    #expect(try !digest(scratch, volume.disk).isEmpty)
                }
                try volume.logdisk(words)
                #expect(try digest(scratch, volume.disk) == one)
                try volume.logdisk(
                    ["revert", volume.path, "--at", "mark:before-revert-1", "--force"])
                #expect(try digest(scratch, volume.disk) == two)
                try volume.unmount()
                try volume.verify()
            }
        }

        @Test(needs("root", "mount"), arguments: [true, false])
        func noRoomForTheLog(isMounted: Bool) throws {
            var generator = SeededGenerator(seed: freshSeed())
            try Scratch.with { scratch in
                let memory = try scratch.newFolder("memory")
                try scratch.run("mount", "-t", "tmpfs", "-o", "size=1G", "tmpfs", memory)
                try scratch.run("mkdir", memory + "/log")
                let volume = try TestVolume(
                    in: scratch,
                    ["--size", "32M", "--log-dir", memory + "/log", "--wal-size", "32M"])
                try volume.mount()
                try fill(volume.disk, &generator)
                let lsn = try volume.mark("one").lsn
                let one = try digest(scratch, volume.disk)
                try fill(volume.disk, &generator)
                _ = try volume.mark("two")
                let two = try digest(scratch, volume.disk)
                try volume.logdisk(["points", volume.path])
                if !isMounted { try volume.unmount() }
                // Room for a part of it.
                let used = try scratch.run("du", "-sm", memory).output.prefix { $0 != "\t" }
                let size = (Int(used) ?? 0) + 14
                try scratch.run("mount", "-o", "remount,size=\(size)M", memory)
                let words =
                    ["revert", volume.path, "--at", "lsn:\(lsn)"]
                    + (isMounted ? ["--force"] : [])
                let refused = try volume.logdisk(words, expecting: 1)
                #expect(refused.errors.contains("make room"), "\(refused)")

                try scratch.run("mount", "-o", "remount,size=1G", memory)
                try volume.logdisk(words)
                let place = isMounted ? volume.disk : volume.path + "/image.raw"
                #expect(try digest(scratch, place) == one)
                #expect(try digest(scratch, volume.replay("mark:two")) == two)
                if isMounted { try volume.unmount() }
                try volume.verify()
            }
        }

        // MARK: - content

        private func digest(_ scratch: Scratch, _ path: String) throws -> String {
            String(try scratch.run("sha256sum", path).output.prefix(64))
        }

        private func hasMark(_ volume: TestVolume, _ name: String) throws -> Bool {
            try volume.logdisk(["points", volume.path]).output.contains("mark:\(name)")
        }

        /// All of it new.
        private func fill(_ path: String, _ generator: inout SeededGenerator) throws {
            let file = open(path, O_WRONLY | O_CLOEXEC)
            try #require(file >= 0)
            defer { close(file) }
            var bytes = [UInt64](repeating: 0, count: 1 << 17)
            for piece in 0..<Self.volumeBytes >> 20 {
                for i in bytes.indices { bytes[i] = generator.next() }
                try #require(pwrite(file, bytes, 1 << 20, piece << 20) == 1 << 20)
            }
            try #require(fsync(file) == 0)
        }

        /// Some writes, zeros and holes here and there.
        private func scribble(_ path: String, _ generator: inout SeededGenerator) throws {
            let file = open(path, O_WRONLY | O_CLOEXEC)
            try #require(file >= 0)
            defer { close(file) }
            for _ in 0..<200 {
                let count = 1 + generator.below(generator.below(8) == 0 ? 400_000 : 9000)
                let offset = generator.below(Self.volumeBytes - count)
                if generator.below(5) == 0 {
                    let mode = clinux_falloc_punch_hole | clinux_falloc_keep_size
                    let code = clinux_fallocate(file, mode, UInt64(offset), UInt64(count))
                    try #require(code == 0)
                } else {
                    let bytes = [UInt8](
                        repeating: UInt8(truncatingIfNeeded: generator.next()), count: count)
                    try #require(pwrite(file, bytes, count, offset) == count)
                }
            }
            try #require(fsync(file) == 0)
        }
    }
}
