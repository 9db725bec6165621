// History through a sealed store is the same history, and nothing that was changed in the store
// below is ever taken for it.

import BlockModel
import DiskIO
import History
import HistoryModel
import LogFormat
import Synchronization
import Testing

/// A model history, and the same sealed in another store.
struct SealedHistory {
    let model: ModelHistory
    let key = SealingKey.random()
    let containers = MemoryStore()

    init(seed: UInt64, rounds: Int = 6) throws {
        var random = SeededRandom(seed: seed)
        model = try ModelHistory(&random, rounds: rounds)
        try Self.copy(model.store, to: store())
    }

    func store(_ key: SealingKey? = nil) -> SealedStore {
        SealedStore(containers, key: key ?? self.key)
    }

    func catalogue() throws -> HistoryCatalogue {
        try HistoryCatalogue(store: store(), volume: model.volume.id)
    }

    static func bytes(_ segment: StoredSegment, in store: any SegmentStore) throws -> [UInt8] {
        var bytes = [UInt8](repeating: 0xEE, count: Int(segment.byteCount))
        try bytes.withUnsafeMutableBytes { try store.read(segment.name, into: $0, at: 0) }
        return bytes
    }

    static func put(_ bytes: [UInt8], _ name: SegmentName, in store: any SegmentStore) throws {
        let upload = try store.upload()
        try bytes.withUnsafeBytes { try upload.append($0) }
        try upload.commit(as: name)
    }

    static func copy(_ from: any SegmentStore, to: any SegmentStore) throws {
        for segment in try from.list() {
            try put(try bytes(segment, in: from), segment.name, in: to)
        }
    }
}

@Suite struct SealedStoreTests {
    /// Catalogue, view and replay give what the plain store gives, at every point.
    @Test(arguments: 1...6 as ClosedRange<UInt64>) func theSameHistory(_ seed: UInt64) throws {
        let sealed = try SealedHistory(seed: seed)
        let plain = try HistoryCatalogue(store: sealed.model.store)
        let history = try sealed.catalogue()
        #expect(history.records == plain.records && history.snapshots == plain.snapshots)
        #expect(history.ranges == plain.ranges && history.unusable.isEmpty)
        for range in history.ranges {
            for lsn in range.first.lsn.rawValue...range.last.lsn.rawValue {
                let expected = sealed.model.volume.image(at: LSN(lsn))
                let view = try PointInTimeView(history, at: LSN(lsn))
                #expect(try view.contents() == expected, "seed \(seed), lsn \(lsn)")
            }
            let file = SimulatedStorage(seed: seed)
            try Replay(PointInTimeView(history, at: range.last.lsn)).write(
                toFile: "/out", in: file)
            #expect(
                try file.contents(of: "/out") == sealed.model.volume.image(at: range.last.lsn))
        }
        let report = try HistoryVerifier(history).run()
        #expect(report.segments.allSatisfy { $0.isSound }, "seed \(seed)")
    }

    @Test func randomRangesAndManyReaders() async throws {
        let inner = MemoryStore()
        let store = SealedStore(inner, key: .random(), cacheBytes: 1 << 20)
        let name = SegmentName(first: LSN(1), last: LSN(9), kind: .log)
        let size = 40 * 65_536 + 777
        let bytes = (0..<size).map { UInt8(truncatingIfNeeded: $0 &* 31 ^ $0 >> 8) }
        try SealedHistory.put(bytes, name, in: store)
        let failures = await withTaskGroup(of: Int.self) { group in
            for seed in 1...4 as ClosedRange<UInt64> {
                group.addTask { Self.wrongReads(of: bytes, name, in: store, seed: seed) }
            }
            return await group.reduce(0, +)
        }
        #expect(failures == 0)
    }

    private static func wrongReads(
        of bytes: [UInt8], _ name: SegmentName, in store: SealedStore, seed: UInt64
    ) -> Int {
        var random = SeededRandom(seed: seed)
        var failures = 0
        for _ in 0..<60 {
            let start = random.below(bytes.count)
            let rest = bytes.count - start
            let count = random.below(min(rest, random.chance(0.3) ? rest : 5000) + 1)
            var found = [UInt8](repeating: 0xEE, count: count)
            do {
                try found.withUnsafeMutableBytes {
                    try store.read(name, into: $0, at: UInt64(start))
                }
                if found[...] != bytes[start..<start + count] { failures += 1 }
            } catch { failures += 1 }
        }
        return failures
    }

    /// Planning looks at each segment once, at its tail.
    @Test func openingReadsTailsOnly() throws {
        let sealed = try SealedHistory(seed: 3)
        let counting = CountingStore(sealed.containers)
        let store = SealedStore(counting, key: sealed.key)
        let history = try HistoryCatalogue(store: store)
        let count = history.records.count + history.snapshots.count
        #expect(counting.reads == count)
        #expect(counting.bytes <= count * (256 + 16 + 384))
    }

    @Test func aNewOneInThePlaceOfAnother() throws {
        let sealed = try SealedHistory(seed: 2)
        let (reader, writer) = (sealed.store(), sealed.store())
        let segment = try #require(try reader.list().first)
        let bytes = try SealedHistory.bytes(segment, in: reader)
        try writer.delete(segment.name)
        try SealedHistory.put(bytes, segment.name, in: writer)
        #expect(try SealedHistory.bytes(segment, in: reader) == bytes)
    }
}

