// Against fpart, which divides file trees without cutting files: the fullest device of `balanced`
// never takes more on the same list, and far less where a file is larger than a share.

import Foundation
import Spread
import Testing

private let fpartPath: String? = ["/usr/bin/fpart", "/usr/local/bin/fpart"].first {
    FileManager.default.isExecutableFile(atPath: $0)
}

@Suite(.enabled(if: fpartPath != nil, "fpart is not installed (Debian package fpart)"))
struct FpartTests {
    private static func makespan(_ sizes: [UInt64], _ devices: Int) throws -> UInt64 {
        let program = try #require(fpartPath)
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent(
            "logdisk-fpart-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let list = folder.appendingPathComponent("list")
        let lines = sizes.enumerated().map { "\($1) f\($0)\n" }.joined()
        try Data(lines.utf8).write(to: list)
        let process = Process()
        process.executableURL = URL(fileURLWithPath: program)
        process.arguments = ["-n", "\(devices)", "-a", "-i", list.path]
        let output = Pipe()
        process.standardOutput = output
        process.standardError = FileHandle.nullDevice
        try process.run()
        let data = output.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        try #require(process.terminationStatus == 0)
        var fill: [Substring: UInt64] = [:]
        var count = 0
        for line in String(decoding: data, as: UTF8.self).split(separator: "\n") {
            let columns = line.split(separator: "\t")
            fill[columns[0], default: 0] += try #require(UInt64(columns[1]))
            count += 1
        }
        try #require(count == sizes.count)
        return fill.values.max() ?? 0
    }

    private func planned(_ sizes: [UInt64], _ devices: Int) throws -> UInt64 {
        try SpreadPlanner.plan(
            PlanModel.sources(sizes), over: PlanModel.devices(devices),
            PlanModel.options(.balanced)
        ).makespan
    }

    @Test func neverAbove() throws {
        for seed: UInt64 in 0..<140 {
            let sizes = PlanModel.sizes(seed, most: 60)
            if sizes.isEmpty { continue }
            let devices = Int(seed % 6) + 2
            #expect(
                try planned(sizes, devices) <= Self.makespan(sizes, devices), "seed \(seed)")
        }
    }

    /// A disk image of 400 GiB, two databases of 60 GiB, and 500 files of 20 MiB on four devices.
    @Test func largeFiles() throws {
        let gibibyte = UInt64(1) << 30
        let sizes =
            [400 * gibibyte, 60 * gibibyte, 60 * gibibyte]
            + Array(repeating: 20 << 20, count: 500)
        let ours = try planned(sizes, 4)
        let theirs = try Self.makespan(sizes, 4)
        #expect(ours * 10 <= theirs * 7, "\(ours) and \(theirs)")
    }
}
