// Whole histories against the model: random records, archived in random portions, snapshots at
// random points; every view, replay and resolution must equal the model. A failure names its seed.

import BlockModel
import DiskIO
import History
import HistoryModel
import LogFormat
import Testing

#if canImport(Glibc)
    import Glibc
#endif

@Suite struct HistoryPropertyTests {
    /// Seeds that once failed, kept for ever, and fresh ones; LOGDISK_SEED runs a single one.
    private static let seeds: [UInt64] =
        getenv("LOGDISK_SEED").flatMap { UInt64(String(cString: $0)) }.map { [$0] }
        ?? Array(0..<150)

    /// A volume with its history in a store; records after `archived` are left to the tail.
    private struct World {
        var volume: ModelVolume
        var store: any SegmentStore
        var archived: LSN
        var snapshots: Set<LSN>
    }

    private static func world(
        _ random: inout SeededRandom, store: any SegmentStore
    ) throws -> World {
        let sectors = [1, 8, 9, 64, 200][random.below(5)]
        var base = [UInt8](repeating: 0, count: sectors * Sector.bytes)
        if random.chance(0.5) {
            for _ in 0..<3 { base[random.below(base.count)] = UInt8(random.below(256)) }
        }
        var volume = ModelVolume(sectors: sectors, base: base)
        var limits = Archiver.Limits()
        limits.blockBytes = 4096 << random.below(3)
        limits.payloadBytesMax = UInt64(1 + random.below(60_000))
        limits.recordsMax = UInt64(1 + random.below(60))
        let writer = SnapshotWriter(
            store: store, identity: volume.identity, blockBytes: limits.blockBytes)
        _ = try writer.write(ImageSource(base), at: volume.baseStamp)
        var archiver = try Archiver(store: store, identity: volume.identity, limits: limits)
        var snapshots: Set<LSN> = [.zero]
        for _ in 0..<1 + random.below(8) {
            for _ in 0..<random.below(40) { volume.appendRandom(&random) }
            if volume.last > archiver.archivedLSN, random.chance(0.8) {
                let room = Int(volume.last.rawValue - archiver.archivedLSN.rawValue)
                let last = LSN(archiver.archivedLSN.rawValue + UInt64(1 + random.below(room)))
                try archiver.archive(from: volume.source(), through: last)
                #expect(archiver.archivedLSN == last)
            }
            if random.chance(0.3) {  // a restart
                archiver = try Archiver(store: store, identity: volume.identity, limits: limits)
            }
            if random.chance(0.4) {
                let lsn = LSN(UInt64(random.below(Int(archiver.archivedLSN.rawValue) + 1)))
                guard snapshots.insert(lsn).inserted else { continue }
                let name = try writer.write(
                    ImageSource(volume.image(at: lsn)), at: volume.stamp(lsn))
                #expect(name == .snapshot(lsn))
            }
        }
        return World(
            volume: volume, store: store, archived: archiver.archivedLSN, snapshots: snapshots)
    }

    private static func catalogue(_ world: World, tail: Bool) throws -> HistoryCatalogue {
        let volume = world.volume
        return try HistoryCatalogue(
            store: world.store, volume: volume.id,
            tail: tail ? SequentialTail { volume.source(from: $0) } : nil)
    }

