// The read commands on a folder of a log server's store, which has segments but is no volume: what
// they say is what they say of the volume, also on a copy and where nothing can be written.

import CommandText
import Foundation
import Testing

/// What a log server would have of a volume that is all shipped: its segments, and whose they are.
struct StoreOfVolume {
    let path: String
    private let volume: TestVolume

    init(of volume: TestVolume, name: String = "store") throws {
        self.volume = volume
        let store = try volume.scratch.newFolder(name)
        path = store + "/vol"
        try #require(mkdir(path, 0o755) == 0)
        try fill()
    }

    /// Brings the store up to what lies in the volume's segments now.
    func fill() throws {
        let scratch = volume.scratch
        try scratch.run("cp", "-rT", volume.path + "/segments", path + "/segments")
        let shown = try volume.logdisk(["inspect", volume.path + "/superblock", "--json"]).output
        let whole = try JSONSerialization.jsonObject(with: Data(shown.utf8)) as? [String: Any]
        let slot = try #require((whole?["parts"] as? [[String: Any]])?.last)
        let last = try #require(
            try FileManager.default.contentsOfDirectory(atPath: path + "/segments")
                .filter { !$0.contains("snapshot") }.max())
        let digits = last.dropFirst(21).prefix(20)
        let info: [String: Any] = [
            "uuid": try #require(slot["volume"] as? String),
            "size_bytes": try #require(slot["size_bytes"] as? Int), "sealed": false,
            "head": ["lsn": try #require(Int(digits)), "wall_nanoseconds": 0],
        ]
        try JSONSerialization.data(withJSONObject: info)
            .write(to: URL(fileURLWithPath: path + "/volume.json"))
    }
}

/// A volume at rest with two marks and all records in segments, and its content at each.
func makeReadVolume(_ scratch: Scratch) throws -> (TestVolume, [(String, String)]) {
    let volume = try TestVolume(in: scratch, size: "8M")
    try volume.mount()
    var contents: [(String, String)] = []
    for name in ["one", "two"] {
        try fill(volume.disk, with: name, count: 1 << 20)
        try volume.logdisk(["mark", volume.path, name])
        contents.append(("mark:\(name)", try digest(scratch, volume.disk)))
    }
    try volume.unmount()
    contents.append(("now", contents[1].1))
    return (volume, contents)
}

/// Every read command says of `place` what it says of the volume. `options` open the place.
func compareReading(
    _ volume: TestVolume, _ place: String, _ options: [String], _ points: [(String, String)]
) throws {
    let scratch = volume.scratch
    for words in [
        ["points", "--flushes", "--json"], ["history", "--json"],
        ["diff", "--from", "mark:one", "--to", "mark:two", "--json"],
    ] {
        let local = try volume.logdisk([words[0], volume.path] + words.dropFirst())
        let stored = try volume.logdisk([words[0], place] + options + words.dropFirst())
        #expect(local.output == stored.output, "\(words)")
    }
    let mountPoint = try scratch.newFolder(
        scratch.newPath("past").split(separator: "/").last.map(String.init) ?? "past")
    for (target, sum) in points {
        let file = scratch.newPath("replayed")
        try volume.logdisk(["replay", place, "--at", target, "--output", file] + options)
        #expect(try digest(scratch, file) == sum, "\(target)")
        try volume.logdisk(["mount", place, mountPoint, "--at", target] + options)
        #expect(try digest(scratch, mountPoint + "/disk.img") == sum, "\(target)")
        let status = try volume.logdisk(["status", mountPoint, "--json"]).output
        let report = try JSONDecoder().decode(StatusReport.self, from: Data(status.utf8))
        #expect(report.volume == place && report.past != nil && report.reads > 0)
        try volume.logdisk(["unmount", mountPoint])
    }
    try volume.logdisk(["verify", place] + options)
    let image = scratch.newPath("raw")
    try volume.logdisk(
        ["export", place, "--format", "raw", "--at", "now", "--output", image] + options)
    #expect(try digest(scratch, image) == points.last?.1)
    try volume.logdisk(
        ["drill", place, "--at", "mark:one", "--check", "test -s \"$LOGDISK_IMAGE\""]
            + options)
    try volume.logdisk(
        [
            "bisect", place, "--good", "lsn:0", "--bad", "now",
        ] + options + [
            "--", "sh", "-c",
            "! head -c 70000 \"$LOGDISK_IMAGE\" | tail -c 4096 | grep -q '[^\\x00]'",
        ])
}

