// Segments sealed on their way: always the same bytes, from wherever they are read, and what
// arrives is what a sealed store reads.

import BlockModel
import DiskIO
import History
import HistoryModel
import LogFormat
import Testing

@Suite struct SealingSourceTests {
    /// Read in random pieces, from random places, with what was cut begun again: the container.
    @Test(arguments: 1...4 as ClosedRange<UInt64>) func anyPieces(_ seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        let model = try ModelHistory(&random, rounds: 8)
        let key = SealingKey.random()
        let source = SealingSource(model.store, key: key)
        let arrived = MemoryStore()
        for segment in try model.store.list() {
            let shipment = try source.prepare(segment)
            let size = Int(shipment.byteCount)
            var bytes = [UInt8](repeating: 0, count: size)
            func fill(_ range: Range<Int>) throws {
                try bytes.withUnsafeMutableBytes {
                    try source.read(
                        segment.name, into: UnsafeMutableRawBufferPointer(rebasing: $0[range]),
                        at: UInt64(range.lowerBound))
                }
            }
            if random.chance(0.5) {  // some pieces first, so that the rest is not front to back
                for _ in 0..<3 {
                    let start = random.below(size)
                    try fill(start..<start + random.below(size - start + 1))
                }
            }
            var position = 0
            while position < size {
                let count = min(
                    size - position, 1 + random.below([7, 500, 70_000][random.below(3)]))
                try fill(position..<position + count)
                position += count
            }
            #expect(
                try SealedHistory.bytes(
                    StoredSegment(name: segment.name, byteCount: shipment.byteCount), in: source)
                    == bytes)
            #expect(
                try source.digest(segment.name)
                    == bytes.suffix(80).withUnsafeBytes { SegmentDigest($0.baseAddress!) })
            #expect(try source.prepare(segment.name) == shipment)
            try SealedHistory.put(bytes, segment.name, in: arrived)
        }
        #expect(try source.list() == arrived.list())
        let history = try HistoryCatalogue(store: SealedStore(arrived, key: key))
        let plain = try HistoryCatalogue(store: model.store)
        #expect(history.records == plain.records && history.snapshots == plain.snapshots)
        let report = try HistoryVerifier(history).run()
        #expect(report.segments.allSatisfy { $0.isSound }, "seed \(seed)")
    }

    /// What a server checks a log by is what the one before it said.
    @Test func chainIDsFollowEachOther() throws {
        let sealed = try SealedHistory(seed: 9)
        let source = SealingSource(sealed.model.store, key: sealed.key)
        var before: (last: LSN, chain: SegmentDigest?)?
        for segment in try sealed.model.store.list() where segment.name.kind == .log {
            let label = try source.prepare(segment).label
            if let before, before.last.next == segment.name.first {
                #expect(label.content?.predecessorID == before.chain)
            }
            before = (segment.name.last, label.content?.chainID)
        }
        let history = try HistoryCatalogue(store: sealed.model.store)
        let last = try #require(history.records.last)
        #expect(
            source.chainID(of: last.footer.digest, volume: sealed.model.volume.id)
                == before?.chain)
        #expect(source.chainID(of: nil, volume: sealed.model.volume.id) == nil)
        #expect(source.chainID(of: SegmentDigest.none, volume: sealed.model.volume.id) == nil)
    }

    @Test func aNewSourceSealsAnew() throws {
        let sealed = try SealedHistory(seed: 9)
        let segment = try #require(try sealed.model.store.list().first)
        let first = SealingSource(sealed.model.store, key: sealed.key)
        let second = SealingSource(sealed.model.store, key: sealed.key)
        #expect(try first.prepare(segment).uploadID != second.prepare(segment).uploadID)
        let id = try first.prepare(segment).uploadID
        first.forget(segment.name)
        #expect(try first.prepare(segment).uploadID != id)
        #expect(id.utf8.count <= 160)
    }

    /// Merged segments are made anew under the name of older ones: then with another data key.
    @Test func anotherSegmentOfTheSameName() throws {
        let (one, other) = (try SealedHistory(seed: 9), try SealedHistory(seed: 10))
        let name = SegmentName.snapshot(.zero)
        let store = MemoryStore([name: try #require(one.model.store.content[name])])
        let source = SealingSource(store, key: one.key)
        let first = try source.prepare(name)
        #expect(try source.prepare(name) == first)
        let replaced: [UInt8] = try #require(other.model.store.content[name])
        store.content[name] = replaced
        let second = try source.prepare(name)
        #expect(second.uploadID != first.uploadID)
        let size = second.byteCount
        let bytes = try SealedHistory.bytes(StoredSegment(name: name, byteCount: size), in: source)
        let sealed = SealedStore(MemoryStore([name: bytes]), key: one.key)
        let plain = try #require(try sealed.list().first)
        #expect(try SealedHistory.bytes(plain, in: sealed) == store.content[name])
    }

    /// Nobody else can look into it, so a damaged segment does not leave as a sound one.
    @Test func aDamagedSegmentDoesNotLeave() throws {
        let sealed = try SealedHistory(seed: 6)
        let segments = try sealed.model.store.list()
        for segment in segments {
            let good = try #require(sealed.model.store.content[segment.name])
            for i in [0, 130, good.count / 2, good.count - 250, good.count - 40] {
                var bad = good
                bad[i] ^= 1
                let source = SealingSource(MemoryStore([segment.name: bad]), key: sealed.key)
                #expect(throws: StoreError.self, "byte \(i) of \(segment.name)") {
                    let shipment = try source.prepare(segment.name)
                    _ = try SealedHistory.bytes(
                        StoredSegment(name: segment.name, byteCount: shipment.byteCount),
                        in: source)
                }
            }
        }
    }

    @Test func onlyForReading() throws {
        let sealed = try SealedHistory(seed: 9)
        let source = SealingSource(sealed.model.store, key: sealed.key)
        let name = try sealed.model.store.list()[0].name
        #expect(throws: StoreError.self) { _ = try source.upload() }
        #expect(throws: StoreError.self) { try source.delete(name) }
        #expect(throws: StoreError(.read, "\(SegmentName.snapshot(LSN(99_999)))", .missing)) {
            try source.prepare(.snapshot(LSN(99_999)))
        }
        let size = try source.prepare(name).byteCount
        #expect(throws: StoreError(.read, "\(name)", .short)) {
            _ = try SealedHistory.bytes(StoredSegment(name: name, byteCount: size + 1), in: source)
        }
    }
}
