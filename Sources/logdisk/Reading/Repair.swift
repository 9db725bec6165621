// What `verify --repair` does: it moves files aside that are not usable at all, and lets the log
// end where its valid prefix ends. It never writes a byte of content.

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
    private let storage = DiskStorage()

    init(_ location: VolumeLocation) { self.location = location }

    func run(_ findings: inout Findings) throws(CommandFailure) {
        if let holder = try location.holder() {
            throw CommandFailure(
                VolumeError.inUse(location.path, holder: holder), object: location.object)
        }
        let superblock = try location.superblock()
        let logs = VolumeFolder.logDirectory(location.path, superblock)
        try setForeignFilesAside(logs + "/wal", superblock, &findings)
        try cutLog(logs + "/wal", superblock, &findings)
        try setSegmentsAside(logs + "/segments", superblock, &findings)
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

    /// Begins a new epoch at the end of the valid prefix; what lies behind does not count any more.
    private func cutLog(
        _ directory: String, _ superblock: Superblock, _ findings: inout Findings
    ) throws(CommandFailure) {
        let volume = superblock.volume
        let contents: LogContents
        do {
            contents = try readLog(
                in: directory, on: storage, volume: volume, checkpoint: superblock.checkpoint
            ) { _ throws(IOError) in }
        } catch {
            throw CommandFailure(RecoveryFailure.volumeError(error), object: location.object)
        }
        guard contents.end == .damaged else { return }
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

    /// Segments of which nothing is usable. Those with some damaged records stay: the others in
    /// them can still be restored.
    private func setSegmentsAside(
        _ directory: String, _ superblock: Superblock, _ findings: inout Findings
    ) throws(CommandFailure) {
        let store = DirectoryStore(storage: storage, directory: directory)
        let object = location.object
        try translating(object) {
            let catalogue = try HistoryCatalogue(store: store, volume: superblock.volume)
            let report = try HistoryVerifier(catalogue).run(
                monitor: WorkMonitor(isCancelled: { Interruption.isRequested }))
            for verdict in report.segments {
                guard let reason = verdict.unusable else { continue }
                let name = try store.setAside(verdict.name)
                findings.repaired.append("moved a segment aside as \(name): \(reason)")
            }
        }
    }
}
