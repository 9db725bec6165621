// The past without a rebuild: past mounts, the folder `at` of a live mount, and branches, on real
// mounts, against a model that remembers every write.

import CLinux
import CommandText
import Foundation
import Testing

/// Writes of one thread, each one record: what the volume was at every LSN is known.
private struct RememberedWriter {
    static let byteCount = 4 << 20
    private var writes: [(lsn: Int, offset: Int, bytes: [UInt8])] = []
    private let volume: TestVolume

    init(_ volume: TestVolume) { self.volume = volume }

    var lastLSN: Int { writes.last?.lsn ?? 0 }

    mutating func write(_ count: Int, _ random: inout SeededGenerator) throws {
        let descriptor = open(volume.disk, O_RDWR | O_CLOEXEC)
        try #require(descriptor >= 0)
        defer { close(descriptor) }
        // Looks at the past bring flush records in between.
        let before = Int(try volume.status().publishedLSN)
        for number in 1...count {
            let pages = 1 + random.below(8)
            let offset = random.below(Self.byteCount / 4096 - pages + 1) * 4096
            let fill = UInt8.random(in: 1...255, using: &random)
            let bytes = [UInt8](repeating: fill, count: pages * 4096)
            try #require(pwrite(descriptor, bytes, bytes.count, off_t(offset)) == bytes.count)
            writes.append((before + number, offset, bytes))
        }
        try #require(try volume.status().publishedLSN == UInt64(before + count))
    }

    /// The volume as it was after the record `lsn`.
    func content(at lsn: Int) -> Data {
        var data = Data(count: Self.byteCount)
        for write in writes where write.lsn <= lsn {
            data.replaceSubrange(write.offset..<write.offset + write.bytes.count, with: write.bytes)
        }
        return data
    }
}

private func contents(_ path: String) throws -> Data {
    try Data(contentsOf: URL(fileURLWithPath: path))
}

extension EndToEnd {
    @Suite struct PastTests {
        @Test(needs())
        func allWaysToThePastAgree() throws {
            try Scratch.with { scratch in
                let seed = freshSeed()
                var random = SeededGenerator(seed: seed)
                let volume = try TestVolume(in: scratch, size: "4M")
                try volume.mount()
                var writer = RememberedWriter(volume)
                try writer.write(300, &random)
                let past = try scratch.newFolder("past")
                for round in 0..<200 {
                    if round % 50 == 49 { try writer.write(50, &random) }
                    let lsn = random.below(writer.lastLSN + 1)
                    let expected = writer.content(at: lsn)
                    let below = "\(volume.mountPoint)/at/lsn:\(lsn)/disk.img"
                    #expect(try contents(below) == expected, "lsn \(lsn), seed \(seed)")
                    let target = "lsn:\(lsn)"
                    try volume.logdisk(["mount", volume.path, past, "--at", target])
                    #expect(try contents(past + "/disk.img") == expected, "seed \(seed)")
                    try volume.logdisk(["unmount", past])
                    let replayed = try volume.replay(target)
                    #expect(try contents(replayed) == expected, "seed \(seed)")
                    unlink(replayed)
                    let raw = scratch.newPath("raw")
                    try volume.logdisk(
                        [
                            "export", volume.path, "--format", "raw", "--at", target, "--output",
                            raw,
                        ])
                    #expect(try contents(raw) == expected, "seed \(seed)")
                    let branch = scratch.newPath("branch")
                    try volume.logdisk(
                        ["mount", volume.path, past, "--at", target, "--branch", branch])
                    #expect(try contents(past + "/disk.img") == expected, "seed \(seed)")
                    try volume.logdisk(["unmount", past])
                    try volume.logdisk(["branch", "delete", branch])
                    #expect(access(branch, F_OK) != 0)
                }
                try volume.unmount()
                // At rest, too, and for what lay only in the log.
                try volume.logdisk(["mount", volume.path, past, "--at", "now"])
                #expect(
                    try contents(past + "/disk.img") == writer.content(at: writer.lastLSN),
                    "seed \(seed)")
                try volume.logdisk(["unmount", past])
            }
        }

