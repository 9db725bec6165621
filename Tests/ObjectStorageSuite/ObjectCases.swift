// What a volume in object storage must do at any store that honours create-only puts, as cases: the
// fake store runs them, and so do real engines. A case throws what is wrong.

import BlockModel
import Foundation
import History
import HistoryModel
import LogFormat
import ObjectStorage
import SegmentStoreSuite
import ServerAPI
import Shipping
import Synchronization

/// What is wrong.
public struct ObjectComplaint: Error, CustomStringConvertible {
    public var description: String

    public init(_ description: String) { self.description = "not so: \(description)" }
}

public struct ObjectCase: Sendable, CustomStringConvertible {
    public var description: String
    public var run: @Sendable (ObjectPlace) throws -> Void

    public static let all: [ObjectCase] =
        SegmentStoreCase.all.map { promise in
            ObjectCase(description: "segment store: \(promise)") { place in
                let volume = try place.attached(place.freshPrefix())
                try promise.run(
                    StoreUnderTest(ObjectStore(volume), takesAnyBytes: false, keeper: volume))
            }
        } + [
            ObjectCase(description: "ships, reads back, opens anew", run: ships),
            ObjectCase(description: "what is there is not sent again", run: isNotSentAgain),
            ObjectCase(description: "records that do not follow are refused", run: follows),
            ObjectCase(description: "a large segment goes in parts", run: parts),
            ObjectCase(description: "a fenced writer that wakes up loses", run: fenced),
            ObjectCase(description: "of several who take over one wins", run: takeovers),
            ObjectCase(description: "another volume is refused", run: otherVolume),
            ObjectCase(description: "many entries, a checkpoint, a short way", run: checkpoints),
            ObjectCase(description: "pruned, hidden, swept", run: prunedAndSwept),
            ObjectCase(description: "leases hold the sweep back", run: leased),
            ObjectCase(description: "thinned by the ladder, as everywhere", run: thinned),
            ObjectCase(description: "several segments under way", run: severalUnderWay),
            ObjectCase(description: "the probe finds create-only puts", run: probed),
        ]
}

func expect(_ isSo: @autoclosure () throws -> Bool, _ what: String) throws {
    if try !isSo() { throw ObjectComplaint(what) }
}

/// Runs `body`, which must fail; gives its ShipError.
func failure(_ what: String, _ body: () throws -> Void) throws -> ShipError {
    do {
        try body()
    } catch let error as ShipError {
        return error
    } catch { throw ObjectComplaint("\(what): failed with \(error)") }
    throw ObjectComplaint("\(what): went well")
}

func isRejected(_ error: ShipError, _ code: ErrorReply.Code) -> Bool {
    if case .rejected(let reply) = error { reply.code == code } else { false }
}

func isFenced(_ error: ShipError) -> Bool {
    if case .fenced = error { true } else { false }
}

/// Ships a snapshot and `count` logs; gives all that was shipped.
@discardableResult
func ship(
    _ volume: ObjectVolume, _ maker: SegmentMaker, _ count: Int, bytes: Int = 20_000
) throws -> [SegmentName: [UInt8]] {
    let target = ObjectTarget(volume)
    var shipped: [SegmentName: [UInt8]] = [:]
    var head = try volume.state()?.head
    for number in 0...count {
        if number == 0, head != nil { continue }
        let source = MemorySource(
            number == 0 ? maker.snapshot() : maker.log(records: 3, bytes: bytes))
        head = try target.put(source.shipment(after: head)) { _ in }.head
        shipped[source.name] = source.bytes
        try expect(head?.lsn == maker.lsn.rawValue, "the head follows")
    }
    return shipped
}

