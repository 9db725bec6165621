// A real volume with its threads on a real disk: writers, readers and flushers at once, every
// sector stamped, so that a torn or stale one is seen; then the volume is closed or abandoned,
// opened again and compared.

import BlockModel
import CLinux
import DiskIO
import Foundation
import ProtectedVolume
import Synchronization
import Testing

@Suite(.serialized) struct StressTests {
    /// Content of a sector: who wrote it, the how-manieth of his writes, where; then derived bytes.
    private static func fill(
        _ target: UnsafeMutableRawPointer, lba: UInt64, writer: UInt64, count: UInt64
    ) {
        for (index, word) in [writer, count, lba].enumerated() {
            target.storeBytes(of: word, toByteOffset: index * 8, as: UInt64.self)
        }
        let seed = writer &* 0x9E37_79B9 &+ count &* 31 &+ lba
        for index in 3..<64 {
            target.storeBytes(
                of: seed &* UInt64(index | 1), toByteOffset: index * 8, as: UInt64.self)
        }
    }

    /// Who wrote the sector and when; nil for zeros. Throws on anything torn or misplaced.
    private static func stamp(
        of sector: UnsafeRawPointer, lba: UInt64
    ) throws -> (writer: UInt64, count: UInt64)? {
        func word(_ index: Int) -> UInt64 {
            sector.load(fromByteOffset: index * 8, as: UInt64.self)
        }
        let (writer, count) = (word(0), word(1))
        if writer == 0 {
            for index in 1..<64 where word(index) != 0 { throw Torn(lba: lba) }
            return nil
        }
        let seed = writer &* 0x9E37_79B9 &+ count &* 31 &+ lba
        guard word(2) == lba else { throw Torn(lba: lba) }
        for index in 3..<64 where word(index) != seed &* UInt64(index | 1) {
            throw Torn(lba: lba)
        }
        return (writer, count)
    }

    private struct Torn: Error, CustomStringConvertible {
        var lba: UInt64
        var description: String { "sector \(lba) is torn, misplaced or foreign" }
    }

    private static let writers = 6
    /// Sectors that one writer has to itself; he knows what must be in them.
    private static let regionSectors: UInt64 = 4096
    private static let volumeBytes = UInt64(writers) * regionSectors * 512

    /// What a writer knows: the newest count per sector of his region, and that of his last flush.
    private final class Region: @unchecked Sendable {
        // @unchecked: one writer's thread until it was joined, then the test's.
        var newest = [UInt64](repeating: 0, count: Int(regionSectors))
        var flushed = [UInt64](repeating: 0, count: Int(regionSectors))
        var count: UInt64 = 0
        var failure: String?
    }

    @Test(arguments: [false, true]) func manyThreads(_ isAbandoned: Bool) throws {
        let parent = FileManager.default.temporaryDirectory.path
        let path = "\(parent)/logdisk-stress-\(getpid())-\(isAbandoned)"
        defer { try? FileManager.default.removeItem(atPath: path) }
        let storage = DiskStorage()
        var creation = VolumeCreation(volumeBytes: Self.volumeBytes)
        creation.ringBytes = 1 << 20
        creation.walFileBytes = 2 << 20
        creation.walBytesMax = 16 << 20
        let made = try VolumeFolder.create(path, creation, on: storage)
        try made.finishCreation()
        made.close()

        let regions = (0..<Self.writers).map { _ in Region() }
        let folder = try VolumeFolder.open(path, on: storage)
        let volume = try ProtectedVolume.open(folder)
        try run(volume, regions)
        if isAbandoned { volume.abandon() } else { try volume.close() }
        folder.close()
        for region in regions { #expect(region.failure == nil) }

        let again = try VolumeFolder.open(path, on: storage)
        defer { again.close() }
        let reopened = try ProtectedVolume.open(again)
        #expect(reopened.recovery.wasClean == !isAbandoned)
        for (number, region) in regions.enumerated() {
            try check(reopened, number, region, mayLose: isAbandoned)
        }
        try reopened.close()
    }

    /// Three seconds of everything, with an archiver that archives nothing but keeps up.
    private func run(_ volume: ProtectedVolume, _ regions: [Region]) throws {
        var threads: [Thread] = []
        func start(_ body: @escaping @Sendable () -> Void) {
            let thread = Thread(block: body)
            threads.append(thread)
            thread.start()
        }
        let shared = Shared(volume)
        for (number, region) in regions.enumerated() {
            start { Self.write(shared, number, region) }
        }
        for number in 0..<2 { start { Self.read(shared, number) } }
        start {
            while !shared.isStopping {
                volume.archived(through: volume.durableStamp.lsn)
                usleep(2000)
            }
            shared.done.add(1, ordering: .relaxed)
        }
        // Time bounds the work; nothing depends on how long it takes.
        Thread.sleep(forTimeInterval: 3)
        shared.stop()
        while shared.done.load(ordering: .acquiring) < threads.count { usleep(1000) }
        #expect(shared.readFailure.withLock { $0 } == nil)
        #expect(volume.status().writes > 100)
        volume.archived(through: volume.durableStamp.lsn)
    }

    private final class Shared: @unchecked Sendable {
        // @unchecked: constants, atomics and a mutex.
        let volume: ProtectedVolume
        private let stopping = Atomic<Bool>(false)
        let done = Atomic<Int>(0)
        let readFailure = Mutex<String?>(nil)

        init(_ volume: ProtectedVolume) { self.volume = volume }

        var isStopping: Bool { stopping.load(ordering: .relaxed) }
        func stop() { stopping.store(true, ordering: .relaxed) }
    }

    private static func write(_ shared: Shared, _ number: Int, _ region: Region) {
        var random = SeededRandom(seed: UInt64(number))
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 64 * 512, alignment: 512)
        defer { buffer.deallocate() }
        let base = UInt64(number) * regionSectors
        do {
            while !shared.isStopping {
                let sectors = UInt64(1 + random.below(random.chance(0.2) ? 64 : 8))
                let first = UInt64(random.below(Int(regionSectors - sectors)))
                region.count += 1
                for sector in 0..<sectors {
                    fill(
                        buffer.baseAddress! + Int(sector) * 512, lba: base + first + sector,
                        writer: UInt64(number + 1), count: region.count)
                    region.newest[Int(first + sector)] = region.count
                }
                try write(shared.volume, buffer, sectors, at: (base + first) * 512, &random)
                if random.chance(0.02) {
                    try shared.volume.discard(offset: (base + first) * 512, count: 512)
                    region.newest[Int(first)] = 0
                }
                // What was just written must be read, whatever the applier does.
                try check(shared.volume, base + first, region.newest[Int(first)])
                if random.chance(0.05) {
                    let known = region.newest
                    try shared.volume.flush()
                    region.flushed = known
                }
            }
        } catch { region.failure = "writer \(number): \(error)" }
        shared.done.add(1, ordering: .releasing)
    }

