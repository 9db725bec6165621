// The writer of the log: drains the ring into WAL files in big sequential appends, one sync for all
// records published so far (group commit).
//
// Whoever holds the append lock is the writer. Usually that is the writer thread, which waits for
// a batch or a short time; a flush on its way takes the lock and appends by itself, so that an
// idle log is flushed without a hand-off between threads, and all flushes that wait meanwhile find
// their records durable when they get the lock.
//
// Every append is durable when it returns (RWF_DSYNC). A failed append ends the log: what the disk
// holds of it is unknown, so nothing is acknowledged any more until the volume is opened anew and
// recovery has looked (health == failed). No room for a next file is not a failure: the records
// stay in the ring and are tried again (health == full).

import BlockModel
import CLinux
import DiskIO
import LogFormat
import Synchronization

/// Why a log does not take records at the moment.
public enum LogHealth: UInt32, Sendable {
    case good = 0
    /// No space on the log's file system.
    case full = 1
    /// The WAL is at its bound and waits for the archiver or the checkpoint.
    case behind = 2
    /// An append failed; only opening the volume again helps.
    case failed = 3
}

public final class LogWriter: @unchecked Sendable {
    // @unchecked: atomics; everything else is guarded by `appendLock`.
    public let ring: Ring
    public let files: WALFiles
    private let appendLock = Lock()
    private var drained: UInt64 = 0
    private let vectors = UnsafeMutableBufferPointer<IOVector>.allocate(capacity: 2)
    private var lastError: IOError?

    private let durableEnd = Atomic<UInt64>(0)
    private let claimedEnd = Atomic<UInt64>(0)
    /// Durable appends that nothing on the disk tells of yet; a few, the newest merged.
    private var unclaimed: [(lsn: LSN, end: UInt64)] = []
    private static let unclaimedMax = 16
    private let durableWall: Atomic<Int64>
    /// Odd while the two halves of the durable stamp change.
    private let stampCount = Atomic<UInt64>(0)
    private let healthWord = Atomic<UInt32>(0)
    /// No next file is taken: something that the volume feeds cannot follow.
    public let holdsAtFile = Atomic<Bool>(false)
    private let appends = Atomic<UInt64>(0)
    private let appendedBytes = Atomic<UInt64>(0)
    /// Signalled when the durable mark moved or the health changed.
    public let progress = WaitWord()

    /// Largest single append.
    static let appendBytesMax: UInt64 = 8 << 20

    init(ring: Ring, files: WALFiles, last: Stamp) {
        self.ring = ring
        self.files = files
        durableWall = Atomic(last.wallNanoseconds)
        unclaimed.reserveCapacity(Self.unclaimedMax)
    }

    deinit { vectors.deallocate() }

    /// Position up to which everything is durable.
    public var durable: UInt64 { durableEnd.load(ordering: .acquiring) }
    /// Position up to which the disk itself says that everything is durable: by a later durable
    /// record, or by the superblock. Where the log is damaged later, recovery cannot take anything
    /// before it for a torn end; so the image may have it, and nothing beyond.
    public var claimed: UInt64 { claimedEnd.load(ordering: .acquiring) }
    /// The superblock says it of everything before `position`.
    public func claim(through position: UInt64) {
        claimedEnd.max(position, ordering: .acquiringAndReleasing)
    }
    public var durableLSN: LSN { LSN(ring.durableLSN.load(ordering: .acquiring)) }
    /// Newest durable record.
    public var durableStamp: Stamp {
        while true {
            let count = stampCount.load(ordering: .acquiring)
            // Acquiring, so that the second look at the count comes after.
            let lsn = LSN(ring.durableLSN.load(ordering: .acquiring))
            let wall = durableWall.load(ordering: .acquiring)
            if count & 1 == 0, stampCount.load(ordering: .relaxed) == count {
                return Stamp(lsn: lsn, wallNanoseconds: wall)
            }
            clinux_pause()
        }
    }
    public var health: LogHealth {
        LogHealth(rawValue: healthWord.load(ordering: .acquiring)) ?? .failed
    }
    public var counters: (appends: UInt64, bytes: UInt64) {
        (appends.load(ordering: .relaxed), appendedBytes.load(ordering: .relaxed))
    }
    /// The error behind `full` and `failed`.
    public var failure: IOError? { appendLock.withLock { lastError } }

    /// What kept records from becoming durable.
    public enum Refusal: Error, Sendable {
        case full, behind, failed
    }

    /// Makes everything before `position` durable; the records must be reserved. Throws when the
    /// log cannot go on now; the records stay in the ring.
    public func makeDurable(through position: UInt64) throws(Refusal) {
        if durable >= position { return }
        appendLock.lock()
        defer { appendLock.unlock() }
        if durable >= position { return }
        try drain(through: position)
    }

    /// Writes what is published now. For the writer thread.
    public func drainPublished() throws(Refusal) {
        appendLock.lock()
        defer { appendLock.unlock() }
        try drain(through: 0)
    }

    // MARK: under the append lock

    /// A run of published records in the ring.
    private struct Batch {
        var end: UInt64
        var pieces: (start: UInt64, bytes: UInt64, second: UInt64, secondBytes: UInt64)
        var firstLSN = LSN.zero
        var lastLSN = LSN.zero
        var lastWall: Int64 = 0
        /// What its newest record says is durable.
        var claim = LSN.zero
        var bytes: UInt64 { pieces.bytes + pieces.secondBytes }
    }

