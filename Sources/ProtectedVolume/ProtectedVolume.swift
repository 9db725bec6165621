// The virtual disk: every write gets its stamp and place in the ring, reads see the newest bytes,
// a flush returns when the log has everything durably.
//
//     write ---> ring ---> log (durable) ---> image (applied) ---> synced (checkpoint)
//                  \__ overlay: reads find here what the image does not have yet
//
// The image is written only from durable records (promise R3). What may go wrong where:
//   log append fails     -> nothing is acknowledged any more (EIO); reads go on
//   no room for the log  -> writers are held, or refused with ENOSPC (`OnFull`)
//   image write fails    -> tried again; the ring fills, then writers are held
//   image sync fails     -> everything since the checkpoint is written again from the log
//
// Threads: all BlockDevice methods from any thread. Background work is three steps (drain, apply,
// keep) that threads of the volume run, or, in `manual` mode, whoever drives it: the simulator.

import BlockModel
import CLinux
import DiskIO
import LogFormat
import Synchronization
import WriteLog

public final class ProtectedVolume: BlockDevice, @unchecked Sendable {
    // @unchecked: parts synchronise themselves; plain variables below name their lock.

    public enum OnFull: Sendable {
        /// Writers wait until there is room.
        case hold
        /// Writers get ENOSPC.
        case fail
    }

    public struct Options: Sendable {
        /// nil: as the volume was made.
        public var ringBytes: UInt64?
        public var onFull = OnFull.hold
        public var clock = WallClock()
        /// Opens a damaged log at the end of its valid prefix. Acknowledged records are lost then:
        /// only for a repair that the user asked for.
        public var acceptsLoss = false
        /// No threads: the caller runs `stepWriter`, `stepApplier` and `stepKeeper`.
        public var isManual = false
        /// Drawn anew for each epoch; given only by tests.
        public var salt: UInt32?

        public init() {}
    }

    public let folder: VolumeFolder
    public let recovery: RecoveryReport
    let log: LogWriter
    let ring: Ring
    let overlay = BlockOverlay()
    let image: StorageFile
    let options: Options
    private let bytes: UInt64

    // Applier and keeper (ProtectedVolume+Apply.swift, +Checkpoint.swift).
    let imageLock = Lock()
    var applier: ApplierState  // imageLock
    let appliedLSNWord: Atomic<UInt64>
    let checkpointWord: Atomic<UInt64>
    let archivedWord: Atomic<UInt64>
    let imageErrorCode = Atomic<Int32>(0)
    let isArchiveFull = Atomic<Bool>(false)
    /// The image must be written again from the log before it is believed (failed sync). Changes
    /// under `keeperLock`.
    let imageIsSuspect = Atomic<Bool>(false)
    /// Failed syncs of the image.
    let imageFailures = Atomic<UInt64>(0)
    let lastFlushWall: Atomic<Int64>
    let keeperLock = Lock()

    let writerWake = WaitWord()
    let applierWake = WaitWord()
    let keeperWake = WaitWord()
    let archiverWake = WaitWord()
    /// Signalled when ring memory got free or a wait for it must end.
    let room = WaitWord()
    /// 0 at work, 1 waiting for a batch or a tick, 2 idle (ThreadLoops).
    let writerState = Atomic<UInt32>(0)
    let applierState = Atomic<UInt32>(0)
    let isStopping = Atomic<Bool>(false)
    var threads: [WorkerThread] = []

    let writeCount = Atomic<UInt64>(0)
    let writtenBytes = Atomic<UInt64>(0)
    let readCount = Atomic<UInt64>(0)
    let readTotal = Atomic<UInt64>(0)
    let flushCount = Atomic<UInt64>(0)
    let heldCount = Atomic<UInt64>(0)
    let heldNanoseconds = Atomic<UInt64>(0)
    let heldNow = Atomic<Int64>(0)
    let appliedBytes = Atomic<UInt64>(0)
    let supersededBytes = Atomic<UInt64>(0)

    init(folder: VolumeFolder, log: LogWriter, recovery: RecoveryReport, options: Options) {
        self.folder = folder
        self.log = log
        self.recovery = recovery
        self.options = options
        ring = log.ring
        image = folder.image
        let superblock = folder.superblock
        bytes = superblock.volumeBytes
        let checkpoint = superblock.checkpoint
        appliedLSNWord = Atomic(checkpoint.lsn.rawValue)
        checkpointWord = Atomic(checkpoint.lsn.rawValue)
        archivedWord = Atomic(0)
        lastFlushWall = Atomic(recovery.end.wallNanoseconds)
        applier = ApplierState(volumeBytes: superblock.volumeBytes)
        super.init()
    }

