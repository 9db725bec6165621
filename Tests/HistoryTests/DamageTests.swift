// Every flipped bit, every truncation and much rubbish: no trap, and never a wrong byte. What is
// damaged is refused, and what stays restorable is told.

import BlockModel
import DiskIO
import History
import HistoryModel
import LogFormat
import Testing

@Suite struct DamageTests {
    /// A base, two log segments, a snapshot between them.
    private static func history(
        blockBytes: Int = 4096
    ) throws -> (volume: ModelVolume, store: MemoryStore) {
        var volume = ModelVolume(sectors: 40)
        let store = MemoryStore()
        let writer = SnapshotWriter(
            store: store, identity: volume.identity, blockBytes: blockBytes)
        _ = try writer.write(ImageSource(volume.base), at: volume.baseStamp)
        var limits = Archiver.Limits()
        limits.blockBytes = blockBytes
        let archiver = try Archiver(store: store, identity: volume.identity, limits: limits)
        var random = SeededRandom(seed: 99)
        volume.write(3, 1, fill: 7)
        volume.append(
            .write, Extent(start: 8, count: 2),
            payload: (0..<1024).map { _ in UInt8(truncatingIfNeeded: random.next()) })
        volume.append(.mark, payload: Array("first".utf8))
        volume.append(.flush)
        volume.append(.zero, Extent(start: 9, count: 1))
        try archiver.archive(from: volume.source(), through: volume.last)
        _ = try writer.write(
            ImageSource(volume.image(at: volume.last)), at: volume.stamp(volume.last))
        volume.write(3, 2, fill: 9)
        volume.append(.flush)
        try archiver.archive(from: volume.source(), through: volume.last)
        return (volume, store)
    }

    /// Reads everything that the damaged history calls restorable: right, or an error.
    private static func check(
        _ volume: ModelVolume, _ store: MemoryStore, images: [[UInt8]], _ what: String
    ) throws {
        let history = try HistoryCatalogue(store: store, volume: volume.id)
        for raw in 0...volume.last.rawValue {
            do {
                let view = try PointInTimeView(history, at: LSN(raw))
                let bytes = try view.contents()
                #expect(bytes == images[Int(raw)], "\(what), lsn \(raw)")
            } catch let error as HistoryError {
                switch error {
                case .damaged, .store, .notRestorable: break
                default: Issue.record("\(what): \(error)")
                }
            }
        }
    }

    @Test(arguments: [0, 1, 2, 3]) func everyFlippedBit(segment: Int) throws {
        let (volume, store) = try Self.history()
        let images = (0...volume.last.rawValue).map { volume.image(at: LSN($0)) }
        let name = try store.list()[segment].name
        let sound = store.content
        let bytes = try #require(sound[name])
        for bit in 0..<bytes.count * 8 {
            var damaged = bytes
            damaged[bit / 8] ^= 1 << UInt8(bit % 8)
            store.content[name] = damaged
            try Self.check(volume, store, images: images, "\(name) bit \(bit)")
            if bit % 7 == 0 {
                let history = try HistoryCatalogue(store: store, volume: volume.id)
                let report = try HistoryVerifier(history, workers: 1).run()
                #expect(!report.isSound, "\(name) bit \(bit) is not found")
                #expect(report.segments.filter { !$0.isSound }.map(\.name) == [name])
                for range in report.ranges {
                    for lsn in range.first.lsn.rawValue...range.last.lsn.rawValue {
                        // What a verification calls restorable is.
                        let clean = try HistoryCatalogue(
                            store: MemoryStore(sound), volume: volume.id)
                        #expect(clean.isRestorable(LSN(lsn)))
                    }
                }
            }
        }
    }

    @Test(arguments: [0, 1, 2, 3]) func everyTruncation(segment: Int) throws {
        let (volume, store) = try Self.history()
        let images = (0...volume.last.rawValue).map { volume.image(at: LSN($0)) }
        let name = try store.list()[segment].name
        let bytes = try #require(store.content[name])
        for count in 0..<bytes.count {
            store.content[name] = Array(bytes[..<count])
            try Self.check(volume, store, images: images, "\(name) cut to \(count)")
            let history = try HistoryCatalogue(store: store, volume: volume.id)
            #expect(history.unusable.map(\.name) == [name])
        }
        for extra in [1, 7, 256, 4096] {
            store.content[name] = bytes + [UInt8](repeating: 0, count: extra)
            try Self.check(volume, store, images: images, "\(name) with \(extra) more")
        }
    }

