// The ring: order, wrap, pads, room, many producers at once.

import BlockModel
import CLinux
import LogFormat
import Synchronization
import Testing
import WriteLog

#if canImport(Glibc)
    import Glibc
#endif

@Suite struct RingTests {
    private func ring(_ bytes: UInt64 = 64 << 10, clock: WallClock = SteppedClock()) -> Ring {
        Ring(
            bytes: bytes, after: Stamp(lsn: LSN(10), wallNanoseconds: 500), salt: 3, clock: clock)
    }

    @discardableResult
    private func put(_ ring: Ring, payload: Int) -> Reservation? {
        let extent = Extent(start: 0, count: UInt64(payload / 512))
        guard case .reserved(let place) = ring.reserve(.write, extent, payloadBytes: payload)
        else { return nil }
        ring.publish(place, payloadCRC: 0)
        return place
    }

    @Test func sizesArePowersOfTwo() {
        #expect(Ring.roundedBytes(1) == 64 << 10)
        #expect(Ring.roundedBytes(65_537) == 128 << 10)
        #expect(Ring.roundedBytes(64 << 20) == 64 << 20)
        #expect(ring().payloadBytesMax == 16384)
    }

    @Test func lsnsFollowAndStampsNeverFall() {
        let clock = SteppedClock()
        let ring = ring(clock: clock)
        clock.now = 400  // before the last stamp
        #expect(put(ring, payload: 512)?.stamp == Stamp(lsn: LSN(11), wallNanoseconds: 500))
        clock.now = 700
        #expect(put(ring, payload: 512)?.stamp == Stamp(lsn: LSN(12), wallNanoseconds: 700))
        clock.now = -5
        #expect(put(ring, payload: 512)?.stamp == Stamp(lsn: LSN(13), wallNanoseconds: 700))
        #expect(ring.newest == LSN(13))
    }

    @Test func fullUntilSomethingIsFreed() throws {
        let ring = ring()
        var first: Reservation?
        for index in 0..<4 {
            let place = try #require(put(ring, payload: 15_872))  // with its header a quarter
            if index == 0 { first = place }
        }
        #expect(ring.usedBytes == ring.capacity)
        #expect(put(ring, payload: 512) == nil)
        ring.free(before: try #require(first).end)
        let next = try #require(put(ring, payload: 512))
        // The record before ended at the end of the memory: no pad.
        #expect(next.position == ring.capacity)
        #expect(next.stamp.lsn == LSN(15))
    }

    @Test func aPadFillsWhatARecordDoesNotFit() throws {
        let ring = ring()
        for _ in 0..<3 { put(ring, payload: 16384) }
        let used = ring.reserved
        ring.free(before: used)
        let place = try #require(put(ring, payload: 16384))
        #expect(place.position == ring.capacity)
        let pad = RingRecord(ring.pointer(used))
        #expect(pad.isPad && pad.ringBytes == ring.capacity - used)
        #expect(ring.published == ring.reserved)
    }

    @Test func aFlushAfterAFlushNeedsNoRecord() {
        let ring = ring()
        #expect(ring.reserveFlush().outcome == nil)
        put(ring, payload: 512)
        let (outcome, position) = ring.reserveFlush()
        guard case .reserved(let place)? = outcome else {
            Issue.record("no flush")
            return
        }
        ring.publish(place, payloadCRC: 0)
        #expect(position == place.end)
        #expect(ring.reserveFlush().outcome == nil)
        #expect(ring.reserveFlush().position == position)
    }

    @Test func closedIsClosed() {
        let ring = ring()
        ring.closeOrder()
        guard case .closed = ring.reserve(.flush, Extent(start: 0, count: 0), payloadBytes: 0)
        else {
            Issue.record("a closed ring took a record")
            return
        }
        guard case .closed? = ring.reserveFlush().outcome else {
            Issue.record("a closed ring took a flush")
            return
        }
    }

    /// Producers on threads of their own; the test's thread checks that records come whole and in
    /// order, and frees them.
    @Test func manyProducersOneConsumer() {
        let ring = ring(256 << 10)
        let each = 20_000
        let producers = 4
        let total = each * producers
        let done = runThreads(producers) { thread in
            for number in 0..<each {
                let sectors = 1 + (number &* 7 &+ thread) % 6
                let mark = UInt8(truncatingIfNeeded: number &+ thread)
                while true {
                    let extent = Extent(start: UInt64(thread), count: UInt64(sectors))
                    guard
                        case .reserved(let place) = ring.reserve(
                            .write, extent, payloadBytes: sectors * 512)
                    else {
                        sched_yield()
                        continue
                    }
                    place.payload.initializeMemory(
                        as: UInt8.self, repeating: mark, count: place.payloadBytes)
                    ring.publish(
                        place,
                        payloadCRC: clinux_crc32c(0, place.payload, place.payloadBytes))
                    break
                }
            }
        }
        var position: UInt64 = 0
        var lsn = LSN(10)
        var found = 0
        while found < total {
            let header = ring.pointer(position)
            guard position < ring.reserved,
                clinux_load_acquire(header) == RecordHeader.magic.littleEndian
            else {
                sched_yield()
                continue
            }
            let record = RingRecord(header)
            if !record.isPad {
                guard let decoded = RecordHeader.decode(header, salt: 3),
                    decoded.stamp.lsn == lsn.next,
                    clinux_crc32c(0, header + RecordHeader.byteCount, decoded.payloadBytes)
                        == decoded.payloadCRC
                else {
                    Issue.record("a damaged record after \(lsn)")
                    break
                }
                lsn = decoded.stamp.lsn
                found += 1
            }
            position += record.ringBytes
            ring.free(before: position)
        }
        // Producers that wait for room end only when all was taken.
        if found == total { done.join() }
        #expect(found == total)
        #expect(ring.published == ring.reserved)
    }
}

/// Threads that run `body` with their number.
final class TestThreads: Sendable {
    private let handles: [pthread_t]

    fileprivate init(_ handles: [pthread_t]) { self.handles = handles }

    func join() { for handle in handles { pthread_join(handle, nil) } }
}

private final class ThreadStart: Sendable {
    let number: Int
    let body: @Sendable (Int) -> Void

    init(_ number: Int, _ body: @escaping @Sendable (Int) -> Void) {
        self.number = number
        self.body = body
    }
}

func runThreads(_ count: Int, _ body: @escaping @Sendable (Int) -> Void) -> TestThreads {
    var handles: [pthread_t] = []
    for number in 0..<count {
        var handle = pthread_t()
        let start = Unmanaged.passRetained(ThreadStart(number, body))
        let code = pthread_create(
            &handle, nil,
            { argument in
                guard let argument else { return nil }
                let start = Unmanaged<ThreadStart>.fromOpaque(argument).takeRetainedValue()
                start.body(start.number)
                return nil
            }, start.toOpaque())
        precondition(code == 0, "no thread")
        handles.append(handle)
    }
    return TestThreads(handles)
}