extension EndToEnd {
    @Suite struct StoreFolderTests {
        @Test(needs())
        func readCommandsAgreeWithTheVolume() throws {
            try Scratch.with { scratch in
                let (volume, points) = try makeReadVolume(scratch)
                let store = try StoreOfVolume(of: volume)
                try compareReading(volume, store.path, [], points)
                // What was read here is not kept from pruning any more.
                let leases = try FileManager.default.contentsOfDirectory(
                    atPath: store.path + "/leases")
                #expect(leases.isEmpty, "\(leases)")
            }
        }

        @Test(needs())
        func readOnlyCopyIsEnough() throws {
            try Scratch.with { scratch in
                let (volume, points) = try makeReadVolume(scratch)
                let store = try StoreOfVolume(of: volume)
                let copy = try scratch.newFolder("copy")
                try scratch.run("cp", "-rT", store.path, copy)
                try scratch.run("mount", "--bind", copy, copy)
                try scratch.run("mount", "-o", "remount,bind,ro", copy)
                try compareReading(volume, copy, [], points)
                #expect(access(copy + "/leases", F_OK) != 0)
            }
        }

        @Test(needs())
        func nothingChangesIt() throws {
            try Scratch.with { scratch in
                let (volume, _) = try makeReadVolume(scratch)
                let store = try StoreOfVolume(of: volume).path
                let files = try FileManager.default.subpathsOfDirectory(atPath: store).sorted()
                let folder = try scratch.newFolder("mnt")
                for words in [
                    ["mount", store, folder], ["mark", store, "x"], ["snapshot", store],
                    ["revert", store, "--at", "now"], ["prune", store, "--keep", "newest 1w"],
                    ["pin", store, "one"], ["unpin", store, "one"], ["verify", store, "--repair"],
                    ["status", store], ["branches", store],
                    ["mount", store, folder, "--at", "now", "--branch", scratch.path("branch")],
                    ["drill", store, "--check", "true", "--writable"],
                    ["replay", store, "--at", "now", "--output", store + "/x"],
                    ["replay", store, "--at", "now", "--output", "x", "--token-file", "t"],
                ] {
                    let outcome = try volume.logdisk(words, expecting: 64)
                    #expect(outcome.errors.contains("log server"), "\(outcome)")
                    #expect(outcome.errors.contains("hint: "), "\(outcome)")
                }
                // Nothing but the empty folder for leases.
                let left = try FileManager.default.subpathsOfDirectory(atPath: store).sorted()
                #expect(left.filter { $0 != "leases" } == files)
            }
        }

        /// What is cut off at the end, and what is damaged, is told.
        @Test(needs())
        func damageIsFound() throws {
            try Scratch.with { scratch in
                let (volume, _) = try makeReadVolume(scratch)
                let store = try StoreOfVolume(of: volume).path
                let segments = store + "/segments"
                let last = try #require(
                    try FileManager.default.contentsOfDirectory(atPath: segments)
                        .filter { !$0.contains("snapshot") }.max())
                try scratch.run("mv", "\(segments)/\(last)", scratch.path("kept"))
                let cut = try volume.logdisk(["verify", store], expecting: 13)
                #expect(cut.output.contains("are missing"), "\(cut)")
                try scratch.run("cp", scratch.path("kept"), "\(segments)/\(last)")
                let file = try #require(FileHandle(forUpdatingAtPath: "\(segments)/\(last)"))
                try file.seek(toOffset: 5000)
                try file.write(contentsOf: Data([1, 2, 3, 4, 5]))
                try file.close()
                let bad = try volume.logdisk(["verify", store], expecting: 13)
                #expect(bad.output.contains(last), "\(bad)")
                try Data("nonsense".utf8).write(to: URL(fileURLWithPath: store + "/volume.json"))
                let lost = try volume.logdisk(["points", store], expecting: 13)
                #expect(lost.errors.contains("whose segments these are"), "\(lost)")
            }
        }
    }
}