    /// Mutations with the checksums put right, so that the rules behind them are reached.
    @Test(arguments: 0..<40 as Range<UInt64>) func rubbishUnderRightChecksums(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        let (volume, store) = try Self.history()
        let names = try store.list().map(\.name)
        let sound = store.content
        for _ in 0..<100 {
            let name = names[random.below(names.count)]
            var bytes = sound[name] ?? []
            let footer = bytes.count - SegmentFormat.footerBytes
            for _ in 0..<1 + random.below(3) {
                let field = [8, 10, 12, 40, 48, 56, 128, 136, 144, 152, 160, 168, 176, 184, 192]
                let at = footer + field[random.below(field.count)] + random.below(8)
                bytes[at] = random.chance(0.3) ? 0xFF : UInt8(random.below(256))
            }
            Self.reseal(&bytes)
            store.content[name] = bytes
            // Only no trap is asked here: whoever can make checksums can make history.
            let history = try HistoryCatalogue(store: store, volume: volume.id)
            for raw in 0...volume.last.rawValue {
                if let view = try? PointInTimeView(history, at: LSN(raw)), view.byteCount < 1 << 20
                {
                    _ = try? view.contents()
                }
            }
            _ = try? HistoryVerifier(history).run()
            store.content[name] = sound[name]
        }
    }

    /// Recomputes the footer's checksums.
    private static func reseal(_ bytes: inout [UInt8]) {
        let footer = bytes.count - SegmentFormat.footerBytes
        func put(_ crc: UInt32, at offset: Int) {
            for i in 0..<4 {
                bytes[footer + offset + i] = UInt8(truncatingIfNeeded: crc >> (8 * i))
            }
        }
        put(bytes[footer..<footer + 124].withUnsafeBytes { Checksum.crc32c($0) }, at: 124)
        put(bytes[footer..<footer + 244].withUnsafeBytes { Checksum.crc32c($0) }, at: 244)
    }

    @Test func aFutureVersionSaysSo() throws {
        let (volume, store) = try Self.history()
        let name = try store.list()[1].name
        var bytes = try #require(store.content[name])
        bytes[bytes.count - 16] = 2
        Self.reseal(&bytes)
        store.content[name] = bytes
        let history = try HistoryCatalogue(store: store, volume: volume.id)
        #expect(history.unusable.map(\.reason) == [.damaged(name, .futureVersion(2))])
    }

    @Test func gapsHaveTheirReason() throws {
        let (volume, store) = try Self.history()
        let sound = store.content
        let (first, second) = (
            SegmentName(first: LSN(1), last: LSN(5), kind: .log),
            SegmentName(first: LSN(6), last: LSN(7), kind: .log)
        )
        func gaps() throws -> [HistoryGap] {
            try HistoryCatalogue(store: store, volume: volume.id).gaps
        }
        #expect(try gaps() == [])

        store.content[first] = nil
        #expect(try gaps() == [HistoryGap(first: LSN(1), last: LSN(4), reason: .missing)])

        store.content[first] = [1, 2, 3]
        #expect(
            try gaps() == [
                HistoryGap(first: LSN(1), last: LSN(4), reason: .damaged(first, .notASegment))
            ])

        store.content = sound
        store.content[.snapshot(.zero)] = nil
        #expect(try gaps() == [HistoryGap(first: LSN(1), last: LSN(4), reason: .noSnapshot)])

        store.content = sound
        store.content[second] = sound[first]
        #expect(
            try gaps() == [HistoryGap(first: LSN(6), last: LSN(7), reason: .misnamed(second))])

        // A segment of the same name and volume, but from another past.
        var other = ModelVolume(sectors: 40)
        for _ in 0..<5 { other.write(1, 1, fill: 1) }
        let otherStore = MemoryStore()
        try Archiver(store: otherStore, identity: other.identity)
            .archive(from: other.source(), through: other.last)
        store.content = sound
        store.content[.snapshot(LSN(5))] = nil
        store.content[first] = otherStore.content[first]
        #expect(
            try gaps() == [HistoryGap(first: LSN(6), last: LSN(7), reason: .chainBroken(second))])

        // One of another volume.
        let stranger = VolumeID(high: 1, low: 2)
        let strangerStore = MemoryStore()
        try Archiver(
            store: strangerStore,
            identity: .init(volume: stranger, volumeBytes: other.byteCount, epoch: 1)
        ).archive(from: other.source(), through: other.last)
        store.content[first] = strangerStore.content[first]
        #expect(
            try gaps() == [
                HistoryGap(first: LSN(1), last: LSN(7), reason: .foreignVolume(first, stranger))
            ])
    }

    @Test func verificationNamesTheRecordsThatDamageCosts() throws {
        let (volume, store) = try Self.history()
        let name = SegmentName(first: LSN(1), last: LSN(5), kind: .log)
        var bytes = try #require(store.content[name])
        bytes[SegmentFormat.headerBytes + 3] ^= 1  // in the only data block: records 1 and 2
        store.content[name] = bytes
        let report = try HistoryVerifier(
            HistoryCatalogue(store: store, volume: volume.id)
        ).run()
        let verdict = try #require(report.segments.first { $0.name == name })
        #expect(
            verdict.damages == [
                SegmentDamage(error: .checksum(.data, block: 0), first: LSN(1), last: LSN(2))
            ])
        #expect(report.ranges.map(\.first.lsn) == [.zero, LSN(5)])
        #expect(report.ranges.map(\.last.lsn) == [.zero, LSN(7)])
        #expect(
            report.gaps == [
                HistoryGap(
                    first: LSN(1), last: LSN(4),
                    reason: .damaged(name, .checksum(.data, block: 0)))
            ])
    }
}
