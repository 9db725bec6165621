// logdisk spread run and its kin: plans that are carried out, options, sources and devices that do
// not fit together, ageing.

import Foundation
import Testing

/// Folder `data` with files of known bytes, and devices `a`, `b` and `c`.
private func makeSandbox() throws -> Sandbox {
    let sandbox = try Sandbox()
    for folder in ["data/sub", "a", "b", "c"] { try sandbox.folder(folder) }
    try sandbox.file("data/big", bytes: 100_000, random: true)
    try sandbox.file("data/sub/small", bytes: 60, random: true)
    try sandbox.file("data/sub/empty", bytes: 0)
    return sandbox
}

private struct RunJSON: Decodable {
    struct Device: Decodable {
        var name: String
        var items: Int
        var complete: Bool
        var failure: String?
    }
    struct Missing: Decodable {
        var path: String
        var reason: String
    }
    var complete: Bool
    var itemCost: UInt64
    var devices: [Device]
    var missing: [Missing]

    init(_ run: Sandbox.Run) throws {
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        self = try decoder.decode(Self.self, from: Data(run.output.utf8))
    }
}

@Suite struct SpreadRunCommandTests {
    private let two = ["--device", "dir:a", "--device", "dir:b"]

    private func expectRestored(
        _ sandbox: Sandbox, _ set: String, _ devices: [String],
        sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        let output = "back-\(set)"
        let back = try sandbox.run(
            ["spread", "restore", "--set", set, "--output", output] + devices)
        #expect(back.code == 0, "\(back.error)", sourceLocation: sourceLocation)
        for name in ["big", "sub/small", "sub/empty"] {
            #expect(
                try sandbox.bytes("\(output)/data/\(name)") == sandbox.bytes("data/\(name)"),
                "\(name)", sourceLocation: sourceLocation)
        }
    }

    @Test func aPlanIsCarriedOut() throws {
        let sandbox = try makeSandbox()
        let plan = ["spread", "plan", "data", "--mode", "split-first", "--output", "p"]
        #expect(try sandbox.run(plan + two).code == 0)
        let run = ["spread", "run", "--plan", "p", "--set", "s"]
        // Other devices, other sources than the plan's.
        let other = try sandbox.run(run + ["--device", "dir:a", "--device", "dir:c"])
        #expect(other.code == 64 && other.error.contains("not the devices of the plan"))
        let sources = try sandbox.run(run + ["a"] + two)
        #expect(sources.code == 64 && sources.error.contains("not the sources of the plan"))
        let done = try sandbox.run(run + two)
        #expect(done.code == 0, "\(done.error)")
        // As planned: the large file in two segments, one on each.
        for device in ["a", "b"] {
            let found = try FileManager.default.contentsOfDirectory(
                atPath: "\(sandbox.path)/\(device)/s/segments")
            #expect(found.count == 1)
        }
        try expectRestored(sandbox, "s", two)
    }

    @Test func aPlanWhoseSourcesChanged() throws {
        let sandbox = try makeSandbox()
        let plan = ["spread", "plan", "data", "--output"]
        let run = ["spread", "run", "--set", "s", "--plan"]
        #expect(try sandbox.run(plan + ["p"] + two).code == 0)
        try sandbox.file("data/sub/small", bytes: 61)
        let larger = try sandbox.run(run + ["p"] + two)
        #expect(larger.code == 1 && larger.error.contains("sub/small has another size"))
        #expect(larger.errorLines.last?.contains("plan again") ?? false, "\(larger.error)")
        #expect(try sandbox.run(plan + ["q"] + two).code == 0)
        try FileManager.default.moveItem(
            atPath: sandbox.path + "/data/big", toPath: sandbox.path + "/data/big2")
        let moved = try sandbox.run(run + ["q"] + two)
        #expect(moved.code == 1 && moved.error.contains("big is not there any more"))
        try sandbox.file("data/more", bytes: 1)
        let more = try sandbox.run(run + ["q"] + two)
        #expect(more.code == 1 && more.error.contains("3 files are planned, 4 are there"))
        for device in ["a", "b"] {
            let left = try FileManager.default.contentsOfDirectory(
                atPath: "\(sandbox.path)/\(device)")
            #expect(left.isEmpty, "nothing is written: \(left)")
        }
        try Data("{".utf8).write(to: URL(fileURLWithPath: sandbox.path + "/bad"))
        check(
            BadInput("spread run --set s --plan bad --device dir:a", 64, "this is no plan"),
            try sandbox.run(["spread", "run", "--set", "s", "--plan", "bad", "--device", "dir:a"]))
    }

    /// At most one device is written to at a time: each item ends before the next one starts.
    @Test func parallel() throws {
        let sandbox = try makeSandbox()
        for i in 0..<12 { try sandbox.file("data/f\(i)", bytes: 50_000 + i, random: true) }
        let run = try sandbox.run(
            ["spread", "run", "data", "--set", "s", "--parallel", "1", "--events", "log"] + two)
        #expect(run.code == 0, "\(run.error)")
        struct Event: Decodable {
            var event: String
            var device: String?
        }
        let lines = String(decoding: try sandbox.bytes("log"), as: UTF8.self).split(separator: "\n")
        let events = try lines.map { try JSONDecoder().decode(Event.self, from: Data($0.utf8)) }
            .filter { $0.event.hasPrefix("item-") }
        #expect(events.count >= 2 * 15)
        for (index, event) in events.enumerated() {
            #expect(
                event.event == (index % 2 == 0 ? "item-started" : "item-written"), "\(index)")
        }
        #expect(Set(events.compactMap(\.device)) == ["dir:a", "dir:b"])
        try expectRestored(sandbox, "s", two)
    }

    @Test func itemCost() throws {
        let sandbox = try makeSandbox()
        let given = try sandbox.run(
            ["spread", "run", "data", "--set", "given", "--item-cost", "5K", "--json"] + two)
        #expect(given.code == 0, "\(given.error)")
        let first = try RunJSON(given)
        #expect(first.itemCost == 5120)
        // Few files: nothing is measured.
        let few = try sandbox.run(["spread", "run", "data", "--set", "few", "--json"] + two)
        let second = try RunJSON(few)
        #expect(second.itemCost == 0)
        for i in 0..<1000 { try sandbox.file("data/sub/n\(i)", bytes: 3) }
        let many = try sandbox.run(["spread", "run", "data", "--set", "many", "--json"] + two)
        #expect(many.code == 0, "\(many.error)")
        let third = try RunJSON(many)
        #expect(third.itemCost > 0 && third.itemCost % 1024 == 0, "\(third.itemCost)")
        let spoken = try sandbox.run(["spread", "run", "data", "--set", "spoken"] + two)
        #expect(spoken.error.contains("measured: a file costs as much as"), "\(spoken.error)")
        for device in ["a", "b"] {
            let names = try FileManager.default.contentsOfDirectory(
                atPath: "\(sandbox.path)/\(device)")
            #expect(names.sorted() == ["few", "given", "many", "spoken"], "\(names)")
        }
        try expectRestored(sandbox, "many", two)
    }

    @Test func forgetByALadder() throws {
        let sandbox = try makeSandbox()
        for set in ["one", "two", "three"] {
            #expect(try sandbox.run(["spread", "run", "data", "--set", set] + two).code == 0)
        }
        let words = ["spread", "forget", "--keep", "30d 3650d"] + two
        let dry = try sandbox.run(words + ["--dry-run"])
        // All of one span: the newest stays.
        #expect(
            dry.code == 0 && dry.output == "would remove: two\nwould remove: one\nkept: three\n")
        let all = try sandbox.run(["spread", "list"] + two)
        #expect(all.output.contains("one") && all.output.contains("two"))
        let run = try sandbox.run(words)
        #expect(run.code == 0 && run.output == "removed: two\nremoved: one\nkept: three\n")
        for device in ["a", "b"] {
            #expect(
                try FileManager.default.contentsOfDirectory(atPath: "\(sandbox.path)/\(device)")
                    == ["three"])
        }
        let again = try sandbox.run(words)
        #expect(again.code == 0 && again.output == "kept: three\n")
        let both = try sandbox.run(words + ["--set", "three"])
        #expect(both.code == 64 && both.error.contains("a set or a ladder"))
        try expectRestored(sandbox, "three", two)
    }

    @Test func badInput() throws {
        let sandbox = try makeSandbox()
        for (link, target) in [("a-too", "a"), ("data-too", "data")] {
            try FileManager.default.createSymbolicLink(
                atPath: "\(sandbox.path)/\(link)", withDestinationPath: target)
        }
        try sandbox.folder("data/inner")
        try Data("x".utf8).write(to: URL(fileURLWithPath: sandbox.path + "/open-token"))
        let server = "https://127.0.0.1:1/n"
        let table = [
            BadInput("spread run --set s --device dir:a", 64, "no source is given"),
            BadInput("spread run data --set s", 64, "no device is given"),
            BadInput("spread run data --set s --device dir:a --parallel 0", 64, "--parallel 0"),
            BadInput("spread run data --set s --device dir:a --timeout soon", 64, "soon"),
            BadInput("spread run data --set a/b --device dir:a", 64, "no name for a set"),
            BadInput("spread run data data-too --set s --device dir:a", 64, "given twice"),
            BadInput("spread plan data data-too --device dir:a", 64, "given twice"),
            BadInput(
                "spread run data --set s --device dir:a --device dir:a-too", 64, "given twice"),
            BadInput(
                "spread run data --set s --device dir:data/inner", 64, "lies in the source"),
            BadInput(
                "spread run data-too --set s --device dir:data/inner", 64, "lies in the source"),
            BadInput("spread run data/sub --set s --device dir:data", 64, "lies on the device"),
            BadInput("spread run a --set s --device dir:a-too", 64, "lies in the source"),
            BadInput(
                "spread run data --set s --device iso:data/new.iso", 64, "lies in the source"),
            BadInput("spread run data --set s --device dir:none", 14, "no device can be used"),
            BadInput(
                "spread run data --set s --device dir:a?capacity=100", 1, "bytes are needed"),
            BadInput("spread run data --set s --device ftp:a", 64, "unknown driver 'ftp'"),
            BadInput("spread run data --set s --device https://h:1", 64, "names no volume"),
            BadInput("spread run data --set s --device http://example.org:1/n", 64, "plain http"),
            BadInput(
                "spread run data --set s --device \(server)?token-file=none", 64,
                "cannot read the token"),
            BadInput(
                "spread run data --set s --device \(server)?token-file=open-token", 64,
                "others may read"),
            BadInput(
                "spread run data --set s --device \(server) --device \(server)/", 64,
                "given twice"),
        ]
        for row in table { check(row, try sandbox.run(row.arguments)) }
        for device in ["a", "b"] {
            #expect(
                try FileManager.default.contentsOfDirectory(atPath: "\(sandbox.path)/\(device)")
                    .isEmpty)
        }
    }
}