    @Test(arguments: seeds) func viewsEqualTheModel(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        let world = try Self.world(&random, store: MemoryStore())
        let volume = world.volume
        let withTail = random.chance(0.5)
        let history = try Self.catalogue(world, tail: withTail)
        let last = withTail ? volume.last : world.archived
        #expect(history.gaps == [])
        #expect(
            history.ranges == [RestorableRange(first: volume.baseStamp, last: volume.stamp(last))])
        for _ in 0..<6 {
            let lsn = LSN(UInt64(random.below(Int(last.rawValue) + 1)))
            let pin =
                random.chance(0.3) ? world.snapshots.filter { $0 <= lsn }.randomElement() : nil
            let view = try PointInTimeView(history, at: lsn, snapshot: pin, cacheBytesMax: 4096)
            let image = volume.image(at: lsn)
            #expect(try view.contents() == image, "lsn \(lsn)")
            let low = random.below(image.count)
            let high = low + random.below(image.count - low)
            #expect(try view.bytes(low..<high) == Array(image[low..<high]))
            var position: UInt64 = 0
            while position < view.byteCount {
                let data = view.nextData(from: position) ?? view.byteCount..<view.byteCount
                #expect(image[Int(position)..<Int(data.lowerBound)].allSatisfy { $0 == 0 })
                position = max(data.upperBound, position + 1)
            }
        }
    }

    @Test(arguments: seeds) func replaysEqualTheModel(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        let storage = SimulatedStorage(seed: seed)
        try storage.createDirectory("/h")
        let store = DirectoryStore(storage: storage, directory: "/h")
        let world = try Self.world(&random, store: store)
        let volume = world.volume
        let history = try Self.catalogue(world, tail: true)
        let device = "/device"
        try storage.addDevice(device, byteCount: volume.byteCount.advanced(by: 8192) & ~4095)
        let dirt = try storage.open(device, OpenOptions(.readWrite))
        try [UInt8](repeating: 0xAB, count: Int(try dirt.size())).withUnsafeBytes {
            try dirt.write($0, at: 0)
        }
        for round in 0..<3 {
            let lsn = LSN(UInt64(random.below(volume.records.count + 1)))
            let image = volume.image(at: lsn)
            var options = Replay.Options()
            options.windowBytesMax = 64 << 10
            options.workers = 1 + random.below(3)
            let replay = Replay(try PointInTimeView(history, at: lsn), options: options)
            try replay.write(toFile: "/out\(round)", in: storage)
            #expect(try storage.contents(of: "/out\(round)") == image, "lsn \(lsn)")
            try replay.write(toDevice: device, in: storage)
            var bytes = try storage.contents(of: device)
            #expect(bytes[image.count...].allSatisfy { $0 == 0xAB })
            bytes.removeLast(bytes.count - image.count)
            #expect(bytes == image)
        }
        #expect(try storage.list("/").allSatisfy { !$0.contains("unfinished") })
    }

    @Test(arguments: seeds) func timesResolveAsTheModelDoes(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        let world = try Self.world(&random, store: MemoryStore())
        let volume = world.volume
        let history = try Self.catalogue(world, tail: true)
        let now = volume.wall + 500
        for _ in 0..<30 {
            let start = volume.baseStamp.wallNanoseconds
            let time = start + Int64(random.below(Int(now - start) + 1))
            let expected =
                volume.records.last { $0.header.stamp.wallNanoseconds <= time }?
                .header.stamp ?? volume.baseStamp
            let point = try history.resolve(.time(time), now: now)
            #expect(point.stamp == expected)
            let upTo = volume.records.prefix(Int(expected.lsn.rawValue))
            let after = volume.records.dropFirst(Int(expected.lsn.rawValue))
            #expect(point.flushBefore == upTo.last { $0.header.kind == .flush }?.header.stamp)
            #expect(point.flushAfter == after.first { $0.header.kind == .flush }?.header.stamp)
            #expect(point.markBefore?.stamp == upTo.last { $0.header.kind == .mark }?.header.stamp)
            #expect(point.markAfter?.stamp == after.first { $0.header.kind == .mark }?.header.stamp)
            let barrier = try history.resolve(.time(time), now: now, barrier: true)
            #expect(barrier.stamp == point.flushBefore ?? volume.baseStamp)
        }
        var flushes: [LSN] = []
        try history.forEachFlush { stamp in
            flushes.append(stamp.lsn)
            return true
        }
        #expect(
            flushes == volume.records.filter { $0.header.kind == .flush }.map(\.header.stamp.lsn))
        let marks = try history.points().marks
        #expect(
            marks.map(\.stamp.lsn)
                == volume.records.filter { $0.header.kind == .mark }
                .map(\.header.stamp.lsn))
        for mark in marks {
            let newest = marks.last { $0.name == mark.name }
            #expect(try history.resolve(.mark(mark.name), now: now).stamp == newest?.stamp)
        }
    }

    @Test(arguments: seeds.prefix(40)) func soundHistoryVerifies(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        let world = try Self.world(&random, store: MemoryStore())
        let history = try Self.catalogue(world, tail: false)
        let report = try HistoryVerifier(history).run()
        #expect(report.isSound)
        #expect(report.segments.count == history.records.count + history.snapshots.count)
        #expect(report.ranges == history.ranges)
    }
}

@Suite struct ViewMapTests {
    /// The map against an array with one number per sector.
    @Test(arguments: 0..<60 as Range<UInt64>) func equalsAnArray(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        let sectors = 1 + random.below(100)
        var oracle = [UInt64?](repeating: nil, count: sectors)
        var builder = ViewMapBuilder()
        var lsn: UInt64 = 0
        for source in 1...1 + random.below(9) {
            var entries: [SegmentEntry] = []
            var payload: UInt64 = 0
            for _ in 0..<random.below(40) {
                lsn += 1
                let start = random.below(sectors)
                let count = 1 + random.below(sectors - start)
                let kind: RecordKind = [.write, .write, .zero, .discard, .flush][random.below(5)]
                entries.append(
                    SegmentEntry(
                        stamp: Stamp(lsn: LSN(lsn), wallNanoseconds: 0), kind: kind,
                        extent: Extent(start: UInt64(start), count: UInt64(count)),
                        payloadOffset: payload, payloadBytes: UInt32(count * 512), payloadCRC: 0))
                guard kind.changesSectors else { continue }
                for i in 0..<count {
                    oracle[start + i] =
                        kind == .write
                        ? ViewExtent.location(source: source, sector: payload / 512 + UInt64(i))
                        : nil
                }
                if kind == .write { payload += UInt64(count * 512) }
            }
            builder.add(
                ViewMapBuilder.layer(entries, source: source, after: .zero, through: .max))
        }
        let map = builder.finish()
        var found = [UInt64?](repeating: nil, count: sectors)
        var end: UInt64 = 0
        for extent in map {
            #expect(extent.start >= end && extent.count > 0, "sorted and disjoint")
            end = extent.start + extent.count
            for i in 0..<extent.count { found[Int(extent.start + i)] = extent.location + i }
        }
        #expect(found == oracle)
    }
}
