// The archiver and the snapshot writer: what they write, and what they refuse.

import BlockModel
import DiskIO
import History
import HistoryModel
import LogFormat
import Testing

@Suite struct ArchiverTests {
    private static func volume(_ count: Int) -> ModelVolume {
        var volume = ModelVolume(sectors: 16)
        for i in 0..<count { volume.write(i % 16, 1, fill: UInt8(i + 1)) }
        return volume
    }

    @Test func segmentsAreChainedAndContiguous() throws {
        let volume = Self.volume(10)
        let store = MemoryStore()
        var limits = Archiver.Limits()
        limits.recordsMax = 3
        let archiver = try Archiver(store: store, identity: volume.identity, limits: limits)
        var committed: [SegmentName] = []
        let names = try archiver.archive(from: volume.source(), through: LSN(10)) {
            committed.append($0)
            #expect(archiver.archivedLSN == $0.last)
            return true
        }
        #expect(names == committed)
        #expect(names.map(\.first.rawValue) == [1, 4, 7, 10])
        #expect(names.map(\.last.rawValue) == [3, 6, 9, 10])
        var before = SegmentDigest.none
        for segment in try store.list() {
            let footer = try SegmentReader.footer(of: segment, in: store)
            #expect(footer.header.predecessor == before)
            #expect(footer.header.volume == volume.id)
            before = footer.digest
        }
        #expect(try archiver.archive(from: ArraySource([]), through: LSN(10)) == [])
    }

    @Test func goesOnAfterARestartAlsoBehindDamage() throws {
        let volume = Self.volume(6)
        let store = MemoryStore()
        try Archiver(store: store, identity: volume.identity)
            .archive(from: volume.source(), through: LSN(2))
        let second = try Archiver(store: store, identity: volume.identity)
        #expect(second.archivedLSN == LSN(2))
        try second.archive(from: volume.source(), through: LSN(4))
        let name = SegmentName(first: LSN(3), last: LSN(4), kind: .log)
        store.content[name] = [0]
        let third = try Archiver(store: store, identity: volume.identity)
        #expect(third.archivedLSN == LSN(4))
        try third.archive(from: volume.source(from: LSN(5)), through: LSN(6))
        let newest = try #require(try store.list().last)
        let footer = try SegmentReader.footer(of: newest, in: store)
        #expect(footer.header.first.lsn == LSN(5) && footer.header.predecessor == .none)
    }

    @Test func withoutLogsTheOldestSnapshotCounts() throws {
        let volume = Self.volume(6)
        let store = MemoryStore()
        let writer = SnapshotWriter(store: store, identity: volume.identity)
        for lsn in [LSN(3), LSN(5)] {
            _ = try writer.write(ImageSource(volume.image(at: lsn)), at: volume.stamp(lsn))
        }
        #expect(try Archiver(store: store, identity: volume.identity).archivedLSN == LSN(3))
    }

    @Test func refusals() throws {
        let volume = Self.volume(6)
        func archive(_ records: [ModelVolume.Record], through last: UInt64, gap: Bool = false)
            -> (HistoryError?, [SegmentName])
        {
            let store = MemoryStore()
            let error = historyError {
                try Archiver(store: store, identity: volume.identity)
                    .archive(
                        from: ArraySource(records), through: LSN(last), acceptingGap: gap)
            }
            return (error, (try? store.list().map(\.name)) ?? [])
        }
        var records = volume.records
        guard case (.sourceEnds(expected: LSN(7))?, []) = archive(records, through: 7) else {
            Issue.record("a short source is an error and leaves nothing")
            return
        }
        records.remove(at: 2)
        guard case (.order(expected: LSN(3), found: LSN(4))?, []) = archive(records, through: 6)
        else {
            Issue.record("a hole is an error")
            return
        }
        records = Array(volume.records.dropFirst(2))
        guard case (.order(expected: LSN(1), found: LSN(3))?, []) = archive(records, through: 6)
        else {
            Issue.record("a hole in front is an error")
            return
        }
        let accepted = archive(records, through: 6, gap: true)
        #expect(accepted.0 == nil)
        #expect(accepted.1 == [SegmentName(first: LSN(3), last: LSN(6), kind: .log)])
        records = volume.records
        records[3].payload[100] ^= 1
        guard case (.payload(LSN(4))?, []) = archive(records, through: 6) else {
            Issue.record("a payload without its checksum is an error")
            return
        }
        records = volume.records
        records[3].header.extent.start = 16
        guard case (.outsideVolume(LSN(4))?, []) = archive(records, through: 6) else {
            Issue.record("a record past the end of the volume is an error")
            return
        }
    }

