// Going back, against the model: after each of several reverts the volume equals the model at the
// point, and every point there ever was, those of left futures too, still restores to its bytes.

import BlockModel
import DiskIO
import History
import HistoryModel
import LogFormat
import Synchronization
import Testing

#if canImport(Glibc)
    import Glibc
#endif

/// A model volume as a device: what is written becomes records. For one thread.
private final class ModelDevice: BlockDevice, @unchecked Sendable {
    // @unchecked: one thread uses it.
    var volume: ModelVolume
    var image: [UInt8]
    /// Calls that may still succeed.
    var callsLeft = Int.max
    private(set) var calls = 0

    init(_ volume: ModelVolume) {
        self.volume = volume
        image = volume.image(at: volume.last)
        super.init()
    }

    override var byteCount: UInt64 { volume.byteCount }

    private func count() throws(DeviceError) {
        guard calls < callsLeft else { throw .noSpace }
        calls += 1
    }

    override func read(
        into target: UnsafeMutableRawBufferPointer, at offset: UInt64
    ) throws(DeviceError) {
        target.copyBytes(from: image[Int(offset)..<Int(offset) + target.count])
    }

    override func write(_ source: UnsafeRawBufferPointer, at offset: UInt64) throws(DeviceError) {
        try count()
        let extent = Extent(coveringBytesAt: offset, count: UInt64(source.count))
        precondition(extent.byteOffset == offset && extent.byteCount == UInt64(source.count))
        volume.append(.write, extent, payload: Array(source))
        image.replaceSubrange(Int(offset)..<Int(offset) + source.count, with: source)
    }

    override func discard(offset: UInt64, count bytes: UInt64) throws(DeviceError) {
        try count()
        let extent = Extent(coveringBytesAt: offset, count: bytes)
        precondition(extent.byteOffset == offset && extent.byteCount == bytes)
        volume.append(.discard, extent)
        for i in Int(offset)..<Int(offset + bytes) { image[i] = 0 }
    }
}

@Suite struct RevertTests {
    private static let seeds: [UInt64] =
        getenv("LOGDISK_SEED").flatMap { UInt64(String(cString: $0)) }.map { [$0] }
        ?? Array(0..<60)

    private static func run(
        _ history: HistoryCatalogue, _ device: ModelDevice, to lsn: LSN
    ) throws -> RevertRun {
        let plan = try RevertPlan(history, from: device.volume.last, to: lsn)
        var run = RevertRun(plan, on: device)
        while true {
            switch try run.look() {
            case .same: continue
            case .differs: try run.write()
            case .end: return run
            }
        }
    }

    private static func catalogue(
        _ device: ModelDevice, _ store: MemoryStore, tail: Bool
    ) throws -> HistoryCatalogue {
        let volume = device.volume
        return try HistoryCatalogue(
            store: store, volume: volume.id,
            tail: tail ? SequentialTail { volume.source(from: $0) } : nil)
    }

