// What a running volume tells about itself, and the joints that History hangs on: records for the
// archiver and a way to copy the image while it changes.

import BlockModel
import CLinux
import DiskIO
import LogFormat
import Synchronization
import WriteLog

/// Counters and marks at one moment. Each mark is at or behind the one before.
public struct VolumeStatus: Sendable {
    public var published: Stamp
    public var durable: Stamp
    public var applied: LSN
    public var checkpoint: LSN
    public var archived: LSN
    public var ringBytes: UInt64
    public var ringUsedBytes: UInt64
    public var writes: UInt64
    public var writtenBytes: UInt64
    public var reads: UInt64
    public var readBytes: UInt64
    public var flushes: UInt64
    public var logAppends: UInt64
    public var logBytes: UInt64
    public var appliedBytes: UInt64
    /// Bytes that never reached the image because a later write came first.
    public var supersededBytes: UInt64
    /// Requests that had to wait for room, how long in all, and how many wait now.
    public var heldWrites: UInt64
    public var heldNanoseconds: UInt64
    public var heldNow: Int64
    public var walBytes: UInt64
    /// Log that no segment has yet, roughly.
    public var unarchivedBytes: UInt64
    public var walBytesMax: UInt64
    /// Wall time of the newest flush; that of the checkpoint where there was none yet.
    public var lastFlushWall: Int64
    public var health: LogHealth
    /// The error behind a log that is full or failed.
    public var logError: IOError?
    /// errno of the newest failed try to write the image; 0 when the last one went well.
    public var imageErrorCode: Int32
}

extension ProtectedVolume {
    public var appliedLSN: LSN { LSN(appliedLSNWord.load(ordering: .acquiring)) }
    public var checkpointLSN: LSN { LSN(checkpointWord.load(ordering: .acquiring)) }
    public var archivedLSN: LSN { LSN(archivedWord.load(ordering: .acquiring)) }
    public var durableStamp: Stamp { log.durableStamp }

    public func status() -> VolumeStatus {
        let counters = log.counters
        let space = log.files.space
        let health = log.health
        return VolumeStatus(
            published: ring.newestStamp, durable: log.durableStamp, applied: appliedLSN,
            checkpoint: checkpointLSN, archived: archivedLSN, ringBytes: ring.capacity,
            ringUsedBytes: ring.usedBytes, writes: writeCount.load(ordering: .relaxed),
            writtenBytes: writtenBytes.load(ordering: .relaxed),
            reads: readCount.load(ordering: .relaxed),
            readBytes: readTotal.load(ordering: .relaxed),
            flushes: flushCount.load(ordering: .relaxed), logAppends: counters.appends,
            logBytes: counters.bytes, appliedBytes: appliedBytes.load(ordering: .relaxed),
            supersededBytes: supersededBytes.load(ordering: .relaxed),
            heldWrites: heldCount.load(ordering: .relaxed),
            heldNanoseconds: heldNanoseconds.load(ordering: .relaxed),
            heldNow: heldNow.load(ordering: .relaxed), walBytes: space.bytes,
            unarchivedBytes: unarchivedBytes, walBytesMax: space.bound,
            lastFlushWall: lastFlushWall.load(ordering: .relaxed),
            health: health, logError: health == .good ? nil : log.failure,
            imageErrorCode: imageErrorCode.load(ordering: .relaxed))
    }
}

// MARK: - for the archiver

extension ProtectedVolume {
    /// Records after `lsn` up to `last`, which must be durable. They stay in the log while the
    /// source lives. Records at or before `archived(through:)` may be gone.
    public func recordSource(after lsn: LSN, through last: LSN) -> RecordSource {
        log.reader(first: lsn.next, last: last)
    }

    /// The first LSN that the log still holds; nil when it is empty.
    public var oldestLSNInLog: LSN? { log.files.oldestLSN }

    /// Where reading the log can go on when `lsn` cannot be read; nil where it cannot yet.
    public func readableLSN(behind lsn: LSN) -> LSN? { log.files.firstLSN(behind: lsn) }

    /// Later records go into another file of the log, as soon as there is room for one.
    public func beginNextLogFile() { log.beginNextFile() }
}

// MARK: - for shipping

extension ProtectedVolume {
    /// Sleeps until a record after `lsn` is durable, the volume closes, or `isWoken`, which is
    /// asked after each wake-up.
    public func waitForRecords(after lsn: LSN, or isWoken: () -> Bool) {
        while !isStopping.load(ordering: .sequentiallyConsistent) {
            let ticket = log.progress.ticket()
            if log.durableLSN > lsn || isWoken() { return }
            log.progress.wait(ticket)
        }
    }

    /// Lets who sleeps in `waitForRecords` look again.
    public func wakeWaiters() { log.progress.signal() }