private func ships(_ place: ObjectPlace) throws {
    let prefix = place.freshPrefix()
    try expect(try place.volume(prefix, writer: nil).state() == nil, "nothing there yet")
    let volume = try place.attached(prefix)
    let maker = SegmentMaker(seed: 31)
    let shipped = try ship(volume, maker, 5)
    let reader = ObjectStore(try place.volume(prefix, writer: nil))
    try expect(try reader.everything() == shipped, "a reader finds all of it")
    let state = try reader.volume.state()
    try expect(state?.segmentCount == 6 && state?.snapshotCount == 1, "it is counted")
    try expect(state?.head?.lsn == maker.lsn.rawValue, "the head is there")
    try expect(state?.writer == "writer" && state?.generation == 1, "and the writer")
    // What is written afterwards shows in the next listing, with one request.
    let before = reader.volume.client.counters.requestCount
    _ = try reader.list()
    try expect(reader.volume.client.counters.requestCount == before + 1, "no news: one request")
    let more = try ship(volume, maker, 2)
    let all = shipped.merging(more) { first, _ in first }
    try expect(try reader.everything() == all, "news are found")
}

private func isNotSentAgain(_ place: ObjectPlace) throws {
    let prefix = place.freshPrefix()
    let maker = SegmentMaker(seed: 32)
    let base = MemorySource(maker.snapshot())
    let log = MemorySource(maker.log(records: 5, bytes: 50_000))
    let first = ObjectTarget(try place.attached(prefix))
    let head = try first.put(base.shipment()) { _ in }.head
    let reply = try first.put(log.shipment(after: head)) { _ in }
    try expect(!reply.wasThere, "it is new")
    let again = ObjectTarget(try place.attached(prefix))
    var paced = 0
    let second = try again.put(log.shipment(after: head)) { paced += $0 }
    try expect(second.wasThere && second.head == reply.head, "it is known")
    try expect(paced == 0, "no byte goes over")
    // Other bytes of that name.
    let other = SegmentMaker(seed: 133)
    let fork = MemorySource(other.log(records: 5, bytes: 50_000))
    let error = try failure("other bytes") { _ = try again.put(fork.shipment()) { _ in } }
    try expect(isRejected(error, .exists), "other bytes are not taken: \(error)")
}

private func follows(_ place: ObjectPlace) throws {
    let target = ObjectTarget(try place.attached(place.freshPrefix()))
    let maker = SegmentMaker(seed: 34)
    let head = try target.put(MemorySource(maker.snapshot()).shipment()) { _ in }.head
    _ = maker.log(records: 3, bytes: 5000)
    let late = MemorySource(maker.log(records: 3, bytes: 5000))
    let gap = try failure("a gap") { _ = try target.put(late.shipment(after: head)) { _ in } }
    try expect(isRejected(gap, .gap), "missing records are told: \(gap)")
    let state = try target.state()
    try expect(state?.segmentCount == 1 && state?.head == head, "nothing has changed")
    var bytes = late.bytes
    bytes[bytes.count / 2] ^= 1
    let damaged = MemorySource((late.name, bytes))
    let error = try failure("damage") { _ = try target.put(damaged.shipment()) { _ in } }
    try expect(isRejected(error, .damaged), "damage is told: \(error)")
}

private func parts(_ place: ObjectPlace) throws {
    var place = place
    let usual = place.change
    place.change = {
        usual(&$0)
        $0.objectBytes = 5 << 20
    }
    let prefix = place.freshPrefix()
    let volume = try place.attached(prefix)
    let maker = SegmentMaker(seed: 35)
    let target = ObjectTarget(volume)
    let head = try target.put(MemorySource(maker.snapshot()).shipment()) { _ in }.head
    let source = MemorySource(maker.log(records: 17, bytes: 17 << 20))
    var paced = 0
    let reply = try target.put(source.shipment(after: head)) { paced += $0 }
    try expect(paced == source.bytes.count, "each byte is paced once")
    try expect(reply.head?.lsn == maker.lsn.rawValue, "the head follows")
    let reader = ObjectStore(try place.volume(prefix, writer: nil))
    try expect(try reader.everything()[source.name] == source.bytes, "all bytes come back")
}

