// The disk of the log is full, or fails: writers wait or get the error, nothing that was
// acknowledged is lost, the volume stays readable, and it goes on when it can.

import CLinux
import CommandText
import Foundation
import Testing

extension EndToEnd {
    @Suite struct FullLogTests {
        private static let volumeBytes = 64 << 20

        @Test(needs("root", "mount"), arguments: ["hold", "fail"])
        func noRoom(_ policy: String) throws {
            try Scratch.with { scratch in
                let memory = try scratch.newFolder("memory")
                try scratch.run("mount", "-t", "tmpfs", "-o", "size=64M", "tmpfs", memory)
                try scratch.run("mkdir", memory + "/log")
                let volume = try TestVolume(
                    in: scratch,
                    [
                        "--size", "64M", "--log-dir", memory + "/log", "--wal-size", "32M",
                        "--ring", "4M",
                    ])
                try volume.mount("--on-full", policy)
                let writer = StampedWriter(
                    identity: 1, sectors: 0..<Self.volumeBytes / 512, seed: freshSeed())
                let progress = LoadProgress()
                let load = Load(writer, volume.disk, progress)

                try eventually("the log is full") { try volume.status().health != .ok }
                let full = try volume.status()
                #expect(full.problems.contains { $0.contains("room") || $0.contains("space") })
                if policy == "fail" {
                    #expect(load.wait() == ENOSPC)
                }
                try readAll(volume.disk)

                try scratch.run("mount", "-o", "remount,size=2G", memory)
                try eventually("it goes on") { try volume.status().health == .ok }
                if policy == "hold" {
                    let count = progress.count
                    eventually("the writer goes on") { progress.count > count + 100 }
                    progress.end()
                    #expect(load.wait() == 0)
                }
                try judge(writer, volume.disk)
                try scratch.run("sync", volume.disk)
                try volume.kill()
                try volume.revive()
                try judge(writer, volume.disk)
                try volume.unmount()
                try volume.verify()
            }
        }

        /// The log's disk fails writes with EIO: a loop device whose backing has no room.
        @Test(needs("root", "loop", "mount", "losetup", "mkfs.ext4"))
        func theLogFails() throws {
            try Scratch.with { scratch in
                let memory = try scratch.newFolder("memory")
                try scratch.run("mount", "-t", "tmpfs", "-o", "size=48M", "tmpfs", memory)
                let backing = memory + "/backing"
                try scratch.run("truncate", "-s", "512M", backing)
                let device = try LoopDevice.attach(backing, in: scratch)
                let disk = try scratch.newFolder("log-disk")
                try scratch.run("mkfs.ext4", "-q", "-O", "^has_journal", device)
                try scratch.run("mount", device, disk)
                try scratch.run("mkdir", disk + "/log")
                let volume = try TestVolume(
                    in: scratch,
                    ["--size", "64M", "--log-dir", disk + "/log", "--wal-size", "64M"])
                try volume.mount()
                let writer = StampedWriter(
                    identity: 1, sectors: 0..<Self.volumeBytes / 512, seed: freshSeed())
                let code = Load(writer, volume.disk, LoadProgress()).wait()
                #expect(code != 0)
                #expect(try volume.status().health == .failed)
                let descriptor = open(volume.disk, O_RDWR | O_CLOEXEC)
                #expect(fsync(descriptor) != 0, "no success after a failed one")
                close(descriptor)
                try readAll(volume.disk)
                try volume.kill()

                try scratch.run("mount", "-o", "remount,size=1G", memory)
                try volume.revive()
                try judge(writer, volume.disk)
                try volume.unmount()
                try volume.verify()
            }
        }

        /// A writer on a thread of its own.
        private final class Load: @unchecked Sendable {
            // @unchecked: `code` is written before `ended` is signalled, and read after.
            private var code: Int32 = 0
            private let ended = DispatchSemaphore(value: 0)

            init(_ writer: StampedWriter, _ path: String, _ progress: LoadProgress) {
                Thread.detachNewThread { [self] in
                    let descriptor = open(path, O_RDWR | O_CLOEXEC | clinux_o_direct)
                    code = descriptor < 0 ? errno : writer.write(to: descriptor, progress)
                    if descriptor >= 0 { close(descriptor) }
                    ended.signal()
                }
            }

            func wait() -> Int32 {
                if ended.wait(timeout: .now() + patienceSeconds) == .timedOut {
                    Issue.record("the writer never ends")
                }
                ended.signal()
                return code
            }
        }

        private func readAll(_ path: String) throws {
            let bytes = try #require(FileManager.default.contents(atPath: path))
            #expect(bytes.count == Self.volumeBytes)
        }

        private func judge(_ writer: StampedWriter, _ path: String) throws {
            var bytes = try #require(FileManager.default.contents(atPath: path))
            let wrong = bytes.withUnsafeMutableBytes { writer.judge($0) }
            #expect(wrong == nil, "\(wrong ?? "")")
        }
    }
}