@Suite struct SealedRefusalTests {
    /// Whatever byte of a container is changed: refused as damaged, and nothing else.
    @Test func everyFlippedByteIsDamage() throws {
        let sealed = try SealedHistory(seed: 5, rounds: 1)
        let smallest = try #require(
            try sealed.containers.list().min { $0.byteCount < $1.byteCount })
        let good = try SealedHistory.bytes(smallest, in: sealed.containers)
        let plainSegment = try #require(
            try sealed.store().list().first { $0.name == smallest.name })
        let plain = try SealedHistory.bytes(plainSegment, in: sealed.store())
        for i in good.indices {
            var bad = good
            bad[i] ^= 0x10
            let store = SealedStore(MemoryStore([smallest.name: bad]), key: sealed.key)
            do {
                let found = try SealedHistory.bytes(plainSegment, in: store)
                Issue.record("byte \(i) of \(good.count) was taken, \(found == plain)")
            } catch let error as StoreError {
                if case .damaged = error.cause { continue }
                Issue.record("byte \(i): \(error)")
            }
        }
        for count in 0..<good.count {
            let store = SealedStore(
                MemoryStore([smallest.name: Array(good[..<count])]), key: sealed.key)
            #expect(throws: (any Error).self) {
                try SealedHistory.bytes(plainSegment, in: store)
            }
        }
    }

    /// Without the key: what storage did is found, whichever byte.
    @Test func verifiedWithoutTheKey() throws {
        let sealed = try SealedHistory(seed: 5, rounds: 1)
        let smallest = try #require(
            try sealed.containers.list().min { $0.byteCount < $1.byteCount })
        for segment in try sealed.containers.list() {
            try SealedSegment.verify(segment, in: sealed.containers)
        }
        let good = try SealedHistory.bytes(smallest, in: sealed.containers)
        for i in good.indices {
            var bad = good
            bad[i] ^= 0x10
            let error = historyError {
                try SealedSegment.verify(smallest, in: MemoryStore([smallest.name: bad]))
            }
            guard case .damaged(smallest.name, .sealed)? = error else {
                Issue.record("byte \(i): \(String(describing: error))")
                continue
            }
        }
    }

    /// A chunk that was changed costs its segment, and verify says so.
    @Test func verifiedWithTheKey() throws {
        let sealed = try SealedHistory(seed: 1)
        let name = try #require(
            try sealed.containers.list().max { $0.byteCount < $1.byteCount }?.name)
        sealed.containers.content[name]?[SealedFormat.headerBytes + 200] ^= 1
        let report = try HistoryVerifier(sealed.catalogue()).run()
        #expect(report.segments.filter { !$0.isSound }.map(\.name) == [name])
        #expect(
            report.segments.compactMap(\.unusable) == [
                .damaged(name, .sealed(.tag(.chunk(0))))
            ])
    }

    @Test func segmentsExchanged() throws {
        let sealed = try SealedHistory(seed: 1)
        let names = try sealed.containers.list().map(\.name)
        try #require(names.count > 2)
        let content = sealed.containers.content
        for (a, b) in zip(names, names.dropFirst()) {
            sealed.containers.content[a] = content[b]
            sealed.containers.content[b] = content[a]
            let history = try sealed.catalogue()
            for name in [a, b] {
                let reason = HistoryGap.Reason.damaged(name, .sealed(.misplaced))
                #expect(history.unusable.contains { $0.name == name && $0.reason == reason })
            }
            sealed.containers.content = content
        }
    }

    @Test func anotherVolumesSegment() throws {
        let sealed = try SealedHistory(seed: 1)
        let store = SealedStore(
            sealed.containers, key: sealed.key, volume: VolumeID(high: 1, low: 2))
        let name = try #require(try store.list().first?.name)
        #expect(throws: StoreError(.read, "\(name)", .damaged(.sealed(.misplaced)))) {
            try SealedHistory.bytes(StoredSegment(name: name, byteCount: 1), in: store)
        }
        let own = SealedStore(
            sealed.containers, key: sealed.key, volume: sealed.model.volume.id)
        #expect(try HistoryCatalogue(store: own).unusable.isEmpty)
    }

    @Test func anotherKeyOrNone() throws {
        let sealed = try SealedHistory(seed: 1)
        let other = SealingKey.random()
        #expect(other.id != sealed.key.id)
        let error = historyError { _ = try HistoryCatalogue(store: sealed.store(other)) }
        guard case .store(let failure)? = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(failure.cause == .otherKey(sealed.key.id))
        let without = historyError { _ = try HistoryCatalogue(store: sealed.containers) }
        guard case .store(let failure)? = without else {
            Issue.record("\(String(describing: without))")
            return
        }
        #expect(failure.cause == .needsKey)
        // A plain segment where sealed ones belong is none: who put it there had no key.
        let plain = SealedStore(sealed.model.store, key: sealed.key)
        let history = try HistoryCatalogue(store: plain)
        #expect(history.records.isEmpty && history.snapshots.isEmpty && !history.unusable.isEmpty)
    }

    /// One container of another key costs its own points, as if it were damaged, and no others.
    @Test(arguments: [1, 2, 4] as [UInt64]) func oneOfAnotherKey(_ seed: UInt64) throws {
        let sealed = try SealedHistory(seed: seed)
        let all = try sealed.catalogue().ranges
        let other = SealingKey.random()
        let names = try sealed.containers.list().map(\.name)
        try #require(names.count > 2)
        let content = sealed.containers.content
        for name in names {
            let segment = try #require(try sealed.store().list().first { $0.name == name })
            let plain = try SealedHistory.bytes(segment, in: sealed.store())
            sealed.containers.content[name] = nil
            let without = try sealed.catalogue()
            try SealedHistory.put(plain, name, in: sealed.store(other))
            let history = try sealed.catalogue()
            let failure = StoreError(.read, "\(name)", .otherKey(other.id))
            let reason = HistoryGap.Reason.unreadable(name, failure)
            #expect(history.unusable.map(\.name) == [name])
            #expect(history.unusable.map(\.reason) == [reason])
            #expect(history.ranges == without.ranges, "seed \(seed), \(name)")
            if history.ranges != all {
                #expect(history.gaps.contains { $0.reason == reason }, "seed \(seed), \(name)")
            }
            for range in history.ranges {
                for lsn in [range.first.lsn, range.last.lsn] {
                    let view = try PointInTimeView(history, at: lsn)
                    #expect(try view.contents() == sealed.model.volume.image(at: lsn))
                }
            }
            let report = try HistoryVerifier(history).run()
            #expect(report.segments.filter { !$0.isSound }.map(\.name) == [name])
            #expect(report.ranges == history.ranges)
            sealed.containers.content = content
        }
    }

    /// What a server sees is what the segment says; links are the same, under other names.
    @Test func theClearFooter() throws {
        let sealed = try SealedHistory(seed: 4)
        let history = try sealed.catalogue()
        let listed = try sealed.containers.list()
        var standIns: [CataloguedSegment] = []
        for segment in history.records + history.snapshots {
            let stored = try #require(listed.first { $0.name == segment.name })
            let footer = try SealedSegment.footer(of: stored, in: sealed.containers)
            let label = footer.label
            #expect(label == SealedLabel(segment.footer, key: sealed.key))
            #expect(label.name == segment.name && label.first == segment.first)
            #expect(label.last == segment.last && label.plainBytes == segment.footer.fileBytes)
            #expect(label.content?.volume == sealed.model.volume.id)
            standIns.append(try #require(CataloguedSegment(sealed: footer)))
        }
        let logs = standIns.filter { $0.name.kind == .log }
        for (before, log) in zip(logs, logs.dropFirst())
        where before.name.last.next == log.name.first {
            #expect(log.footer.header.predecessor == before.footer.digest)
        }
        let error = historyError {
            let plain = try sealed.model.store.list()[0]
            _ = try SealedSegment.footer(of: plain, in: sealed.model.store)
        }
        guard case .damaged(_, .sealed(.notSealed))? = error else {
            Issue.record("\(String(describing: error))")
            return
        }
    }

    @Test func knownContentDoesNotShow() throws {
        var volume = ModelVolume(sectors: 400)
        let words = Array("attack at dawn! ".utf8)
        let payload = Array((0..<200 * 32).map { _ in words }.joined())
        volume.append(.write, Extent(start: 0, count: 200), payload: payload)
        volume.append(.mark, payload: Array("before-the-attack".utf8))
        let containers = MemoryStore()
        let store = SealedStore(containers, key: .random())
        try Archiver(store: store, identity: volume.identity)
            .archive(from: volume.source(), through: volume.last)
        let bytes = try #require(containers.content.values.first)
        let digest = try #require(
            try HistoryCatalogue(store: store).records.first?.footer.digest)
        for secret in [words, Array("before-the-attack".utf8), digest.bytes] {
            for start in 0...bytes.count - 8 {
                #expect(!bytes[start..<start + 8].elementsEqual(secret[..<8]))
            }
        }
    }
}

/// Counts what is asked for.
final class CountingStore: SegmentStore {
    private let inner: any SegmentStore
    private let counts = Mutex((reads: 0, bytes: 0))

    init(_ inner: any SegmentStore) { self.inner = inner }

    var reads: Int { counts.withLock { $0.reads } }
    var bytes: Int { counts.withLock { $0.bytes } }
    var label: String { inner.label }
    func list() throws(StoreError) -> [StoredSegment] { try inner.list() }
    func read(
        _ name: SegmentName, into target: UnsafeMutableRawBufferPointer, at offset: UInt64
    ) throws(StoreError) {
        counts.withLock { $0 = ($0.reads + 1, $0.bytes + target.count) }
        try inner.read(name, into: target, at: offset)
    }
    func upload() throws(StoreError) -> any SegmentUpload { try inner.upload() }
    func delete(_ name: SegmentName) throws(StoreError) { try inner.delete(name) }
}
