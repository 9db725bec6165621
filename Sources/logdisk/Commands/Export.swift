// logdisk export: history or one point of it in a form that other programs read: a log of the
// kernel's dm-log-writes, a raw image, a qcow2 image.

import ArgumentParser
import BlockModel
import CommandText
import DiskIO
import Foundation
import History

struct Export: ParsableCommand {
    enum Format: String, ExpressibleByArgument, CaseIterable {
        case logWrites = "dm-log-writes"
        case raw, qcow2
    }

    static let configuration = CommandConfiguration(
        commandName: "export",
        abstract: "Write history or one point of it in another format.",
        discussion: """
            dm-log-writes is the log format of the kernel's device-mapper target of that name: \
            every write, flush, discard and mark between two points, for replay-log of xfstests \
            and its like. raw and qcow2 are images of one point.

              logdisk export /srv/vol --format dm-log-writes --output vol.log
              logdisk export /srv/vol --format dm-log-writes --from mark:a --output after-a.log
              logdisk export /srv/vol --format qcow2 --at -15m --output old.qcow2

            Points are given as for logdisk replay.
            """)

    @Argument(help: .readable)
    var volume: String

    @Option(help: "What to write.")
    var format: Format

    @Option(
        parsing: .unconditional,
        help: ArgumentHelp("raw, qcow2: the point.", valueName: "TARGET"))
    var at: String?

    @Option(
        parsing: .unconditional,
        help: ArgumentHelp(
            "dm-log-writes: begin after this point (default: the oldest snapshot).",
            valueName: "TARGET"))
    var from: String?

    @Option(
        parsing: .unconditional,
        help: ArgumentHelp("dm-log-writes: end with this point.", valueName: "TARGET"))
    var to: String?

    @Option(name: .shortAndLong, help: ArgumentHelp("File to write.", valueName: "FILE"))
    var output: String

    @Flag(help: "Replace an existing file.")
    var force = false

    @OptionGroup var remote: RemoteOptions

    @OptionGroup var options: OutputOptions

    func run() throws {
        Interruption.begin()
        try checkOptions()
        if format == .qcow2 { _ = try ImageConverter.find(object: volume) }
        let location = try VolumeLocation.toRead(volume, remote)
        let lease = HistoryLease.take(location, purpose: "export")
        defer { lease?.release() }
        switch format {
        case .logWrites: try exportLog(location)
        case .raw, .qcow2: try exportImage(location)
        }
    }

    private func checkOptions() throws(CommandFailure) {
        func refused(_ what: String, _ hint: String) -> CommandFailure {
            CommandFailure(.usage, volume, what, hint: hint)
        }
        if format == .logWrites {
            if at != nil {
                throw refused(
                    "--at is for raw and qcow2", "a log goes --from one point --to another")
            }
        } else {
            if from != nil || to != nil {
                throw refused("--from and --to are for dm-log-writes", "give one point with --at")
            }
            if at == nil { throw refused("--at is missing", "for example --at now") }
        }
    }

    // MARK: - dm-log-writes

    private func exportLog(_ location: VolumeLocation) throws {
        let start = try from.map { text throws(CommandFailure) in
            try VolumeHistory.target(text, "--from")
        }
        let end = try VolumeHistory.target(to ?? "now", "--to")
        let place = try SideFile(output, force: force, location)
        let history = try VolumeHistory(location)
        let last = try history.resolve(end, barrier: false).stamp
        let first = try start.map { target throws(CommandFailure) in
            try history.resolve(target, barrier: false).stamp
        }
        if let first, first.lsn > last.lsn {
            throw CommandFailure(
                .usage, volume, "--from \(from ?? "") is later than --to \(to ?? "now")",
                cause: "lsn:\(first.lsn) and lsn:\(last.lsn)", hint: "exchange the two")
        }
        let progress = MonitoredProgress("export", totalBytes: 0, isSilent: options.json)
        let (log, totals, isEmptyBase) = try translating(volume) {
            defer { progress.finish() }
            let log = try LogWritesExport(history.catalogue, from: first, to: last)
            let base = try PointInTimeView(history.catalogue, at: log.base.lsn)
            let totals = try log.write(
                toFile: place.path, in: DiskStorage(), replacing: force, monitor: progress.monitor)
            return (log, totals, base.dataBytes == 0)
        }
        if options.json {
            return try Terminal.json(
                LogJSON(log, totals, output: place.path, isEmptyBase: isEmptyBase))
        }
        Terminal.out(
            "\(output): \(totals.entries) entries, from after \(log.base.words) to "
                + "\(log.last.words), \(ByteSize(bytes: totals.fileBytes))")
        if log.isThinned {
            Terminal.warn("part of this history is thinned: superseded writes are not in the log")
        }
        if !isEmptyBase {
            Terminal.error(
                "the log begins on the volume as it was at \(log.base.words)\n"
                    + "hint: logdisk replay \(volume) --at lsn:\(log.base.lsn) --output base.img")
        }
    }

