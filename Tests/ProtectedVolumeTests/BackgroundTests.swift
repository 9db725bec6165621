// The volume's threads and the archiver's watch on a real disk: that all comes to rest, whatever
// was held up before. Every wait is for an event; a test that hangs is a wake-up that was lost.

import BlockModel
import DiskIO
import Foundation
import ProtectedVolume
import Synchronization
import Testing

/// A thread that writes, as the test sees it.
private final class Writer: Sendable {
    private let stopping = Atomic<Bool>(false)
    private let done = Atomic<Bool>(false)
    private let failures = Mutex<String?>(nil)

    var isStopping: Bool { stopping.load(ordering: .relaxed) }
    var isDone: Bool { done.load(ordering: .acquiring) }
    var failure: String? { failures.withLock { $0 } }

    func start(_ body: @escaping @Sendable (Writer) throws -> Void) {
        Thread {
            do { try body(self) } catch { self.failures.withLock { $0 = "\(error)" } }
            self.done.store(true, ordering: .releasing)
        }.start()
    }

    func stop() { stopping.store(true, ordering: .relaxed) }
}

@Suite struct BackgroundTests {
    /// A new small volume, open with its threads; `body` may close it.
    private func withVolume(
        walBytes: UInt64 = 16 << 20, _ body: (ProtectedVolume) throws -> Void
    ) throws {
        let path = "\(FileManager.default.temporaryDirectory.path)/logdisk-rest-\(UUID())"
        defer { try? FileManager.default.removeItem(atPath: path) }
        var creation = VolumeCreation(volumeBytes: 8 << 20)
        creation.ringBytes = 1 << 20
        creation.walFileBytes = 2 << 20
        creation.walBytesMax = walBytes
        let folder = try VolumeFolder.create(path, creation, on: DiskStorage())
        try folder.finishCreation()
        defer { folder.close() }
        let volume = try ProtectedVolume.open(folder)
        do {
            try body(volume)
        } catch {
            volume.abandon()
            throw error
        }
        volume.archived(through: volume.durableStamp.lsn)
        try volume.close()
    }

    private static func write(_ volume: ProtectedVolume, count: Int) throws {
        let bytes = [UInt8](repeating: 7, count: 64 << 10)
        for index in 0..<count {
            try bytes.withUnsafeBytes {
                try volume.write($0, at: UInt64(index * bytes.count) % volume.byteCount)
            }
        }
    }

    /// Writers held at the bound for so long that the applier went idle: when the archiver lets
    /// them go on, the last record must reach the image without anybody writing more.
    @Test func whatWasHeldIsApplied() throws {
        try withVolume(walBytes: 6 << 20) { volume in
            let writer = Writer()
            writer.start { _ in try Self.write(volume, count: 150) }
            while volume.status().health != .behind { usleep(1000) }
            // Longer than the threads take to go idle.
            usleep(5_000_000)
            #expect(!writer.isDone)
            while !writer.isDone {
                volume.archived(through: volume.durableStamp.lsn)
                usleep(1000)
            }
            #expect(writer.failure == nil)
            while volume.appliedLSN < volume.status().published.lsn { usleep(1000) }
            while volume.checkpointLSN < volume.appliedLSN { usleep(1000) }
        }
    }

    @Test func theArchiverIsCalledWhenTheVolumeIsQuiet() throws {
        try withVolume { volume in
            try Self.write(volume, count: 64)
            try volume.flush()
            var watch = ArchiveWatch(logBytesMin: 1 << 20, recordsMin: 1 << 20)
            #expect(volume.unarchivedBytes >= 4 << 20)
            #expect(volume.waitForArchiveWork(&watch) == volume.durableStamp.lsn)
            #expect(volume.mayGoOnArchiving(&watch))
            volume.archived(through: volume.durableStamp.lsn)
            #expect(volume.unarchivedBytes == 0)
        }
    }

    /// Under load that never ends, too: at the latest when the log is nearly full.
    @Test func theArchiverIsCalledUnderLoad() throws {
        try withVolume { volume in
            let writer = Writer()
            writer.start { writer in
                while !writer.isStopping { try Self.write(volume, count: 16) }
            }
            var watch = ArchiveWatch(logBytesMin: 1 << 20, recordsMin: 1 << 20)
            for _ in 0..<20 {
                guard let last = volume.waitForArchiveWork(&watch) else { break }
                #expect(last > volume.archivedLSN)
                volume.archived(through: last)
            }
            writer.stop()
            while !writer.isDone {
                volume.archived(through: volume.durableStamp.lsn)
                usleep(1000)
            }
            #expect(writer.failure == nil)
        }
    }

    /// Recovery leaves the checkpoint to the keeper: an opening that is cut short is as if it had
    /// not been, and a second epoch on top of the first is redone with it.
    @Test func theCheckpointStaysUntilTheImageIsSynced() throws {
        let storage = SimulatedStorage(seed: 3)
        var creation = VolumeCreation(volumeBytes: 1 << 20)
        creation.ringBytes = 64 << 10
        creation.walFileBytes = 128 << 10
        creation.walBytesMax = 2 << 20
        let made = try VolumeFolder.create("/v", creation, on: storage)
        try made.finishCreation()
        made.close()
        var options = ProtectedVolume.Options()
        options.isManual = true
        for round in 1...4 {
            let folder = try VolumeFolder.open("/v", on: storage)
            let volume = try ProtectedVolume.open(folder, options)
            #expect(volume.recovery.redoneRecords == (round - 1) * 2)
            #expect(volume.checkpointLSN == .zero)
            #expect(volume.appliedLSN == LSN(UInt64(round - 1) * 2))
            for earlier in 1..<round {
                #expect(try Self.firstByte(of: volume, sector: UInt64(earlier)) == UInt8(earlier))
            }
            let bytes = [UInt8](repeating: UInt8(round), count: 512)
            try bytes.withUnsafeBytes { try volume.write($0, at: UInt64(round) * 512) }
            try volume.flush()
            volume.abandon()
            folder.close()
            storage.crash()
        }
        let folder = try VolumeFolder.open("/v", on: storage)
        let volume = try ProtectedVolume.open(folder, options)
        #expect(volume.stepKeeper())
        #expect(volume.checkpointLSN == LSN(8))
        volume.abandon()
        folder.close()
        storage.crash()
        let again = try VolumeFolder.open("/v", on: storage)
        defer { again.close() }
        let last = try ProtectedVolume.open(again, options)
        #expect(last.recovery.redoneRecords == 0)
        #expect(try Self.firstByte(of: last, sector: 4) == 4)
        last.abandon()
    }

    private static func firstByte(of volume: ProtectedVolume, sector: UInt64) throws -> UInt8 {
        var bytes = [UInt8](repeating: 0xFF, count: 512)
        try bytes.withUnsafeMutableBytes { try volume.read(into: $0, at: sector * 512) }
        return bytes[0]
    }
}
