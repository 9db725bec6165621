// What a running volume reports of itself.

import BlockModel
import CommandText
import DiskIO
import Foundation
import History
import ProtectedVolume
import WriteLog

extension VolumeService {
    func status() -> StatusReport {
        let state = volume.status()
        let superblock = folder.superblock
        var report = StatusReport()
        report.volume = path
        report.uuid = superblock.volume.description
        report.isMounted = true
        report.pid = getpid()
        report.uptimeSeconds = openedAt.seconds(to: .now)
        report.sizeBytes = superblock.volumeBytes
        report.epoch = superblock.epoch
        report.fillPlaces(image: folder.imagePath, log: folder.logDirectory, on: folder.storage)
        report.fillSegments(store)
        report.lastDrill = DrillLog(volume: path).last
        report.publishedLSN = state.published.lsn.rawValue
        report.durableLSN = state.durable.lsn.rawValue
        report.durableTime = state.durable.time
        report.appliedLSN = state.applied.rawValue
        report.checkpointLSN = state.checkpoint.rawValue
        report.archivedLSN = state.archived.rawValue
        report.lastFlushTime = TimeText.rfc3339(state.lastFlushWall)
        report.ringBytes = state.ringBytes
        report.ringUsedBytes = state.ringUsedBytes
        report.walBytes = state.walBytes
        report.walBytesMax = state.walBytesMax
        report.unarchivedBytes = state.unarchivedBytes
        report.writes = state.writes
        report.writtenBytes = state.writtenBytes
        report.reads = state.reads
        report.readBytes = state.readBytes
        report.flushes = state.flushes
        report.writersHeldNow = UInt64(max(0, state.heldNow))
        report.writersHeld = state.heldWrites
        report.writersHeldSeconds = Double(state.heldNanoseconds) / 1e9
        let remotes = shipping.withLock { $0 }?.reports() ?? []
        if !remotes.isEmpty { report.remotes = remotes }
        report.filling = filled.withLock { $0 }
        fillHealth(&report, state)
        report.fillRemoteProblems()
        return report
    }

    private func fillHealth(_ report: inout StatusReport, _ state: VolumeStatus) {
        let cause = state.logError.map { " (\($0))" } ?? ""
        switch state.health {
        case .good: break
        case .failed:
            report.health = .failed
            report.problems.append("the log failed, writes are refused\(cause)")
        case .full:
            report.health = .degraded
            report.problems.append("no room for the log\(cause)")
        case .behind:
            report.health = .degraded
            let isForRemote = report.remotes?.contains { $0.isHoldingWriters } ?? false
            report.problems.append(
                isForRemote
                    ? "writers wait for a remote"
                    : "the log is at its bound, writers wait for the archiver")
        }
        if state.imageErrorCode != 0 {
            let reason = String(cString: strerror(state.imageErrorCode))
            report.problems.append(
                "the image cannot be written (\(reason)); the log keeps the data")
        }
        report.problems += problems.withLock { $0.sorted { $0.key < $1.key }.map(\.value) }
        report.problems += folder.warnings
        if report.health == .ok, !report.problems.isEmpty { report.health = .degraded }
    }
}

extension StatusReport {
    /// Space of image and log. What cannot be asked is left at zero.
    mutating func fillPlaces(image: String, log: String, on storage: Storage) {
        imagePath = image
        imageAllocatedBytes = (try? storage.allocatedBytes(image)) ?? 0
        logDirectory = log
        logFreeBytes = (try? storage.freeBytes(log)) ?? 0
    }

    mutating func fillSegments(_ store: DirectoryStore) {
        guard let segments = try? store.list() else { return }
        segmentCount = segments.count
        segmentBytes = segments.reduce(0) { $0 + $1.byteCount }
        let newest = segments.filter { $0.name.kind == .snapshot }.max { $0.name < $1.name }
        guard let newest, let footer = try? SegmentReader.footer(of: newest, in: store) else {
            return
        }
        lastSnapshot = Snapshot(lsn: newest.name.last.rawValue, time: footer.last.time)
    }
}
