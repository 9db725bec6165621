// diff, patch, history, export and import: bad inputs by table, and the way there and back.

import Foundation
import Testing

/// A log of dm-log-writes made by hand: sectors of 512 bytes; data is `fill` everywhere.
private func makeLog(
    _ entries: [(flags: UInt64, first: UInt64, count: UInt64, name: String, fill: UInt8)]
)
    -> Data
{
    func little(_ value: UInt64, _ bytes: Int = 8) -> [UInt8] {
        (0..<bytes).map { UInt8(truncatingIfNeeded: value >> UInt64($0 * 8)) }
    }
    func padded(_ bytes: [UInt8]) -> [UInt8] {
        bytes + [UInt8](repeating: 0, count: 512 - bytes.count)
    }
    var log = padded(
        little(0x6a_7366_7773_6872) + little(1) + little(UInt64(entries.count)) + little(512, 4))
    for entry in entries {
        let name = Array(entry.name.utf8)
        log += padded(
            little(entry.first) + little(entry.count) + little(entry.flags)
                + little(UInt64(name.count)) + name)
        if entry.flags & 4 == 0 {
            log += [UInt8](repeating: entry.fill, count: Int(entry.count) * 512)
        }
    }
    return Data(log)
}

/// A sandbox with the log `log` and the volume `v` of 1 MiB made of it: at mark:one sectors 0 to 7
/// are 1, at mark:two sectors 4 to 7 are 2 and sector 1 is zeros, and sectors 100 to 107 are 3.
private func makeHistory() throws -> Sandbox {
    let sandbox = try Sandbox()
    let log = makeLog([
        (0, 0, 8, "", 1), (1, 0, 0, "", 0), (8, 0, 0, "one", 0), (2, 4, 4, "", 2),
        (4, 1, 1, "", 0), (0, 100, 8, "", 3), (0, 0, 1, "", 1), (1, 0, 0, "", 0),
        (8, 0, 0, "two", 0),
    ])
    try log.write(to: URL(fileURLWithPath: sandbox.path + "/log"))
    try sandbox.succeed("import log v --size 1M")
    return sandbox
}

extension Sandbox {
    @discardableResult
    fileprivate func succeed(_ arguments: String) throws -> String {
        let run = try run(arguments.split(separator: " ").map(String.init))
        try #require(run.code == 0, "\(arguments): \(run.error)")
        return run.output
    }

    fileprivate func json(_ arguments: String) throws -> [String: Any] {
        let text = try succeed(arguments + " --json")
        let object = try JSONSerialization.jsonObject(with: Data(text.utf8))
        return try #require(object as? [String: Any])
    }

    fileprivate func put(_ name: String, _ data: Data) throws {
        try data.write(to: URL(fileURLWithPath: "\(path)/\(name)"))
    }
}

@Suite struct CompareTableTests {
    @Test func refuses() throws {
        let sandbox = try makeHistory()
        try sandbox.file("file", bytes: 10)
        try sandbox.file("large", bytes: 2 << 20)
        try sandbox.folder("folder")
        try sandbox.succeed("diff v --from mark:one --output p")
        try sandbox.succeed("replay v --at mark:two --output wrong")
        try sandbox.overwrite("wrong", at: 2100, with: Data([7]))
        try sandbox.put("cut", try sandbox.bytes("p").dropLast(5))
        var bad = try sandbox.bytes("p")
        bad[200] ^= 4
        try sandbox.put("bad", bad)
        try sandbox.put("cutlog", try sandbox.bytes("log").dropLast(100))
        let before = sandbox.names
        let wrong = try sandbox.bytes("wrong")
        for row in Self.compareTable + Self.exchangeTable {
            check(row, try sandbox.run(row.arguments))
            #expect(sandbox.names == before, "\(row) left something behind")
        }
        #expect(try sandbox.bytes("wrong") == wrong, "a refused patch changed the image")
        #expect(try sandbox.succeed("verify v").contains("no damage found"))
    }

    private static let compareTable = [
        BadInput("diff v", 64, "--from"),
        BadInput("diff missing --from -1h", 10, "no volume"),
        BadInput("diff v --from nonsense", 64, "--from nonsense names no point"),
        BadInput("diff v --from mark:one --to nonsense", 64, "--to nonsense names no point"),
        BadInput("diff v --from mark:noe", 12, "no such mark"),
        BadInput("diff v --from 1999-01-01", 12, "before the first"),
        BadInput("diff v --from now --to mark:one", 64, "--from now is later than --to mark:one"),
        BadInput("diff v --from mark:one --output file", 64, "file exists"),
        BadInput("diff v --from mark:one --svg file", 64, "file exists"),
        BadInput("diff v --from mark:one --output missing/p", 64, "does not exist"),
        BadInput("diff v --from mark:one --output v/p", 64, "the volume's own folder"),
        BadInput("diff v --from mark:one --svg v/image.raw --force", 64, "the volume's own image"),
        BadInput("patch p", 64, "<IMAGE>"),
        BadInput("patch missing wrong", 64, "No such file"),
        BadInput("patch folder wrong", 64, "the patch is not a file"),
        BadInput("patch p missing", 64, "No such file"),
        BadInput("patch p folder", 64, "neither a file nor a block device"),
        BadInput("patch p p", 64, "the same file"),
        BadInput("patch file wrong", 13, "does not begin as a patch does"),
        BadInput("patch cut wrong", 13, "its end is missing"),
        BadInput("patch bad wrong", 13, "damaged"),
        BadInput("patch p large", 1, "2097152 bytes, not 1048576"),
        BadInput("patch p wrong", 1, "for another image", "at byte 2048"),
        BadInput("patch p v/image.raw", 11, "the image of a volume"),
        BadInput("history missing", 10, "no volume"),
        BadInput("history v --from nonsense", 64, "names no point"),
        BadInput("history v --from mark:noe", 12, "no such mark"),
        BadInput("history v --from -1h --to -2h", 64, "--from lies after --to"),
        BadInput("history v --svg file", 64, "file exists"),
    ]

