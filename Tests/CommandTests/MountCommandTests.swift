// mount, unmount and the commands that talk to a running mount, on real mounts. Skipped where FUSE
// cannot be used.

import Foundation
import Testing

private let canMount = geteuid() == 0 && access("/dev/fuse", R_OK | W_OK) == 0

/// Unmounts whatever a test left mounted.
private func cleanUp(_ sandbox: Sandbox) {
    for name in sandbox.names where name.hasPrefix("v") {
        _ = try? sandbox.run(["unmount", name])
    }
    // After a process that was killed.
    for name in sandbox.names where name.hasPrefix("m") {
        umount2("\(sandbox.path)/\(name)", 2)
    }
}

@Suite(.enabled(if: canMount, "needs root and /dev/fuse"), .serialized)
struct MountCommandTests {
    @Test func badInputs() throws {
        let sandbox = try Sandbox()
        defer { cleanUp(sandbox) }
        #expect(try sandbox.run(["create", "v", "--size", "16M"]).code == 0)
        try sandbox.folder("m")
        try sandbox.folder("full/x")
        try sandbox.file("file", bytes: 1)
        try sandbox.folder("half")
        for row in [
            BadInput("mount", 64, "<VOL>"),
            BadInput("mount missing m", 10, "no volume"),
            BadInput("mount half m", 10, "no volume"),
            BadInput("mount v missing", 64, "does not exist"),
            BadInput("mount v file", 64, "not a folder"),
            BadInput("mount v full", 64, "not empty"),
            BadInput("mount v /proc", 11, "mounted there already"),
            BadInput("mount v m --ring x", 64, "not a size"),
            BadInput("mount v m --ring 5", 64, "out of range"),
            BadInput("mount v m --on-full maybe", 64, "maybe"),
            BadInput("mount v m --snapshot-every 5", 64, "no unit"),
            BadInput("mount v m --snapshot-every 0s", 64, "too short"),
        ] {
            check(row, try sandbox.run(row.arguments))
            // The same in the foreground: it does not stay.
            check(row, try sandbox.run(row.arguments + ["--foreground"]))
        }
        #expect(try sandbox.run(["verify", "v"]).code == 0)
    }

    @Test func life() throws {
        let sandbox = try Sandbox()
        defer { cleanUp(sandbox) }
        #expect(try sandbox.run(["create", "v", "--size", "16M"]).code == 0)
        try sandbox.folder("m")
        try sandbox.folder("m2")
        let mount = try sandbox.run(["mount", "v", "m"])
        #expect(mount.code == 0, "\(mount.error)")
        #expect(mount.output.contains("losetup --find --show --direct-io=on"))
        let again = try sandbox.run(["mount", "v", "m2"])
        check(BadInput("mount v m2", 11, "in use", "mounted on"), again)
        try sandbox.overwrite("m/disk.img", at: 4096, with: Data(repeating: 1, count: 8192))
        #expect(try sandbox.run(["mark", "m", "first"]).code == 0)
        try sandbox.overwrite("m/disk.img", at: 4096, with: Data(repeating: 2, count: 8192))
        #expect(try sandbox.run(["snapshot", "v", "--name", "second"]).code == 0)
        try sandbox.overwrite("m/disk.img", at: 4096, with: Data(repeating: 3, count: 8192))

        let status = try sandbox.run(["status", "m", "--json"])
        let object = try JSONSerialization.jsonObject(with: Data(status.output.utf8))
        let found = try #require(object as? [String: Any])
        #expect(found["mounted"] as? Bool == true && found["health"] as? String == "ok")

        for (point, byte) in [("mark:first", 1), ("mark:second", 2), ("now", 3)] {
            let run = try sandbox.run(["replay", "v", "--at", point, "--output", "\(byte)"])
            #expect(run.code == 0, "\(run.error)")
            #expect(try sandbox.bytes("\(byte)")[4096] == UInt8(byte))
        }
        check(
            BadInput("replay to the own mount", 64, "own mount"),
            try sandbox.run(["replay", "v", "--at", "now", "--output", "m/x"]))
        check(
            BadInput("repair of a mounted volume", 11, "in use"),
            try sandbox.run(["verify", "v", "--repair"]))
        let live = try sandbox.bytes("m/disk.img")
        #expect(try sandbox.bytes("3") == live)
        let unmount = try sandbox.run(["unmount", "m"])
        #expect(unmount.code == 0, "\(unmount.error)")
        #expect(try sandbox.bytes("v/image.raw") == live)
        #expect(try sandbox.run(["verify", "v"]).code == 0)
        #expect(try sandbox.run(["unmount", "v"]).code == 1)
    }

