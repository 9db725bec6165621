// Replay to files and devices: refusals, failures half-way, cancellation, the system's own files.

import BlockModel
import DiskIO
import History
import HistoryModel
import LogFormat
import Synchronization
import Testing

@Suite struct ReplayTests {
    /// 2 MiB of volume with 1 MiB of data in two places.
    private static func view() throws -> (PointInTimeView, ModelVolume) {
        var volume = ModelVolume(sectors: 4096)
        var random = SeededRandom(seed: 4)
        for start in [0, 300, 2000] {
            volume.append(
                .write, Extent(start: UInt64(start), count: 700),
                payload: (0..<700 * 512).map { _ in UInt8(truncatingIfNeeded: random.next()) })
        }
        let store = MemoryStore()
        _ = try SnapshotWriter(store: store, identity: volume.identity)
            .write(ImageSource(volume.base), at: volume.baseStamp)
        try Archiver(store: store, identity: volume.identity)
            .archive(from: volume.source(), through: volume.last)
        return (try PointInTimeView(HistoryCatalogue(store: store), at: volume.last), volume)
    }

    @Test func holesStayHolesOnDisk() throws {
        let (view, volume) = try Self.view()
        let folder = try TemporaryFolder()
        let storage = DiskStorage()
        let path = "\(folder.path)/out"
        let result = try Replay(view).write(toFile: path, in: storage)
        #expect(result.writtenBytes >= view.dataBytes)
        #expect(try storage.contents(of: path) == volume.image(at: volume.last))
        #expect(try storage.allocatedBytes(path) < 1_200_000)
        #expect(try storage.list(folder.path) == ["out"])
    }

    /// Segments are files that speak for themselves: carried anywhere by whatever means, under
    /// their names and in any order, they are the same history.
    @Test func carriedSegmentsAreTheSameHistory() throws {
        var volume = ModelVolume(sectors: 64)
        for i in 0..<40 { volume.write(i * 7 % 60, 1 + i % 4, fill: UInt8(i + 1)) }
        let store = MemoryStore()
        var limits = Archiver.Limits()
        limits.recordsMax = 9
        let writer = SnapshotWriter(store: store, identity: volume.identity)
        _ = try writer.write(ImageSource(volume.base), at: volume.baseStamp)
        try Archiver(store: store, identity: volume.identity, limits: limits)
            .archive(from: volume.source(), through: volume.last)
        let middle = LSN(20)
        let name = try writer.write(
            ImageSource(volume.image(at: middle)), at: volume.stamp(middle))
        let carried = MemoryStore()
        for (name, bytes) in store.content.shuffled() {
            let upload = try carried.upload()
            for start in stride(from: 0, to: bytes.count, by: 1000) {
                try bytes[start..<min(start + 1000, bytes.count)].withUnsafeBytes {
                    try upload.append($0)
                }
            }
            try upload.commit(as: name)
        }
        #expect(carried.content == store.content)
        let history = try HistoryCatalogue(store: carried)
        for lsn in [volume.baseStamp.lsn, LSN(7), middle, LSN(33), volume.last] {
            let file = SimulatedStorage(seed: 1)
            try Replay(PointInTimeView(history, at: lsn)).write(toFile: "/out", in: file)
            #expect(try file.contents(of: "/out") == volume.image(at: lsn), "lsn \(lsn)")
        }
        // A snapshot alone is that one state.
        let alone = MemoryStore([name: store.content[name] ?? []])
        let view = try PointInTimeView(HistoryCatalogue(store: alone), at: middle)
        let file = SimulatedStorage(seed: 1)
        try Replay(view).write(toFile: "/out", in: file)
        #expect(try file.contents(of: "/out") == volume.image(at: middle))
    }

    @Test func anExistingFileIsRefusedUnlessReplacing() throws {
        let (view, volume) = try Self.view()
        let storage = SimulatedStorage(seed: 1)
        _ = try storage.open("/out", OpenOptions(.readWrite, creation: .exclusively))
        guard
            case .outputExists("/out")? = historyError({
                try Replay(view).write(toFile: "/out", in: storage)
            })
        else {
            Issue.record("not refused")
            return
        }
        #expect(try storage.contents(of: "/out") == [])
        try Replay(view).write(toFile: "/out", in: storage, replacing: true)
        #expect(try storage.contents(of: "/out") == volume.image(at: volume.last))
    }

    @Test(arguments: [IOError.Operation.truncate, .write, .sync, .rename])
    func aFailureLeavesNothing(_ operation: IOError.Operation) throws {
        let (view, _) = try Self.view()
        let storage = SimulatedStorage(seed: 1)
        storage.inject(PlannedFault(operation, .error(28), count: 100))
        guard
            case .output(let error)? = historyError({
                try Replay(view).write(toFile: "/out", in: storage)
            })
        else {
            Issue.record("no error")
            return
        }
        #expect(error.isNoSpace)
        #expect(try storage.list("/") == [])
    }

    @Test func cancelledAtAnyMomentLeavesNothing() throws {
        let (view, _) = try Self.view()
        for moment in 0..<12 {
            let calls = Atomic<Int>(0)
            let monitor = WorkMonitor(isCancelled: {
                calls.add(1, ordering: .relaxed).oldValue >= moment
            })
            let storage = SimulatedStorage(seed: 1)
            var options = Replay.Options()
            options.windowBytesMax = 128 << 10
            let error = historyError {
                try Replay(view, options: options)
                    .write(toFile: "/out", in: storage, monitor: monitor)
            }
            if case .cancelled? = error {
                #expect(try storage.list("/") == [])
            } else {
                #expect(error == nil && storage.exists("/out"))
            }
        }
    }

    @Test func progressRisesToTheTotal() throws {
        let (view, _) = try Self.view()
        let seen = Mutex<[WorkProgress]>([])
        let monitor = WorkMonitor(report: { progress in seen.withLock { $0.append(progress) } })
        try Replay(view).write(toFile: "/out", in: SimulatedStorage(seed: 1), monitor: monitor)
        let all = seen.withLock { $0 }
        #expect(all.map(\.doneBytes) == all.map(\.doneBytes).sorted())
        #expect(all.last == WorkProgress(doneBytes: view.dataBytes, totalBytes: view.dataBytes))
    }

    @Test func aSmallDeviceIsRefused() throws {
        let (view, _) = try Self.view()
        let storage = SimulatedStorage(seed: 1)
        try storage.addDevice("/device", byteCount: view.byteCount - 4096)
        guard
            case .outputTooSmall("/device", view.byteCount - 4096, view.byteCount)? = historyError({
                try Replay(view).write(toDevice: "/device", in: storage)
            })
        else {
            Issue.record("not refused")
            return
        }
    }

    @Test func damagedDataFailsAndLeavesNothing() throws {
        var volume = ModelVolume(sectors: 64)
        volume.write(0, 64, fill: 5)
        let store = MemoryStore()
        _ = try SnapshotWriter(store: store, identity: volume.identity)
            .write(ImageSource(volume.base), at: volume.baseStamp)
        let names = try Archiver(store: store, identity: volume.identity)
            .archive(from: volume.source(), through: volume.last)
        store.content[names[0]]?[SegmentFormat.headerBytes + 8] ^= 0x40
        let view = try PointInTimeView(HistoryCatalogue(store: store), at: volume.last)
        let storage = SimulatedStorage(seed: 1)
        guard
            case .damaged(names[0], .checksum(.data, block: 0))? = historyError({
                try Replay(view).write(toFile: "/out", in: storage)
            })
        else {
            Issue.record("damage was not found")
            return
        }
        #expect(try storage.list("/") == [])
    }
}
