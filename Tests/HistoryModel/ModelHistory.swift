// A model volume with its history in a memory store: archived in random portions, snapshots here
// and there, the newest records left to the tail.

import BlockModel
import DiskIO
import History
import LogFormat

package struct ModelHistory {
    package var volume: ModelVolume
    package var store = MemoryStore()

    /// Random records; `sectors` and base are random, too.
    package init(_ random: inout SeededRandom, rounds: Int = 6) throws {
        let sectors = [8, 9, 64, 200][random.below(4)]
        var base = [UInt8](repeating: 0, count: sectors * Sector.bytes)
        if random.chance(0.5) { base[random.below(base.count)] = 1 + UInt8(random.below(255)) }
        volume = ModelVolume(sectors: sectors, base: base)
        let writer = SnapshotWriter(store: store, identity: volume.identity, blockBytes: 4096)
        _ = try writer.write(ImageSource(base), at: volume.baseStamp)
        var limits = Archiver.Limits()
        limits.blockBytes = 4096
        limits.recordsMax = UInt64(1 + random.below(40))
        let archiver = try Archiver(store: store, identity: volume.identity, limits: limits)
        for _ in 0..<1 + random.below(rounds) {
            for _ in 0..<1 + random.below(30) { volume.appendRandom(&random) }
            if random.chance(0.7) {
                try archiver.archive(from: volume.source(), through: volume.last)
            }
            if random.chance(0.3), archiver.archivedLSN == volume.last {
                _ = try? writer.write(
                    ImageSource(volume.image(at: volume.last)), at: volume.stamp(volume.last))
            }
        }
    }

    package func catalogue() throws -> HistoryCatalogue {
        let volume = self.volume
        return try HistoryCatalogue(
            store: store, volume: volume.id, tail: SequentialTail { volume.source(from: $0) })
    }

    /// Two points, the first not after the second.
    package func twoPoints(_ random: inout SeededRandom) -> (Stamp, Stamp) {
        let count = Int(volume.last.rawValue) + 1
        let a = LSN(UInt64(random.below(count)))
        let b = LSN(UInt64(random.below(count)))
        return (volume.stamp(min(a, b)), volume.stamp(max(a, b)))
    }
}

extension Storage {
    /// Makes a file of these bytes, durable.
    package func make(_ path: String, _ bytes: [UInt8]) throws {
        if exists(path) { try remove(path) }
        let file = try open(path, OpenOptions(.readWrite, creation: .exclusively))
        defer { file.close() }
        try bytes.withUnsafeBytes { try file.write($0, at: 0) }
        try file.sync()
        try syncDirectory("/")
    }
}