    /// Whole, or in two parts that do not end at a sector.
    private static func write(
        _ volume: ProtectedVolume, _ buffer: UnsafeMutableRawBufferPointer, _ sectors: UInt64,
        at offset: UInt64, _ random: inout SeededRandom
    ) throws {
        let bytes = UnsafeRawBufferPointer(rebasing: buffer[..<Int(sectors * 512)])
        guard random.chance(0.1) else { return try volume.write(bytes, at: offset) }
        // Torn for a moment, and only readers of this sector could see it: they look elsewhere.
        try volume.write(bytes, at: offset)
        let cut = 1 + random.below(bytes.count - 1)
        try volume.write(UnsafeRawBufferPointer(rebasing: bytes[..<cut]), at: offset)
        try volume.write(
            UnsafeRawBufferPointer(rebasing: bytes[cut...]), at: offset + UInt64(cut))
    }

    private static func check(
        _ volume: ProtectedVolume, _ lba: UInt64, _ count: UInt64
    ) throws {
        let sector = UnsafeMutableRawBufferPointer.allocate(byteCount: 512, alignment: 512)
        defer { sector.deallocate() }
        try volume.read(into: sector, at: lba * 512)
        let found = try stamp(of: UnsafeRawPointer(sector.baseAddress!), lba: lba)?.count ?? 0
        if found != count { throw Torn(lba: lba) }
    }

    private static func read(_ shared: Shared, _ number: Int) {
        var random = SeededRandom(seed: UInt64(100 + number))
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 128 * 512, alignment: 512)
        defer { buffer.deallocate() }
        var newest = [UInt64](repeating: 0, count: writers)
        do {
            while !shared.isStopping {
                let sectors = 1 + random.below(128)
                let first = random.below(Int(volumeBytes / 512) - sectors)
                let target = UnsafeMutableRawBufferPointer(rebasing: buffer[..<(sectors * 512)])
                try shared.volume.read(into: target, at: UInt64(first) * 512)
                for sector in 0..<sectors {
                    let lba = UInt64(first + sector)
                    guard
                        let found = try stamp(
                            of: UnsafeRawPointer(buffer.baseAddress! + sector * 512), lba: lba)
                    else { continue }
                    guard found.writer == lba / regionSectors + 1 else { throw Torn(lba: lba) }
                    newest[Int(found.writer) - 1] = max(newest[Int(found.writer) - 1], found.count)
                }
            }
        } catch { shared.readFailure.withLock { $0 = "reader: \(error)" } }
        shared.done.add(1, ordering: .releasing)
    }

    /// Every sector holds what its writer wrote last; after abandoning, at least what it held when
    /// he last flushed.
    private func check(
        _ volume: ProtectedVolume, _ number: Int, _ region: Region, mayLose: Bool
    ) throws {
        let count = Int(Self.regionSectors) * 512
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: count, alignment: 4096)
        defer { buffer.deallocate() }
        let base = UInt64(number) * Self.regionSectors
        try volume.read(into: buffer, at: base * 512)
        var wrong = 0
        for sector in 0..<Int(Self.regionSectors) {
            let found =
                try Self.stamp(
                    of: UnsafeRawPointer(buffer.baseAddress! + sector * 512),
                    lba: base + UInt64(sector))?.count ?? 0
            let (newest, flushed) = (region.newest[sector], region.flushed[sector])
            // A discard shows as 0, so an older count cannot be told from a lost one then.
            let isRight = mayLose ? found >= flushed || newest == 0 || found == 0 : found == newest
            if !isRight { wrong += 1 }
        }
        #expect(wrong == 0, "writer \(number)")
    }
}
