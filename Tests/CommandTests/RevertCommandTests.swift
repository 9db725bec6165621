// revert and bisect on volumes that are not mounted: what they do, what they say, and bad inputs by
// table. With mounts and file systems: Tests/EndToEndTests.

import Foundation
import Testing

private let canMount = geteuid() == 0 && access("/dev/fuse", R_OK | W_OK) == 0

/// A volume `v` of 4 MiB random bytes with the marks `one` and `two`, the image the same at both.
private func makeVolume() throws -> Sandbox {
    let sandbox = try Sandbox()
    try sandbox.file("source", bytes: 4 << 20, random: true)
    for arguments in [
        ["create", "v", "--from", "source"], ["mark", "v", "one"], ["mark", "v", "two"],
    ] {
        let run = try sandbox.run(arguments)
        try #require(run.code == 0, "\(run.error)")
    }
    return sandbox
}

private func json(_ text: String) throws -> [String: Any] {
    try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
}

@Suite struct RevertCommandTests {
    @Test func refuses() throws {
        let sandbox = try makeVolume()
        let table = [
            BadInput("revert v", 64, "--at"),
            BadInput("revert missing --at now", 10, "no volume"),
            BadInput("revert v --at nonsense", 64, "nonsense names no point"),
            BadInput("revert v --at lsn:4000000", 12, "the last record is lsn"),
            BadInput("revert v --at 2200-01-01T00:00:00Z", 12, "in the future"),
            BadInput("revert v --at -9999d", 12, "before the first"),
            BadInput("revert v --at mark:tow", 12, "no such mark"),
        ]
        let before = try sandbox.bytes("v/superblock")
        for row in table { check(row, try sandbox.run(row.arguments)) }
        #expect(try sandbox.bytes("v/superblock") == before, "it was opened")
    }

    @Test func nothingDiffers() throws {
        let sandbox = try makeVolume()
        let points = try sandbox.run(["points", "v"]).output
        for target in ["now", "mark:one", "lsn:0"] {
            let run = try sandbox.run(["revert", "v", "--at", target])
            #expect(run.code == 0, "\(run.error)")
            #expect(run.output.contains("already; nothing written"), "\(run.output)")
        }
        #expect(!points.contains("before-revert"))
        #expect(try !sandbox.run(["points", "v"]).output.contains("before-revert"))
    }

    @Test func helpIsThere() throws {
        let sandbox = try Sandbox()
        for verb in ["revert", "bisect"] {
            let run = try sandbox.run(["help", verb])
            #expect(run.code == 0 && run.output.contains("TARGET"))
        }
    }
}

@Suite(.enabled(if: canMount, "needs root and /dev/fuse"), .serialized)
struct MountedRevertTests {
    /// `v` with 1 in it at `mark:one`, 2 at `mark:two`; left mounted on `m`.
    private func mounted() throws -> Sandbox {
        let sandbox = try Sandbox()
        try sandbox.folder("m")
        #expect(try sandbox.run(["create", "v", "--size", "8M"]).code == 0)
        #expect(try sandbox.run(["mount", "v", "m"]).code == 0)
        for (name, byte) in [("one", UInt8(1)), ("two", 2)] {
            try sandbox.overwrite("m/disk.img", at: 4096, with: Data(repeating: byte, count: 70000))
            #expect(try sandbox.run(["mark", "v", name]).code == 0)
        }
        return sandbox
    }

    @Test func mountedOnlyByForce() throws {
        let sandbox = try mounted()
        defer { _ = try? sandbox.run(["unmount", "v"]) }
        check(
            BadInput("revert v --at mark:one", 11, "the volume is mounted"),
            try sandbox.run(["revert", "v", "--at", "mark:one"]))
        let force = ["revert", "v", "--at", "mark:one", "--force"]
        do {
            let open = try #require(FileHandle(forReadingAtPath: sandbox.path + "/m/disk.img"))
            check(
                BadInput("revert v --at mark:one --force", 11, "still in use", "pid \(getpid())"),
                try sandbox.run(force))
            try open.close()
        }
        #expect(try sandbox.bytes("m/disk.img")[4096] == 2)
        let run = try sandbox.run(force + ["--json"])
        #expect(run.code == 0, "\(run.error)")
        let reply = try json(run.output)
        #expect((reply["before"] as? [String: Any])?["name"] as? String == "before-revert-1")
        #expect(reply["written_bytes"] as? Int == (70000 + 511) / 512 * 512)
        // Through the page cache, which had the other bytes.
        let bytes = try sandbox.bytes("m/disk.img")
        #expect(bytes[4096..<74096].allSatisfy { $0 == 1 })

        check(
            BadInput("revert v --at lsn:99999 --force", 12, "the last record"),
            try sandbox.run(["revert", "v", "--at", "lsn:99999", "--force"]))
        let back = try sandbox.run(["revert", "m", "--at", "mark:before-revert-1", "--force"])
        #expect(back.code == 0, "\(back.error)")
        #expect(try sandbox.bytes("m/disk.img")[4096..<74096].allSatisfy { $0 == 2 })
        let points = try sandbox.run(["points", "v"]).output
        for name in ["before-revert-1", "after-revert-1-to-lsn-", "before-revert-2"] {
            #expect(points.contains("mark:\(name)"), "\(points)")
        }
        #expect(try sandbox.run(["unmount", "m"]).code == 0)
        #expect(try sandbox.run(["verify", "v"]).code == 0)
    }