        @Test(needs())
        func folderOfPastStates() throws {
            try Scratch.with { scratch in
                let volume = try TestVolume(in: scratch, size: "4M")
                try volume.mount()
                try fill(volume.disk, with: "one", count: 1 << 20)
                let one = try digest(scratch, volume.disk)
                _ = try volume.mark("one")
                let at = volume.mountPoint + "/at"
                #expect(
                    try FileManager.default.contentsOfDirectory(atPath: at).sorted()
                        == ["lsn:0", "mark:one"])
                #expect(
                    try FileManager.default.contentsOfDirectory(atPath: at + "/mark:one")
                        == ["disk.img"])
                let open = try #require(FileHandle(forReadingAtPath: at + "/now/disk.img"))
                try fill(volume.disk, with: "two", count: 1 << 20)
                let two = try digest(scratch, volume.disk)
                #expect(two != one)
                #expect(try digest(scratch, at + "/mark:one/disk.img") == one)
                #expect(try digest(scratch, at + "/now/disk.img") == two)
                // What is open stays what it was.
                let bytes = try #require(try open.readToEnd())
                let copy = scratch.path("open")
                try bytes.write(to: URL(fileURLWithPath: copy))
                #expect(try digest(scratch, copy) == one)
                // What is named by a time that is over stays what it was, too.
                let time = presentTime()
                try fill(volume.disk, with: "three", count: 1 << 20)
                #expect(try digest(scratch, "\(at)/\(time)/disk.img") == two)
                for name in ["nonsense", "mark:none", "lsn:99999", "-3h", "2020-01-01T00:00:00Z"] {
                    #expect(access("\(at)/\(name)", F_OK) != 0 && errno == ENOENT, "\(name)")
                }
                #expect(Glibc.open("\(at)/now/disk.img", O_RDWR) == -1 && errno == EROFS)
                #expect(mkdir("\(at)/new", 0o755) == -1)
                #expect(unlink("\(at)/mark:one/disk.img") == -1)
                try open.close()
                try manyAtOnce(volume, at)
                try volume.unmount()
                #expect(try leases(volume).isEmpty, "what is closed holds nothing")
            }
        }

        /// As many states as would fill the memory of the mount are refused; one costs once.
        private func manyAtOnce(_ volume: TestVolume, _ at: String) throws {
            let disk = Glibc.open(volume.disk, O_WRONLY | O_CLOEXEC)
            try #require(disk >= 0)
            let bytes = [UInt8](repeating: 7, count: 512)
            for i in 0..<40 { try #require(pwrite(disk, bytes, 512, off_t(i * 4096)) == 512) }
            close(disk)
            let files = (0..<40).map {
                Glibc.open("\(at)/lsn:\($0)/disk.img", O_RDONLY | O_CLOEXEC)
            }
            #expect(files.prefix(32).allSatisfy { $0 >= 0 } && files[32...].allSatisfy { $0 < 0 })
            let again = Glibc.open("\(at)/lsn:0/disk.img", O_RDONLY | O_CLOEXEC)
            #expect(again >= 0)
            for file in files + [again] where file >= 0 { close(file) }
        }

        /// The names in the folder of leases, but for branches.
        private func leases(_ volume: TestVolume) throws -> [String] {
            try FileManager.default.contentsOfDirectory(atPath: volume.path + "/leases")
                .filter { !$0.hasSuffix(".branch") }
        }

        @Test(needs())
        func branchesLeaveTheVolumeAlone() throws {
            try Scratch.with { scratch in
                let seed = freshSeed()
                var random = SeededGenerator(seed: seed)
                let volume = try TestVolume(in: scratch, size: "4M")
                try volume.mount()
                var writer = RememberedWriter(volume)
                try writer.write(100, &random)
                let folder = try scratch.newFolder("branch-mnt")
                let path = scratch.path("branch")
                try volume.logdisk(
                    ["mount", volume.path, folder, "--at", "lsn:60", "--branch", path])
                let disk = folder + "/disk.img"
                var expected = writer.content(at: 60)
                #expect(try contents(disk) == expected, "seed \(seed)")
                try change(disk, &expected, rounds: 80, &random)
                let first = expected
                try volume.logdisk(["mark", path, "first"])
                try change(disk, &expected, rounds: 80, &random)
                #expect(try contents(disk) == expected, "seed \(seed)")

                // Killed: what was flushed is there, and the volume below never noticed.
                let daemon = try #require(TestVolume.lockHolder(path))
                try #require(kill(daemon, SIGKILL) == 0)
                eventually("the death of the branch") { !isAlive(daemon) }
                try volume.logdisk(["unmount", folder])
                try volume.logdisk(["verify", path])
                try volume.logdisk(["mount", path, folder])
                #expect(try contents(disk) == expected, "seed \(seed)")

                // A branch of the branch, at a point of the branch's own.
                let second = try scratch.newFolder("second-mnt")
                let secondPath = scratch.path("second")
                try volume.logdisk(
                    ["mount", path, second, "--at", "mark:first", "--branch", secondPath])
                var secondExpected = first
                #expect(try contents(second + "/disk.img") == first, "seed \(seed)")
                try change(second + "/disk.img", &secondExpected, rounds: 40, &random)
                #expect(try contents(second + "/disk.img") == secondExpected, "seed \(seed)")
                #expect(try contents(disk) == expected, "seed \(seed)")
                #expect(
                    try contents(volume.disk) == writer.content(at: writer.lastLSN),
                    "seed \(seed)")

                try refuseDeletions(scratch, volume, path)
                try volume.logdisk(["snapshot", path])
                try volume.logdisk(["unmount", second])
                try volume.logdisk(["unmount", folder])
                try expect(volume, path, "mark:first", is: first, seed)
                try expect(volume, path, "now", is: expected, seed)
                try expect(volume, secondPath, "now", is: secondExpected, seed)
                // What lies below counts, for these, too.
                try volume.logdisk(["revert", secondPath, "--at", "lsn:0"])
                try expect(volume, secondPath, "now", is: first, seed)
                try volume.logdisk(["prune", path, "--keep", "newest 1w"])
                try expect(volume, path, "now", is: expected, seed)
                try volume.logdisk(["branch", "delete", secondPath])
                try volume.logdisk(["branch", "delete", path])
                let left = try volume.logdisk(["branches", volume.path, "--json"]).output
                #expect(left.filter { !$0.isWhitespace } == "[]")
                try volume.verify()
                try volume.unmount()
            }
        }

        /// A replay has these bytes, and nothing is wrong with the volume.
        private func expect(
            _ volume: TestVolume, _ path: String, _ target: String, is content: Data, _ seed: UInt64
        ) throws {
            let file = volume.scratch.newPath("replayed")
            try volume.logdisk(["replay", path, "--at", target, "--output", file])
            #expect(try contents(file) == content, "\(path) \(target), seed \(seed)")
            try volume.logdisk(["verify", path])
        }

        /// Writes, discards and a flush, in the file and in what is expected of it.
        private func change(
            _ disk: String, _ expected: inout Data, rounds: Int,
            _ random: inout SeededGenerator
        ) throws {
            let descriptor = open(disk, O_RDWR | O_CLOEXEC)
            try #require(descriptor >= 0)
            defer { close(descriptor) }
            for _ in 0..<rounds {
                // Any byte, any length: what a sector had before is needed, too.
                let offset = random.below(expected.count)
                let count = min(1 + random.below(20_000), expected.count - offset)
                var bytes = [UInt8](repeating: 0, count: count)
                if random.below(5) == 0 {
                    let mode = clinux_falloc_punch_hole | clinux_falloc_keep_size
                    let code = clinux_fallocate(descriptor, mode, UInt64(offset), UInt64(count))
                    try #require(code == 0, "punch a hole: \(code)")
                } else {
                    bytes = bytes.map { _ in UInt8.random(in: 0...255, using: &random) }
                    try #require(pwrite(descriptor, bytes, count, off_t(offset)) == count)
                }
                expected.replaceSubrange(offset..<offset + count, with: bytes)
            }
            try #require(fsync(descriptor) == 0)
        }

        private func refuseDeletions(
            _ scratch: Scratch, _ volume: TestVolume, _ path: String
        ) throws {
            let used = try volume.logdisk(["branch", "delete", path], expecting: 11)
            #expect(used.errors.contains("in use"), "\(used)")
            let none = try volume.logdisk(
                ["branch", "delete", scratch.path("nothing")], expecting: 10)
            #expect(none.errors.contains("no branch"), "\(none)")
            let again = try volume.logdisk(
                [
                    "mount", volume.path, scratch.newFolder("again"), "--at", "lsn:1", "--branch",
                    path,
                ], expecting: 64)
            #expect(again.errors.contains("there is a branch already"), "\(again)")
            let listed = try volume.logdisk(["branches", volume.path]).output
            #expect(listed.contains(path) && listed.contains("lsn 60"), "\(listed)")
        }

        /// A flipped bit costs the sectors that lie there, and is named; all else can be read.
        @Test(needs())
        func damageCostsItsSectorsOnly() throws {
            try Scratch.with { scratch in
                let volume = try TestVolume(in: scratch, size: "4M")
                try volume.mount()
                var random = SeededGenerator(seed: 7)
                let disk = try #require(FileHandle(forUpdatingAtPath: volume.disk))
                // Cannot be compressed: each block of the segment lies there as it is.
                var noise = Data(count: RememberedWriter.byteCount)
                for i in noise.indices { noise[i] = UInt8.random(in: 0...255, using: &random) }
                try disk.write(contentsOf: noise)
                try disk.close()
                _ = try volume.mark("whole")
                try volume.unmount()
                let segments = volume.path + "/segments"
                let name = try #require(
                    FileManager.default.contentsOfDirectory(atPath: segments)
                        .first { $0.hasSuffix(".log.segment") })
                let file = try #require(FileHandle(forUpdatingAtPath: "\(segments)/\(name)"))
                try file.seek(toOffset: 2 << 20)
                let byte = try #require(try file.read(upToCount: 1)).first ?? 0
                try file.seek(toOffset: 2 << 20)
                try file.write(contentsOf: Data([byte ^ 4]))
                try file.close()

                let past = try scratch.newFolder("past")
                try volume.logdisk(["mount", volume.path, past, "--at", "mark:whole"])
                let descriptor = open(past + "/disk.img", O_RDONLY | clinux_o_direct | O_CLOEXEC)
                try #require(descriptor >= 0)
                defer { close(descriptor) }
                var bad: [Int] = []
                let memory = UnsafeMutableRawBufferPointer.allocate(
                    byteCount: 4096, alignment: 4096)
                defer { memory.deallocate() }
                for offset in stride(from: 0, to: RememberedWriter.byteCount, by: 4096) {
                    if pread(descriptor, memory.baseAddress, 4096, off_t(offset)) == 4096 {
                        #expect(Data(memory) == noise[offset..<offset + 4096], "at \(offset)")
                    } else {
                        #expect(errno == EIO)
                        bad.append(offset)
                    }
                }
                // One block of the segment: neighbours, a small part.
                let (first, last) = (try #require(bad.first), try #require(bad.last))
                #expect(last - first == (bad.count - 1) * 4096 && bad.count <= 64, "\(bad)")
                let words = try volume.logdisk(["status", past]).output
                #expect(words.contains(name) && words.contains("degraded"), "\(words)")
                close(descriptor)
                try volume.logdisk(["unmount", past])
            }
        }

        @Test(needs())
        func whatPastMountsRefuse() throws {
            try Scratch.with { scratch in
                let volume = try TestVolume(in: scratch, size: "4M")
                let (past, new) = (try scratch.newFolder("past"), scratch.path("new"))
                func refused(_ words: [String], _ status: Int32, _ text: String) throws {
                    let outcome = try volume.logdisk(
                        ["mount", volume.path, past] + words, expecting: status)
                    #expect(outcome.errors.contains(text), "\(outcome)")
                    #expect(outcome.errors.contains("hint: ") || status == 64, "\(outcome)")
                    #expect(access(new, F_OK) != 0, "nothing half-made: \(outcome)")
                    #expect(!Scratch.mountPoints(below: scratch.folder).contains(past))
                }
                _ = try volume.mark("there")
                try refused(["--at", "mark:their"], 12, "there")
                try refused(["--at", "2040-01-01T00:00:00Z"], 12, "future")
                try refused(["--at", "-20y"], 64, "-20y")
                try refused(["--at", "-20w"], 12, "before the first restorable point")
                try refused(["--at", "lsn:99"], 12, "lsn:99")
                try refused(["--barrier"], 64, "--at")
                try refused(["--branch", new], 64, "--at")
                try refused(["--at", "now", "--ring", "4M"], 64, "--ring")
                try refused(["--at", "mark:their", "--branch", new], 12, "there")
                try refused(["--at", "now", "--branch", volume.path + "/b"], 64, "in the folder")
                try refused(["--at", "now", "--branch", scratch.folder], 64, "not empty")
                try refused(
                    ["--at", "now", "--branch", scratch.path("a/b")], 64, "does not exist")
                try refused(["--at", "now", "--branch", new, "--ring", "1"], 64, "--ring")
                // A folder that is no mount point is known before anything is made.
                let missing = try volume.logdisk(
                    [
                        "mount", volume.path, scratch.path("none"), "--at", "now", "--branch", new,
                    ], expecting: 64)
                #expect(missing.errors.contains("does not exist"), "\(missing)")
                #expect(access(new, F_OK) != 0)
                // What is for live volumes only says so.
                try volume.logdisk(["mount", volume.path, past, "--at", "now"])
                for verb in [["mark", past, "x"], ["snapshot", past]] {
                    let outcome = try volume.logdisk(verb, expecting: 64)
                    #expect(outcome.errors.contains("past state"), "\(outcome)")
                }
                try volume.logdisk(["unmount", past])
            }
        }
    }
}
