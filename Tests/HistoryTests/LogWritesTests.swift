// Export to and import from the log format of dm-log-writes. The reader of what is exported is
// written here from the description of the format alone and shares no code with the writer.

import BlockModel
import DiskIO
import History
import HistoryModel
import LogFormat
import Testing

/// An independent replay of a log onto an image, as `replay-log` does it.
private struct ReplayLog {
    var image: [UInt8]
    var marks: [String] = []
    var flushes = 0
    var discards = 0

    init(base: [UInt8]) { image = base }

    mutating func replay(_ log: [UInt8]) throws {
        func word(_ at: Int) -> Int {
            (0..<8).reduce(0) { $0 | Int(log[at + $1]) << ($1 * 8) }
        }
        try #require(word(0) == 0x6a_7366_7773_6872 && word(8) == 1)
        let sector = word(24) & 0xFFFF_FFFF
        var at = sector
        for _ in 0..<word(16) {
            let (first, count, flags, length) = (
                word(at), word(at + 8), word(at + 16), word(at + 24)
            )
            // What the tool of xfstests calls a malformed entry.
            try #require(flags != 0 || count != 0)
            try #require(flags == 8 || log[at + 32] == 0)
            if flags == 8 {
                marks.append(String(decoding: log[at + 32..<at + 32 + length], as: UTF8.self))
            }
            if flags & 1 != 0 { flushes += 1 }
            at += sector
            let range = first * sector..<(first + count) * sector
            if flags & 4 != 0 {
                discards += 1
                image.replaceSubrange(range, with: repeatElement(0, count: range.count))
            } else {
                image.replaceSubrange(range, with: log[at..<at + range.count])
                at += range.count
            }
        }
        #expect(at == log.count)
    }
}

@Suite struct LogWritesTests {
    private static let seeds: Range<UInt64> = 0..<60