private func fenced(_ place: ObjectPlace) throws {
    let prefix = place.freshPrefix()
    let sleeper = try place.attached(prefix, writer: "sleeper")
    let maker = SegmentMaker(seed: 36)
    var wanted = try ship(sleeper, maker, 2)
    let other = try place.volume(prefix, writer: "other")
    let generation = try other.state()?.generation ?? 0
    let reply = try other.takeOver(
        WriterRequest(writer: "other", host: "elsewhere", generation: generation))
    try expect(reply.writer == "other" && reply.generation == generation + 1, "it is taken over")
    let source = MemorySource(maker.log(records: 3, bytes: 9000))
    let head = reply.head
    // The sleeper knows of nothing.
    let error = try failure("a fenced put") {
        _ = try ObjectTarget(sleeper).put(source.shipment(after: head)) { _ in }
    }
    try expect(isFenced(error), "the sleeper is told: \(error)")
    let keep = try failure("a fenced change") { _ = try sleeper.setKeep("1h 1d") }
    try expect(isFenced(keep), "and again: \(keep)")
    let attach = try failure("a fenced attach") {
        _ = try place.attached(prefix, writer: "sleeper")
    }
    try expect(isFenced(attach), "and at the start: \(attach)")
    _ = try ObjectTarget(other).put(source.shipment(after: head)) { _ in }
    wanted[source.name] = source.bytes
    let reader = ObjectStore(try place.volume(prefix, writer: nil))
    try expect(try reader.everything() == wanted, "the history is the other's")
    let stale = try failure("an old generation") {
        _ = try sleeper.takeOver(
            WriterRequest(writer: "sleeper", host: "here", generation: generation))
    }
    try expect(isFenced(stale), "a takeover that knows too little loses: \(stale)")
}

private func takeovers(_ place: ObjectPlace) throws {
    let prefix = place.freshPrefix()
    _ = try ship(try place.attached(prefix), SegmentMaker(seed: 37), 1)
    let volumes = try (0..<4).map { try place.volume(prefix, writer: "heir \($0)") }
    for volume in volumes { _ = try volume.state() }
    let winners = Mutex<[Int]>([])
    let others = Mutex<[String]>([])
    together(4) { index in
        do throws(ShipError) {
            _ = try volumes[index].takeOver(
                WriterRequest(writer: "heir \(index)", host: "h\(index)", generation: 1))
            winners.withLock { $0.append(index) }
        } catch {
            if !isFenced(error) { others.withLock { $0.append("\(error)") } }
        }
    }
    try expect(others.withLock { $0 } == [], "only fenced ones: \(others.withLock { $0 })")
    let won = winners.withLock { $0 }
    try expect(won.count == 1, "one wins: \(won)")
    let state = try place.volume(prefix, writer: nil).state()
    try expect(state?.writer == won.first.map { "heir \($0)" }, "it is the one who was told so")
    try expect(state?.generation == 2, "one generation")
}

/// Runs `body` on so many threads at once.
func together(_ count: Int, _ body: @escaping @Sendable (Int) -> Void) {
    let done = DispatchGroup()
    for index in 0..<count {
        done.enter()
        Thread.detachNewThread {
            body(index)
            done.leave()
        }
    }
    done.wait()
}

private func otherVolume(_ place: ObjectPlace) throws {
    let prefix = place.freshPrefix()
    _ = try place.attached(prefix)
    var request = ObjectPlace.request(writer: "writer")
    request.sizeBytes *= 2
    let error = try failure("another size") {
        _ = try place.volume(prefix, writer: "writer").attach(request)
    }
    try expect(isRejected(error, .otherVolume), "it is told: \(error)")
    let second = try failure("a second writer") {
        _ = try place.attached(prefix, writer: "second")
    }
    try expect(isFenced(second), "a second writer is refused: \(second)")
    let kept = try place.attached(place.freshPrefix(), keep: "1h 7d")
    try expect(try kept.setKeep("1m 1d").keep == "1m 1d", "a ladder is changed")
    try expect(try kept.setKeep(nil).keep == nil, "and taken away")
    let ladder = try failure("no ladder") { _ = try kept.setKeep("now and then") }
    try expect(isRejected(ladder, .malformed), "what is no ladder is refused: \(ladder)")
}

