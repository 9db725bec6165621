// Opening a volume: read the log, bring the image up to it, begin a new epoch. Closing it: the way
// back, so that the next opening finds nothing to do.
//
// Order of steps at opening, each durable before the next:
//   1. sync the WAL files: the last writer may have been killed between a write and its sync
//   2. read the log from the checkpoint on and write its records to the image
//   3. superblock: durable LSN = end of the valid prefix, epoch + 1, not clean
//   4. the first WAL file of the epoch
// A crash between any two of them leads to the same result at the next opening. The checkpoint
// stays where it was, and with it the log from there on, until the keeper has synced the image:
// nobody waits for that (docs/adr/0013).

import BlockModel
import CLinux
import DiskIO
import LogFormat
import Synchronization
import WriteLog

/// What opening found and did.
public struct RecoveryReport: Sendable, Hashable {
    /// The volume had been closed cleanly.
    public var wasClean = true
    public var redoneRecords = 0
    public var redoneBytes: UInt64 = 0
    /// The state that the volume has now.
    public var end = Stamp.zero
    /// Newest LSN in the log that is not archived may begin here; zero when the log is empty.
    public var oldestInLog = LSN.zero
    public var seconds = 0.0
}

extension ProtectedVolume {
    /// Recovers and opens. The folder stays the caller's to close, after `close`.
    public static func open(
        _ folder: VolumeFolder, _ options: Options = Options()
    ) throws(VolumeError) -> ProtectedVolume {
        let start = clinux_monotonic_ns()
        let superblock = folder.superblock
        var report = RecoveryReport()
        report.wasClean = superblock.isClean
        let contents = try recover(folder, superblock, repairing: options.acceptsLoss)
        report.redoneRecords = contents.redoneRecords
        report.redoneBytes = contents.redoneBytes
        report.end = contents.last
        report.oldestInLog = contents.files.first?.first ?? .zero
        let epoch = max(superblock.epoch, contents.highestEpoch) + 1
        let log = try VolumeFolder.translate { () throws(IOError) in
            try folder.updateSuperblocks { superblock in
                superblock.durableLSN = contents.last.lsn
                superblock.epoch = epoch
                superblock.epochFirstLSN = contents.last.lsn.next
                superblock.isClean = false
            }
            let log = try openLog(contents, folder, epoch: epoch, options)
            _ = try? log.files.takeNext()  // without a file the log reports `full` or `behind`
            return log
        }
        report.seconds = Double(clinux_monotonic_ns() - start) / 1e9
        let volume = ProtectedVolume(
            folder: folder, log: log, recovery: report, options: options)
        volume.applier.lsn = contents.last.lsn
        volume.applier.wall = contents.last.wallNanoseconds
        volume.applier.bytesSinceCheckpoint = contents.redoneBytes
        volume.appliedLSNWord.store(contents.last.lsn.rawValue, ordering: .releasing)
        if !options.isManual { volume.startThreads() }
        return volume
    }

    private static func openLog(
        _ contents: LogContents, _ folder: VolumeFolder, epoch: UInt64, _ options: Options
    ) throws(IOError) -> LogWriter {
        let superblock = folder.superblock
        return try LogWriter.open(
            contents, in: folder.walDirectory, on: folder.storage,
            LogOptions(
                volume: superblock.volume, epoch: epoch,
                salt: options.salt ?? UInt32.random(in: .min ... .max),
                walFileBytes: superblock.walFileBytes, walBytesMax: superblock.walBytesMax,
                ringBytes: options.ringBytes ?? superblock.ringBytes), clock: options.clock)
    }

    /// What is read from the log must stay there: the image is going to rest on it.
    private static func syncLog(_ folder: VolumeFolder) throws(IOError) {
        let directory = folder.walDirectory
        for name in try folder.storage.list(directory)
        where WALFileHeader.sequence(fileName: name) != nil {
            let file = try folder.storage.open("\(directory)/\(name)", OpenOptions(.readWrite))
            defer { file.close() }
            try file.sync()
        }
    }

    /// Reads the log and brings the image up to it.
    static func recover(
        _ folder: VolumeFolder, _ superblock: Superblock, repairing: Bool
    ) throws(VolumeError) -> LogContents {
        try VolumeFolder.translate { () throws(IOError) in try syncLog(folder) }
        let image = folder.image
        let volumeSectors = superblock.volumeBytes >> Sector.shift
        let contents: LogContents
        do throws(RecoveryError) {
            contents = try readLog(
                in: folder.walDirectory, on: folder.storage, superblock: superblock
            ) { record throws(IOError) in
                let header = record.header
                guard header.kind.changesSectors, header.extent.end <= volumeSectors else {
                    return
                }
                try put(header, record.payload, header.extent, to: image)
            }
        } catch {
            switch error {
            case .foreignFile(let path): throw .foreignFile(path)
            case .futureVersion(let path, let version): throw .futureVersion(path, version)
            case .io(let error): throw .io(error)
            }
        }
        if contents.end == .damaged, !repairing {
            throw .logDamaged(
                folder.walDirectory, lastGood: contents.last, claimed: contents.claimed)
        }
        return contents
    }

    /// Refuses new requests, makes everything durable, applies and checkpoints it. Afterwards only
    /// reading the log and `close` make sense. Throws when the disk does not take it: nothing
    /// durable is lost then, the next opening goes on from the log. ENOSPC: the log has no room.
    public func quiesce() throws(DeviceError) {
        do throws(LogWriter.Refusal) {
            try log.makeDurable(through: ring.reserved)
        } catch {
            // Without room for the log there is no end to wait for: say so, and go on as before.
            if error == .full { throw .noSpace }
        }
        do throws(DeviceError) {
            try flush()
        } catch {
            // Quiesced before: nothing can have come since.
            guard error == .shuttingDown else { throw error }
        }
        ring.closeOrder()
        try waitDurable(ring.reserved)
        for attempt in 0..<3 {
            if applyEverything(), checkpoint(isClean: false) { return }
            if attempt == 2 { break }
        }
        throw .io
    }

    /// Quiesces, marks the volume as cleanly closed and stops its threads. The folder is closed by
    /// its owner. The threads end in any case.
    public func close() throws(DeviceError) {
        defer {
            ring.closeOrder()
            stopThreads()
            log.files.closeAll()
        }
        try quiesce()
        guard checkpoint(isClean: true) else { throw .io }
        releaseFiles(isEnding: true)
    }

    /// Ends the threads without writing anything more; what a crash would leave. For tests.
    package func abandon() {
        ring.closeOrder()
        stopThreads()
        log.files.closeAll()
    }
}
