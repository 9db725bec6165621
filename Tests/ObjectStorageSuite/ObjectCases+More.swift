// More of what a volume in object storage must do: retention, several segments under way, the
// probe.

import BlockModel
import DiskIO
import Foundation
import History
import HistoryModel
import LogFormat
import ObjectStorage
import SegmentStoreSuite
import ServerAPI
import Shipping

/// The same rule on a store in memory and in the bucket leaves the same segments, and the newest
/// state is the same byte for byte.
func thinned(_ place: ObjectPlace) throws {
    let prefix = place.freshPrefix()
    let volume = try place.attached(prefix, graceSeconds: 1, keep: "newest 1d")
    let memory = MemoryStore(try ship(volume, SegmentMaker(seed: 41), 12, bytes: 60_000))
    let store = ObjectStore(volume)
    guard let head = try volume.state()?.head else { throw ObjectComplaint("there is a head") }
    let (now, lsn) = (head.wallNanoseconds + 5_000_000_000, LSN(head.lsn))
    let ladder = try Ladder(parsing: "newest 1d")
    var rule = RetentionRule(ladder, now: now)
    rule.slack = ladder.lastSpan / 8
    rule.entriesMax = 1 << 18
    let wanted = try Thinning(store: memory, volume: nil, leases: { [] }).run(rule)
    let puts = volume.client.counters.requests["put"] ?? 0
    let result = try ObjectRetention(store).run(now: now)
    try expect(result?.deleted == wanted.deleted, "the same goes: \(String(describing: result))")
    try expect(result?.written == wanted.written, "the same is written")
    try expect(!wanted.deleted.isEmpty, "something goes")
    // The merged segments with their entries, and one entry for all that goes.
    let entries = UInt64(2 * wanted.written.count + 1)
    try expect((volume.client.counters.requests["put"] ?? 0) - puts == entries, "few puts")
    let reader = ObjectStore(try place.volume(prefix, writer: nil))
    let names = try reader.list().map(\.name)
    try expect(names == memory.list().map(\.name), "the same stays: \(names)")
    let (near, far) = try (
        PointInTimeView(HistoryCatalogue(store: memory), at: lsn),
        PointInTimeView(HistoryCatalogue(store: reader), at: lsn)
    )
    for offset in stride(from: 0, to: UInt64(near.byteCount), by: 1 << 20) {
        var (one, other) = (
            [UInt8](repeating: 1, count: 1 << 20), [UInt8](repeating: 2, count: 1 << 20)
        )
        try one.withUnsafeMutableBytes { try near.read(into: $0, at: offset) }
        try other.withUnsafeMutableBytes { try far.read(into: $0, at: offset) }
        try expect(one == other, "the state at \(offset)")
    }
    try expect(try volume.state()?.head == head, "the head stays")
}

/// Each put is told what follows, as the shipper does.
func severalUnderWay(_ place: ObjectPlace) throws {
    let prefix = place.freshPrefix()
    let target = ObjectTarget(try place.attached(prefix))
    let maker = SegmentMaker(seed: 42)
    let base = MemorySource(maker.snapshot())
    var head = try target.put(base.shipment()) { _ in }.head
    let sources = (0..<20).map { number in
        MemorySource(maker.log(records: 3, bytes: number == 11 ? 9 << 20 : 400_000))
    }
    var shipments = sources.map { $0.shipment() }
    for i in shipments.indices.dropFirst() { shipments[i].after = sources[i - 1].digest }
    var paced = 0
    for i in shipments.indices {
        let next = Array(shipments[(i + 1)...].prefix(target.nextMax))
        let reply = try target.put(shipments[i], next: next) { paced += $0 }
        try expect(!reply.wasThere, "\(i) is new")
        try expect(reply.head?.lsn == sources[i].name.last.rawValue, "\(i) is the head")
        head = reply.head
    }
    let bytes = sources.reduce(0) { $0 + $1.bytes.count }
    try expect(paced >= bytes, "each byte is paced")
    let reader = ObjectStore(try place.volume(prefix, writer: nil))
    var wanted = [base.name: base.bytes]
    for source in sources { wanted[source.name] = source.bytes }
    try expect(try reader.everything() == wanted, "all is there")
    try expect(try reader.volume.state()?.head == head, "and the head")
}

func probed(_ place: ObjectPlace) throws {
    let report = try ObjectProbe.run(try place.client(place.freshPrefix()), rounds: 8)
    try expect(report.createOnly == .honoured, "create-only puts: \(report)")
    try expect(report.raceRounds == 8 && report.raceWinnersMax == 1, "in races: \(report)")
    try expect(report.isUsable && report.isGuarded, "enough for logdisk: \(report)")
    try expect(report.metadata == .honoured, "metadata comes back: \(report)")
    try expect(report.listAfterWrite == .honoured, "listings show it: \(report)")
    try expect(report.deletes == .honoured, "deletions: \(report)")
    try expect(abs(report.clockDifferenceSeconds ?? 0) < 600, "the clock: \(report)")
}
