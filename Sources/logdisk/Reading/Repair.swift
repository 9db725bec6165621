// What `verify --repair` does, in this order, each step safe to be the last one:
//
//   1. WAL files of another volume and segments of which nothing is usable are renamed
//   2. an image that is not what the log says is brought to the last valid record; what was there
//      is kept in a file (ImageCheck)
//   3. a damaged log is cut to its valid prefix: a new epoch begins there
//
// Step 2 before 3, because records that are cut off may have reached the image already, and the
// image must never hold what the log does not explain. Nothing is invented and nothing thrown away.

import BlockModel
import CommandText
import DiskIO
import History
import LogFormat
import Logging
import ProtectedVolume
import WriteLog

struct Repair {
    private let location: VolumeLocation
    private let isSilent: Bool
    private let storage = DiskStorage()

    init(_ location: VolumeLocation, isSilent: Bool) {
        self.location = location
        self.isSilent = isSilent
    }

    func run(_ findings: inout Findings) throws(CommandFailure) {
        let superblock = try location.superblock()
        if let holder = try location.holder() {
            throw CommandFailure(
                VolumeError.inUse(location.path, holder: holder), object: location.object)
        }
        let logs = VolumeFolder.logDirectory(location.path, superblock)
        try setForeignFilesAside(logs + "/wal", superblock, &findings)
        try setSegmentsAside(logs + "/segments", superblock, &findings)
        let history = try VolumeHistory(location)
        guard let contents = history.tail?.contents else {
            throw history.missingNewest
                ?? CommandFailure(.damaged, location.object, "the log cannot be read")
        }
        let isCut = contents.end == .damaged
        let check = ImageCheck(history, superblock, isSilent: isSilent)
        do throws(CommandFailure) {
            if isCut { try checkSegmentsEndFirst(history, contents) }
            var differs = isCut
            if !differs { differs = try !check.run().isEmpty }
            if differs, let done = try check.repair() { findings.repaired.append(done) }
        } catch {
            // Without the image nothing can be cut; otherwise `verify` tells about it.
            if isCut || error.status == .interrupted { throw error }
        }
        if isCut { try cutLog(contents, &findings) }
    }

    /// Records in segments that the log has lost cannot be joined to it again.
    private func checkSegmentsEndFirst(
        _ history: VolumeHistory, _ contents: LogContents
    ) throws(CommandFailure) {
        guard let last = history.catalogue.last, last.lsn > contents.last.lsn else { return }
        let object = location.object
        throw CommandFailure(
            .damaged, object, "the log ends before the segments do",
            cause: "lsn \(contents.last.lsn) and \(last.lsn)",
            hint: "restore to a new image: logdisk replay \(object) --at now --output FILE")
    }

    /// WAL files of another volume.
    private func setForeignFilesAside(
        _ directory: String, _ superblock: Superblock, _ findings: inout Findings
    ) throws(CommandFailure) {
        let found = try translating(location.object) {
            try findWALFiles(
                in: directory, on: storage,
                window: AlignedBuffer(count: WALFileCursor.windowBytes))
        }
        for file in found {
            let kind = FileCase.decide(
                header: file.header, sequence: file.sequence, volume: superblock.volume)
            guard kind == .foreign else { continue }
            try translating(location.object) {
                try storage.rename(file.path, to: file.path + ".foreign")
                try storage.syncDirectory(directory)
            }
            findings.repaired.append("moved \(file.path) of another volume to \(file.path).foreign")
        }
    }

    /// Segments of which nothing is usable. Those with some damaged records stay: the others in
    /// them can still be restored.
    private func setSegmentsAside(
        _ directory: String, _ superblock: Superblock, _ findings: inout Findings
    ) throws(CommandFailure) {
        let store = DirectoryStore(storage: storage, directory: directory)
        let progress = MonitoredProgress("segments", totalBytes: 0, isSilent: isSilent)
        defer { progress.finish() }
        try translating(location.object) {
            let catalogue = try HistoryCatalogue(store: store, volume: superblock.volume)
            let report = try HistoryVerifier(catalogue).run(monitor: progress.monitor)
            for verdict in report.segments {
                guard let reason = verdict.unusable else { continue }
                let name = try store.setAside(verdict.name)
                findings.repaired.append("moved a segment aside to \(name): \(reason)")
            }
        }
    }

    /// Opens the volume at the end of the valid prefix; what lies behind does not count any more.
    private func cutLog(
        _ contents: LogContents, _ findings: inout Findings
    ) throws(CommandFailure) {
        var options = ProtectedVolume.Options()
        options.acceptsLoss = true
        var log = Logger(label: "logdisk")
        log.logLevel = .critical
        let service = try VolumeService(location, purpose: "verify --repair", options, log: log)
        try service.close()
        findings.repaired.append(
            "the log ends at lsn \(contents.last.lsn) of \(contents.last.time) now"
                + (contents.claimed.map { "; records up to \($0) had been acknowledged" } ?? ""))
    }
}