private func checkpoints(_ place: ObjectPlace) throws {
    let prefix = place.freshPrefix()
    let volume = try place.attached(prefix)
    let shipped = try ship(volume, SegmentMaker(seed: 38), 150, bytes: 1500)
    let reader = ObjectStore(try place.volume(prefix, writer: nil))
    try expect(try reader.list().count == 151, "all are listed")
    let requests = reader.volume.client.counters
    try expect(requests.requests["list"] == 1, "one listing: \(requests)")
    // One checkpoint, 24 entries behind it, and as many numbers as are asked for at once.
    try expect((requests.requests["get"] ?? 0) <= 1 + 24 + 8, "few requests: \(requests)")
    try expect(try reader.everything() == shipped, "and right")
}

private func prunedAndSwept(_ place: ObjectPlace) throws {
    let prefix = place.freshPrefix()
    let volume = try place.attached(prefix, graceSeconds: 3600)
    let shipped = try ship(volume, SegmentMaker(seed: 39), 4)
    let store = ObjectStore(volume)
    let early = ObjectStore(try place.volume(prefix, writer: nil))
    _ = try early.list()
    let names = try store.list().map(\.name)
    try volume.prune([names[1], names[2]])
    try expect(try store.list().map(\.name) == [names[0], names[3], names[4]], "hidden at once")
    let bytes = shipped[names[1]] ?? []
    try expect(try early.content(names[1], bytes.count) == bytes, "readers go on for a while")
    let now = Int64(Date().timeIntervalSince1970) * 1_000_000_000
    let first = try volume.sweep(now: now)
    try expect(first.deletedObjects == 0 && first.waiting == 2, "within the grace time: \(first)")
    let later = now + 3_700_000_000_000
    try expect((first.nextDue ?? 0) <= later, "and when it ends")
    let second = try volume.sweep(now: later)
    try expect(second.deletedObjects == 2 && second.waiting == 0, "behind it: \(second)")
    try expect(second.kept == [], "nothing is kept")
    do throws(StoreError) {
        // Another place than before: what was read ahead does not count.
        _ = try ObjectStore(place.reader(prefix)).probeRead(names[1])
        throw StoreError(.read, "", .exists)
    } catch { try expect(error.cause == .missing, "it is gone: \(error)") }
    let third = try volume.sweep(now: later)
    try expect(third == SweepResult(), "once: \(third)")
    // The head is where it was, and history goes on.
    try expect(try volume.state()?.head?.lsn == names[4].last.rawValue, "the head stays")
}

extension ObjectPlace {
    fileprivate func reader(_ prefix: String) throws(StoreError) -> ObjectVolume {
        do {
            return try volume(prefix, writer: nil)
        } catch { throw StoreError(.read, prefix, .refused("\(error)")) }
    }
}

extension ObjectStore {
    fileprivate func probeRead(_ name: SegmentName) throws(StoreError) -> UInt8 {
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 1, alignment: 1)
        defer { memory.deallocate() }
        try read(name, into: memory, at: 0)
        return memory[0]
    }
}

private func leased(_ place: ObjectPlace) throws {
    let prefix = place.freshPrefix()
    let volume = try place.attached(prefix, graceSeconds: 1)
    try ship(volume, SegmentMaker(seed: 40), 3)
    let names = try ObjectStore(volume).list().map(\.name)
    let reader = try place.volume(prefix, writer: nil)
    let lease = try reader.lease(
        LeaseRequest(
            purpose: "replay", holder: "tests", at: names[1].last.rawValue,
            segments: ["\(names[0])", "\(names[1])"]))
    try expect(lease != nil, "it is taken")
    try expect(try volume.leases().map(\.holder) == ["tests"], "and seen")
    try volume.prune([names[1], names[2]])
    let later = Int64(Date().timeIntervalSince1970 + 60) * 1_000_000_000
    let held = try volume.sweep(now: later)
    try expect(held.deletedObjects == 1 && held.waiting == 1, "what is read stays: \(held)")
    lease?.release()
    var isGone = false
    for _ in 0..<400 where !isGone {
        isGone = try volume.leases().isEmpty
        if !isGone { usleep(25_000) }
    }
    try expect(isGone, "it is given back")
    let free = try volume.sweep(now: later)
    try expect(free.deletedObjects == 1 && free.waiting == 0, "then it goes: \(free)")
}
