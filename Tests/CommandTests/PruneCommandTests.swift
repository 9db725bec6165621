// prune, pin, unpin and mount --keep: bad ladders by table, and what the commands do to a volume
// that is not mounted.

import Foundation
import Testing

/// A sandbox with a volume `v` of 1 MiB random bytes and two marks.
private func makeVolume() throws -> Sandbox {
    let sandbox = try Sandbox()
    try sandbox.file("source", bytes: 1 << 20, random: true)
    for arguments in [
        ["create", "v", "--from", "source"], ["mark", "v", "one"], ["mark", "v", "two"],
    ] {
        let run = try sandbox.run(arguments)
        try #require(run.code == 0, "\(run.error)")
    }
    return sandbox
}

/// Everything below the volume's history, by name.
private func history(_ sandbox: Sandbox) throws -> [String] {
    try FileManager.default.subpathsOfDirectory(atPath: sandbox.path + "/v").sorted()
}

@Suite struct PruneTableTests {
    /// `--keep` with one argument of several words.
    private static let ladders: [(String, String)] = [
        ("", "no rung given"), ("nonsense", "is not a rung"), ("every", "is not a rung"),
        ("every 24h,", "is not a rung"), ("often 24h", "neither every, newest nor a duration"),
        ("every -24h", "is negative"), ("-1m 24h", "is negative"), ("every 0s", "no time at all"),
        ("every 24", "neither every"), ("every 900y", "too long"),
        ("every 24h, 1m 1h", "the spans must rise: 1h follows 1d"),
        ("1h 1d, 1m 7d", "the spacings must rise: 1m follows 1h"),
        ("7m 1d, 1h 7d", "1h is none of 7m"), ("1m 1h, every 2h", "only the first rung"),
        ("newest 1h, 1m 2h", "no rung can follow newest"),
    ]

    @Test func refusesLadders() throws {
        let sandbox = try makeVolume()
        try sandbox.folder("mnt")
        let before = try history(sandbox)
        for (ladder, words) in Self.ladders {
            for arguments in [
                ["prune", "v", "--keep", ladder], ["prune", "v", "--keep", ladder, "--dry-run"],
                ["mount", "v", "mnt", "--keep", ladder],
            ] {
                let run = try sandbox.run(arguments)
                #expect(run.code == 64, "\(arguments): \(run.error)")
                #expect(run.errorLines.first?.contains(words) ?? false, "\(run.error)")
                #expect(run.error.contains("hint: "), "\(run.error)")
            }
            #expect(try history(sandbox) == before)
        }
    }

    @Test func refuses() throws {
        let sandbox = try makeVolume()
        let before = try history(sandbox)
        let table = [
            BadInput("prune v", 64, "--keep"), BadInput("prune", 64, "VOL"),
            BadInput("mount v mnt --idle-keeps", 64, "--idle-keeps without --keep"),
            BadInput("pin v tow", 12, "no such mark"), BadInput("pin missing one", 10, "no volume"),
            BadInput("unpin v one", 12, "no mark 'one' is pinned"),
            BadInput("unpin missing one", 10, "no volume"),
        ]
        for row in table { check(row, try sandbox.run(row.arguments)) }
        let missing = try sandbox.run(["prune", "missing", "--keep", "every 1h"])
        #expect(missing.code == 10, "\(missing.error)")
        let tow = try sandbox.run(["pin", "v", "tow"])
        #expect(tow.error.contains("similar marks: two"), "\(tow.error)")
        #expect(try history(sandbox).filter { !$0.hasSuffix("prune.lock") } == before)
    }

    @Test func dryRunChangesNothing() throws {
        let sandbox = try makeVolume()
        let before = try history(sandbox)
        let run = try sandbox.run(["prune", "v", "--keep", "newest 1h", "--dry-run"])
        #expect(run.code == 0, "\(run.error)")
        #expect(run.output.contains("would delete"), "\(run.output)")
        #expect(run.output.contains("what stays restorable"), "\(run.output)")
        let json = try sandbox.run(["prune", "v", "--keep", "newest 1h", "--dry-run", "--json"])
        let object = try JSONSerialization.jsonObject(with: Data(json.output.utf8))
        let found = try #require(object as? [String: Any])
        #expect(found["dry_run"] as? Bool == true)
        #expect(found["ladder"] as? String == "newest 1h")
        #expect(try history(sandbox) == before)
    }

    @Test func prunesAndPins() throws {
        let sandbox = try makeVolume()
        let pin = try sandbox.run(["pin", "v", "one"])
        #expect(pin.code == 0 && pin.output.contains("is pinned"), "\(pin.error)")
        #expect(try sandbox.run(["pin", "v", "one"]).output.contains("was pinned already"))
        // Longer ago than a second: only the pin and the newest state stay.
        sleep(2)
        let run = try sandbox.run(["prune", "v", "--keep", "newest 1s"])
        #expect(run.code == 0, "\(run.error)")
        let again = try sandbox.run(["prune", "v", "--keep", "newest 1s"])
        #expect(again.output.contains("nothing to prune"), "\(again.output)\(again.error)")
        let points = try sandbox.run(["points", "v"])
        #expect(points.output.contains("mark:one"), "\(points.output)")
        let one = try sandbox.run(["replay", "v", "--at", "mark:one", "--output", "x"])
        #expect(one.code == 0, "\(one.error)")
        #expect(try sandbox.bytes("x") == sandbox.bytes("source"))
        #expect(try sandbox.run(["replay", "v", "--at", "lsn:0", "--output", "y"]).code == 12)
        #expect(try sandbox.run(["verify", "v"]).code == 0)
        #expect(try sandbox.run(["unpin", "v", "one"]).code == 0)
        #expect(try sandbox.run(["prune", "v", "--keep", "newest 1s"]).code == 0)
        #expect(try sandbox.run(["replay", "v", "--at", "mark:one", "--output", "y"]).code == 12)
        #expect(try sandbox.run(["replay", "v", "--at", "now", "--output", "y"]).code == 0)
        #expect(try sandbox.bytes("y") == sandbox.bytes("source"))
        #expect(try sandbox.run(["mark", "v", "three"]).code == 0)
        #expect(try sandbox.run(["verify", "v"]).code == 0)
    }
}