    @Test(arguments: seeds) func thereAndBackAgain(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        let sectors = [1, 9, 64, 300, 5000][random.below(5)]
        let store = MemoryStore()
        let model = ModelVolume(
            sectors: sectors,
            base: (0..<sectors * Sector.bytes).map { _ in
                sectors < 100 ? UInt8(truncatingIfNeeded: random.next()) : 0
            })
        _ = try SnapshotWriter(store: store, identity: model.identity)
            .write(ImageSource(model.base), at: model.baseStamp)
        let device = ModelDevice(model)
        for _ in 0..<4 {
            for _ in 0..<1 + random.below(25) { device.volume.appendRandom(&random) }
            device.image = device.volume.image(at: device.volume.last)
            if random.chance(0.6) {
                let archiver = try Archiver(store: store, identity: model.identity)
                try archiver.archive(from: device.volume.source(), through: device.volume.last)
                if random.chance(0.3) {
                    let last = device.volume.last
                    _ = try SnapshotWriter(store: store, identity: model.identity)
                        .write(ImageSource(device.image), at: device.volume.stamp(last))
                }
            }
            let history = try Self.catalogue(device, store, tail: true)
            let target = LSN(UInt64(random.below(Int(device.volume.last.rawValue) + 1)))
            let wanted = device.volume.image(at: target)
            let different = zip(wanted, device.image).enumerated().reduce(into: Set<Int>()) {
                if $1.element.0 != $1.element.1 { $0.insert($1.offset / Sector.bytes) }
            }
            if random.chance(0.3) {  // dies on the way; the next one goes on
                device.callsLeft = device.calls + random.below(different.count + 1)
                _ = try? Self.run(history, device, to: target)
                device.callsLeft = .max
            }
            let before = device.volume.last
            let result = try Self.run(
                try Self.catalogue(device, store, tail: true), device, to: target)
            #expect(device.image == wanted, "lsn \(target)")
            // Nothing is written that is there already.
            let written = result.writtenBytes + result.zeroedBytes
            #expect(written <= UInt64(different.count * Sector.bytes))
            #expect((device.volume.last == before) == (written == 0))
        }
        let history = try Self.catalogue(device, store, tail: true)
        #expect(history.gaps == [])
        for lsn in 0...device.volume.last.rawValue where lsn % 7 == 0 || sectors < 100 {
            let view = try PointInTimeView(history, at: LSN(lsn))
            #expect(try view.contents() == device.volume.image(at: LSN(lsn)), "lsn \(lsn)")
        }
    }

    /// Records between the point and now are missing: all that has data is compared.
    @Test func acrossAGap() throws {
        var volume = ModelVolume(sectors: 64)
        let store = MemoryStore()
        let writer = SnapshotWriter(store: store, identity: volume.identity)
        _ = try writer.write(ImageSource(volume.base), at: volume.baseStamp)
        var lost: SegmentName?
        for round in 0..<3 {
            for start in 0..<4 { volume.write(start * 8 + round, 3, fill: UInt8(round + 1)) }
            let archiver = try Archiver(store: store, identity: volume.identity)
            let first = archiver.archivedLSN.next
            try archiver.archive(from: volume.source(), through: volume.last)
            if round == 1 {
                lost = try store.list().first { $0.name.first == first && $0.name.kind == .log }?
                    .name
            }
        }
        let now = volume.last
        _ = try writer.write(ImageSource(volume.image(at: now)), at: volume.stamp(now))
        try store.delete(try #require(lost))
        let device = ModelDevice(volume)
        let history = try Self.catalogue(device, store, tail: false)
        #expect(!history.gaps.isEmpty)
        _ = try Self.run(history, device, to: LSN(2))
        #expect(device.image == volume.image(at: LSN(2)))
        // What cannot be restored is no target, and no present to leave.
        #expect(refusal { _ = try RevertPlan(history, from: now, to: LSN(6)) } != nil)
        #expect(refusal { _ = try RevertPlan(history, from: LSN(6), to: LSN(2)) } != nil)
    }

    /// A bound on the runs makes them coarser, and leaves nothing out.
    @Test(arguments: [1, 2, 5, 1000]) func extentUnion(runsMax: Int) {
        var random = SeededRandom(seed: UInt64(runsMax))
        let sectors = 3000
        for _ in 0..<20 {
            var union = ExtentUnion(runsMax: runsMax)
            var touched = [Bool](repeating: false, count: sectors)
            for _ in 0..<random.below(400) {
                let start = random.below(sectors)
                let count = 1 + random.below(min(12, sectors - start))
                union.insert(Extent(start: UInt64(start), count: UInt64(count)))
                for i in start..<start + count { touched[i] = true }
            }
            let runs = union.finish(sectors: UInt64(sectors))
            #expect(runs.count <= runsMax)
            var found = [Bool](repeating: false, count: sectors)
            var end: UInt64?
            for run in runs {
                #expect(end.map { $0 < run.start } ?? true && run.end <= UInt64(sectors))
                end = run.end
                for i in Int(run.start)..<Int(run.end) { found[i] = true }
            }
            if runsMax == 1000 {
                #expect(found == touched)
            } else {
                #expect(zip(found, touched).allSatisfy { $0 || !$1 })
            }
        }
    }
}