    private func drain(through target: UInt64) throws(Refusal) {
        if health == .failed { throw .failed }
        while true {
            let free = files.current()?.freeBytes ?? 0
            let (batch, fits) = collect(through: target, room: free)
            if batch.bytes == 0 {
                drained = batch.end  // pads only, or nothing
                if fits {
                    advance(batch)
                    return
                }
                try nextFile()
                continue
            }
            try append(batch)
            if batch.end >= target, batch.bytes < Self.appendBytesMax { return }
        }
    }

    /// Gathers published records from the drained mark on. Waits for records before `target` that
    /// are being copied. `fits` is false when the next record needs another file.
    private func collect(through target: UInt64, room: UInt64) -> (batch: Batch, fits: Bool) {
        var batch = Batch(end: drained, pieces: (drained, 0, 0, 0))
        let reserved = ring.reserved
        var inSecond = false
        while batch.end < reserved {
            let header = ring.pointer(batch.end)
            if clinux_load_acquire(header) != RecordHeader.magic.littleEndian {
                guard batch.end < target else { break }
                waitUntilPublished(header)
            }
            let record = RingRecord(header)
            if record.isPad {
                batch.end += record.ringBytes
                if batch.bytes == 0 { batch.pieces.start = batch.end } else { inSecond = true }
                if inSecond { batch.pieces.second = batch.end }
                continue
            }
            if batch.end % ring.capacity == 0, batch.bytes > 0 {
                // The record before filled the memory to its end: no pad tells of the wrap.
                inSecond = true
                batch.pieces.second = batch.end
            }
            if batch.bytes + record.ringBytes > room { return (batch, false) }
            if batch.bytes + record.ringBytes > Self.appendBytesMax, batch.bytes > 0 { break }
            if batch.bytes == 0 { batch.firstLSN = record.lsn }
            if inSecond {
                batch.pieces.secondBytes += record.ringBytes
            } else {
                batch.pieces.bytes += record.ringBytes
            }
            batch.lastLSN = record.lsn
            batch.lastWall = record.wallNanoseconds
            batch.claim = record.durableLSN
            batch.end += record.ringBytes
        }
        return (batch, true)
    }

    /// The copy into a reserved record takes microseconds; its thread may have been descheduled.
    private func waitUntilPublished(_ header: UnsafeRawPointer) {
        var spins = 0
        while clinux_load_acquire(header) != RecordHeader.magic.littleEndian {
            spins += 1
            if spins < 200 { clinux_pause() } else { clinux_yield() }
        }
    }

    private func append(_ batch: Batch) throws(Refusal) {
        guard let target = files.current() else { preconditionFailure("append without a file") }
        vectors[0] = IOVector(
            base: ring.pointer(batch.pieces.start), count: Int(batch.pieces.bytes))
        let count = batch.pieces.secondBytes > 0 ? 2 : 1
        if count == 2 {
            vectors[1] = IOVector(
                base: ring.pointer(batch.pieces.second), count: Int(batch.pieces.secondBytes))
        }
        let durability: Durability = Fault.flushWithoutSync.isOn ? .deferred : .immediate
        do throws(IOError) {
            try target.file.write(
                vectors: UnsafeMutableBufferPointer(rebasing: vectors[..<count]),
                at: target.appendOffset, durability)
        } catch {
            // Space of a WAL file is allocated before it is used, so even ENOSPC here leaves the
            // append in an unknown state.
            if !Fault.syncErrorForgotten.isOn {
                lastError = error
                setHealth(.failed)
                throw .failed
            }
        }
        files.appended(first: batch.firstLSN, last: batch.lastLSN, bytes: batch.bytes)
        appends.add(1, ordering: .relaxed)
        appendedBytes.add(batch.bytes, ordering: .relaxed)
        advance(batch)
    }

    private func advance(_ batch: Batch) {
        drained = batch.end
        if batch.bytes > 0 {
            stampCount.add(1, ordering: .acquiring)
            durableWall.store(batch.lastWall, ordering: .relaxed)
            ring.durableLSN.store(batch.lastLSN.rawValue, ordering: .releasing)
            stampCount.add(1, ordering: .releasing)
            noteClaims(batch)
        }
        durableEnd.store(batch.end, ordering: .releasing)
        setHealth(.good)
        progress.signal()
    }

    private func noteClaims(_ batch: Batch) {
        while let first = unclaimed.first, first.lsn <= batch.claim {
            claim(through: first.end)
            unclaimed.removeFirst()
        }
        if unclaimed.count == Self.unclaimedMax { unclaimed.removeLast() }
        unclaimed.append((batch.lastLSN, batch.end))
    }

    private func nextFile() throws(Refusal) {
        if holdsAtFile.load(ordering: .relaxed) {
            setHealth(.behind)
            throw .behind
        }
        do throws(WALFull) {
            _ = try files.takeNext()
        } catch {
            switch error {
            case .bound:
                setHealth(.behind)
                throw .behind
            case .io(let error) where error.isNoSpace:
                lastError = error
                setHealth(.full)
                throw .full
            case .io(let error):
                lastError = error
                setHealth(.failed)
                throw .failed
            }
        }
    }

    /// Appends go on in another file, if one can be had.
    public func beginNextFile() {
        appendLock.withLock {
            guard health == .good, files.current()?.isEmpty == false else { return }
            _ = try? files.takeNext()
        }
    }

    private func setHealth(_ health: LogHealth) {
        let old = healthWord.exchange(health.rawValue, ordering: .acquiringAndReleasing)
        if old != health.rawValue { progress.signal() }
    }
}
