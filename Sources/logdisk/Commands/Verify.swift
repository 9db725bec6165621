// logdisk verify: reads everything and says what is damaged and which points that costs. With
// --repair it brings the volume back to its valid prefix, see Reading/Repair.swift.

import ArgumentParser
import BlockModel
import CommandText
import DiskIO
import History
import LogFormat
import ProtectedVolume
import WriteLog

struct Verify: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "verify",
        abstract: "Read everything and say what is damaged.",
        discussion: """
            Checks both superblocks, the log, every segment with the chain of their digests, and \
            the image against the history. Of a mounted volume the image is not compared; at a \
            log server there are only segments. Exit code 13 when something is damaged.

            --repair moves damaged files aside, cuts a damaged log to its valid prefix and brings \
            the image to what the log says; what it replaces it keeps in a file. Acknowledged \
            writes behind the cut are lost; it says which.

              logdisk verify /srv/vol
              logdisk verify /srv/vol --repair
            """)

    @Argument(help: .readable)
    var volume: String

    @Flag(help: "Bring the volume back to its valid prefix.")
    var repair = false

    @OptionGroup var remote: RemoteOptions

    @OptionGroup var output: OutputOptions

    func run() throws {
        Interruption.begin()
        let location = try VolumeLocation.toRead(volume, remote)
        var findings = Findings()
        if repair { try Repair(location, isSilent: output.json).run(&findings) }
        try verify(location, &findings)
        if output.json {
            try Terminal.json(findings)
        } else {
            Terminal.out(findings.text)
        }
        guard findings.isSound else {
            throw CommandFailure(
                .damaged, volume, "damaged", cause: findings.count,
                hint: !location.source.isVolume
                    ? "what is damaged there can be shipped again by who has it"
                    : repair
                        ? "logdisk snapshot \(volume) begins a new history from the image"
                        : "logdisk verify \(volume) --repair moves aside what is damaged")
        }
    }

    private func verify(
        _ location: VolumeLocation, _ findings: inout Findings
    ) throws(CommandFailure) {
        let lease = HistoryLease.take(location, purpose: "verify")
        defer { lease?.release() }
        if location.source.isVolume { try checkSuperblocks(location, &findings) }
        let history: VolumeHistory
        do {
            history = try VolumeHistory(location)
        } catch {
            guard error.status == .damaged else { throw error }
            findings.damages.append(error.sentence)
            return
        }
        if let missing = history.missingNewest {
            findings.damages.append(missing.sentence)
        }
        if let archived = history.archived {
            checkHead(archived, history.catalogue, &findings)
        } else {
            checkLog(history, &findings)
        }
        try checkSegments(history, &findings)
        if !history.isMounted, let superblock = history.superblock {
            try checkImage(history, superblock, &findings)
        }
    }

    // MARK: - parts

    private func checkSuperblocks(
        _ location: VolumeLocation, _ findings: inout Findings
    ) throws(CommandFailure) {
        guard location.isVolume else {
            throw CommandFailure(VolumeError.notAVolume(location.path), object: volume)
        }
        let valid = ((try? SuperblockFile.slots(location.path + "/superblock")) ?? [])
            .compactMap { try? $0.get() }
        let count = valid.count
        findings.checked.append("superblock: \(count) of \(Superblock.slotCount) copies valid")
        // The very first generation has no second copy yet.
        if count == 1, valid[0].generation > 1 {
            findings.damages.append(
                "one copy of the superblock is damaged; the next mount writes it anew")
        }
    }

    private func checkLog(_ history: VolumeHistory, _ findings: inout Findings) {
        guard let contents = history.tail?.contents else {
            findings.checked.append(
                history.isMounted
                    ? "log: in use by the mount, checked as segments"
                    : "log: not checked, see below")
            return
        }
        findings.checked.append(
            "log: \(contents.files.count) files, valid up to lsn \(contents.last.lsn)")
        if contents.end == .damaged {
            let claimed = contents.claimed.map { ", lsn \($0) had been reached" } ?? ""
            findings.damages.append(
                "acknowledged records after lsn \(contents.last.lsn) are lost\(claimed)")
        }
    }

    /// Who keeps the segments says how far they reach: nothing is cut off there.
    private func checkHead(
        _ archived: ArchivedVolume, _ history: HistoryCatalogue, _ findings: inout Findings
    ) {
        let last = history.last?.lsn ?? .zero
        guard let head = archived.head?.lsn else { return }
        findings.checked.append("head: lsn \(head), the segments reach lsn \(last)")
        let reach = max(last, history.unusable.map(\.name.last).max() ?? .zero)
        if reach < head {
            findings.damages.append("the segments from lsn \(reach.next) to \(head) are missing")
        }
    }

    private func checkSegments(
        _ history: VolumeHistory, _ findings: inout Findings
    ) throws(CommandFailure) {
        let progress = MonitoredProgress("segments", totalBytes: 0, isSilent: output.json)
        defer { progress.finish() }
        let report = try translating(volume) {
            try HistoryVerifier(history.catalogue).run(monitor: progress.monitor)
        }
        findings.checked.append(
            "segments: \(report.segments.count), \(ByteSize(bytes: report.readBytes)) read")
        for verdict in report.segments where !verdict.isSound {
            if let reason = verdict.unusable { findings.damages.append("\(reason)") }
            for damage in verdict.damages {
                let records = damage.first.map { ", lsn \($0) to \(damage.last ?? $0)" } ?? ""
                findings.damages.append("segment \(verdict.name): \(damage.error)\(records)")
            }
        }
        let isLogDamaged = history.tail?.contents.end == .damaged
        findings.ranges = report.ranges.map { RangeJSON($0) }
        findings.gaps = report.gaps.map { GapJSON($0) }
        for gap in report.gaps {
            switch gap.reason {
            // The file at fault is listed above; thinning is no damage.
            case .damaged, .unreadable, .foreignVolume, .otherSize, .misnamed, .thinned: break
            case .tail where isLogDamaged: break
            default:
                findings.damages.append("lsn \(gap.first) to \(gap.last): \(gap.reason)")
            }
        }
    }

    private func checkImage(
        _ history: VolumeHistory, _ superblock: Superblock, _ findings: inout Findings
    ) throws(CommandFailure) {
        guard let contents = history.tail?.contents, contents.end != .damaged else {
            return findings.checked.append("image: not compared, the log is damaged")
        }
        let check = ImageCheck(history, superblock, isSilent: output.json)
        do {
            let differences = try check.run()
            findings.checked.append("image: \(ByteSize(bytes: check.comparedBytes)) compared")
            findings.damages += differences
        } catch {
            guard error.status != .interrupted else { throw error }
            findings.damages.append("the image cannot be compared: \(error.sentence)")
        }
    }
}

