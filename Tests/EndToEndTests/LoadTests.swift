// Programs that find fault with disks, on the mounted file: fio with checksums, QEMU's tools, and a
// mix of every way to reach a file's bytes, against a plain array in memory.

import CLinux
import Foundation
import Testing

extension EndToEnd {
    @Suite struct LoadTests {
        @Test(needs("fio"))
        func fioFindsItsChecksums() throws {
            try Scratch.with { scratch in
                let volume = try TestVolume(in: scratch, ["--size", "128M", "--wal-size", "64M"])
                try volume.mount()
                let jobs: [(name: String, options: [String])] = [
                    ("random", ["--rw=randwrite", "--bs=4k", "--direct=1", "--iodepth=16"]),
                    (
                        "mixed",
                        [
                            "--rw=randrw", "--bsrange=512-128k", "--direct=1", "--iodepth=8",
                            "--bs_unaligned=0", "--blockalign=512",
                        ]
                    ),
                    ("sequential", ["--rw=write", "--bs=1M", "--direct=0"]),
                    ("flushed", ["--rw=randwrite", "--bs=4k", "--direct=0", "--fdatasync=32"]),
                ]
                for (name, options) in jobs {
                    let words = [
                        "fio", "--name=\(name)", "--filename=\(volume.disk)", "--size=128M",
                        "--io_size=32M", "--ioengine=libaio", "--verify=crc32c",
                        "--verify_fatal=1", "--do_verify=1", "--group_reporting",
                        "--allow_file_create=0", "--verify_state_save=0",
                    ]
                    let outcome = try scratch.start(words + options, input: nil).wait()
                    #expect(outcome.status == 0, "\(outcome)")
                }
                let digest = try scratch.run("sha256sum", volume.disk).output.prefix(64)
                try volume.unmount()
                let image = volume.path + "/image.raw"
                #expect(try scratch.run("sha256sum", image).output.prefix(64) == digest)
                try volume.verify()
            }
        }

        /// The path of a virtual machine's disk: O_DIRECT, Linux AIO, discards.
        @Test(needs("qemu-img", "qemu-io"))
        func qemuUsesItAsADisk() throws {
            try Scratch.with { scratch in
                let volume = try TestVolume(in: scratch, size: "64M")
                try volume.mount()
                func io(_ commands: String...) throws {
                    let words =
                        ["qemu-io", "-f", "raw", "-t", "none", "-d", "unmap"]
                        + commands.flatMap { ["-c", $0] } + [volume.disk]
                    let outcome = try scratch.start(words, input: nil).wait()
                    #expect(outcome.status == 0, "\(outcome)")
                    #expect(!outcome.output.contains("failed"), "\(outcome)")
                }
                try io(
                    "write -P 0x5a 0 1M", "write -P 0x11 512 512", "aio_write -P 0x77 8M 2M",
                    "aio_flush", "flush", "write -z 1M 64k", "discard 8M 1M")
                let mark = try volume.mark("written")
                #expect(mark.lsn > 0)
                let checks = [
                    "read -P 0x5a 0 512", "read -P 0x11 512 512", "read -P 0x5a 1024 1023k",
                    "read -P 0 1M 64k", "read -P 0 8M 1M", "read -P 0x77 9M 1M",
                ]
                for check in checks { try io(check) }
                let info = try scratch.run("qemu-img", "info", "-U", "-f", "raw", volume.disk)
                #expect(info.output.contains("64 MiB"), "\(info)")
                let copy = scratch.newPath("copy")
                try scratch.run(
                    "qemu-img", "convert", "-n", "--target-is-zero", "-f", "raw", "-O", "raw",
                    "-t", "none", volume.disk, try Self.empty(copy))
                try volume.kill()
                try volume.revive()
                for check in checks { try io(check) }
                try scratch.run("cmp", copy, volume.disk)
                try scratch.run("cmp", copy, volume.replay("mark:written"))
            }
        }

        private static func empty(_ path: String) throws -> String {
            try #require(FileManager.default.createFile(atPath: path, contents: nil))
            try #require(truncate(path, 64 << 20) == 0)
            return path
        }

        /// Several writers at once, each with its own odd run of bytes and every way to reach it.
        @Test(needs())
        func everyWayToReachBytes() throws {
            let seed = freshSeed()
            try Scratch.with { scratch in
                let volume = try TestVolume(in: scratch, ["--size", "16M", "--ring", "2M"])
                try volume.mount()
                // Neither sectors nor pages: neighbours share both.
                let bounds = [0, 3_333_333, 3_333_834, 9_000_001, 16 << 20]
                let users = zip(bounds, bounds.dropFirst()).enumerated().map { index, run in
                    ByteUser(run.0..<run.1, seed: seed &+ UInt64(index))
                }
                let disk = volume.disk
                let ended = DispatchSemaphore(value: 0)
                for user in users {
                    Thread.detachNewThread {
                        user.use(disk, operations: 1500)
                        ended.signal()
                    }
                }
                for _ in users { ended.wait() }
                for user in users {
                    #expect(user.complaint == nil, "\(user.complaint ?? "") (seed \(seed))")
                }
                try scratch.run("sync", disk)
                try volume.kill()
                try volume.revive()
                let bytes = try #require(FileManager.default.contents(atPath: disk))
                for user in users {
                    #expect(bytes[user.run].elementsEqual(user.model), "bytes \(user.run), \(seed)")
                }
            }
        }
    }
}