    private static let exchangeTable = [
        BadInput("export v --output x", 64, "--format"),
        BadInput("export v --format vmdk --output x", 64, "vmdk"),
        BadInput("export v --format raw --output x", 64, "--at is missing"),
        BadInput("export v --format raw --at now --from -1h --output x", 64, "dm-log-writes"),
        BadInput("export v --format dm-log-writes --at now --output x", 64, "--at is for raw"),
        BadInput("export v --format raw --at now", 64, "--output"),
        BadInput("export v --format raw --at mark:noe --output x", 12, "no such mark"),
        BadInput("export v --format raw --at now --output file", 64, "file exists"),
        BadInput("export v --format dm-log-writes --output file", 64, "file exists"),
        BadInput(
            "export v --format dm-log-writes --from now --to mark:one --output x", 64,
            "--from now is later"),
        BadInput("export v --format dm-log-writes --from lsn:9999 --output x", 12, "last record"),
        BadInput("export missing --format dm-log-writes --output x", 10, "no volume"),
        BadInput("import log w", 64, "--size"),
        BadInput("import log w --size 0", 64, "0 bytes"),
        BadInput("import log w --size 1000", 64, "not a multiple of 512"),
        BadInput("import log w --size 16K", 64, "too small", "byte 55296"),
        BadInput("import missing w --size 1M", 64, "No such file"),
        BadInput("import folder w --size 1M", 64, "neither a file nor a block device"),
        BadInput("import file w --size 1M", 13, "does not begin with the magic"),
        BadInput("import p w --size 1M", 13, "does not begin with the magic"),
        BadInput("import cutlog w --size 1M", 13, "it ends in entry"),
        BadInput("import log v --size 1M", 64, "is not empty"),
        BadInput("import log file --size 1M", 64, "is not a folder"),
        BadInput("import log missing/w --size 1M", 64, "does not exist"),
    ]

    @Test func qcow2NeedsItsProgram() throws {
        let sandbox = try makeHistory()
        let before = sandbox.names
        let run = try sandbox.run(
            ["export", "v", "--format", "qcow2", "--at", "now", "--output", "x"],
            environment: ["PATH": "/nowhere"])
        check(BadInput("export", 14, "qemu-img", "not installed"), run)
        #expect(run.error.contains("qemu-utils") && sandbox.names == before)
    }

    @Test func interruptedLeavesNothing() throws {
        let sandbox = try makeHistory()
        let before = sandbox.names
        for line in [
            "export v --format dm-log-writes --output x", "import log x --size 1M",
            "diff v --from mark:one --output x",
        ] {
            let code = try sandbox.runInterrupted(line.split(separator: " ").map(String.init))
            // What is small may be there before the interruption is seen.
            #expect(code == 130 && sandbox.names == before || code == 0 && sandbox.exists("x"))
            if sandbox.exists("x") { try sandbox.remove("x") }
            #expect(sandbox.names == before, "\(line) left something behind")
        }
    }
}

@Suite struct CompareTests {
    @Test func diffAndPatch() throws {
        let sandbox = try makeHistory()
        let found = try sandbox.json(
            "diff v --from mark:one --to mark:two --output p --svg picture.svg")
        let extents = try #require(found["extents"] as? [[String: Int]])
        #expect(
            extents == [
                ["offset": 512, "length": 512], ["offset": 2048, "length": 2048],
                ["offset": 51200, "length": 4096],
            ])
        #expect(found["changed_bytes"] as? Int == 6656)
        // Sector 0 was written again with what it held.
        #expect(found["compared_bytes"] as? Int == 7168)
        #expect(found["all_compared"] as? Bool == false)
        let picture = String(decoding: try sandbox.bytes("picture.svg"), as: UTF8.self)
        #expect(picture.contains("What changed in v") && picture.hasSuffix("</svg>\n"))

