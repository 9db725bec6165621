// points, replay, verify, inspect, status and mark on volumes that are not mounted: bad inputs by
// table, and what damage does.

import Foundation
import Testing

/// A sandbox with a volume `v` of 4 MiB random bytes and three marks, `one`, `two`, `three`.
private func makeVolume() throws -> Sandbox {
    let sandbox = try Sandbox()
    try sandbox.file("source", bytes: 4 << 20, random: true)
    for arguments in [
        ["create", "v", "--from", "source"], ["mark", "v", "one"], ["mark", "v", "two"],
        ["mark", "v", "three"],
    ] {
        let run = try sandbox.run(arguments)
        try #require(run.code == 0, "\(run.error)")
    }
    return sandbox
}

@Suite struct ReplayTableTests {
    @Test func refuses() throws {
        let sandbox = try makeVolume()
        try sandbox.file("file", bytes: 10)
        try sandbox.folder("folder")
        let before = sandbox.names
        let inside = "lies in the volume's own folder"
        let table = [
            BadInput("replay v --output x", 64, "--at"),
            BadInput("replay v --at now", 64, "--output"),
            BadInput("replay missing --at now --output x", 10, "no volume"),
            BadInput("replay v --at nonsense --output x", 64, "nonsense names no point"),
            BadInput("replay v --at '' --output x", 64, "names no point"),
            BadInput("replay v --at 2026-02-30 --output x", 64, "names no point"),
            BadInput("replay v --at lsn:x --output x", 64, "names no point"),
            BadInput("replay v --at lsn:4000000 --output x", 12, "the last record is lsn"),
            BadInput("replay v --at 2200-01-01T00:00:00Z --output x", 12, "in the future"),
            BadInput("replay v --at 1999-01-01T00:00:00Z --output x", 12, "before the first"),
            BadInput("replay v --at -9999d --output x", 12, "before the first"),
            BadInput("replay v --at mark:tow --output x", 12, "no such mark"),
            BadInput("replay v --at now --output file", 64, "file exists"),
            BadInput("replay v --at now --output folder", 64, "neither a file nor a block device"),
            BadInput("replay v --at now --output missing/x", 64, "does not exist"),
            BadInput(
                "replay v --at now --output v/image.raw --force", 64, "the volume's own image"),
            BadInput("replay v --at now --output v/x", 64, inside),
            BadInput("replay v --at now --output v/wal/x", 64, inside),
            BadInput("replay v --at now --output x --snapshot y", 64, "names no snapshot"),
            BadInput("replay v --at now --output x --snapshot 99", 12, "no snapshot at lsn 99"),
            BadInput("points v --from mark:one", 64, "is not a time"),
            BadInput("points v --from -1h --to -2h", 64, "--from lies after --to"),
            BadInput("points missing", 10, "no volume"),
            BadInput("mark v ''", 64, "it is empty"),
            BadInput("mark v \(String(repeating: "x", count: 256))", 64, "longer than 255"),
            BadInput("status missing", 10, "no volume"),
            BadInput("verify missing", 10, "no volume"),
            BadInput("snapshot missing", 10, "no volume"),
            BadInput("unmount missing", 10, "neither a mount of logdisk nor a volume"),
            BadInput("unmount v", 1, "not mounted"),
            BadInput("inspect file", 13, "no WAL file, segment or superblock"),
            BadInput("nonsense", 64, "there is no command 'nonsense'"),
        ]
        for row in table {
            check(row, try sandbox.run(row.arguments))
            #expect(sandbox.names == before, "\(row) left something behind")
        }
    }

    @Test func namesNearMarksAndPoints() throws {
        let sandbox = try makeVolume()
        let mark = try sandbox.run(["replay", "v", "--at", "mark:tow", "--output", "x"])
        #expect(mark.error.contains("similar marks: two"))
        let future = try sandbox.run(["replay", "v", "--at", "2200-01-01", "--output", "x"])
        #expect(future.error.contains("nearest before: lsn:"))
    }

    @Test func interruptedLeavesNothing() throws {
        let sandbox = try makeVolume()
        let before = sandbox.names
        let code = try sandbox.runInterrupted(["replay", "v", "--at", "now", "--output", "x"])
        // A small volume may be there before the interruption is seen.
        #expect(code == 130 && sandbox.names == before || code == 0 && sandbox.exists("x"))
    }

