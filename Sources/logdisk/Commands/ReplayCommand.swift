// logdisk replay: writes the volume as it was at a point. Whole and under its name, or not at all.

import ArgumentParser
import BlockModel
import CommandText
import DiskIO
import Foundation
import History

struct ReplayCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "replay",
        abstract: "Write the volume as it was at some point to a file or disk.",
        discussion: """
            Works on a mounted volume, too; that goes on unharmed. And on one at a log server, of \
            which it reads only what it needs. The point:

              now                      the last durable write
              -15m, -1h30m, -2d        so long ago
              2026-11-21T10:05:03Z     a time, with zone or local ('2026-11-21 10:05')
              lsn:1234                 a record of the log
              mark:before-upgrade      a name given with logdisk mark

            A time means everything written until then, so the result is a state that a power cut \
            at that moment could have left. --barrier goes back to the last flush before it.

              logdisk replay /srv/vol --at -15m --output old.img
              losetup --find --show --read-only old.img
              logdisk replay https://backup:7340/vol --at now --output new.img --token-file t
            """)

    @Argument(help: .readable)
    var volume: String

    @Option(
        parsing: .unconditional, help: ArgumentHelp("The point to go back to.", valueName: "TARGET")
    )
    var at: String

    @Option(name: .shortAndLong, help: ArgumentHelp("File or block device.", valueName: "FILE"))
    var output: String

    @Flag(help: "Go back to the last flush at or before the point.")
    var barrier = false

    @Flag(help: "Replace an existing file; overwrite a device that is not empty.")
    var force = false

    @Option(
        help: ArgumentHelp(
            "Stand on this snapshot, by its lsn, instead of the nearest one.", valueName: "LSN"))
    var snapshot: String?

    @OptionGroup var remote: RemoteOptions

    @OptionGroup var options: OutputOptions

    func run() throws {
        Interruption.begin()
        let target = try VolumeHistory.target(at, "--at")
        let pinned = try snapshot.map { text throws(CommandFailure) in try Self.snapshotLSN(text) }
        let location = try VolumeLocation.toRead(volume, remote)
        let sink = try ReplayOutput(
            output, force: force, isNow: target == .now && !barrier, location)
        let lease = HistoryLease.take(location, purpose: "replay")
        defer { lease?.release() }
        let history = try VolumeHistory(location)
        let point = try history.resolve(target, barrier: barrier)
        if !options.json { Terminal.error(words(point)) }
        let start = ContinuousClock.now
        let (view, result) = try write(history, point, pinned, to: sink)
        let seconds = start.seconds(to: .now)
        if options.json {
            try Terminal.json(
                ReplayJSON(
                    target: at, point, output: sink.path, snapshot: "\(view.snapshot)",
                    writtenBytes: result.writtenBytes, seconds: seconds))
        } else {
            let size = ByteSize(bytes: result.writtenBytes)
            let time = DurationText(seconds: Int64(seconds.rounded(.up)))
            Terminal.out(
                "\(output): the volume as it was at \(point.stamp.words); "
                    + "\(size) of data in \(time)"
            )
        }
    }

    private func write(
        _ history: VolumeHistory, _ point: ResolvedPoint, _ pinned: LSN?, to sink: ReplayOutput
    ) throws(CommandFailure) -> (PointInTimeView, ReplayResult) {
        let progress = MonitoredProgress("replay", totalBytes: 0, isSilent: options.json)
        defer { progress.finish() }
        return try translating(volume) {
            let view = try PointInTimeView(
                history.catalogue, at: point.stamp.lsn, snapshot: pinned)
            try sink.check(volumeBytes: view.byteCount)
            let replay = Replay(view)
            let storage = DiskStorage()
            let result =
                sink.isDevice
                ? try replay.write(toDevice: sink.path, in: storage, monitor: progress.monitor)
                : try replay.write(
                    toFile: sink.path, in: storage, replacing: force, monitor: progress.monitor)
            return (view, result)
        }
    }

    /// `1234`, `lsn:1234` or the name of a snapshot segment.
    private static func snapshotLSN(_ text: String) throws(CommandFailure) -> LSN {
        if let name = SegmentName(text), name.kind == .snapshot { return name.first }
        let digits = text.hasPrefix("lsn:") ? text.dropFirst(4) : text[...]
        guard let value = UInt64(digits) else {
            throw CommandFailure(
                .usage, "", "--snapshot \(text) names no snapshot",
                hint: "give its lsn, as listed by logdisk points")
        }
        return LSN(value)
    }

    // MARK: - what is said

    private func words(_ point: ResolvedPoint) -> String {
        var lines = ["\(at) is \(point.stamp.words)"]
        func add(_ title: String, _ before: String?, _ after: String?) {
            let both = [before.map { "at or before: \($0)" }, after.map { "after: \($0)" }]
            let known = both.compactMap { $0 }
            if !known.isEmpty { lines.append("\(title) " + known.joined(separator: ", ")) }
        }
        add("nearest flush", point.flushBefore?.words, point.flushAfter?.words)
        add(
            "nearest mark", point.markBefore.map { "mark:\($0.name) \($0.stamp.words)" },
            point.markAfter.map { "mark:\($0.name) \($0.stamp.words)" })
        return lines.joined(separator: "\n")
    }

    private struct ReplayJSON: Encodable {
        var target: String
        var lsn: UInt64
        var time: String
        var flushBefore: StampJSON?
        var flushAfter: StampJSON?
        var markBefore: MarkJSON?
        var markAfter: MarkJSON?
        var output: String
        var snapshot: String
        var writtenBytes: UInt64
        var seconds: Double

        init(
            target: String, _ point: ResolvedPoint, output: String, snapshot: String,
            writtenBytes: UInt64, seconds: Double
        ) {
            self.target = target
            lsn = point.stamp.lsn.rawValue
            time = point.stamp.time
            flushBefore = point.flushBefore.map { StampJSON($0) }
            flushAfter = point.flushAfter.map { StampJSON($0) }
            markBefore = point.markBefore.map { MarkJSON($0) }
            markAfter = point.markAfter.map { MarkJSON($0) }
            self.output = output
            self.snapshot = snapshot
            self.writtenBytes = writtenBytes
            self.seconds = seconds
        }

        enum CodingKeys: String, CodingKey {
            case target, lsn, time, output, snapshot, seconds
            case flushBefore = "flush_before"
            case flushAfter = "flush_after"
            case markBefore = "mark_before"
            case markAfter = "mark_after"
            case writtenBytes = "written_bytes"
        }
    }
}
