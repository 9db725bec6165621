// logdisk spread threshold and plan: what they print and write, and bad input by table.

import Foundation
import Testing

/// A sandbox with folder `data` (files of 100, 60 and 0 bytes), devices `a` and `b`, a link `c` to
/// the first, and a list of sizes.
private func makeSandbox() throws -> Sandbox {
    let sandbox = try Sandbox()
    for folder in ["data", "data/sub", "a", "b", "data/backup"] { try sandbox.folder(folder) }
    try sandbox.file("data/big", bytes: 100)
    try sandbox.file("data/sub/small", bytes: 60)
    try sandbox.file("data/sub/empty", bytes: 0)
    try FileManager.default.createSymbolicLink(
        atPath: sandbox.path + "/c", withDestinationPath: "a")
    try write("100 big\n60 sub/small name\n\n5\tx\n", "list", sandbox)
    return sandbox
}

private func write(_ text: String, _ name: String, _ sandbox: Sandbox) throws {
    try Data(text.utf8).write(to: URL(fileURLWithPath: sandbox.path + "/" + name))
}

private struct PlanJSON: Decodable {
    struct Device: Decodable, Equatable {
        var name: String
        var bytes: UInt64
        var items: Int
        var capacity: UInt64?
    }
    struct Item: Decodable, Equatable {
        var source: String
        var path: String
        var offset: UInt64
        var size: UInt64
        var device: String
        var rule: String
    }
    var threshold: UInt64
    var mode: String
    var order: String
    var devices: [Device]
    var items: [Item]
}

@Suite struct SpreadCommandTests {
    @Test func thresholdPrintsOneNumber() throws {
        let sandbox = try makeSandbox()
        let run = try sandbox.run(
            ["spread", "threshold", "data", "--device", "dir:a", "--device", "dir:b"])
        #expect(run.code == 0 && run.output == "80\n" && run.error.isEmpty, "\(run.error)")
        // A device that is away does not count (S31).
        let away = try sandbox.run([
            "spread", "threshold", "data", "--device", "dir:a", "--device", "dir:none", "--json",
        ])
        #expect(away.code == 0 && away.error.contains("dir:none is not available"))
        #expect(away.output.contains("\"threshold\" : 160"), "\(away.output)")
        #expect(sandbox.names.sorted() == ["a", "b", "c", "data", "list"])
    }

