// A volume and its local history in memory, as the shipper sees a mount; and a clock that tests
// move.

import BlockModel
import DiskIO
import History
import HistoryModel
import LogFormat
import ServerAPI
import Shipping
import Synchronization

/// Time that passes when told to, or when somebody sleeps.
final class ModelClock: Sendable {
    private let nanoseconds = Mutex<Int64>(1_000_000_000)
    let wallOffset = Mutex<Int64>(1_700_000_000_000_000_000)

    func advance(_ by: Int64) { nanoseconds.withLock { $0 += by } }

    var clock: ShipClock {
        var clock = ShipClock()
        clock.now = { self.nanoseconds.withLock { $0 } }
        clock.wall = { self.nanoseconds.withLock { $0 } + self.wallOffset.withLock { $0 } }
        clock.minuteOfDay = { Int($0 / 60_000_000_000 % 1440) }
        clock.sleep = { self.advance($0) }
        return clock
    }
}

final class ModelJournal: ShipJournal, @unchecked Sendable {
    // @unchecked: tests drive it from one thread.
    var volume: ModelVolume
    let segments = MemoryStore()
    let archiver: Archiver
    let writer: SnapshotWriter
    var pinned: Set<LSN> = []
    var isHeld = false
    var unarchivedRecordBytes: UInt64 = 100
    var isBusy = false
    var paces = 0
    /// Where the volume keeps its history; nil: here.
    var elsewhere: MemoryStore?

    init(_ random: inout SeededRandom) throws {
        let sectors = [8, 64, 200][random.below(3)]
        var base = [UInt8](repeating: 0, count: sectors * Sector.bytes)
        if random.chance(0.5) { base[random.below(base.count)] = 1 + UInt8(random.below(255)) }
        volume = ModelVolume(sectors: sectors, base: base)
        var limits = Archiver.Limits()
        limits.blockBytes = 4096
        limits.recordsMax = UInt64(1 + random.below(40))
        writer = SnapshotWriter(
            store: segments, identity: volume.identity, blockBytes: 4096)
        _ = try writer.write(ImageSource(base), at: volume.baseStamp)
        archiver = try Archiver(store: segments, identity: volume.identity, limits: limits)
    }

    var identity: SegmentIdentity { volume.identity }
    var store: any SegmentStore { segments }
    var holdsBeginning: Bool { elsewhere == nil }
    var history: any SegmentStore { elsewhere.map { BothStores(segments, $0) } ?? segments }
    var base: PointInTimeView? { nil }
    var durable: Stamp { volume.stamp(volume.last) }
    var archived: LSN { archiver.archivedLSN }
    var unarchivedBytes: UInt64 {
        (volume.last.rawValue - archived.rawValue) * unarchivedRecordBytes
    }
    var pins: Set<LSN> { pinned }

    func archive(through last: LSN, while mayGoOn: () -> Bool) throws(ShipError) {
        do throws(HistoryError) {
            try archiver.archive(from: volume.source(), through: last) { _ in mayGoOn() }
        } catch { throw .source(StoreError(.put, "\(error)", .short)) }
    }

    func pace() { paces += 1 }
    func waitForRecords(after lsn: LSN, or isWoken: () -> Bool) {}
    func wakeWaiters() {}
    func spool(_ remote: String) throws(StoreError) -> any SegmentStore { MemoryStore() }
    func holdWriters(_ isHeld: Bool, for remote: String) { self.isHeld = isHeld }

    // MARK: - for tests

    /// Random records over some seconds.
    func grow(_ random: inout SeededRandom, records: Int) {
        for _ in 0..<records {
            volume.appendRandom(&random)
            if random.chance(0.2) {
                volume.append(.flush, after: Int64(random.below(40)) * 1_000_000_000)
            }
        }
    }

    func snapshot() throws {
        guard archived == volume.last else { return }
        _ = try? writer.write(
            ImageSource(volume.image(at: archived)), at: volume.stamp(archived))
    }

    func prune(_ ladder: Ladder, unshippedAfter: LSN) throws {
        var rule = RetentionRule(ladder, now: volume.wall)
        rule.pins = pinned
        rule.unshippedAfter = unshippedAfter
        _ = try Thinning(store: segments, volume: volume.id, leases: { [] }).run(rule)
    }

    /// A shipper of this volume that sends at once.
    func shipper(
        to target: any ShipTarget, _ clock: ModelClock, memory: ShipMemory = ShipMemory(),
        _ change: (inout Shipper.Setup) -> Void = { _ in }
    ) -> Shipper {
        var settings = ShipSettings()
        settings.when = .always
        settings.batchSeconds = 0
        let request = VolumeRequest(
            uuid: "\(volume.id)", sizeBytes: volume.byteCount, writer: "w", host: "host",
            isSealed: false, keep: nil)
        var setup = Shipper.Setup(name: "r", settings: settings, request: request)
        setup.clock = clock.clock
        setup.seed = 7
        change(&setup)
        return Shipper(
            setup, journal: self, target: target, memory: memory, log: .quiet
        ) { _ in }
    }
}

/// What is here, and what is there.
final class BothStores: SegmentStore {
    private let here: MemoryStore
    private let there: MemoryStore

    init(_ here: MemoryStore, _ there: MemoryStore) { (self.here, self.there) = (here, there) }

    var label: String { here.label }

    func list() throws(StoreError) -> [StoredSegment] {
        let ours = try here.list()
        let names = Set(ours.map(\.name))
        return (ours + (try there.list().filter { !names.contains($0.name) }))
            .sorted { $0.name < $1.name }
    }

    func read(
        _ name: SegmentName, into target: UnsafeMutableRawBufferPointer, at offset: UInt64
    ) throws(StoreError) {
        do throws(StoreError) { try here.read(name, into: target, at: offset) } catch {
            guard error.cause == .missing else { throw error }
            try there.read(name, into: target, at: offset)
        }
    }

    func upload() throws(StoreError) -> any SegmentUpload { try here.upload() }

    func delete(_ name: SegmentName) throws(StoreError) { try here.delete(name) }
}
