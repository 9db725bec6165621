// The ring: where a write gets its place in the order, and its bytes wait until they are durable in
// the log and applied to the image. The records lie in it exactly as in a WAL file, so that the
// writer hands ring memory to the disk without a copy.
//
// Positions are byte counts that rise for ever; position modulo capacity is the place in memory.
//
//      freed            durable          (published)         reserved
//   -----|----------------|------------------|------------------|-----> position
//        | applied later  | drained next     | being copied     | free, up to freed + capacity
//
//   freed <= durable <= reserved <= freed + capacity, at any time
//
// Order and place are given under one short lock; copying and checksum happen outside it. A record
// is published by storing the magic into its header (release); until then that word is 0. A record
// never wraps: where it would, a pad fills the end of the memory. Pads are not written to files.
//
// Threads: any may reserve and publish; one at a time drains (LogWriter) and one at a time frees.

import BlockModel
import CLinux
import DiskIO
import LogFormat
import Synchronization

/// A place in the ring, given in LSN order, not yet visible to the writer. Must be published.
public struct Reservation {
    /// Position of the header.
    public let position: UInt64
    public let stamp: Stamp
    let kind: RecordKind
    let extent: Extent
    let durableLSN: LSN
    let header: UnsafeMutableRawPointer
    public let payloadBytes: Int

    /// Where the payload goes; `payloadBytes` bytes.
    public var payload: UnsafeMutableRawPointer { header + RecordHeader.byteCount }
    /// Position after the record.
    public var end: UInt64 {
        position + UInt64(RecordHeader.logBytes(payloadBytes: payloadBytes))
    }
}

/// An atomic counter alone on its cache line.
struct LoneAtomic: ~Copyable {
    let value: Atomic<UInt64>
    private let padding: (UInt64, UInt64, UInt64, UInt64, UInt64, UInt64, UInt64) =
        (0, 0, 0, 0, 0, 0, 0)

    init(_ initial: UInt64) { value = Atomic(initial) }
}

public final class Ring: @unchecked Sendable {
    // @unchecked: `memory` is shared by the protocol above; everything else is atomic or locked.

    /// What the order lock guards.
    struct Order {
        var nextLSN: LSN
        var lastWall: Int64
        var reserved: UInt64
        /// The newest record is a flush: a further flush needs no record of its own.
        var endsInFlush: Bool
        var isClosed = false
    }

    public let capacity: UInt64
    public let salt: UInt32
    /// Longest payload of one record in this ring.
    public let payloadBytesMax: Int
    let memory: AlignedBuffer
    private let clock: WallClock
    private let orderLock = Lock()
    private var order: Order
    private let reservedEnd = LoneAtomic(0)
    private let publishedTotal = LoneAtomic(0)
    private let freedEnd = LoneAtomic(0)
    private let newestLSN: LoneAtomic
    /// Set by the writer: newest durable LSN, copied into each header.
    let durableLSN: Atomic<UInt64>

    public static let minimumBytes: UInt64 = 64 << 10

    /// `bytes` is rounded up to a power of two, so that sector positions modulo 2^32 still tell the
    /// place in memory. The first record gets the LSN after `last`.
    public init(bytes: UInt64, after last: Stamp, salt: UInt32, clock: WallClock) {
        let rounded = Self.roundedBytes(bytes)
        capacity = rounded
        self.salt = salt
        self.clock = clock
        memory = AlignedBuffer(count: Int(rounded))
        payloadBytesMax = min(
            RecordHeader.payloadBytesMax, Int(rounded / 4) / Sector.bytes * Sector.bytes)
        order = Order(
            nextLSN: last.lsn.next, lastWall: last.wallNanoseconds, reserved: 0, endsInFlush: true)
        newestLSN = LoneAtomic(last.lsn.rawValue)
        durableLSN = Atomic(last.lsn.rawValue)
    }

    /// The capacity that a ring of `bytes` gets: a power of two from 64 KiB to 64 GiB.
    public static func roundedBytes(_ bytes: UInt64) -> UInt64 {
        var rounded = minimumBytes
        while rounded < bytes, rounded < 64 << 30 { rounded *= 2 }
        return rounded
    }