        try sandbox.succeed("replay v --at mark:one --output old")
        try sandbox.succeed("replay v --at mark:two --output new")
        let old = try sandbox.bytes("old")
        #expect(try sandbox.succeed("patch p old").contains("6.5 KiB written"))
        #expect(try sandbox.bytes("old") == sandbox.bytes("new"))
        #expect(try sandbox.succeed("patch p old").contains("nothing written"))
        // Half of it, as an interruption leaves it, down to a sector of a piece.
        try sandbox.put("half", try sandbox.bytes("new")[..<2560] + old[2560...])
        let rest = try sandbox.json("patch p half")
        #expect(rest["written_bytes"] as? Int == 6144)
        #expect(try sandbox.bytes("half") == sandbox.bytes("new"))

        let text = try sandbox.succeed("diff v --from mark:one --to mark:two")
        #expect(text.contains("3 extents, 6.5 KiB of 1 MiB changed (7 KiB were written to"))
        #expect(
            try sandbox.succeed("diff v --from mark:one --to mark:one").contains("no difference"))
    }

    @Test func history() throws {
        let sandbox = try makeHistory()
        let found = try sandbox.json("history v --svg h.svg")
        let total = try #require(found["total"] as? [String: Int])
        #expect(total["writes"] == 4 && total["written_bytes"] == 21 * 512)
        #expect(total["overwrites"] == 2 && total["overwritten_bytes"] == 5 * 512)
        #expect(total["discards"] == 1 && total["marks"] == 2)
        let hottest = try #require(found["hottest"] as? [[String: Int]])
        #expect(hottest.count == 1 && hottest[0]["overwrites"] == 2)
        #expect(String(decoding: try sandbox.bytes("h.svg"), as: UTF8.self).contains("<svg"))
        let text = try sandbox.succeed("history v")
        #expect(text.contains("4 writes, 10.5 KiB; 2 overwrote 2.5 KiB"))
        #expect(text.contains("hottest regions"))
        let later = try sandbox.json("history v --from mark:two")
        #expect((later["total"] as? [String: Int])?["writes"] == 0)
        try sandbox.succeed("create e --size 1M")
        #expect(try sandbox.succeed("history e").contains("0 writes"))
    }

    @Test func importAndExport() throws {
        let sandbox = try makeHistory()
        try sandbox.succeed("replay v --at mark:one --output one")
        let one = try sandbox.bytes("one")
        #expect(one[..<4096].allSatisfy { $0 == 1 } && one[4096...].allSatisfy { $0 == 0 })
        try sandbox.succeed("replay v --at now --output now")
        let now = try sandbox.bytes("now")
        let sectors = stride(from: 0, to: 8, by: 1).map { now[$0 * 512] }
        #expect(sectors == [1, 0, 1, 1, 2, 2, 2, 2] && now[51200] == 3)
        // There and back: the same points, the same bytes.
        let exported = try sandbox.json("export v --format dm-log-writes --output out")
        #expect(exported["base_is_zeros"] as? Bool == true)
        try sandbox.succeed("import out w --size 1M")
        for point in ["mark:one", "mark:two", "now"] {
            try sandbox.succeed("replay v --at \(point) --output a --force")
            try sandbox.succeed("replay w --at \(point) --output b --force")
            #expect(try sandbox.bytes("a") == sandbox.bytes("b"))
        }
        #expect(try sandbox.succeed("verify w").contains("no damage found"))
        #expect(try sandbox.succeed("status w").contains("health            ok"))
        // Only the end: the base is told.
        let part = try sandbox.run([
            "export", "v", "--format", "dm-log-writes", "--from", "mark:one", "--output", "part",
        ])
        #expect(part.code == 0 && part.error.contains("hint: logdisk replay v --at lsn:"))
        try sandbox.succeed("export v --format raw --at mark:one --output raw")
        #expect(try sandbox.bytes("raw") == one)
        // A new folder that is there and empty will do.
        try sandbox.folder("empty")
        try sandbox.succeed("import out empty --size 1M")
        #expect(!sandbox.names.contains { $0.contains("unfinished") })
    }

    @Test func marksThatCannotBeAreRenamed() throws {
        let sandbox = try Sandbox()
        try sandbox.put("log", makeLog([(8, 0, 0, "a\tb", 0), (0, 0, 1, "", 1), (8, 0, 0, "", 0)]))
        let run = try sandbox.run(["import", "log", "v", "--size", "64K"])
        #expect(run.code == 0 && run.error.contains("2 marks have another name"), "\(run.error)")
        let points = try sandbox.succeed("points v")
        #expect(points.contains("mark:a_b") && points.contains("mark:entry-2"))
    }

    private static var hasConverter: Bool {
        let folders = (ProcessInfo.processInfo.environment["PATH"] ?? "").split(separator: ":")
        return folders.contains { access("\($0)/qemu-img", X_OK) == 0 }
    }

    @Test(.enabled(if: hasConverter, "qemu-img is not installed")) func qcow2() throws {
        let sandbox = try makeHistory()
        let run = try sandbox.run([
            "export", "v", "--format", "qcow2", "--at", "now", "--output", "q",
        ])
        #expect(run.code == 0, "\(run.error)")
        #expect(try sandbox.bytes("q").starts(with: [0x51, 0x46, 0x49, 0xFB]))
        #expect(!sandbox.names.contains { $0.contains("unfinished") })
    }
}
