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

                try eventually("the log is full, and says so") {
                    let report = try volume.status()
                    return report.health != .ok
                        && report.problems.contains { $0.contains("No space") }
                }
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

        /// The log's disk fails in the middle, every access to it: it is a loop device on another
        /// volume, whose daemon is killed.
        @Test(needs("root", "loop", "mount", "losetup", "mkfs.ext4"))
        func theLogFails() throws {
            try Scratch.with { scratch in
                let below = try TestVolume(in: scratch, name: "below", size: "512M")
                try below.mount()
                let files = try MountedFileSystem(.ext4, in: scratch)
                try files.make(on: below.disk)
                let log = files.folder + "/log"
                try scratch.run("mkdir", log)
                let volume = try TestVolume(in: scratch, ["--size", "64M", "--log-dir", log])
                try volume.mount()
                let writer = StampedWriter(
                    identity: 1, sectors: 0..<Self.volumeBytes / 512, seed: freshSeed())
                let progress = LoadProgress()
                let load = Load(writer, volume.disk, progress)
                eventually("2000 operations") { progress.count >= 2000 }
                try below.kill()
                #expect(load.wait() == EIO)
                #expect(try volume.status().health == .failed)
                let descriptor = open(volume.disk, O_RDWR | O_CLOEXEC)
                #expect(fsync(descriptor) != 0, "no success after a failed one")
                close(descriptor)
                try readAll(volume.disk)
                try volume.kill()
                try files.unmount()

                try below.revive()
                try files.mount(below.disk)
                try volume.revive()
                try judge(writer, volume.disk)
                try volume.unmount()
                try volume.verify()
                try files.unmount()
                try below.unmount()
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
