// diff and patch against the model: what a comparison finds is what the bytes say, and a patch
// makes of the old image the new one, whatever interrupts it; nothing else takes it.

import BlockModel
import DiskIO
import History
import HistoryModel
import LogFormat
import Testing

@Suite struct ComparisonTests {
    private static let seeds: Range<UInt64> = 0..<80

    /// Sectors in which two images differ, joined to extents.
    private static func difference(_ a: [UInt8], _ b: [UInt8]) -> [Extent] {
        var list = ExtentList()
        for i in 0..<a.count / 512 where a[i * 512..<i * 512 + 512] != b[i * 512..<i * 512 + 512] {
            list.add(Extent(start: UInt64(i), count: 1))
        }
        return list.extents
    }

    /// Compares, and writes a patch to `path`.
    private static func patch(
        _ catalogue: HistoryCatalogue, _ old: Stamp, _ new: Stamp, _ storage: Storage,
        _ path: String = "/patch"
    ) throws -> ExtentList {
        let comparison = try ViewComparison(catalogue, from: old, to: new)
        let header = PatchHeader(
            volume: try #require(catalogue.volume), volumeBytes: catalogue.volumeBytes, old: old,
            new: new)
        let writer = try PatchWriter(path, of: header, in: storage, replacing: true)
        var list = ExtentList()
        try comparison.run { piece throws(HistoryError) in
            list.add(piece.extent)
            try writer.append(piece)
        }
        _ = try writer.commit()
        return list
    }

    private static func put(
        _ storage: Storage, patch: String = "/patch", image: String = "/image"
    ) throws -> Patching.Fit {
        let patch = try storage.open(patch, OpenOptions(.readOnly))
        let image = try storage.open(image, OpenOptions(.readWrite))
        defer {
            patch.close()
            image.close()
        }
        let patching = Patching(patch: patch, image: image)
        let fit = try patching.check()
        if fit.missingBytes > 0 { try patching.apply() }
        return fit
    }

    @Test(arguments: seeds) func equalsAByteComparison(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        let world = try ModelHistory(&random)
        let catalogue = try world.catalogue()
        let storage = SimulatedStorage(seed: seed)
        for _ in 0..<4 {
            let (old, new) = world.twoPoints(&random)
            let a = world.volume.image(at: old.lsn)
            let b = world.volume.image(at: new.lsn)
            let comparison = try ViewComparison(catalogue, from: old, to: new)
            #expect(comparison.isByRecords)
            let list = try Self.patch(catalogue, old, new, storage)
            #expect(list.extents == Self.difference(a, b))
            try storage.make("/image", a)
            let fit = try Self.put(storage)
            #expect(fit.changedBytes == list.byteCount && fit.missingBytes == list.byteCount)
            #expect(try storage.contents(of: "/image") == b)
            #expect(try Self.put(storage).missingBytes == 0)
            #expect(try storage.list("/").allSatisfy { !$0.contains("unfinished") })
        }
    }

    /// Where records between the points are gone, all is compared.
    @Test func acrossAGap() throws {
        var volume = ModelVolume(sectors: 64)
        let store = MemoryStore()
        let writer = SnapshotWriter(store: store, identity: volume.identity, blockBytes: 4096)
        _ = try writer.write(ImageSource(volume.base), at: volume.baseStamp)
        volume.write(3, 5, fill: 1)
        volume.write(60, 4, fill: 2)
        _ = try writer.write(
            ImageSource(volume.image(at: volume.last)), at: volume.stamp(volume.last))
        let catalogue = try HistoryCatalogue(store: store)
        let comparison = try ViewComparison(
            catalogue, from: volume.baseStamp, to: volume.stamp(volume.last))
        #expect(!comparison.isByRecords)
        var list = ExtentList()
        try comparison.run { list.add($0.extent) }
        #expect(
            list.extents == [Extent(start: 3, count: 5), Extent(start: 60, count: 4)])
    }

    @Test(arguments: seeds.prefix(40)) func anotherImageStaysAsItIs(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        let world = try ModelHistory(&random)
        let catalogue = try world.catalogue()
        let storage = SimulatedStorage(seed: seed)
        let (old, new) = world.twoPoints(&random)
        let list = try Self.patch(catalogue, old, new, storage)
        guard let extent = list.extents.randomElement(using: &random) else { return }
        var image = world.volume.image(at: old.lsn)
        // One wrong bit where the patch changes something.
        let place = Int(extent.byteOffset) + random.below(Int(extent.byteCount))
        image[place] ^= 1 << UInt8(random.below(8))
        let after = world.volume.image(at: new.lsn)
        let sector = place / 512 * 512..<place / 512 * 512 + 512
        if image[sector] == after[sector] { return }  // by chance what the patch makes of it
        try storage.make("/image", image)
        let expected = PatchingError.otherContent(offset: UInt64(place / 512 * 512))
        #expect(throws: expected) { try Self.put(storage) }
        #expect(try storage.contents(of: "/image") == image)
        try storage.make("/image", image + [UInt8](repeating: 0, count: 512))
        #expect(
            throws: PatchingError.wrongSize(
                imageBytes: UInt64(image.count + 512), volumeBytes: UInt64(image.count))
        ) { try Self.put(storage) }
    }

    /// A patch with a flipped bit or without its end changes nothing.
    @Test(arguments: seeds.prefix(30)) func aDamagedPatchChangesNothing(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        let world = try ModelHistory(&random)
        let storage = SimulatedStorage(seed: seed)
        let (old, new) = world.twoPoints(&random)
        _ = try Self.patch(try world.catalogue(), old, new, storage)
        let image = world.volume.image(at: old.lsn)
        try storage.make("/image", image)
        let patch = try storage.contents(of: "/patch")
        for round in 0..<30 {
            var bytes = patch
            if round % 2 == 0 {
                bytes[random.below(bytes.count)] ^= 1 << UInt8(random.below(8))
            } else {
                bytes = Array(bytes[..<random.below(bytes.count)])
            }
            try storage.make("/bad", bytes)
            #expect { try Self.put(storage, patch: "/bad") } throws: { error in
                if case .patch = error as? PatchingError { true } else { false }
            }
        }
        #expect(try storage.contents(of: "/image") == image)
    }

    /// A power cut at any call, and then the same patch again.
    @Test(arguments: seeds.prefix(20)) func goesOnAfterACrash(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        let world = try ModelHistory(&random)
        let storage = SimulatedStorage(seed: seed)
        let (old, new) = world.twoPoints(&random)
        _ = try Self.patch(try world.catalogue(), old, new, storage)
        try storage.make("/image", world.volume.image(at: old.lsn))
        var number: UInt64 = 1
        while true {
            let twin = storage.fork(seed: seed &+ number)
            twin.crash(atOperation: number)
            var isDone = false
            do {
                _ = try Self.put(twin)
                isDone = true
            } catch {}
            if isDone { break }
            if number % 2 == 0 { twin.crash() } else { twin.kill() }
            _ = try Self.put(twin)
            #expect(try twin.contents(of: "/image") == world.volume.image(at: new.lsn))
            number += 1
        }
    }
}