    @Test func aFullDiskLeavesNothing() throws {
        let volume = Self.volume(6)
        let storage = SimulatedStorage(seed: 1)
        try storage.createDirectory("/h")
        let store = DirectoryStore(storage: storage, directory: "/h")
        let archiver = try Archiver(store: store, identity: volume.identity)
        storage.inject(PlannedFault(.write, .error(28)))
        let error = historyError {
            try archiver.archive(from: volume.source(), through: LSN(6))
        }
        guard case .store(let failure)? = error else {
            Issue.record("no error")
            return
        }
        #expect(failure.isNoSpace)
        #expect(try storage.list("/h") == [] && archiver.archivedLSN == .zero)
        try archiver.archive(from: volume.source(), through: LSN(6))
        #expect(archiver.archivedLSN == LSN(6))
    }
}

@Suite struct SnapshotTests {
    @Test func holdsNonZeroBlocksJoined() throws {
        var image = [UInt8](repeating: 0, count: 10 * 4096 + 512)
        for block in [1, 2, 5, 10] { image[block * 4096 + 7] = 1 }
        let volume = ModelVolume(sectors: image.count / 512)
        let store = MemoryStore()
        let writer = SnapshotWriter(store: store, identity: volume.identity)
        _ = try writer.write(ImageSource(image), at: volume.baseStamp)
        let reader = try SegmentReader(try store.list()[0], in: store)
        #expect(
            try reader.snapshotIndex().extents.map(\.extent) == [
                Extent(start: 8, count: 16), Extent(start: 40, count: 8),
                Extent(start: 80, count: 1),
            ])
        let history = try HistoryCatalogue(store: store)
        #expect(try PointInTimeView(history, at: .zero).contents() == image)
    }

    @Test func ofAnEmptyVolumeIsSmall() throws {
        let volume = ModelVolume(sectors: 8)
        let identity = SegmentIdentity(volume: volume.id, volumeBytes: 1 << 62, epoch: 1)
        final class Nothing: SnapshotSource {
            var byteCount: UInt64 { 1 << 62 }
            func nextData(from offset: UInt64) -> Range<UInt64>? { nil }
            func read(into target: UnsafeMutableRawBufferPointer, at offset: UInt64) {}
        }
        let store = MemoryStore()
        _ = try SnapshotWriter(store: store, identity: identity)
            .write(Nothing(), at: volume.baseStamp)
        #expect(try store.list().map(\.byteCount) == [SegmentFormat.fileBytesMin])
        let view = try PointInTimeView(HistoryCatalogue(store: store), at: .zero)
        #expect(view.byteCount == 1 << 62 && view.dataBytes == 0)
        #expect(try view.bytes(0..<5) == [0, 0, 0, 0, 0])
    }

    @Test func cancelledOrFailedLeavesNothing() throws {
        let image = [UInt8](repeating: 3, count: 3 << 20)
        let volume = ModelVolume(sectors: image.count / 512)
        let storage = SimulatedStorage(seed: 1)
        try storage.createDirectory("/h")
        let store = DirectoryStore(storage: storage, directory: "/h")
        let writer = SnapshotWriter(store: store, identity: volume.identity)
        let cancel = WorkMonitor(isCancelled: { true })
        guard
            case .cancelled? = historyError({
                _ = try writer.write(ImageSource(image), at: volume.baseStamp, monitor: cancel)
            })
        else {
            Issue.record("not cancelled")
            return
        }
        final class Broken: SnapshotSource {
            struct Failure: Error {}
            var byteCount: UInt64 { 3 << 20 }
            func nextData(from offset: UInt64) -> Range<UInt64>? { 0..<3 << 20 }
            func read(into target: UnsafeMutableRawBufferPointer, at offset: UInt64) throws {
                throw Failure()
            }
        }
        guard
            case .source(is Broken.Failure)? = historyError({
                _ = try writer.write(Broken(), at: volume.baseStamp)
            })
        else {
            Issue.record("no error of the source")
            return
        }
        #expect(try storage.list("/h") == [])
    }

    @Test func aViewIsASourceToo() throws {
        var volume = ModelVolume(sectors: 64)
        var random = SeededRandom(seed: 5)
        for _ in 0..<50 { volume.appendRandom(&random) }
        let store = MemoryStore()
        let writer = SnapshotWriter(store: store, identity: volume.identity)
        _ = try writer.write(ImageSource(volume.base), at: volume.baseStamp)
        try Archiver(store: store, identity: volume.identity)
            .archive(from: volume.source(), through: volume.last)
        let view = try PointInTimeView(HistoryCatalogue(store: store), at: LSN(30))
        _ = try writer.write(view, at: volume.stamp(LSN(30)))
        let later = try PointInTimeView(
            HistoryCatalogue(store: store), at: LSN(30), snapshot: LSN(30))
        #expect(try later.contents() == volume.image(at: LSN(30)))
    }
}