    public enum Outcome {
        case reserved(Reservation)
        /// No room: wait until something is freed, then try again.
        case full
        case closed
    }

    /// Gives the next LSN, a stamp and a place.
    @inline(__always)
    public func reserve(_ kind: RecordKind, _ extent: Extent, payloadBytes: Int) -> Outcome {
        orderLock.lock()
        defer { orderLock.unlock() }
        return reserveLocked(kind, extent, payloadBytes: payloadBytes)
    }

    /// Runs `body` under the order lock, after every record ordered so far is published: nothing
    /// is ordered meanwhile but by `body` itself, with `reserveLocked`. For read-modify-write.
    public func withQuietOrder<R, E: Error>(_ body: () throws(E) -> R) throws(E) -> R {
        orderLock.lock()
        defer { orderLock.unlock() }
        while publishedTotal.value.load(ordering: .acquiring) != order.reserved {
            clinux_yield()
        }
        return try body()
    }

    /// `reserve` for who holds the order lock.
    @inline(__always)
    public func reserveLocked(
        _ kind: RecordKind, _ extent: Extent, payloadBytes: Int
    ) -> Outcome {
        if order.isClosed { return .closed }
        let bytes = UInt64(RecordHeader.logBytes(payloadBytes: payloadBytes))
        precondition(bytes <= capacity / 2, "a record must fit half of the ring")
        var position = order.reserved
        let untilWrap = capacity - position % capacity
        let padding = untilWrap < bytes ? untilWrap : 0
        // Acquiring: what was read of the freed memory is finished before it is written again.
        let freed = freedEnd.value.load(ordering: .acquiring)
        guard position + padding + bytes <= freed + capacity else { return .full }
        let now = clock.nanoseconds()
        if now > order.lastWall || Fault.clockUnclamped.isOn { order.lastWall = now }
        let stamp = Stamp(lsn: order.nextLSN, wallNanoseconds: order.lastWall)
        if padding > 0 {
            writePad(at: position, bytes: padding, stamp: stamp)
            position += padding
        }
        let header = pointer(position)
        // Unpublished until the magic is stored; the unused part of a header sector is zero.
        memset(header, RecordHeader.byteCount)
        order.reserved = position + bytes
        order.nextLSN = stamp.lsn.next
        order.endsInFlush = kind == .flush
        newestLSN.value.store(stamp.lsn.rawValue, ordering: .relaxed)
        // Releasing: who sees the new end sees the cleared header below it.
        reservedEnd.value.store(order.reserved, ordering: .releasing)
        return .reserved(
            Reservation(
                position: position, stamp: stamp, kind: kind, extent: extent,
                durableLSN: LSN(durableLSN.load(ordering: .relaxed)), header: header,
                payloadBytes: payloadBytes))
    }

    /// Makes the record visible to the writer; its payload must be in place. Returns the bytes
    /// published so far.
    @inline(__always)
    @discardableResult
    public func publish(_ reservation: Reservation, payloadCRC: UInt32) -> UInt64 {
        RecordHeader(
            stamp: reservation.stamp, kind: reservation.kind, extent: reservation.extent,
            payloadBytes: reservation.payloadBytes, payloadCRC: payloadCRC,
            durableLSN: reservation.durableLSN
        ).encodeUnpublished(to: reservation.header, salt: salt)
        // Release: the writer that sees the magic sees header and payload.
        clinux_store_release(reservation.header, RecordHeader.magic.littleEndian)
        let bytes = reservation.end - reservation.position
        // Before the look at the writer's state that follows: a writer about to sleep sees this.
        return publishedTotal.value.add(bytes, ordering: .sequentiallyConsistent).newValue
    }

