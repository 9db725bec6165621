// The real process under load, killed with SIGKILL, again and again, on one volume whose log is
// small enough that the archiver, the checkpoint and the recycling of log files are always at work.

import CLinux
import Foundation
import Testing

extension EndToEnd {
    @Suite struct KillTests {
        static let volumeBytes = 64 << 20
        static let rounds = 20

        @Test(needs())
        func twentyKillsUnderLoad() throws {
            let seed = freshSeed()
            var generator = SeededGenerator(seed: seed)
            try Scratch.with { scratch in
                let volume = try TestVolume(
                    in: scratch, ["--size", "64M", "--wal-size", "32M", "--ring", "4M"])
                let many = Self.writers(count: 4, in: Self.volumeBytes / 2, from: 0, seed: seed)
                let alone = Self.writers(
                    count: 1, in: Self.volumeBytes / 2, from: Self.volumeBytes / 2, seed: ~seed)
                var remembered: [(mark: String, crc: UInt32)] = []
                try volume.mount()
                for round in 1...Self.rounds {
                    // One writer alone has one global order: its state is the volume's LSN.
                    let writers = round % 2 == 0 ? many : alone
                    let direct = generator.below(2) == 0
                    let count = 200 + generator.below(4000)
                    let snapshots = generator.below(4) == 0
                    try Self.load(
                        volume, writers, count, direct: direct, snapshots: snapshots)
                    if generator.below(4) == 0 { try Self.killDuringStart(volume, &generator) }
                    try volume.revive()
                    let crc = try Self.judge(volume, many + alone, "seed \(seed), round \(round)")
                    if round % 4 == 0 {
                        _ = try volume.mark("round-\(round)")
                        remembered.append(("mark:round-\(round)", crc))
                    }
                }
                try Self.judgeHistory(volume, remembered, "seed \(seed)")
            }
        }

        /// Neighbouring runs that do not begin at pages.
        private static func writers(
            count: Int, in bytes: Int, from offset: Int, seed: UInt64
        ) -> [StampedWriter] {
            let each = bytes / 512 / count
            return (0..<count).map { index in
                let first = offset / 512 + index * each + (index > 0 ? 3 : 0)
                let end = offset / 512 + (index + 1) * each + (index + 1 < count ? 3 : 0)
                return StampedWriter(
                    identity: UInt32(index + 1 + (offset == 0 ? 0 : 100)), sectors: first..<end,
                    seed: seed)
            }
        }

        /// Writes with every writer at once; kills the daemon after `count` operations.
        private static func load(
            _ volume: TestVolume, _ writers: [StampedWriter], _ count: Int, direct: Bool,
            snapshots: Bool
        ) throws {
            let progress = LoadProgress()
            let disk = volume.disk
            let ended = DispatchSemaphore(value: 0)
            for writer in writers {
                Thread.detachNewThread {
                    let flags = O_RDWR | O_CLOEXEC | (direct ? clinux_o_direct : 0)
                    let descriptor = open(disk, flags)
                    _ = descriptor >= 0 ? writer.write(to: descriptor, progress) : errno
                    if descriptor >= 0 { close(descriptor) }
                    ended.signal()
                }
            }
            var command: Child?
            if snapshots {
                command = try volume.scratch.start(
                    [Machine.logdisk, "snapshot", volume.path], input: nil)
            }
            eventually("\(count) operations") { progress.count >= count }
            try volume.kill()
            for _ in writers { ended.wait() }
            _ = command?.wait()
        }

        /// A start that is killed at some moment of its recovery, or just after it.
        private static func killDuringStart(
            _ volume: TestVolume, _ generator: inout SeededGenerator
        ) throws {
            try volume.clearDeadMount()
            let words = [Machine.logdisk, "mount", volume.path, volume.mountPoint, "--foreground"]
            let daemon = try volume.scratch.start(words, input: nil)
            usleep(UInt32(generator.below(100_000)))
            daemon.kill()
        }

        /// Every sector against what its writer knows; the CRC of the whole disk.
        private static func judge(
            _ volume: TestVolume, _ writers: [StampedWriter], _ context: String
        ) throws -> UInt32 {
            let bytes = UnsafeMutableRawBufferPointer.allocate(
                byteCount: volumeBytes, alignment: 4096)
            defer { bytes.deallocate() }
            try read(volume.disk, into: bytes)
            for writer in writers {
                let wrong = writer.judge(bytes)
                try #require(wrong == nil, "\(wrong ?? "") (\(context))")
            }
            return clinux_crc32c(0, bytes.baseAddress, bytes.count)
        }

        private static func read(
            _ path: String, into bytes: UnsafeMutableRawBufferPointer
        ) throws {
            let descriptor = open(path, O_RDONLY | O_CLOEXEC)
            try #require(descriptor >= 0, "\(path): \(String(cString: strerror(errno)))")
            defer { close(descriptor) }
            var done = 0
            while done < bytes.count {
                let n = Glibc.read(descriptor, bytes.baseAddress! + done, bytes.count - done)
                try #require(n > 0, "\(path) at \(done): \(String(cString: strerror(errno)))")
                done += n
            }
        }

        /// Replay to now is the disk, replay to a mark the disk of then; all of it verifies.
        private static func judgeHistory(
            _ volume: TestVolume, _ remembered: [(mark: String, crc: UInt32)], _ context: String
        ) throws {
            let bytes = UnsafeMutableRawBufferPointer.allocate(
                byteCount: volumeBytes, alignment: 4096)
            defer { bytes.deallocate() }
            func crc(_ path: String) throws -> UInt32 {
                try read(path, into: bytes)
                return clinux_crc32c(0, bytes.baseAddress, bytes.count)
            }
            let live = try crc(volume.disk)
            #expect(try crc(volume.replay("now")) == live, "now (\(context))")
            for (mark, expected) in remembered {
                #expect(try crc(volume.replay(mark)) == expected, "\(mark) (\(context))")
            }
            try volume.unmount()
            #expect(try crc(volume.path + "/image.raw") == live, "the image (\(context))")
            try volume.verify()
        }
    }
}
