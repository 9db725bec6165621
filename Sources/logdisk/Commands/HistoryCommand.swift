// logdisk history: what was written over time, and where it was overwritten most.

import ArgumentParser
import BlockModel
import CommandText
import Foundation
import History

struct HistoryCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "history",
        abstract: "Show what was written over time, and where most.",
        discussion: """
            Counts writes, bytes, overwrites and flushes of the volume's history, in spans of time \
            that fit the range. An overwrite is a write to what was written before in the range. \
            Of history that was thinned only what is left is counted.

              logdisk history /srv/vol
              logdisk history /srv/vol --from -2h --to -1h --svg hour.svg
            """)

    @Argument(help: .readable)
    var volume: String

    @Option(
        parsing: .unconditional,
        help: ArgumentHelp("Only from this time, record or mark on.", valueName: "TARGET"))
    var from: String?

    @Option(
        parsing: .unconditional,
        help: ArgumentHelp("Only up to this time, record or mark.", valueName: "TARGET"))
    var to: String?

    @Option(help: ArgumentHelp("Write a picture.", valueName: "FILE"))
    var svg: String?

    @Flag(help: "Replace an existing picture.")
    var force = false

    @OptionGroup var remote: RemoteOptions

    @OptionGroup var output: OutputOptions

    private static let bucketsMax = 48
    private static let regionsShown = 10

    func run() throws {
        Interruption.begin()
        let location = try VolumeLocation.toRead(volume, remote)
        let lease = HistoryLease.take(location, purpose: "history")
        defer { lease?.release() }
        let first = try from.map { text throws(CommandFailure) in
            try VolumeHistory.target(text, "--from")
        }
        let last = try to.map { text throws(CommandFailure) in
            try VolumeHistory.target(text, "--to")
        }
        let picture = try svg.map { name throws(CommandFailure) in
            try SideFile(name, force: force, location)
        }
        let history = try VolumeHistory(location)
        let start = try first.map { target throws(CommandFailure) in try time(target, history) }
        let end = try last.map { target throws(CommandFailure) in try time(target, history) }
        if let start, let end, start > end {
            throw CommandFailure(
                .usage, volume, "--from lies after --to", hint: "exchange the two")
        }
        if let missing = history.missingNewest {
            Terminal.warn("the newest records are not counted: " + missing.sentence)
        }
        let (found, isThinned) = try count(history, start ?? .min, end ?? .max)
        if let picture { try picture.write(svgText(found)) }
        if output.json {
            try Terminal.json(HistoryJSON(found, isThinned: isThinned, picture: picture?.path))
        } else {
            Terminal.out(text(found, isThinned: isThinned))
        }
    }

    private func time(_ target: Target, _ history: VolumeHistory) throws(CommandFailure) -> Int64 {
        switch target {
        case .now: VolumeHistory.clock()
        case .time(let wall): wall
        case .ago(let nanoseconds): VolumeHistory.clock() - nanoseconds
        case .lsn, .mark: try history.resolve(target, barrier: false).stamp.wallNanoseconds
        }
    }

    private func count(
        _ history: VolumeHistory, _ start: Int64, _ end: Int64
    ) throws(CommandFailure) -> (WriteStatistics, Bool) {
        try translating(volume) {
            let catalogue = history.catalogue
            let times =
                catalogue.recordTimes(from: start, to: end)
                ?? (catalogue.ranges.first?.first.wallNanoseconds).map { $0...$0 }
            guard let times else { throw HistoryError.notRestorable(nothing) }
            var found = WriteStatistics(
                volumeBytes: catalogue.volumeBytes,
                scale: TimeScale(
                    first: times.lowerBound, last: times.upperBound,
                    bucketsMax: Self.bucketsMax))
            let isThinned = try catalogue.forEachRecord(
                from: start, to: end, isCancelled: { Interruption.isRequested }
            ) { found.add($0) }
            return (found, isThinned)
        }
    }

    private var nothing: NotRestorable { NotRestorable(target: .now, reason: .nothing) }

    // MARK: - what is said

    private func text(_ found: WriteStatistics, isThinned: Bool) -> String {
        let total = found.total
        var text = facts(found) + "\n"
        if isThinned { text += "part of it is thinned: superseded writes are not counted\n" }
        if total == WriteCounts() { return text }
        let width = ActivityPicture.widthText(found.scale.widthNanoseconds)
        let bars = BarText.spark(found.buckets.map(\.writtenBytes))
        text += "\nbytes over time, \(width) each: |\(bars)|\n\n"
        let most = found.buckets.map(\.writtenBytes).max() ?? 0
        var table = TextTable(
            [.left, .right, .right, .right, .right, .left],
            header: ["from", "writes", "written", "overwritten", "flushes", ""])
        for (i, bucket) in found.buckets.enumerated() where bucket != WriteCounts() {
            table.add([
                TimeText.rfc3339(found.scale.start(of: i)), "\(bucket.writes)",
                "\(ByteSize(bytes: bucket.writtenBytes))",
                "\(ByteSize(bytes: bucket.overwrittenBytes))", "\(bucket.flushes)",
                BarText.bar(bucket.writtenBytes, of: most, width: 20),
            ])
        }
        return text + table.text + hottest(found)
    }

    private func facts(_ found: WriteStatistics) -> String {
        let total = found.total
        return "\(total.writes) writes, \(ByteSize(bytes: total.writtenBytes)); "
            + "\(total.overwrites) overwrote \(ByteSize(bytes: total.overwrittenBytes)); "
            + "\(total.discards) discards, \(total.flushes) flushes, \(total.marks) marks"
    }

    private func regions(_ found: WriteStatistics) -> [HotRegion] {
        found.hottest(Self.regionsShown).filter { $0.overwrites > 0 }
    }

    private func hottest(_ found: WriteStatistics) -> String {
        let regions = regions(found)
        if regions.isEmpty { return "\nnothing was overwritten\n" }
        let about = found.isApproximate ? ", as far as memory allowed to count" : ""
        var table = TextTable(
            [.right, .right, .right, .right, .left],
            header: ["offset", "overwrites", "of writes", "overwritten", ""])
        for region in regions {
            table.add([
                "\(region.offset)", "\(region.overwrites)", "\(region.writes)",
                "\(ByteSize(bytes: region.overwrittenBytes))",
                "\(ByteSize(bytes: region.byteCount)) at \(ByteSize(bytes: region.offset))",
            ])
        }
        return "\nhottest regions\(about):\n" + table.text
    }

    private func svgText(_ found: WriteStatistics) -> String {
        let bars = found.buckets.enumerated().map { i, bucket in
            ActivityPicture.Bar(
                startWallNanoseconds: found.scale.start(of: i), writtenBytes: bucket.writtenBytes,
                overwrittenBytes: bucket.overwrittenBytes, writes: bucket.writes,
                flushes: bucket.flushes)
        }
        let regions = regions(found).map {
            ActivityPicture.Region(
                label: "\(ByteSize(bytes: $0.byteCount)) at \(ByteSize(bytes: $0.offset))",
                overwrites: $0.overwrites)
        }
        return ActivityPicture(
            title: "What was written to \(volume)", subtitle: facts(found),
            widthNanoseconds: found.scale.widthNanoseconds, bars: bars, regions: regions
        ).svg
    }

    // MARK: - JSON

    private struct CountsJSON: Encodable {
        var from: String?
        var writes: UInt64
        var writtenBytes: UInt64
        var overwrites: UInt64
        var overwrittenBytes: UInt64
        var discards: UInt64
        var discardedBytes: UInt64
        var flushes: UInt64
        var marks: UInt64

        init(_ counts: WriteCounts, from: Int64? = nil) {
            self.from = from.map { TimeText.rfc3339($0) }
            writes = counts.writes
            writtenBytes = counts.writtenBytes
            overwrites = counts.overwrites
            overwrittenBytes = counts.overwrittenBytes
            discards = counts.discards
            discardedBytes = counts.discardedBytes
            flushes = counts.flushes
            marks = counts.marks
        }

        enum CodingKeys: String, CodingKey {
            case from, writes, overwrites, discards, flushes, marks
            case writtenBytes = "written_bytes"
            case overwrittenBytes = "overwritten_bytes"
            case discardedBytes = "discarded_bytes"
        }
    }

    private struct RegionJSON: Encodable {
        var offset: UInt64
        var length: UInt64
        var writes: UInt64
        var writtenBytes: UInt64
        var overwrites: UInt64
        var overwrittenBytes: UInt64

        enum CodingKeys: String, CodingKey {
            case offset, length, writes, overwrites
            case writtenBytes = "written_bytes"
            case overwrittenBytes = "overwritten_bytes"
        }
    }

    private struct HistoryJSON: Encodable {
        var total: CountsJSON
        var bucketNanoseconds: Int64
        /// Those in which something happened.
        var buckets: [CountsJSON]
        var hottest: [RegionJSON]
        var isApproximate: Bool
        var isThinned: Bool
        var picture: String?

        init(_ found: WriteStatistics, isThinned: Bool, picture: String?) {
            total = CountsJSON(found.total)
            bucketNanoseconds = found.scale.widthNanoseconds
            buckets = found.buckets.enumerated().filter { $0.element != WriteCounts() }.map {
                CountsJSON($0.element, from: found.scale.start(of: $0.offset))
            }
            hottest = found.hottest(HistoryCommand.regionsShown).map {
                RegionJSON(
                    offset: $0.offset, length: $0.byteCount, writes: $0.writes,
                    writtenBytes: $0.writtenBytes, overwrites: $0.overwrites,
                    overwrittenBytes: $0.overwrittenBytes)
            }
            isApproximate = found.isApproximate
            self.isThinned = isThinned
            self.picture = picture
        }

        enum CodingKeys: String, CodingKey {
            case total, buckets, hottest, picture
            case bucketNanoseconds = "bucket_nanoseconds"
            case isApproximate = "hottest_is_approximate"
            case isThinned = "is_thinned"
        }
    }
}
