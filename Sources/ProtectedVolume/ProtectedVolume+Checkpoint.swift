// The keeper: checkpoints, WAL files ready ahead and given free behind.
//
// A checkpoint says: the synced image holds every record up to this LSN. Order of steps:
//   1. note the applied mark, and up to where the log must be durable for it (superseded writes)
//   2. make the log durable that far
//   3. sync the image
//   4. write the superblock, with the durable mark: the log must reach it at the next opening, or
//      what was superseded is lost
//   5. release WAL files behind both the checkpoint and the archive
// A failed sync of the image means that nothing since the last checkpoint is known to be on disk:
// all of it is written again from the log (newest bytes only), then synced.

import BlockModel
import DiskIO
import LogFormat
import Synchronization
import WriteLog

extension ProtectedVolume {
    /// Checkpoints when something was applied since the last one, readies WAL files and releases
    /// others. False when the disk refused.
    @discardableResult
    package func stepKeeper() -> Bool {
        let done = checkpoint(isClean: false)
        log.prepareNextFile(fillWithZeros: !options.isManual)
        releaseFiles()
        return done
    }

    /// Whether the image is ahead of the last checkpoint.
    var needsCheckpoint: Bool { appliedLSN > checkpointLSN }

    func checkpoint(isClean: Bool) -> Bool {
        keeperLock.lock()
        defer { keeperLock.unlock() }
        imageLock.lock()
        let mark = Stamp(lsn: applier.lsn, wallNanoseconds: applier.wall)
        let mustBeDurable = applier.mustBeDurable
        let isSuspect = applier.imageIsSuspect
        let dirty = applier.bytesSinceCheckpoint
        imageLock.unlock()
        guard mark.lsn > checkpointLSN || isClean else { return true }
        do throws(LogWriter.Refusal) {
            try log.makeDurable(through: mustBeDurable)
        } catch {
            return false
        }
        guard !isSuspect || reapply(through: mark.lsn) else { return false }
        do throws(IOError) {
            if !Fault.checkpointWithoutImageSync.isOn { try image.sync() }
        } catch {
            imageErrorCode.store(error.code, ordering: .relaxed)
            imageLock.withLock { applier.imageIsSuspect = true }
            return false
        }
        do throws(IOError) {
            try folder.updateSuperblocks { superblock in
                if mark.lsn > superblock.checkpoint.lsn { superblock.checkpoint = mark }
                superblock.durableLSN = log.durableLSN
                superblock.isClean = isClean
            }
        } catch {
            imageErrorCode.store(error.code, ordering: .relaxed)
            return false
        }
        imageErrorCode.store(0, ordering: .relaxed)
        imageLock.withLock {
            applier.imageIsSuspect = false
            applier.bytesSinceCheckpoint -= min(dirty, applier.bytesSinceCheckpoint)
        }
        checkpointWord.store(max(mark.lsn, checkpointLSN).rawValue, ordering: .releasing)
        return true
    }

    /// WAL files that neither redo nor the archive needs are used again.
    func releaseFiles() {
        let archived = Fault.recycledBeforeArchived.isOn ? checkpointLSN : archivedLSN
        log.files.release(through: min(checkpointLSN, archived))
    }

    /// The archiver has everything up to `lsn`: WAL files behind it may be recycled.
    public func archived(through lsn: LSN) {
        archivedWord.store(max(lsn, archivedLSN).rawValue, ordering: .releasing)
        releaseFiles()
        if log.health == .behind { wakeWriterFully() }
    }

    /// Writes everything between the checkpoint and `last` to the image again, newest bytes only:
    /// older ones would be visible to readers for a while.
    private func reapply(through last: LSN) -> Bool {
        imageLock.lock()
        defer { imageLock.unlock() }
        do {
            var newest: [UInt64: LSN] = [:]
            let through = max(last, applier.lsn)
            try forEachChange(through: through) { record, _ in
                for sector in record.extent.start..<record.extent.end {
                    newest[sector] = record.stamp.lsn
                }
            }
            try forEachChange(through: through) { record, payload throws(IOError) in
                var sector = record.extent.start
                while sector < record.extent.end {
                    var end = sector
                    while end < record.extent.end, newest[end] == record.stamp.lsn { end += 1 }
                    if end > sector {
                        try put(record, payload, Extent(start: sector, count: end - sector))
                    }
                    sector = max(end, sector + 1)
                }
            }
            return true
        } catch {
            return false
        }
    }

    private func forEachChange(
        through last: LSN,
        _ body: (RecordHeader, UnsafeRawBufferPointer) throws(IOError) -> Void
    ) throws {
        let source = log.reader(first: checkpointLSN.next, last: last)
        while let record = try source.next() {
            if record.header.kind.changesSectors { try body(record.header, record.payload) }
        }
    }

    private func put(
        _ record: RecordHeader, _ payload: UnsafeRawBufferPointer, _ part: Extent
    ) throws(IOError) {
        applier.tracker?.mark(part)
        if record.kind == .write {
            let start = Int((part.start - record.extent.start) << Sector.shift)
            try image.write(
                UnsafeRawBufferPointer(
                    rebasing: payload[start..<(start + Int(part.byteCount))]),
                at: part.byteOffset)
        } else {
            try image.punchHole(offset: part.byteOffset, count: part.byteCount)
        }
    }
}