    @Test func replacesOnlyByForce() throws {
        let sandbox = try makeVolume()
        try sandbox.file("x", bytes: 10)
        let run = try sandbox.run(["replay", "v", "--at", "mark:one", "--output", "x", "--force"])
        #expect(run.code == 0, "\(run.error)")
        #expect(try sandbox.bytes("x") == sandbox.bytes("source"))
    }

    @Test func resolutionIsTold() throws {
        let sandbox = try makeVolume()
        let run = try sandbox.run([
            "replay", "v", "--at", "mark:two", "--output", "x", "--json",
        ])
        #expect(run.code == 0, "\(run.error)")
        let object = try JSONSerialization.jsonObject(with: Data(run.output.utf8))
        let found = try #require(object as? [String: Any])
        let before = try #require(found["mark_before"] as? [String: Any])
        #expect(before["name"] as? String == "two")
        #expect(before["lsn"] as? Int == found["lsn"] as? Int)
        #expect((found["mark_after"] as? [String: Any])?["name"] as? String == "three")
    }
}

@Suite struct DamageTests {
    @Test func soundVolume() throws {
        let sandbox = try makeVolume()
        let run = try sandbox.run(["verify", "v"])
        #expect(run.code == 0, "\(run.error)")
        #expect(run.output.contains("no damage found"))
    }

    @Test func oneSuperblockDamaged() throws {
        let sandbox = try makeVolume()
        try sandbox.overwrite("v/superblock", at: 100, with: Data([1, 2, 3]))
        let verify = try sandbox.run(["verify", "v"])
        #expect(verify.code == 13)
        #expect(verify.output.contains("one copy of the superblock is damaged"))
        #expect(try sandbox.run(["mark", "v", "four"]).code == 0)
        #expect(try sandbox.run(["verify", "v"]).code == 0)
    }

    @Test func bothSuperblocksDamaged() throws {
        let sandbox = try makeVolume()
        try sandbox.overwrite("v/superblock", at: 0, with: Data(count: 8192))
        for arguments in ["status v", "mark v x", "snapshot v", "verify v"] {
            let run = try sandbox.run(arguments.split(separator: " ").map(String.init))
            #expect(run.code == 13, "\(arguments): \(run.error)")
        }
        // What the segments hold is not lost, and nothing newer is passed off as "now".
        let old = try sandbox.run(["replay", "v", "--at", "mark:one", "--output", "x"])
        #expect(old.code == 0, "\(old.error)")
        #expect(try sandbox.bytes("x") == sandbox.bytes("source"))
        #expect(try sandbox.run(["replay", "v", "--at", "now", "--output", "y"]).code == 13)
        #expect(!sandbox.exists("y"))
    }

    @Test func versionFromTheFuture() throws {
        let sandbox = try makeVolume()
        var slots = try sandbox.bytes("v/superblock")
        for slot in 0..<2 {
            slots[slot * 4096 + 12] = 9
            let body = Array(slots[(slot * 4096 + 12)..<(slot * 4096 + 4096)])
            let crc = crc32c(body)
            for i in 0..<4 {
                slots[slot * 4096 + 8 + i] = UInt8(truncatingIfNeeded: crc >> (8 * i))
            }
        }
        try slots.write(to: URL(fileURLWithPath: sandbox.path + "/v/superblock"))
        check(
            BadInput("mark v x", 1, "newer logdisk", "version 9"),
            try sandbox.run(["mark", "v", "x"]))
        #expect(try sandbox.bytes("v/superblock") == slots, "it was touched")
    }

    @Test func imageMissingIsMadeAnew() throws {
        let sandbox = try makeVolume()
        try sandbox.remove("v/image.raw")
        check(BadInput("mark v x", 13, "image is missing"), try sandbox.run(["mark", "v", "x"]))
        let run = try sandbox.run(["replay", "v", "--at", "now", "--output", "v/image.raw"])
        #expect(run.code == 0, "\(run.error)")
        #expect(try sandbox.run(["verify", "v"]).code == 0)
        #expect(try sandbox.run(["mark", "v", "x"]).code == 0)
    }