    /// Holds writers as when the log is at its bound, once the file at hand is full; or lets them
    /// go. What was accepted stays and becomes durable later.
    public func holdWriters(_ isHeld: Bool) {
        log.holdsAtFile.store(isHeld, ordering: .sequentiallyConsistent)
        if !isHeld { wakeWriterFully() }
    }
}

// MARK: - for online snapshots

/// Which 4 KiB blocks of the image may have changed since a moment: one bit each.
final class ChangeTracker: @unchecked Sendable {
    // @unchecked: words are read and written atomically.
    private let words: UnsafeMutablePointer<UInt64>
    private let count: Int

    init(volumeBytes: UInt64) {
        count = Int((volumeBytes + 4095) / 4096 + 63) / 64
        words = .allocate(capacity: count)
        words.initialize(repeating: 0, count: count)
    }

    deinit { words.deallocate() }

    /// Before the image changes.
    func mark(_ extent: Extent) {
        guard extent.count > 0 else { return }
        for block in (extent.start >> 3)...((extent.end - 1) >> 3) {
            clinux_or(words + Int(block >> 6), 1 << (block & 63))
        }
    }

    /// After the image was read.
    func isMarked(block: UInt64) -> Bool {
        clinux_load_seq64(words + Int(block >> 6)) & (1 << (block & 63)) != 0
    }
}

/// A way to read the volume as it was at `stamp` while writes go on: blocks that did not change
/// come from the image, the caller takes the others from history.
public final class ImageSnapshotSession: @unchecked Sendable {
    // @unchecked: constant after init.
    private let volume: ProtectedVolume
    private let tracker: ChangeTracker
    public let stamp: Stamp
    private let failures: UInt64

    init(volume: ProtectedVolume, tracker: ChangeTracker, stamp: Stamp) {
        failures = volume.imageFailures.load(ordering: .acquiring)
        self.volume = volume
        self.tracker = tracker
        self.stamp = stamp
    }

    public var volumeBytes: UInt64 { volume.byteCount }

    /// Data of the image as the file system knows it now; holes read as zeros.
    public func nextData(from offset: UInt64) throws -> Range<UInt64>? {
        guard offset < volumeBytes, let range = try volume.image.nextData(from: offset),
            range.lowerBound < volumeBytes
        else { return nil }
        return range.lowerBound..<min(range.upperBound, volumeBytes)
    }

    /// Reads the image; afterwards `changed` tells which blocks of the range are not to be trusted.
    public func readImage(into target: UnsafeMutableRawBufferPointer, at offset: UInt64) throws {
        try volume.readImage(into: target, at: offset)
    }

    /// Byte ranges of 4 KiB blocks in `range` that changed, or may have, since `stamp`.
    public func changed(in range: Range<UInt64>) -> [Range<UInt64>] {
        var result: [Range<UInt64>] = []
        var block = range.lowerBound / 4096
        while block * 4096 < range.upperBound {
            if tracker.isMarked(block: block) {
                let start = max(block * 4096, range.lowerBound)
                let end = min((block + 1) * 4096, range.upperBound)
                if let last = result.last, last.upperBound == start {
                    result[result.count - 1] = last.lowerBound..<end
                } else {
                    result.append(start..<end)
                }
            }
            block += 1
        }
        return result
    }

    /// After the last read and before the snapshot counts: throws when the image lost writes
    /// meanwhile (a sync failed, now or since the session began), for then older bytes may have
    /// been read.
    public func confirm() throws(DeviceError) {
        guard volume.syncImage(), volume.imageFailures.load(ordering: .acquiring) == failures
        else { throw .io }
    }

    /// Gives the tracking up. Idempotent.
    public func end() {
        volume.imageLock.withLock {
            if volume.applier.tracker === tracker { volume.applier.tracker = nil }
        }
    }
}

extension ProtectedVolume {
    /// Begins to follow changes and names the moment: every record up to `stamp` is durable and in
    /// the image, or its blocks are marked as changed. One session at a time; nil if there is one.
    public func beginImageSnapshot() throws(DeviceError) -> ImageSnapshotSession? {
        let tracker = ChangeTracker(volumeBytes: byteCount)
        let isFree = imageLock.withLock { () -> Bool in
            guard applier.tracker == nil else { return false }
            applier.tracker = tracker
            return true
        }
        guard isFree else { return nil }
        let session: ImageSnapshotSession
        do throws(DeviceError) {
            session = ImageSnapshotSession(
                volume: self, tracker: tracker, stamp: try barrier())
        } catch {
            imageLock.withLock { applier.tracker = nil }
            throw error
        }
        while appliedLSN < session.stamp.lsn {
            if !stepApplier() {
                session.end()
                throw .io
            }
        }
        return session
    }
}
