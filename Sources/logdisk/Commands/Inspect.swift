// logdisk inspect: prints one file of a volume in readable form. Damaged files as far as they are
// valid; then the exit code is 13.

import ArgumentParser
import CommandText
import DiskIO
import Foundation
import LogFormat

struct Inspect: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "inspect",
        abstract: "Print a WAL file, a segment or a superblock.",
        discussion: """
            Header, records, index and checksums. Reads only, also while the volume is mounted. \
            docs/format.md explains the fields.

              logdisk inspect /srv/vol/wal/000000000001.wal --limit 20
            """)

    @Argument(help: ArgumentHelp("The file.", valueName: "FILE"))
    var file: String

    @Option(help: ArgumentHelp("Print at most this many records or extents.", valueName: "N"))
    var limit: Int?

    @OptionGroup var output: OutputOptions

    func run() throws {
        if let limit, limit < 0 {
            throw CommandFailure(.usage, file, "--limit \(limit) is negative")
        }
        let opened = try translating(file) {
            try DiskStorage().open(file, OpenOptions(.readOnly))
        }
        defer { opened.close() }
        let report = InspectionReport(limit: limit ?? .max, isJSON: output.json)
        let kind = try translating(file) { try Self.kind(of: opened) }
        switch kind {
        case .superblock: try translating(file) { try SuperblockInspection(file).run(report) }
        case .wal: try translating(file) { try WALInspection(opened).run(report) }
        case .segment: try translating(file) { try SegmentInspection(opened).run(report) }
        case nil:
            throw CommandFailure(
                .damaged, file, "this is no WAL file, segment or superblock",
                cause: "no magic number of theirs is where it should be",
                hint: "logdisk verify VOL looks at all files of a volume")
        }
        if output.json { try report.printJSON() }
        if !report.damages.isEmpty {
            throw CommandFailure(
                .damaged, file, "damaged", cause: report.damages.joined(separator: "; "),
                hint: "logdisk verify VOL says what that costs")
        }
    }

    private enum Kind { case superblock, wal, segment }

    private static let superblockMagic = Array("LDSUPER1".utf8)
    private static let walMagic = Array("LDWAL001".utf8)
    private static let segmentMagics = [Array("LDSEGMNT".utf8), Array("LDSEGEND".utf8)]

    /// By magic numbers: of either copy where there are two, of head or tail of a segment.
    private static func kind(of file: StorageFile) throws(IOError) -> Kind? {
        let size = try file.size()
        let places = [0, 512, 4096, size >= 8 ? size - 8 : 0]
        for place in places {
            let word = AlignedBuffer(count: 8)
            let bytes = UnsafeMutableRawBufferPointer(start: word.base, count: 8)
            try file.readZeroExtended(into: bytes, at: place)
            let found = Array(bytes)
            if found == superblockMagic { return .superblock }
            if found == walMagic { return .wal }
            if segmentMagics.contains(found) { return .segment }
        }
        return nil
    }
}

/// Collects what an inspection says: printed at once as text, or kept for JSON.
final class InspectionReport {
    private let limit: Int
    private let isJSON: Bool
    private(set) var damages: [String] = []
    private var sections: [[String: JSONValue]] = []
    private var items: [[String: JSONValue]] = []
    private var itemCount = 0

    init(limit: Int, isJSON: Bool) {
        self.limit = limit
        self.isJSON = isJSON
    }

    /// A header or the like: names and values, in order.
    func section(_ title: String, _ fields: [(String, JSONValue)]) {
        if isJSON {
            let all = [("part", JSONValue.text(title))] + fields
            return sections.append(Dictionary(all) { first, _ in first })
        }
        var table = TextTable([.left, .left, .left])
        for (name, value) in fields { table.add(["", name, value.text]) }
        Terminal.out("\(title)\n\(table.text)")
    }

    /// A record or extent, in a line.
    func item(_ fields: [(String, JSONValue)]) {
        itemCount += 1
        guard itemCount <= limit else { return }
        if isJSON {
            items.append(Dictionary(fields) { first, _ in first })
        } else {
            print("  " + fields.map { "\($0.0) \($0.1.text)" }.joined(separator: "  "))
        }
    }

    /// After the last item.
    func endItems(_ word: String) {
        guard !isJSON else { return }
        let hidden = itemCount > limit ? ", \(itemCount - limit) not shown" : ""
        Terminal.out("\(itemCount) \(word)\(hidden)")
    }

    func damage(_ text: String) {
        damages.append(text)
        if !isJSON { Terminal.out("DAMAGED: \(text)") }
    }

    private struct Whole: Encodable {
        var parts: [[String: JSONValue]]
        var items: [[String: JSONValue]]
        var itemCount: Int
        var damages: [String]

        enum CodingKeys: String, CodingKey {
            case parts, items, damages
            case itemCount = "item_count"
        }
    }

    func printJSON() throws {
        try Terminal.json(
            Whole(parts: sections, items: items, itemCount: itemCount, damages: damages))
    }
}

/// A number or a text.
enum JSONValue: Encodable {
    case number(UInt64)
    case text(String)

    var text: String {
        switch self {
        case .number(let value): String(value)
        case .text(let value): value
        }
    }

    func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        switch self {
        case .number(let value): try container.encode(value)
        case .text(let value): try container.encode(value)
        }
    }

    /// A checksum, in eight hexadecimal digits.
    static func crc(_ value: UInt32) -> JSONValue {
        let digits = String(value, radix: 16)
        return .text(String(repeating: "0", count: 8 - digits.count) + digits)
    }
}
