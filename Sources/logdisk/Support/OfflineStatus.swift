// The status of a volume that is not mounted: from superblock, log and segments, read only.

import BlockModel
import CommandText
import DiskIO
import Foundation
import History
import LogFormat
import ProtectedVolume
import WriteLog

enum OfflineStatus {
    static func report(_ location: VolumeLocation) throws(CommandFailure) -> StatusReport {
        let storage = DiskStorage()
        let superblock = try location.superblock()
        let logs = VolumeFolder.logDirectory(location.path, superblock)
        var report = StatusReport()
        report.volume = location.path
        report.uuid = superblock.volume.description
        report.sizeBytes = superblock.volumeBytes
        report.epoch = superblock.epoch
        report.ringBytes = superblock.ringBytes
        report.walBytesMax = superblock.walBytesMax
        report.fillPlaces(
            image: VolumeFolder.imagePath(location.path, superblock), log: logs, on: storage)
        if superblock.state == .creating {
            report.health = .failed
            report.problems = ["the creation of this volume did not end"]
            return report
        }
        report.checkpointLSN = superblock.checkpoint.lsn.rawValue
        report.appliedLSN = report.checkpointLSN
        let store = DirectoryStore(storage: storage, directory: logs + "/segments")
        report.fillSegments(store)
        report.lastDrill = DrillLog(volume: location.path).last
        let records = ((try? store.list()) ?? []).filter { $0.name.kind != .snapshot }
        report.archivedLSN = records.map(\.name.last.rawValue).max() ?? 0
        fillLog(&report, superblock, logs + "/wal", storage)
        report.fillRemotes(location, store)
        if let record = try FillRecord.read(location.path, object: location.object) {
            report.filling = StatusReport.Filling(
                stage: record.stage.rawValue, url: record.url, doneBytes: nil,
                totalBytes: superblock.volumeBytes)
        }
        if !storage.exists(report.imagePath) {
            report.problems.append("the image is missing")
            report.health = .degraded
        }
        return report
    }

    private static func fillLog(
        _ report: inout StatusReport, _ superblock: Superblock, _ directory: String,
        _ storage: Storage
    ) {
        do {
            for name in try storage.list(directory) {
                report.walBytes += (try? storage.allocatedBytes("\(directory)/\(name)")) ?? 0
            }
            var lastFlush: Int64?
            let contents = try readLog(in: directory, on: storage, superblock: superblock) {
                record throws(IOError) in
                if record.header.kind == .flush {
                    lastFlush = record.header.stamp.wallNanoseconds
                }
            }
            report.publishedLSN = contents.last.lsn.rawValue
            report.durableLSN = report.publishedLSN
            report.durableTime = contents.last.time
            report.unarchivedBytes = contents.bytes(after: LSN(report.archivedLSN))
            if superblock.isClean, contents.last.lsn > .zero {
                lastFlush = contents.last.wallNanoseconds  // the last thing that an unmount does
            }
            report.lastFlushTime = lastFlush.map { TimeText.rfc3339($0) }
            if contents.end == .damaged {
                report.health = .failed
                report.problems.append(
                    "acknowledged records after lsn \(contents.last.lsn) are lost from the log")
            } else if contents.redoneRecords > 0 {
                report.problems.append(
                    "not unmounted cleanly; the next mount redoes \(contents.redoneRecords) records"
                )
            }
        } catch {
            let failure = CommandFailure(RecoveryFailure.volumeError(error), object: "")
            report.health = .failed
            report.problems.append(failure.sentence)
        }
    }
}

/// Errors of reading a log, as errors of the volume.
enum RecoveryFailure {
    static func volumeError(_ error: any Error) -> VolumeError {
        switch error {
        case RecoveryError.foreignFile(let path): .foreignFile(path)
        case RecoveryError.futureVersion(let path, let version): .futureVersion(path, version)
        case RecoveryError.io(let error): .io(error)
        case let error as IOError: .io(error)
        default: .io(IOError(.read, "\(error)", 5))
        }
    }
}
