// logdisk points: what can be restored, and what cannot, with the reason.

import ArgumentParser
import BlockModel
import CommandText
import History

struct Points: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "points",
        abstract: "List what can be restored.",
        discussion: """
            Every moment in the ranges can be restored, to the single write. Flushes are the \
            moments at which programs and file systems had everything on disk. Gaps are what \
            cannot be restored, with the reason. Where history was thinned single points stay.

              logdisk points /srv/vol
              logdisk points /srv/vol --from -2h --to -1h --flushes
            """)

    @Argument(help: .readable)
    var volume: String

    @Option(
        parsing: .unconditional,
        help: ArgumentHelp("Only from this time on.", valueName: "TIME"))
    var from: String?

    @Option(
        parsing: .unconditional,
        help: ArgumentHelp("Only up to this time.", valueName: "TIME"))
    var to: String?

    @Flag(help: "List every flush, not just the newest.")
    var flushes = false

    @OptionGroup var remote: RemoteOptions

    @OptionGroup var output: OutputOptions

    private static let flushesShown = 10

    func run() throws {
        let from = try from.map { text throws(CommandFailure) in try Self.time(text, "--from") }
        let to = try to.map { text throws(CommandFailure) in try Self.time(text, "--to") }
        if let from, let to, from > to {
            throw CommandFailure(
                .usage, volume, "--from lies after --to", hint: "exchange the two")
        }
        let history = try VolumeHistory(.toRead(volume, remote))
        let report = try translating(volume) { try history.catalogue.points(from: from, to: to) }
        let flushes = try translating(volume) { try readFlushes(history.catalogue, from, to) }
        if let missing = history.missingNewest {
            Terminal.warn(
                "the newest records are not listed: " + missing.sentence)
        }
        if output.json {
            try Terminal.json(PointsJSON(report, flushes))
        } else {
            Terminal.out(text(report, flushes, history))
        }
    }

    private static func time(_ text: String, _ option: String) throws(CommandFailure) -> Int64 {
        switch try VolumeHistory.target(text, option) {
        case .now: return VolumeHistory.clock()
        case .time(let wall): return wall
        case .ago(let nanoseconds): return VolumeHistory.clock() - nanoseconds
        case .lsn, .mark:
            throw CommandFailure(
                .usage, "", "\(option) \(text) is not a time", hint: "for example \(option) -2h")
        }
    }

    private struct Flushes {
        var count: UInt64 = 0
        var listed: [Stamp] = []
    }

    /// Counts the flushes and keeps the newest, or all with --flushes.
    private func readFlushes(
        _ catalogue: HistoryCatalogue, _ from: Int64?, _ to: Int64?
    ) throws(HistoryError) -> Flushes {
        var found = Flushes()
        try catalogue.forEachFlush(from: from, to: to) { stamp in
            found.count += 1
            if !flushes, found.listed.count == 2 * Self.flushesShown {
                found.listed.removeFirst(Self.flushesShown)
            }
            found.listed.append(stamp)
            return true
        }
        if !flushes { found.listed = found.listed.suffix(Self.flushesShown) }
        return found
    }

    // MARK: - text

    private func text(
        _ report: PointsReport, _ flushes: Flushes, _ history: VolumeHistory
    ) -> String {
        var text = ""
        if report.ranges.isEmpty {
            text += "nothing can be restored"
            text += from != nil || to != nil ? " between these times\n" : "\n"
        }
        text += RangesText.text(report.ranges)
        let thinned = report.gaps.filter(\.isThinned)
        if let first = thinned.first, let last = thinned.last {
            text += "thinned: between lsn:\(first.first) and lsn:\(last.last) "
            text += "only the points listed can be restored\n"
        }
        for gap in report.gaps where !gap.isThinned {
            text += "gap: lsn:\(gap.first) to lsn:\(gap.last): \(gap.reason)\n"
        }
        text += section(
            "snapshots", report.snapshots.count,
            report.snapshots.map {
                [$0.stamp.time, "lsn:\($0.stamp.lsn)", "\(ByteSize(bytes: $0.byteCount))"]
            })
        text += section(
            "marks", report.marks.count,
            report.marks.map {
                [$0.stamp.time, "lsn:\($0.stamp.lsn)", "mark:\($0.name)"]
            })
        text += section(
            "flushes", Int(clamping: flushes.count),
            flushes.listed.map {
                [$0.time, "lsn:\($0.lsn)", ""]
            })
        return text
    }

    private func section(_ title: String, _ count: Int, _ rows: [[String]]) -> String {
        if count == 0 { return "" }
        var table = TextTable([.left, .left, .left])
        for row in rows { table.add(row) }
        let some = rows.count < count ? ", the newest \(rows.count) (--flushes lists all)" : ""
        return "\(title): \(count)\(some)\n" + table.lines.map { "  \($0)\n" }.joined()
    }

    private struct PointsJSON: Encodable {
        var ranges: [RangeJSON]
        var gaps: [GapJSON]
        var snapshots: [SnapshotJSON]
        var marks: [MarkJSON]
        var flushCount: UInt64
        var flushes: [StampJSON]

        init(_ report: PointsReport, _ found: Flushes) {
            ranges = report.ranges.map { RangeJSON($0) }
            gaps = report.gaps.map { GapJSON($0) }
            snapshots = report.snapshots.map { SnapshotJSON($0) }
            marks = report.marks.map { MarkJSON($0) }
            flushCount = found.count
            flushes = found.listed.map { StampJSON($0) }
        }

        enum CodingKeys: String, CodingKey {
            case ranges, gaps, snapshots, marks, flushes
            case flushCount = "flush_count"
        }
    }
}