    public override var byteCount: UInt64 { bytes }

    // MARK: - the device

    public override func read(
        into target: UnsafeMutableRawBufferPointer, at offset: UInt64
    ) throws(DeviceError) { try readBytes(into: target, at: offset) }

    public override func flush() throws(DeviceError) { try flushAll() }

    public override func discard(offset: UInt64, count: UInt64) throws(DeviceError) {
        try zero(.discard, offset: offset, count: count)
    }

    public override func writeZeroes(offset: UInt64, count: UInt64) throws(DeviceError) {
        try zero(.zero, offset: offset, count: count)
    }

    public override func write(
        _ source: UnsafeRawBufferPointer, at offset: UInt64
    ) throws(DeviceError) {
        guard source.count > 0 else { return }
        try checkRange(offset, UInt64(source.count))
        if (offset | UInt64(source.count)) & UInt64(Sector.bytes - 1) != 0 {
            return try writeUnaligned(source, at: offset)
        }
        var done = 0
        while done < source.count {
            let count = min(source.count - done, ring.payloadBytesMax)
            try writeSectors(
                source.baseAddress! + done, count,
                Extent(
                    start: (offset + UInt64(done)) >> Sector.shift,
                    count: UInt64(count) >> Sector.shift))
            done += count
        }
    }

    @inline(__always)
    private func writeSectors(
        _ source: UnsafeRawPointer, _ count: Int, _ extent: Extent
    ) throws(DeviceError) {
        try checkHealth()
        let place = try reserve(.write, extent, payloadBytes: count)
        fill(place, from: source, count, extent)
    }

    /// Copies the payload, enters it into the overlay and publishes the record.
    @inline(__always)
    private func fill(
        _ place: Reservation, from source: UnsafeRawPointer, _ count: Int, _ extent: Extent
    ) {
        let crc = clinux_crc32c_copy(0, place.payload, source, count)
        overlay.insertWrite(
            extent, place: UInt32(truncatingIfNeeded: (place.position >> Sector.shift) + 1))
        publish(place, crc)
        writeCount.add(1, ordering: .relaxed)
        writtenBytes.add(UInt64(count), ordering: .relaxed)
    }

    /// A write that does not begin and end at sectors: the sectors at its rim are read, changed and
    /// written while nothing else is ordered.
    private func writeUnaligned(
        _ source: UnsafeRawBufferPointer, at offset: UInt64
    ) throws(DeviceError) {
        var done = 0
        let pieceMax = ring.payloadBytesMax - 2 * Sector.bytes
        while done < source.count {
            let count = min(source.count - done, pieceMax)
            let piece = UnsafeRawBufferPointer(rebasing: source[done..<(done + count)])
            try writePieceUnaligned(piece, at: offset + UInt64(done))
            done += count
        }
    }

    private func writePieceUnaligned(
        _ source: UnsafeRawBufferPointer, at offset: UInt64
    ) throws(DeviceError) {
        let extent = Extent(coveringBytesAt: offset, count: UInt64(source.count))
        let scratch = AlignedBuffer(count: Int(extent.byteCount))
        let sectors = UnsafeMutableRawBufferPointer(
            start: scratch.base, count: Int(extent.byteCount))
        while true {
            try checkHealth()
            let ticket = room.ticket()
            let outcome = try ring.withQuietOrder { () throws(DeviceError) -> Ring.Outcome in
                try readSectors(into: sectors, extent)
                let outcome = ring.reserveLocked(.write, extent, payloadBytes: sectors.count)
                if case .reserved(let place) = outcome {
                    // Published before the order lock is let go: the next reader-modifier waits
                    // for it only as long as this copy takes.
                    (scratch.base + Int(offset - extent.byteOffset)).copyMemory(
                        from: source.baseAddress!, byteCount: source.count)
                    fill(place, from: scratch.base, sectors.count, extent)
                }
                return outcome
            }
            switch outcome {
            case .reserved: return
            case .closed: throw .shuttingDown
            case .full: try waitForRoom(ticket)
            }
        }
    }

    // MARK: - zeros