    @Test func planAsJSON() throws {
        let sandbox = try makeSandbox()
        let arguments = [
            "spread", "plan", "data", "--mode", "split-first", "--device", "dir:a?capacity=1K",
            "--device", "dir:b", "--json",
        ]
        let run = try sandbox.run(arguments)
        #expect(run.code == 0, "\(run.error)")
        let plan = try JSONDecoder().decode(PlanJSON.self, from: Data(run.output.utf8))
        #expect(plan.threshold == 80 && plan.mode == "split-first" && plan.order == "descending")
        #expect(
            plan.devices == [
                .init(name: "dir:a?capacity=1K", bytes: 80, items: 2, capacity: 1024),
                .init(name: "dir:b", bytes: 80, items: 2, capacity: nil),
            ])
        let first = PlanJSON.Item(
            source: "data", path: "big", offset: 0, size: 80, device: "dir:a?capacity=1K",
            rule: "least-filled")
        #expect(plan.items.first == first)
        #expect(plan.items.map(\.path) == ["big", "sub/small", "big", "sub/empty"])
        #expect(try sandbox.run(arguments).output == run.output)
    }

    @Test func planAsTextFileAndPicture() throws {
        let sandbox = try makeSandbox()
        let run = try sandbox.run([
            "spread", "plan", "--sizes-from", "list", "--device", "dir:a?rate=10",
            "--device", "dir:b?rate=10", "--output", "p", "--svg", "s.svg",
        ])
        #expect(run.code == 0 && run.error.isEmpty, "\(run.error)")
        #expect(run.output.contains("balanced: 3 files, 165 B on 2 devices; threshold 83 bytes"))
        #expect(run.output.contains("all end within 10s"), "\(run.output)")
        let file = String(decoding: try sandbox.bytes("p"), as: UTF8.self)
        #expect(file.hasPrefix("{\"format\": \"logdisk spread plan\", \"version\": 1"))
        #expect(file.contains("\"path\": \"sub/small name\""))
        #expect(String(decoding: try sandbox.bytes("s.svg"), as: UTF8.self).hasSuffix("</svg>\n"))
        let again = try sandbox.run([
            "spread", "plan", "--sizes-from", "list", "--device", "dir:a", "--output", "p",
        ])
        #expect(again.code == 64 && again.error.contains("it exists"))
    }

    @Test func oneDeviceSpreadsNothing() throws {
        let sandbox = try makeSandbox()
        let run = try sandbox.run(["spread", "plan", "data", "--device", "dir:a"])
        #expect(run.code == 0 && run.error.contains("one device: nothing is spread"))
    }

    @Test func noDeviceIsThere() throws {
        let run = try makeSandbox().run(["spread", "plan", "data", "--device", "dir:none"])
        #expect(run.code == 14)
        #expect(run.errorLines.first?.contains("dir:none is not available") ?? false)
        #expect(run.errorLines.dropFirst().first?.contains("no device is available") ?? false)
        #expect(run.errorLines.last?.hasPrefix("hint: ") ?? false, "\(run.error)")
    }

    @Test func aFolderStaysTogether() throws {
        let sandbox = try makeSandbox()
        let run = try sandbox.run([
            "spread", "plan", "data", "--keep-together", "data/sub", "--device", "dir:a",
            "--device", "dir:b", "--json",
        ])
        #expect(run.code == 0, "\(run.error)")
        let plan = try JSONDecoder().decode(PlanJSON.self, from: Data(run.output.utf8))
        let kept = plan.items.filter { $0.rule == "together" }
        #expect(kept.map(\.path).sorted() == ["sub/empty", "sub/small"])
        #expect(Set(kept.map(\.device)).count == 1)
    }

    @Test func badInput() throws {
        let sandbox = try makeSandbox()
        try write("12 a\nmany b\n", "bad", sandbox)
        let table = [
            BadInput("spread plan data", 64, "no device is given"),
            BadInput("spread threshold data", 64, "no device is given"),
            BadInput("spread plan --device dir:a", 64, "no source is given"),
            BadInput("spread plan data --device ftp:a", 64, "unknown driver 'ftp'"),
            BadInput("spread plan data --device a", 64, "no driver"),
            BadInput("spread plan data --device dir:a?colour=red", 64, "unknown option 'colour'"),
            BadInput("spread plan data --device dir:a?capacity=x", 64, "capacity=x: not a number"),
            BadInput("spread plan data --device dir:a --device dir:a", 64, "given twice"),
            BadInput("spread plan data --device dir:a --device dir:c", 64, "given twice"),
            BadInput("spread plan data --device dir:a --device dir:./a/", 64, "given twice"),
            BadInput("spread plan data data --device dir:a", 64, "same source is given twice"),
            BadInput("spread plan none --device dir:a", 1, "none", "cannot be read"),
            BadInput("spread plan data --device dir:list", 64, "names a folder"),
            BadInput("spread plan data --device dir:data/backup", 64, "lies in the source"),
            BadInput("spread plan data/sub --device dir:data", 64, "lies on the device"),
            BadInput(
                "spread plan data --device dir:a?capacity=100", 1, "160 bytes are needed",
                "take 100", "60 too few"),
            BadInput("spread plan data --device dir:a --copies 2", 64, "2 copies need 2 devices"),
            BadInput("spread plan data --device dir:a --copies 0", 64, "copies"),
            BadInput("spread plan data --device dir:a --mode best", 64, "best"),
            BadInput("spread plan data --device dir:a --split-over lots", 64, "lots"),
            BadInput("spread plan data --device dir:a --split-over 0", 64, "must be above 0"),
            BadInput(
                "spread plan data --device dir:a --mode split-first --item-cost 1", 64,
                "item-cost needs the mode balanced"),
            BadInput(
                "spread plan data --device dir:a?weight=2 --mode small-first", 64, "weight="),
            BadInput("spread plan data --device dir:a --keep-together a", 64, "outside all"),
            BadInput("spread plan data --device dir:a --keep-together data/x", 64, "no file"),
            BadInput("spread plan --sizes-from bad --device dir:a", 64, "line 2"),
            BadInput("spread plan --sizes-from none --device dir:a", 1, "cannot be read"),
            BadInput("spread plan data --sizes-from list --device dir:a", 64, "together"),
        ]
        for row in table { check(row, try sandbox.run(row.arguments)) }
        #expect(
            sandbox.names.sorted() == ["a", "b", "bad", "c", "data", "list"])
    }
}