    private struct LogJSON: Encodable {
        var output: String
        var base: StampJSON
        var last: StampJSON
        var baseIsZeros: Bool
        var isThinned: Bool
        var entries: UInt64
        var fileBytes: UInt64

        init(_ log: LogWritesExport, _ totals: LogWritesTotals, output: String, isEmptyBase: Bool) {
            self.output = output
            base = StampJSON(log.base)
            last = StampJSON(log.last)
            baseIsZeros = isEmptyBase
            isThinned = log.isThinned
            entries = totals.entries
            fileBytes = totals.fileBytes
        }

        enum CodingKeys: String, CodingKey {
            case output, base, last, entries
            case baseIsZeros = "base_is_zeros"
            case isThinned = "is_thinned"
            case fileBytes = "file_bytes"
        }
    }

    // MARK: - images

    private func exportImage(_ location: VolumeLocation) throws {
        let target = try VolumeHistory.target(at ?? "now", "--at")
        let sink = try ReplayOutput(output, force: force, location)
        if format == .qcow2, sink.isDevice {
            throw CommandFailure(
                .usage, volume, "\(output) is a block device",
                hint: "qcow2 goes into a file; --format raw writes devices")
        }
        let history = try VolumeHistory(location)
        let point = try history.resolve(target, barrier: false).stamp
        let view = try translating(volume) {
            let view = try PointInTimeView(history.catalogue, at: point.lsn)
            try sink.check(volumeBytes: view.byteCount)
            return view
        }
        switch format {
        case .qcow2: try writeQcow2(view, to: sink.path)
        default: try writeRaw(view, to: sink.path, isDevice: sink.isDevice, replacing: force)
        }
        if options.json {
            return try Terminal.json(
                ImageJSON(
                    output: sink.path, format: format.rawValue, lsn: point.lsn.rawValue,
                    time: point.time, volumeBytes: view.byteCount))
        }
        Terminal.out("\(output): the volume as it was at \(point.words), \(format.rawValue)")
    }

    private func writeRaw(
        _ view: PointInTimeView, to path: String, isDevice: Bool, replacing: Bool
    ) throws(CommandFailure) {
        let progress = MonitoredProgress("export", totalBytes: 0, isSilent: options.json)
        defer { progress.finish() }
        try translating(volume) {
            let replay = Replay(view)
            if isDevice {
                try replay.write(toDevice: path, in: DiskStorage(), monitor: progress.monitor)
            } else {
                try replay.write(
                    toFile: path, in: DiskStorage(), replacing: replacing,
                    monitor: progress.monitor)
            }
        }
    }

    /// qemu-img wants a file that it can seek in: the point is written out sparse beside the
    /// output and goes again.
    private func writeQcow2(_ view: PointInTimeView, to path: String) throws(CommandFailure) {
        let storage = DiskStorage()
        let converter = try ImageConverter.find(object: volume)
        let id = String(UInt64.random(in: .min ... .max), radix: 16)
        let raw = "\(path).unfinished-\(id).raw"
        let made = "\(path).unfinished-\(id).qcow2"
        defer { for name in [raw, made] where storage.exists(name) { try? storage.remove(name) } }
        try writeRaw(view, to: raw, isDevice: false, replacing: false)
        // Made here, so that it is not readable for others.
        try translating(volume) {
            try storage.open(made, OpenOptions(.readWrite, creation: .exclusively)).close()
        }
        try converter.convert(raw, to: made, object: volume)
        try translating(volume) {
            let file = try storage.open(made, OpenOptions(.readWrite))
            defer { file.close() }
            try file.sync()
            try storage.name(made, path, replacing: force)
        }
    }

    private struct ImageJSON: Encodable {
        var output: String
        var format: String
        var lsn: UInt64
        var time: String
        var volumeBytes: UInt64

        enum CodingKeys: String, CodingKey {
            case output, format, lsn, time
            case volumeBytes = "volume_bytes"
        }
    }
}