    /// Whole sectors become one record; parts of sectors at the rim are written as zeros, so that
    /// what stands beside them stays.
    private func zero(
        _ kind: RecordKind, offset: UInt64, count: UInt64
    ) throws(DeviceError) {
        guard count > 0 else { return }
        try checkRange(offset, count)
        let mask = UInt64(Sector.bytes - 1)
        let first = (offset + mask) & ~mask
        let end = (offset + count) & ~mask
        guard first < end else { return try writeZeroBytes(offset, count) }
        try writeZeroBytes(offset, first - offset)
        try checkHealth()
        let extent = Extent(start: first >> Sector.shift, count: (end - first) >> Sector.shift)
        let place = try reserve(kind, extent, payloadBytes: 0)
        overlay.insertZeros(
            extent, place: UInt32(truncatingIfNeeded: place.position >> Sector.shift))
        publish(place, 0)
        writeCount.add(1, ordering: .relaxed)
        try writeZeroBytes(end, offset + count - end)
    }

    private func writeZeroBytes(_ offset: UInt64, _ count: UInt64) throws(DeviceError) {
        guard count > 0 else { return }
        let zeros = AlignedBuffer(count: Int(count))  // less than two sectors
        try write(UnsafeRawBufferPointer(start: zeros.base, count: Int(count)), at: offset)
    }

    // MARK: - order

    @inline(__always)
    func reserve(
        _ kind: RecordKind, _ extent: Extent, payloadBytes: Int
    ) throws(DeviceError) -> Reservation {
        switch ring.reserve(kind, extent, payloadBytes: payloadBytes) {
        case .reserved(let place): return place
        case .closed: throw .shuttingDown
        case .full: return try reserveWhenFree(kind, extent, payloadBytes: payloadBytes)
        }
    }

    @inline(never)
    private func reserveWhenFree(
        _ kind: RecordKind, _ extent: Extent, payloadBytes: Int
    ) throws(DeviceError) -> Reservation {
        while true {
            let ticket = room.ticket()
            switch ring.reserve(kind, extent, payloadBytes: payloadBytes) {
            case .reserved(let place): return place
            case .closed: throw .shuttingDown
            case .full: try waitForRoom(ticket)
            }
        }
    }

    @inline(__always)
    func publish(_ place: Reservation, _ crc: UInt32) {
        let published = ring.publish(place, payloadCRC: crc)
        let state = writerState.load(ordering: .sequentiallyConsistent)
        if state != 0 { wakeWriter(state, pending: published &- log.durable) }
    }

    /// Back-pressure: sleeps until ring memory was freed after `ticket` was taken.
    private func waitForRoom(_ ticket: UInt32) throws(DeviceError) {
        try checkHealth()
        if options.isManual {
            // The only thread there is does the work itself.
            guard stepWriter(), stepApplier() else {
                throw log.health == .failed ? .io : .noSpace
            }
            return
        }
        if options.onFull == .fail, isImageFull { throw .noSpace }
        heldCount.add(1, ordering: .relaxed)
        heldNow.add(1, ordering: .relaxed)
        let start = clinux_monotonic_ns()
        hurry()
        room.wait(ticket)
        heldNow.subtract(1, ordering: .relaxed)
        heldNanoseconds.add(UInt64(clinux_monotonic_ns() - start), ordering: .relaxed)
    }

    /// Sets the threads to work that make room. A writer that cannot go on looks again by itself
    /// and then wakes those who wait: waking it from here would go round in circles.
    func hurry() {
        if log.health == .good { wakeWriterFully() }
        applierWake.signal()
    }

    @inline(__always)
    func checkHealth() throws(DeviceError) {
        let health = log.health
        if health != .good { try refuse(health) }
    }

    /// The image's file system has no room for what the applier has to write.
    private var isImageFull: Bool {
        imageErrorCode.load(ordering: .relaxed) == DeviceError.noSpace.rawValue
    }

    private func refuse(_ health: LogHealth) throws(DeviceError) {
        switch health {
        case .good: return
        case .failed: throw .io
        case .full: if options.onFull == .fail { throw .noSpace }
        case .behind:
            // Slow is no reason to refuse; full is.
            if options.onFull == .fail, isArchiveFull.load(ordering: .relaxed) { throw .noSpace }
        }
    }

    private func checkRange(_ offset: UInt64, _ count: UInt64) throws(DeviceError) {
        guard offset <= bytes, count <= bytes - offset else { throw .invalid }
    }
}