/// What a verification found.
struct Findings: Encodable {
    var repaired: [String] = []
    var checked: [String] = []
    var damages: [String] = []
    /// What stays restorable.
    var ranges: [RangeJSON] = []
    var gaps: [GapJSON] = []

    var isSound: Bool { damages.isEmpty }
    var count: String { damages.count == 1 ? "1 finding" : "\(damages.count) findings" }

    var text: String {
        var lines = repaired.map { "repaired: \($0)" } + checked + damages.map { "DAMAGED: \($0)" }
        let points = ranges.filter { $0.first.lsn == $0.last.lsn }
        if points.count > 1, let first = points.first, let last = points.last {
            lines.append(
                "restorable: \(points.count) single points, lsn:\(first.first.lsn) "
                    + "(\(first.first.time)) to lsn:\(last.first.lsn) (\(last.first.time))")
        }
        for range in ranges where points.count < 2 || range.first.lsn != range.last.lsn {
            lines.append(
                "restorable: lsn:\(range.first.lsn) (\(range.first.time)) to "
                    + "lsn:\(range.last.lsn) (\(range.last.time))")
        }
        if ranges.isEmpty { lines.append("restorable: nothing") }
        for gap in gaps where !gap.isThinned {
            lines.append("not restorable: lsn:\(gap.firstLSN) to lsn:\(gap.lastLSN): \(gap.reason)")
        }
        if isSound { lines.append("no damage found") }
        return lines.joined(separator: "\n")
    }
}

/// The slots of a superblock file.
enum SuperblockFile {
    static func slots(
        _ path: String
    ) throws(IOError) -> [Result<Superblock, Superblock.DecodeFailure>] {
        let file = try DiskStorage().open(path, OpenOptions(.readOnly))
        defer { file.close() }
        let slot = AlignedBuffer(count: Superblock.slotBytes)
        var result: [Result<Superblock, Superblock.DecodeFailure>] = []
        for number in 0..<Superblock.slotCount {
            try file.readZeroExtended(into: slot.bytes, at: UInt64(number * Superblock.slotBytes))
            result.append(Superblock.decode(UnsafeRawBufferPointer(slot.bytes)))
        }
        return result
    }
}