    @Test(arguments: seeds) func anIndependentReaderGetsTheImage(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        let world = try ModelHistory(&random)
        let catalogue = try world.catalogue()
        let storage = SimulatedStorage(seed: seed)
        for round in 0..<4 {
            let (from, to) = world.twoPoints(&random)
            let isFromStart = random.chance(0.3)
            let export = try LogWritesExport(catalogue, from: isFromStart ? nil : from, to: to)
            let base = isFromStart ? world.volume.baseStamp : from
            #expect(export.base == base && export.last == to && !export.isThinned)
            let totals = try export.write(toFile: "/log\(round)", in: storage)
            let log = try storage.contents(of: "/log\(round)")
            #expect(UInt64(log.count) == totals.fileBytes)
            var reader = ReplayLog(base: world.volume.image(at: base.lsn))
            try reader.replay(log)
            #expect(reader.image == world.volume.image(at: to.lsn))
            let records = world.volume.records[Int(base.lsn.rawValue)..<Int(to.lsn.rawValue)]
            #expect(
                reader.marks
                    == records.filter { $0.header.kind == .mark }.map {
                        String(decoding: $0.payload, as: UTF8.self)
                    })
            #expect(reader.flushes == records.filter { $0.header.kind == .flush }.count)
            #expect(reader.discards == records.filter { $0.header.kind == .discard }.count)
        }
    }

    @Test func acrossAGapIsRefused() throws {
        var volume = ModelVolume(sectors: 64)
        let store = MemoryStore()
        let writer = SnapshotWriter(store: store, identity: volume.identity, blockBytes: 4096)
        _ = try writer.write(ImageSource(volume.base), at: volume.baseStamp)
        volume.write(3, 5, fill: 1)
        _ = try writer.write(
            ImageSource(volume.image(at: volume.last)), at: volume.stamp(volume.last))
        let catalogue = try HistoryCatalogue(store: store)
        let last = volume.stamp(volume.last)
        #expect(
            refusal { _ = try LogWritesExport(catalogue, from: volume.baseStamp, to: last) } != nil)
        // From the snapshot itself there is nothing to say.
        #expect(try LogWritesExport(catalogue, from: nil, to: last).base == last)
    }

    /// Thinned history: a merged segment leads to its end only, in pieces of any length.
    @Test func thinnedHistory() throws {
        var volume = ModelVolume(sectors: 8192)
        let store = MemoryStore()
        let writer = SnapshotWriter(store: store, identity: volume.identity, blockBytes: 4096)
        _ = try writer.write(ImageSource(volume.base), at: volume.baseStamp)
        volume.write(3, 5, fill: 1)
        volume.write(4, 2, fill: 2)
        volume.write(100, 2048, fill: 3)
        volume.write(2148, 2048, fill: 3)
        volume.append(.flush)
        // What is left of them: sectors 3, 4 to 5, 6 to 7, and the last two writes as one.
        let kept: [(Int, Int, UInt8, UInt64)] = [
            (3, 1, 1, 1), (6, 2, 1, 1), (4, 2, 2, 2), (100, 4096, 3, 4),
        ]
        var bytes: [UInt8] = []
        let encoder = SegmentEncoder<Never>(
            header: SegmentHeader(
                kind: .merged, volume: volume.id, epoch: 1, volumeBytes: volume.byteCount,
                first: volume.stamp(LSN(1)), blockBytes: 4096)
        ) { bytes.append(contentsOf: $0) }
        for (start, count, fill, lsn) in kept {
            let payload = [UInt8](repeating: fill, count: count * Sector.bytes)
            payload.withUnsafeBytes {
                encoder.append(
                    LogRecord(
                        header: RecordHeader(
                            stamp: volume.stamp(LSN(lsn)), kind: .write,
                            extent: Extent(start: UInt64(start), count: UInt64(count)),
                            payloadBytes: payload.count, payloadCRC: Checksum.crc32c($0)),
                        payload: $0))
            }
        }
        _ = encoder.finish(last: volume.stamp(volume.last))
        store.content[SegmentName(first: LSN(1), last: volume.last, kind: .merged)] = bytes

        let catalogue = try HistoryCatalogue(store: store)
        let last = volume.stamp(volume.last)
        let export = try LogWritesExport(catalogue, from: nil, to: last)
        #expect(export.isThinned)
        let storage = SimulatedStorage(seed: 1)
        #expect(try export.write(toFile: "/log", in: storage).entries == 4)
        var reader = ReplayLog(base: volume.base)
        try reader.replay(try storage.contents(of: "/log"))
        #expect(reader.image == volume.image(at: volume.last))

        var list = ExtentList()
        let comparison = try ViewComparison(catalogue, from: volume.baseStamp, to: last)
        #expect(comparison.isByRecords)
        try comparison.run { list.add($0.extent) }
        #expect(list.extents == [Extent(start: 3, count: 5), Extent(start: 100, count: 4096)])
        let scale = TimeScale(first: 0, last: .max, bucketsMax: 1)
        var found = WriteStatistics(volumeBytes: volume.byteCount, scale: scale)
        #expect(try catalogue.forEachRecord { found.add($0) })
        #expect(found.total.writes == 4)
    }

    // MARK: - reading

    private static func bytes(_ value: UInt64, _ count: Int = 8) -> [UInt8] {
        (0..<count).map { UInt8(truncatingIfNeeded: value >> UInt64($0 * 8)) }
    }

    /// A log made by hand: super and entries of flags, sector, count, name, fill.
    private static func log(
        sector: Int,
        _ entries: [(flags: UInt64, first: UInt64, count: UInt64, name: String, fill: UInt8)]
    ) -> [UInt8] {
        func padded(_ bytes: [UInt8]) -> [UInt8] {
            bytes + [UInt8](repeating: 0, count: sector - bytes.count)
        }
        var log = padded(
            bytes(0x6a_7366_7773_6872) + bytes(1) + bytes(UInt64(entries.count))
                + bytes(UInt64(sector), 4))
        for entry in entries {
            let name = Array(entry.name.utf8)
            log += padded(
                bytes(entry.first) + bytes(entry.count) + bytes(entry.flags)
                    + bytes(UInt64(name.count)) + name)
            if entry.flags & 4 == 0 {
                log += [UInt8](repeating: entry.fill, count: Int(entry.count) * sector)
            }
        }
        return log
    }

    private static func reader(_ log: [UInt8], _ storage: SimulatedStorage) throws
        -> LogWritesReader
    {
        try storage.make("/log", log)
        return try LogWritesReader(try storage.open("/log", OpenOptions(.readOnly)))
    }

    /// The steps as text, and the image that they make.
    private static func steps(
        _ reader: LogWritesReader, imageBytes: Int
    ) throws -> (words: [String], image: [UInt8]) {
        var words: [String] = []
        var image = [UInt8](repeating: 0, count: imageBytes)
        try reader.forEachStep { step in
            switch step {
            case .write(let offset, let bytes):
                words.append("write \(offset) \(bytes.count)")
                image.replaceSubrange(Int(offset)..<Int(offset) + bytes.count, with: bytes)
            case .discard(let offset, let count):
                words.append("discard \(offset) \(count)")
                image.replaceSubrange(
                    Int(offset)..<Int(offset + count), with: repeatElement(0, count: Int(count)))
            case .flush: words.append("flush")
            case .mark(let name, let isRenamed):
                words.append("mark \(name)" + (isRenamed ? " renamed" : ""))
            }
        }
        return (words, image)
    }

    @Test(arguments: [512, 4096]) func aLogMadeByHand(sector: Int) throws {
        let log = Self.log(
            sector: sector,
            [
                (0, 0, 2, "", 1), (16, 1, 1, "", 2), (1, 0, 0, "", 0), (8, 0, 0, "mkfs", 0),
                (2, 2, 1, "", 3), (3, 3, 1, "", 4), (4, 0, 1, "", 0), (8, 0, 0, "a\nb", 0),
                (8, 0, 0, "", 0), (3, 0, 0, "", 0),
            ])
        let reader = try Self.reader(log, SimulatedStorage(seed: 1))
        let summary = try reader.scan()
        #expect(summary.entries == 10 && summary.writes == 4 && summary.discards == 1)
        #expect(summary.flushes == 5 && summary.marks == 3 && summary.renamedMarks == 2)
        #expect(summary.endOffset == UInt64(4 * sector))
        let s = sector
        let (words, image) = try Self.steps(reader, imageBytes: 4 * s)
        #expect(
            words == [
                "write 0 \(2 * s)", "write \(s) \(s)", "flush", "mark mkfs",
                "write \(2 * s) \(s)", "flush", "flush", "write \(3 * s) \(s)", "flush",
                "discard 0 \(s)", "mark a_b renamed", "mark entry-8 renamed", "flush",
            ])
        let expected: [UInt8] = [0, 2, 3, 4].flatMap { [UInt8](repeating: $0, count: s) }
        #expect(image == expected)
    }

    @Test func marksGetNamesThatCanBe() {
        func name(_ bytes: [UInt8]) -> String { LogWritesReader.markName(bytes, number: 5).name }
        #expect(name(Array("fsync-1".utf8)) == "fsync-1")
        #expect(!LogWritesReader.markName(Array("é".utf8), number: 5).isRenamed)
        #expect(name([]) == "entry-5")
        #expect(name([0x61, 0, 0x62]) == "a")
        #expect(name([0x61, 7, 127, 0x62]) == "a__b")
        #expect(name([0x61, 0xFF]) == "a\u{FFFD}")
        #expect(name([UInt8](repeating: 0x61, count: 300)).utf8.count == 255)
        #expect(name(Array(String(repeating: "é", count: 200).utf8)).utf8.count == 254)
    }

    /// What is exported and imported again makes the same image.
    @Test(arguments: seeds.prefix(20)) func thereAndBack(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        let world = try ModelHistory(&random)
        let storage = SimulatedStorage(seed: seed)
        let last = world.volume.stamp(world.volume.last)
        _ = try LogWritesExport(try world.catalogue(), from: nil, to: last)
            .write(toFile: "/log", in: storage)
        let reader = try LogWritesReader(try storage.open("/log", OpenOptions(.readOnly)))
        #expect(try reader.scan().endOffset <= world.volume.byteCount)
        let image = try Self.steps(reader, imageBytes: Int(world.volume.byteCount)).image
        if world.volume.base.allSatisfy({ $0 == 0 }) {
            #expect(image == world.volume.image(at: last.lsn))
        }
    }

    @Test func everyCutIsFound() throws {
        let log = Self.log(
            sector: 512, [(0, 0, 2, "", 1), (8, 0, 0, "m", 0), (4, 0, 1, "", 0), (2, 1, 1, "", 9)])
        let storage = SimulatedStorage(seed: 1)
        for count in 0..<log.count {
            #expect(throws: LogWritesFailure.self) {
                _ = try Self.reader(Array(log[..<count]), storage).scan()
            }
        }
        #expect(try Self.reader(log, storage).scan().entries == 4)
    }

    @Test(arguments: 0..<200 as Range<UInt64>) func rubbishNeverTraps(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        var log = Self.log(
            sector: 512, [(0, 0, 2, "", 1), (8, 0, 0, "m", 0), (4, 0, 1, "", 0), (3, 1, 1, "", 9)])
        for _ in 0..<1 + random.below(12) {
            let at = random.chance(0.5) ? random.below(28) : random.below(log.count)
            log[at] = random.chance(0.5) ? log[at] ^ 1 << UInt8(random.below(8)) : 0xFF
        }
        if random.chance(0.3) { log.removeLast(random.below(log.count)) }
        guard let reader = try? Self.reader(log, SimulatedStorage(seed: 1)) else { return }
        if let summary = try? reader.scan() { #expect(summary.entries <= 16) }
        try? reader.forEachStep { _ in }
    }
}