    /// Orders a flush. Returns the position to wait for; no record is made when the newest record
    /// is a flush already.
    public func reserveFlush() -> (outcome: Outcome?, position: UInt64) {
        orderLock.lock()
        defer { orderLock.unlock() }
        if order.endsInFlush, !order.isClosed { return (nil, order.reserved) }
        let outcome = reserveLocked(.flush, Extent(start: 0, count: 0), payloadBytes: 0)
        return (outcome, order.reserved)
    }

    /// After this nothing is ordered any more.
    public func closeOrder() { orderLock.withLock { order.isClosed = true } }

    /// Everything before `position` may be overwritten. One caller at a time, rising.
    public func free(before position: UInt64) {
        // Releasing: the freer's last reads of the memory come before.
        freedEnd.value.store(position, ordering: .releasing)
    }

    public var reserved: UInt64 { reservedEnd.value.load(ordering: .acquiring) }
    public var published: UInt64 { publishedTotal.value.load(ordering: .acquiring) }
    public var freed: UInt64 { freedEnd.value.load(ordering: .acquiring) }
    /// The newest LSN given.
    public var newest: LSN { LSN(newestLSN.value.load(ordering: .relaxed)) }
    public var usedBytes: UInt64 { reserved - freed }
    /// The newest stamp given.
    public var newestStamp: Stamp {
        orderLock.withLock { Stamp(lsn: order.nextLSN.previous, wallNanoseconds: order.lastWall) }
    }

    /// The header at a position, for the one who drains or applies.
    @inline(__always)
    public func pointer(_ position: UInt64) -> UnsafeMutableRawPointer {
        memory.base + Int(position % capacity)
    }

    /// Memory of a payload sector by its sector position modulo 2^32 (see BlockOverlay).
    @inline(__always)
    public func sector(_ sectorPosition: UInt64) -> UnsafeRawPointer {
        UnsafeRawPointer(pointer(sectorPosition << Sector.shift))
    }

    private func writePad(at position: UInt64, bytes: UInt64, stamp: Stamp) {
        let header = pointer(position)
        memset(header, RecordHeader.byteCount)
        RecordHeader(
            stamp: stamp, kind: .pad, extent: Extent(start: 0, count: bytes >> Sector.shift),
            payloadBytes: 0, payloadCRC: 0
        ).encodeUnpublished(to: header, salt: salt)
        clinux_store_release(header, RecordHeader.magic.littleEndian)
        publishedTotal.value.add(bytes, ordering: .releasing)
    }

    @inline(__always)
    private func memset(_ target: UnsafeMutableRawPointer, _ count: Int) {
        target.initializeMemory(as: UInt8.self, repeating: 0, count: count)
    }
}

/// What the writer and the applier need of a record in the ring, read from trusted memory.
public struct RingRecord {
    public let kind: RecordKind
    public let lsn: LSN
    public let wallNanoseconds: Int64
    public let extent: Extent
    /// Bytes in the ring, header included (for a pad: all that it fills).
    public let ringBytes: UInt64
    public let payloadBytes: Int
    /// Every record up to this one was durable when this one was ordered.
    public let durableLSN: LSN
    public var isPad: Bool { kind == .pad }

    /// `header` is published: this memory was written by this process.
    @inline(__always)
    public init(_ header: UnsafeRawPointer) {
        func load<T: FixedWidthInteger & BitwiseCopyable>(_ offset: Int, _: T.Type) -> T {
            T(littleEndian: header.load(fromByteOffset: offset, as: T.self))
        }
        guard let kind = RecordKind(rawValue: load(48, UInt8.self)) else {
            preconditionFailure("the ring holds a record of unknown kind: memory is damaged")
        }
        self.kind = kind
        lsn = LSN(load(8, UInt64.self))
        wallNanoseconds = load(16, Int64.self)
        extent = Extent(start: load(24, UInt64.self), count: load(32, UInt64.self))
        payloadBytes = Int(load(40, UInt32.self))
        durableLSN = LSN(load(56, UInt64.self))
        ringBytes =
            kind == .pad
            ? extent.count << Sector.shift
            : UInt64(RecordHeader.logBytes(payloadBytes: payloadBytes))
    }
}