    @Test func imageOfWrongSize() throws {
        let sandbox = try makeVolume()
        try sandbox.file("v/image.raw", bytes: 512)
        check(BadInput("mark v x", 13, "wrong size"), try sandbox.run(["mark", "v", "x"]))
    }

    @Test func imageDiffers() throws {
        let sandbox = try makeVolume()
        try sandbox.overwrite("v/image.raw", at: 5000, with: Data("rot".utf8))
        let run = try sandbox.run(["verify", "v"])
        #expect(run.code == 13)
        #expect(run.output.contains("differs from the log at bytes 4096 to 8191"), "\(run.output)")
        let repair = try sandbox.run(["verify", "v", "--repair"])
        #expect(repair.code == 0, "\(repair.output)")
        #expect(try sandbox.bytes("v/image.raw") == sandbox.bytes("source"))
        let kept = try sandbox.bytes("v/image-before-repair-1.raw")
        #expect(kept[5000..<5003] == Data("rot".utf8))
    }

    @Test func segmentCutOffIsMovedAside() throws {
        let sandbox = try makeVolume()
        let folder = sandbox.path + "/v/segments"
        let names = try FileManager.default.contentsOfDirectory(atPath: folder).sorted()
        let log = try #require(names.first { $0.contains(".log.") })
        #expect(truncate(folder + "/" + log, 200) == 0)
        #expect(try sandbox.run(["inspect", "v/segments/\(log)"]).code == 13)
        #expect(try sandbox.run(["verify", "v"]).code == 13)
        let repair = try sandbox.run(["verify", "v", "--repair"])
        #expect(repair.output.contains("repaired: moved a segment aside to"), "\(repair.output)")
        #expect(sandbox.exists("v/segments/\(log).damaged"))
        // The base is still there.
        #expect(try sandbox.run(["replay", "v", "--at", "lsn:0", "--output", "x"]).code == 0)
        #expect(try sandbox.bytes("x") == sandbox.bytes("source"))
        let gap = try sandbox.run(["replay", "v", "--at", "mark:one", "--output", "y"])
        #expect(gap.code == 12, "\(gap.error)")
    }

    @Test func segmentOfAnotherVolume() throws {
        let sandbox = try makeVolume()
        #expect(try sandbox.run(["create", "w", "--size", "1M"]).code == 0)
        #expect(try sandbox.run(["mark", "w", "x"]).code == 0)
        let from = sandbox.path + "/w/segments"
        let names = try FileManager.default.contentsOfDirectory(atPath: from)
        let log = try #require(names.first { $0.contains(".log.") })
        let to =
            sandbox.path + "/v/segments/" + String(repeating: "0", count: 18) + "90-"
            + String(repeating: "0", count: 18) + "91.log.segment"
        try FileManager.default.copyItem(atPath: from + "/" + log, toPath: to)
        #expect(try sandbox.run(["verify", "v"]).code == 13)
        #expect(try sandbox.run(["replay", "v", "--at", "mark:two", "--output", "x"]).code == 0)
        #expect(try sandbox.bytes("x") == sandbox.bytes("source"))
    }

    /// CRC32C, bit by bit.
    private func crc32c(_ bytes: [UInt8]) -> UInt32 {
        var crc = UInt32.max
        for byte in bytes {
            crc ^= UInt32(byte)
            for _ in 0..<8 { crc = crc & 1 == 1 ? crc >> 1 ^ 0x82F6_3B78 : crc >> 1 }
        }
        return ~crc
    }
}

@Suite struct InspectTests {
    @Test func everyKindOfFile() throws {
        let sandbox = try makeVolume()
        let superblock = try sandbox.run(["inspect", "v/superblock"])
        #expect(superblock.code == 0 && superblock.output.contains("checkpoint_lsn"))
        for folder in ["wal", "segments"] {
            let names = try FileManager.default.contentsOfDirectory(
                atPath: "\(sandbox.path)/v/\(folder)")
            for name in names {
                let run = try sandbox.run(["inspect", "v/\(folder)/\(name)", "--json"])
                #expect(run.code == 0, "\(name): \(run.error)")
                let object = try JSONSerialization.jsonObject(with: Data(run.output.utf8))
                #expect((object as? [String: Any])?["item_count"] != nil)
            }
        }
    }
}
