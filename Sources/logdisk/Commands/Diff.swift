// logdisk diff: what differs between two points of a volume; as text, JSON, a picture, or a patch
// that `logdisk patch` puts on an image.

import ArgumentParser
import BlockModel
import CommandText
import DiskIO
import Foundation
import History
import LogFormat

struct Diff: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "diff",
        abstract: "Show what differs between two points.",
        discussion: """
            Compares the bytes of two points where anything was written between them, down to \
            512-byte sectors. What was written again with the same content is no difference.

              logdisk diff /srv/vol --from mark:before-upgrade --to now
              logdisk diff /srv/vol --from -1h --to now --output hour.patch
              logdisk patch hour.patch old.img

            Points are given as for logdisk replay.
            """)

    @Argument(help: .readable)
    var volume: String

    @Option(
        parsing: .unconditional, help: ArgumentHelp("The earlier point.", valueName: "TARGET"))
    var from: String

    @Option(parsing: .unconditional, help: ArgumentHelp("The later point.", valueName: "TARGET"))
    var to = "now"

    @Option(
        name: .shortAndLong,
        help: ArgumentHelp(
            "Write a patch that makes of an image at the earlier point the later one.",
            valueName: "PATCH"))
    var output: String?

    @Option(help: ArgumentHelp("Write a picture of where it differs.", valueName: "FILE"))
    var svg: String?

    @Flag(help: "List every extent, not just the first.")
    var all = false

    @Flag(help: "Replace existing files.")
    var force = false

    @OptionGroup var remote: RemoteOptions

    @OptionGroup var options: OutputOptions

    private static let extentsShown = 50

    func run() throws {
        Interruption.begin()
        let (older, newer) = (
            try VolumeHistory.target(from, "--from"), try VolumeHistory.target(to, "--to")
        )
        let location = try VolumeLocation.toRead(volume, remote)
        let lease = HistoryLease.take(location, purpose: "diff")
        defer { lease?.release() }
        let patch = try output.map { name throws(CommandFailure) in
            try SideFile(name, force: force, location)
        }
        let picture = try svg.map { name throws(CommandFailure) in
            try SideFile(name, force: force, location)
        }
        let history = try VolumeHistory(location)
        let old = try history.resolve(older, barrier: false).stamp
        let new = try history.resolve(newer, barrier: false).stamp
        guard old.lsn <= new.lsn else {
            throw CommandFailure(
                .usage, volume, "--from \(from) is later than --to \(to)",
                cause: "lsn:\(old.lsn) and lsn:\(new.lsn)",
                hint: "logdisk diff \(volume) --from \(to) --to \(from)")
        }
        let found = try compare(history, old, new, patch)
        if let picture { try picture.write(svgText(found)) }
        if options.json {
            try Terminal.json(DiffJSON(found, patch: patch?.path, picture: picture?.path))
        } else {
            Terminal.out(text(found))
        }
    }

    /// What was found.
    fileprivate struct Found {
        var old: Stamp
        var new: Stamp
        var list: ExtentList
        var comparedBytes: UInt64
        var isByRecords: Bool
        var volumeBytes: UInt64
        /// Size of the patch file.
        var patchBytes: UInt64?
    }

    private func compare(
        _ history: VolumeHistory, _ old: Stamp, _ new: Stamp, _ patch: SideFile?
    ) throws(CommandFailure) -> Found {
        let progress = MonitoredProgress("compare", totalBytes: 0, isSilent: options.json)
        defer { progress.finish() }
        return try translating(volume) {
            let comparison = try ViewComparison(history.catalogue, from: old, to: new)
            let bytes = comparison.new.byteCount
            var writer: PatchWriter?
            if let patch {
                let header = PatchHeader(
                    volume: history.catalogue.volume ?? VolumeID(high: 0, low: 0),
                    volumeBytes: bytes, old: old, new: new)
                writer = try PatchWriter(
                    patch.path, of: header, in: DiskStorage(), replacing: force)
            }
            var list = ExtentList()
            try comparison.run(monitor: progress.monitor) { piece throws(HistoryError) in
                list.add(piece.extent)
                try writer?.append(piece)
            }
            return Found(
                old: old, new: new, list: list, comparedBytes: comparison.candidateBytes,
                isByRecords: comparison.isByRecords, volumeBytes: bytes,
                patchBytes: try writer?.commit())
        }
    }

    // MARK: - what is said

    private func text(_ found: Found) -> String {
        var text = "\(found.old.words) to \(found.new.words)\n"
        let extents = found.list.extents
        let shown = all ? extents[...] : extents.prefix(Self.extentsShown)
        if !shown.isEmpty {
            var table = TextTable([.right, .right, .left], header: ["offset", "length", ""])
            for extent in shown {
                table.add([
                    "\(extent.byteOffset)", "\(extent.byteCount)",
                    "\(ByteSize(bytes: extent.byteCount)) at \(ByteSize(bytes: extent.byteOffset))",
                ])
            }
            text += table.text
        }
        if shown.count < extents.count {
            text += "and \(extents.count - shown.count) more (--all lists them)\n"
        }
        text += sum(found) + "\n"
        if let output, let bytes = found.patchBytes {
            text += "\(output): a patch of \(ByteSize(bytes: bytes))\n"
        }
        if let svg { text += "\(svg): a picture\n" }
        return text
    }

    private func sum(_ found: Found) -> String {
        let size = ByteSize(bytes: found.volumeBytes)
        let why =
            found.isByRecords
            ? "\(ByteSize(bytes: found.comparedBytes)) were written to between the points"
            : "records between the points are missing, so all was compared"
        let count = found.list.extents.count
        if count == 0 { return "no difference (\(why))" }
        return "\(count) \(count == 1 ? "extent" : "extents"), "
            + "\(ByteSize(bytes: found.list.byteCount)) of \(size) changed (\(why))"
    }

    private func svgText(_ found: Found) -> String {
        ChangeMapPicture(
            title: "What changed in \(volume)",
            subtitle: "from \(found.old.words) to \(found.new.words)",
            volumeBytes: found.volumeBytes,
            runs: found.list.extents.map {
                ChangeMapPicture.Run(offset: $0.byteOffset, byteCount: $0.byteCount)
            }
        ).svg
    }

    private struct DiffJSON: Encodable {
        struct Run: Encodable {
            var offset: UInt64
            var length: UInt64
        }
        var from: StampJSON
        var to: StampJSON
        var volumeBytes: UInt64
        var changedBytes: UInt64
        var comparedBytes: UInt64
        var allCompared: Bool
        var extents: [Run]
        var patch: String?
        var patchBytes: UInt64?
        var picture: String?

        init(_ found: Found, patch: String?, picture: String?) {
            from = StampJSON(found.old)
            to = StampJSON(found.new)
            volumeBytes = found.volumeBytes
            changedBytes = found.list.byteCount
            comparedBytes = found.comparedBytes
            allCompared = !found.isByRecords
            extents = found.list.extents.map { Run(offset: $0.byteOffset, length: $0.byteCount) }
            self.patch = patch
            patchBytes = found.patchBytes
            self.picture = picture
        }

        enum CodingKeys: String, CodingKey {
            case from, to, extents, patch, picture
            case volumeBytes = "volume_bytes"
            case changedBytes = "changed_bytes"
            case comparedBytes = "compared_bytes"
            case allCompared = "all_compared"
            case patchBytes = "patch_bytes"
        }
    }
}
