// The keeper: checkpoints, WAL files ready ahead and given free behind.
//
// A checkpoint says: the synced image holds every record up to this LSN. Order of steps:
//   1. note the applied mark, and up to where the log must be durable for it (superseded writes)
//   2. make the log durable that far; where it does not go on, write to the image what was left out
//   3. sync the image
//   4. write the superblock, with the durable mark: the log must reach it at the next opening, or
//      what was superseded is lost
//   5. release WAL files behind both the checkpoint and the archive
// A failed sync of the image means that nothing since the last checkpoint is known to be on disk:
// all of it is written again from the log (newest bytes only), then synced.

import BlockModel
import CLinux
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
        log.prepareNextFile()
        releaseFiles()
        return done
    }

    /// Whether the image is ahead of the last checkpoint.
    var needsCheckpoint: Bool { appliedLSN > checkpointLSN }

    /// Before the sync of a checkpoint under load: brings what was applied to the disk in small
    /// pieces with pauses. A sync alone would hand all of it to the disk at once, and every flush
    /// of a user would wait behind it. False when the disk refused.
    func writeBackImage() -> Bool {
        let regions = imageLock.withLock { () -> DirtyRegions in
            let regions = applier.dirtyRegions
            applier.dirtyRegions.removeAll()
            return regions
        }
        for region in regions.ranges {
            let end = min(region.upperBound, byteCount)
            for offset in stride(from: region.lowerBound, to: end, by: Self.pieceBytes) {
                if isStopping.load(ordering: .relaxed) { return true }
                let begin = clinux_monotonic_ns()
                guard writeBack(offset..<min(offset + UInt64(Self.pieceBytes), end)) else {
                    return false
                }
                let nanoseconds = clinux_monotonic_ns() - begin
                if nanoseconds > Self.cleanNanoseconds, mayTakeItsTime {
                    clinux_sleep_ns(nanoseconds * Self.pauseRatio)
                }
            }
        }
        return true
    }

    private func writeBack(_ range: Range<UInt64>) -> Bool {
        keeperLock.lock()
        defer { keeperLock.unlock() }
        do throws(IOError) {
            try image.writeBack(
                offset: range.lowerBound, count: range.upperBound - range.lowerBound)
            return true
        } catch {
            imageFailed(error)
            return false
        }
    }

    private static let pieceBytes = 128 << 10
    /// Pause to work.
    private static let pauseRatio: Int64 = 3
    /// What was clean already needs no pause.
    private static let cleanNanoseconds: Int64 = 20_000

    private var mayTakeItsTime: Bool {
        log.health != .behind
            && imageLock.withLock { applier.bytesSinceCheckpoint } < Self.checkpointBytesMax
    }

    func checkpoint(isClean: Bool) -> Bool {
        keeperLock.lock()
        defer { keeperLock.unlock() }
        imageLock.lock()
        var mark = Stamp(lsn: applier.lsn, wallNanoseconds: applier.wall)
        let mustBeDurable = applier.mustBeDurable
        let dirty = applier.bytesSinceCheckpoint
        imageLock.unlock()
        guard mark.lsn > checkpointLSN || isClean else { return true }
        var mustRewrite = imageIsSuspect.load(ordering: .acquiring)
        do throws(LogWriter.Refusal) {
            try log.makeDurable(through: mustBeDurable)
        } catch {
            // The log may wait for this very checkpoint: what was left out as superseded is written
            // after all.
            mustRewrite = true
        }
        if mustRewrite {
            guard let rewritten = rewriteImage() else { return false }
            mark = rewritten
        }
        guard Fault.checkpointWithoutImageSync.isOn || syncImageLocked() else { return false }
        do throws(IOError) {
            try folder.updateSuperblocks { superblock in
                if mark.lsn > superblock.checkpoint.lsn { superblock.checkpoint = mark }
                superblock.durableLSN = max(superblock.durableLSN, log.durableLSN)
                superblock.isClean = isClean
            }
        } catch {
            imageErrorCode.store(error.code, ordering: .relaxed)
            return false
        }
        imageErrorCode.store(0, ordering: .relaxed)
        imageLock.withLock {
            applier.bytesSinceCheckpoint -= min(dirty, applier.bytesSinceCheckpoint)
        }
        checkpointWord.store(max(mark.lsn, checkpointLSN).rawValue, ordering: .releasing)
        return true
    }

    /// WAL files that neither redo nor the archive needs are used again.
    func releaseFiles(isEnding: Bool = false) {
        let archived = Fault.recycledBeforeArchived.isOn ? checkpointLSN : archivedLSN
        log.files.release(through: min(checkpointLSN, archived), isEnding: isEnding)
    }

    /// The archiver has everything up to `lsn`: WAL files behind it may be recycled.
    public func archived(through lsn: LSN) {
        archivedWord.store(max(lsn, archivedLSN).rawValue, ordering: .releasing)
        isArchiveFull.store(false, ordering: .relaxed)
        releaseFiles()
        wakeWriterBehind()
    }

    /// The archiver has no space: with `OnFull.fail`, writers are refused once the log is at its
    /// bound too.
    public func archiveIsFull() {
        isArchiveFull.store(true, ordering: .sequentiallyConsistent)
        room.signal()
        log.progress.signal()
    }

    /// A writer that waits at the bound goes on when there is a file for it.
    func wakeWriterBehind() {
        if log.health == .behind, log.files.mayTakeNext { wakeWriterFully() }
    }

    /// Syncs the image. False when the disk refused; then the image is written again.
    func syncImage() -> Bool {
        keeperLock.lock()
        defer { keeperLock.unlock() }
        return syncImageLocked()
    }

    private func syncImageLocked() -> Bool {
        do throws(IOError) {
            try image.sync()
            return true
        } catch {
            imageFailed(error)
            return false
        }
    }

    /// What was written since the last good sync may be lost, whatever a later sync says.
    private func imageFailed(_ error: IOError) {
        imageErrorCode.store(error.code, ordering: .relaxed)
        imageFailures.add(1, ordering: .releasing)
        imageIsSuspect.store(true, ordering: .releasing)
        _ = rewriteImage()  // at once, because of the readers; they try again
    }

    /// For readers: the image with everything that was applied, also after a failed sync, which may
    /// have dropped any of it. False when it cannot be had now.
    func healImage() -> Bool {
        keeperLock.lock()
        defer { keeperLock.unlock() }
        return !imageIsSuspect.load(ordering: .acquiring) || rewriteImage() != nil
    }

    /// Writes everything between the checkpoint and the applied mark to the image again, newest
    /// bytes only: older ones would be visible to readers for a while. Afterwards the image, once
    /// synced, holds every record up to the stamp that is returned. Under `keeperLock`.
    private func rewriteImage() -> Stamp? {
        imageLock.lock()
        defer { imageLock.unlock() }
        do {
            var extents: [Extent] = []
            let mark = Stamp(lsn: applier.lsn, wallNanoseconds: applier.wall)
            try forEachChange(through: mark.lsn) { record, _ in extents.append(record.extent) }
            var parts = newestParts(extents)[...]
            var index = 0
            try forEachChange(through: mark.lsn) { record, payload throws(IOError) in
                while let part = parts.first, part.record == index {
                    applier.tracker?.mark(part.extent)
                    try Self.put(record, payload, part.extent, to: image)
                    parts.removeFirst()
                }
                index += 1
            }
            imageIsSuspect.store(false, ordering: .releasing)
            return mark
        } catch {
            return nil
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

    /// Does to the image what a record that changes sectors did to `part` of its extent.
    static func put(
        _ record: RecordHeader, _ payload: UnsafeRawBufferPointer, _ part: Extent,
        to image: StorageFile
    ) throws(IOError) {
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