    @Test func comparedAndPatchedWhileMounted() throws {
        let sandbox = try Sandbox()
        defer { cleanUp(sandbox) }
        #expect(try sandbox.run(["create", "v", "--size", "1M"]).code == 0)
        #expect(try sandbox.run(["create", "v2", "--size", "1M"]).code == 0)
        for (volume, folder) in [("v", "m"), ("v2", "m2")] {
            try sandbox.folder(folder)
            #expect(try sandbox.run(["mount", volume, folder]).code == 0)
        }
        #expect(try sandbox.run(["mark", "v", "empty"]).code == 0)
        try sandbox.overwrite("m/disk.img", at: 5000, with: Data(repeating: 7, count: 3000))
        let diff = try sandbox.run(["diff", "m", "--from", "mark:empty", "--output", "p"])
        #expect(diff.code == 0 && diff.output.contains("1 extent, 3.5 KiB"), "\(diff.error)")
        // The disk of another mount takes it like any image; images under volumes do not.
        let patch = try sandbox.run(["patch", "p", "m2/disk.img"])
        #expect(patch.code == 0, "\(patch.error)")
        #expect(try sandbox.bytes("m2/disk.img") == sandbox.bytes("m/disk.img"))
        check(
            BadInput("patch of an image in use", 11, "the image of a volume"),
            try sandbox.run(["patch", "p", "v2/image.raw"]))
        check(
            BadInput("patch into the mount", 64, "own mount"),
            try sandbox.run(["diff", "v", "--from", "mark:empty", "--output", "m/p"]))
        for name in ["history", "export"] {
            let more = name == "export" ? ["--format", "dm-log-writes", "--output", "log"] : []
            let run = try sandbox.run([name, "m"] + more)
            #expect(run.code == 0, "\(run.error)")
        }
        #expect(
            try FileManager.default.contentsOfDirectory(atPath: sandbox.path + "/v/leases") == [])
        for folder in ["m", "m2"] {
            let unmount = try sandbox.run(["unmount", folder])
            #expect(unmount.code == 0, "\(unmount.error)")
        }
        #expect(try sandbox.run(["verify", "v2"]).code == 0)
    }

    @Test func busy() throws {
        let sandbox = try Sandbox()
        defer { cleanUp(sandbox) }
        #expect(try sandbox.run(["create", "v", "--size", "1M"]).code == 0)
        try sandbox.folder("m")
        #expect(try sandbox.run(["mount", "v", "m"]).code == 0)
        do {
            let open = try #require(FileHandle(forReadingAtPath: sandbox.path + "/m/disk.img"))
            let run = try sandbox.run(["unmount", "m"])
            #expect(run.code == 11, "\(run.error)")
            #expect(run.error.contains("pid \(getpid())"), "\(run.error)")
            try open.close()
        }
        let run = try sandbox.run(["unmount", "m"])
        #expect(run.code == 0, "\(run.error)")
    }

    @Test func killedProcess() throws {
        let sandbox = try Sandbox()
        defer { cleanUp(sandbox) }
        #expect(try sandbox.run(["create", "v", "--size", "1M"]).code == 0)
        try sandbox.folder("m")
        #expect(try sandbox.run(["mount", "v", "m"]).code == 0)
        try sandbox.overwrite("m/disk.img", at: 0, with: Data(repeating: 5, count: 4096))
        #expect(try sandbox.run(["mark", "v", "flushed"]).code == 0)
        try killHolder(sandbox)
        // A lock and a mount left by a dead process are no obstacle.
        let status = try sandbox.run(["status", "v"])
        #expect(status.code == 0 && status.output.contains("mounted           no"))
        // The write and the mark with their headers, and little more.
        let unarchived = try unarchivedBytes(sandbox)
        #expect((4096 + 512...16384).contains(unarchived), "\(unarchived)")
        let mount = try sandbox.run(["mount", "v", "m"])
        #expect(mount.code == 0, "\(mount.error)")
        #expect(try sandbox.bytes("m/disk.img")[4095] == 5)
        try killHolder(sandbox)
        let unmount = try sandbox.run(["unmount", "m"])
        #expect(unmount.code == 0, "\(unmount.error)")
        #expect(try sandbox.run(["verify", "v"]).code == 0)
        #expect(try sandbox.run(["mount", "v", "m"]).code == 0)
        #expect(try sandbox.run(["unmount", "m"]).code == 0)
        #expect(try unarchivedBytes(sandbox) == 0)
    }

    private func unarchivedBytes(_ sandbox: Sandbox) throws -> Int {
        let text = try sandbox.run(["status", "v", "--json"]).output
        let object = try JSONSerialization.jsonObject(with: Data(text.utf8))
        return try #require((object as? [String: Any])?["unarchived_bytes"] as? Int)
    }

    @Test func aLargeLogIsPutAway() throws {
        let sandbox = try Sandbox()
        defer { cleanUp(sandbox) }
        #expect(try sandbox.run(["create", "v", "--size", "1M"]).code == 0)
        try sandbox.folder("m")
        try sandbox.folder("m2")
        let size = { (name: String) in try sandbox.bytes("v/" + name).count }
        // At the bound it stays, and is appended to.
        try sandbox.file("v/mount.log", bytes: 1 << 20)
        #expect(try sandbox.run(["mount", "v", "m"]).code == 0)
        #expect(try size("mount.log") > 1 << 20)
        #expect(!sandbox.exists("v/mount.log.1"))
        // Large, but the process of a mount writes to it.
        #expect(try sandbox.run(["mount", "v", "m2"]).code == 11)
        #expect(!sandbox.exists("v/mount.log.1"))
        #expect(try sandbox.run(["unmount", "m"]).code == 0)
        try sandbox.file("v/mount.log.1", bytes: 5)
        #expect(try sandbox.run(["mount", "v", "m"]).code == 0)
        #expect(try size("mount.log.1") > 1 << 20)
        #expect(try (1..<1 << 20).contains(size("mount.log")))
        #expect(try sandbox.run(["unmount", "m"]).code == 0)
    }

    @Test func acknowledgedRecordsLost() throws {
        let sandbox = try Sandbox()
        defer { cleanUp(sandbox) }
        #expect(try sandbox.run(["create", "v", "--size", "1M"]).code == 0)
        try sandbox.folder("m")
        #expect(try sandbox.run(["mount", "v", "m"]).code == 0)
        for number in 1...4 {
            let data = Data(repeating: UInt8(number), count: 4096)
            try sandbox.overwrite("m/disk.img", at: UInt64(number) * 4096, with: data)
            #expect(try sandbox.run(["mark", "v", "m\(number)"]).code == 0)
        }
        try killHolder(sandbox)
        umount2(sandbox.path + "/m", 2)
        // The first byte of the payload of the second write.
        let wal = "v/wal/000000000001.wal"
        let log = try sandbox.bytes(wal)
        let place = try #require(log.firstRange(of: Data(repeating: 2, count: 4096))?.lowerBound)
        try sandbox.overwrite(wal, at: UInt64(place), with: Data([0xFF]))

        check(BadInput("mount v m", 13, "lost from the log"), try sandbox.run(["mount", "v", "m"]))
        let verify = try sandbox.run(["verify", "v"])
        #expect(verify.code == 13)
        #expect(verify.output.contains("acknowledged records after lsn"), "\(verify.output)")
        #expect(try sandbox.run(["replay", "v", "--at", "mark:m1", "--output", "x"]).code == 0)
        #expect(try sandbox.run(["replay", "v", "--at", "now", "--output", "y"]).code == 12)
        #expect(!sandbox.exists("y"))

        // What had reached the image already must not stay there unexplained.
        let repair = try sandbox.run(["verify", "v", "--repair"])
        #expect(repair.code == 0, "\(repair.output)\(repair.error)")
        #expect(repair.output.contains("repaired: the log ends at lsn"))
        #expect(try sandbox.bytes("v/image.raw") == sandbox.bytes("x"))
        #expect(try sandbox.run(["mount", "v", "m"]).code == 0)
        #expect(try sandbox.bytes("m/disk.img") == sandbox.bytes("x"))
    }

    @Test func fileOfAnotherVolumeInTheLog() throws {
        let sandbox = try Sandbox()
        defer { cleanUp(sandbox) }
        try sandbox.folder("m")
        for name in ["v", "v2"] {
            #expect(try sandbox.run(["create", name, "--size", "1M"]).code == 0)
            #expect(try sandbox.run(["mount", name, "m"]).code == 0)
            #expect(try sandbox.run(["mark", name, "here"]).code == 0)
            #expect(try sandbox.run(["unmount", name]).code == 0)
        }
        let folder = sandbox.path + "/v2/wal"
        let file = try #require(try FileManager.default.contentsOfDirectory(atPath: folder).first)
        try FileManager.default.copyItem(
            atPath: "\(folder)/\(file)", toPath: sandbox.path + "/v/wal/000000000099.wal")
        check(
            BadInput("mount v m", 13, "of another volume"), try sandbox.run(["mount", "v", "m"]))
        #expect(try sandbox.run(["verify", "v"]).code == 13)
        let repair = try sandbox.run(["verify", "v", "--repair"])
        #expect(repair.code == 0, "\(repair.output)\(repair.error)")
        #expect(sandbox.exists("v/wal/000000000099.wal.foreign"))
        #expect(try sandbox.run(["mount", "v", "m"]).code == 0)
    }

    /// Kills the process that the lock file names and waits until the kernel has let go of it.
    private func killHolder(_ sandbox: Sandbox) throws {
        let text = String(decoding: try sandbox.bytes("v/lock"), as: UTF8.self)
        let line = try #require(text.split(separator: "\n").first)
        let pid = try #require(pid_t(line))
        kill(pid, SIGKILL)
        let lock = open(sandbox.path + "/v/lock", O_RDONLY)
        defer { close(lock) }
        #expect(flock(lock, LOCK_EX) == 0)
    }

    @Test func controlSocketOfALongPath() throws {
        let sandbox = try Sandbox()
        let long = "v" + String(repeating: "/abcdefghijklmnop", count: 8)
        try sandbox.folder(long)
        try sandbox.folder("m")
        let volume = long + "/x"
        #expect(try sandbox.run(["create", volume, "--size", "1M"]).code == 0)
        let mount = try sandbox.run(["mount", volume, "m"])
        #expect(mount.code == 0, "\(mount.error)")
        #expect(try sandbox.run(["mark", volume, "here"]).code == 0)
        let unmount = try sandbox.run(["unmount", volume])
        #expect(unmount.code == 0, "\(unmount.error)")
    }
}