    @Test func bisectFinds() throws {
        let sandbox = try mounted()
        defer { _ = try? sandbox.run(["unmount", "v"]) }
        let judge = """
            echo $LOGDISK_IMAGE >>images
            test $(od -An -tu1 -j4096 -N1 "$LOGDISK_IMAGE") != 2
            """
        let words = ["bisect", "v", "--good", "lsn:0", "--bad", "now"]
        for option in [[], ["--every-write"]] {
            let run = try sandbox.run(words + option + ["--json", "--", "sh", "-c", judge])
            #expect(run.code == 0, "\(run.error)")
            let found = try json(run.output)
            let good = try #require((found["good"] as? [String: Any])?["lsn"] as? Int)
            let bad = try #require((found["bad"] as? [String: Any])?["lsn"] as? Int)
            for lsn in [good, bad] {
                let name = "x-\(option.count)-\(lsn)"
                #expect(
                    try sandbox.run(["replay", "v", "--at", "lsn:\(lsn)", "--output", name]).code
                        == 0)
                #expect(try (sandbox.bytes(name)[4096] == 2) == (lsn == bad))
            }
            if !option.isEmpty { #expect(bad == good + 1) }
        }
        let text = try sandbox.run(words + ["--", "sh", "-c", judge])
        #expect(text.output.contains("first bad  lsn:"), "\(text.output)")
        let images = String(decoding: try sandbox.bytes("images"), as: UTF8.self)
        #expect(images.split(separator: "\n").count > 8)
        for image in images.split(separator: "\n") {
            let folder = (String(image) as NSString).deletingLastPathComponent
            #expect(folder.contains("logdisk-past-"))
            #expect(!FileManager.default.fileExists(atPath: folder), "\(folder) is left")
        }
    }

    @Test func bisectRefuses() throws {
        let sandbox = try mounted()
        defer { _ = try? sandbox.run(["unmount", "v"]) }
        let ends = "bisect v --good lsn:0 --bad now"
        for row in [
            BadInput("bisect v --good lsn:0 -- true", 64, "--bad"),
            BadInput("\(ends)", 64, "no command"),
            BadInput("\(ends) -- no-such-program x", 64, "no program 'no-such-program'"),
            BadInput("\(ends) -- ./missing", 64, "no program './missing'"),
            BadInput("\(ends) -- sh -c no-such-program", 64, "did not find"),
            BadInput("\(ends) -- true", 1, "the point of --bad is not bad"),
            BadInput("\(ends) -- false", 1, "the point of --good is not good"),
            BadInput("bisect v --good now --bad lsn:0 -- true", 64, "--good lies after --bad"),
            BadInput("bisect v --good mark:one --bad mark:one -- true", 64, "the same point"),
            BadInput("bisect v --good lsn:0 --bad lsn:1 -- true", 64, "no flush lies between"),
            BadInput(
                "bisect v --good lsn:0 --bad lsn:1 --every-write -- true", 64, "nothing"),
            BadInput("bisect v --good mark:tow --bad now -- true", 12, "no such mark"),
            BadInput("bisect missing --good lsn:0 --bad now -- true", 10, "no volume"),
        ] {
            check(row, try sandbox.run(row.arguments))
        }
        let judged = { (script: String) in
            try sandbox.run([
                "bisect", "v", "--good", "lsn:0", "--bad", "now", "--", "sh", "-c", script,
            ])
        }
        check(BadInput("killed", 1, "killed by signal 9"), try judged("kill -9 $$"))
        check(BadInput("stopped", 1, "exit code 200"), try judged("exit 200"))
        check(
            BadInput("skipped end", 1, "cannot tell of the point of --good"), try judged("exit 125")
        )
        let ending = "case $LOGDISK_LSN in 0) exit 0;; esac; "
        let newest = try sandbox.run(["replay", "v", "--at", "now", "--output", "n", "--json"])
        let last = try #require(try json(newest.output)["lsn"] as? Int)
        let skips = try judged(ending + "test $LOGDISK_LSN = \(last) && exit 1; exit 125")
        check(BadInput("skips", 3, "every point between the two was skipped"), skips)
        // The image is only for reading, and whole.
        let look = "test $(stat -c %s \"$LOGDISK_IMAGE\") = 8388608 && "
        let readOnly = try judged(
            look + "! true 2>/dev/null >>\"$LOGDISK_IMAGE\" && test $LOGDISK_LSN != \(last)")
        #expect(readOnly.code == 0, "\(readOnly.error)")
    }

    /// Interrupted while its command runs: the command ends, and nothing is left.
    @Test func bisectInterrupted() throws {
        let sandbox = try mounted()
        defer { _ = try? sandbox.run(["unmount", "v"]) }
        let process = Process()
        process.executableURL = URL(fileURLWithPath: Sandbox.program)
        process.arguments = [
            "bisect", "v", "--good", "lsn:0", "--bad", "now", "--", "sh", "-c",
            "echo $LOGDISK_IMAGE >where.part; mv where.part where; sleep 1000",
        ]
        process.currentDirectoryURL = URL(fileURLWithPath: sandbox.path)
        process.standardError = FileHandle.nullDevice
        try process.run()
        while !sandbox.exists("where"), process.isRunning { usleep(2000) }
        process.interrupt()
        process.waitUntilExit()
        #expect(process.terminationStatus == 130)
        let image = String(decoding: try sandbox.bytes("where"), as: UTF8.self)
        let folder = (String(image.split(separator: "\n")[0]) as NSString).deletingLastPathComponent
        #expect(folder.contains("logdisk-past-"))
        #expect(!FileManager.default.fileExists(atPath: folder))
    }
}
