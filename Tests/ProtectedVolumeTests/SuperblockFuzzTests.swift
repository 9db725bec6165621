// Damaged superblocks through VolumeFolder.open and peek: one slot is enough, both damaged is
// refused, never a trap, never other values than were written.

import BlockModel
import CLinux
import DiskIO
import LogFormat
import ProtectedVolume
import Testing

@Suite struct SuperblockFuzzTests {
    private static let path = "/vol"

    private func volume() throws -> SimulatedStorage {
        let storage = SimulatedStorage(seed: 1)
        var creation = VolumeCreation(volumeBytes: 65536, createdWall: 5)
        creation.volume = VolumeID(high: 1, low: 2)
        creation.ringBytes = 64 << 10
        creation.walFileBytes = 40960
        creation.walBytesMax = 4 * 40960
        let folder = try VolumeFolder.create(Self.path, creation, on: storage)
        try folder.finishCreation()
        folder.close()
        return storage
    }

    /// Both slots of a new volume say the same but for their generation.
    private func isRight(_ superblock: Superblock, _ wanted: Superblock) -> Bool {
        var copy = superblock
        copy.generation = wanted.generation
        return copy == wanted
    }

    @Test func everyFlippedBit() throws {
        let storage = try volume()
        let wanted = try VolumeFolder.peek(Self.path, on: storage)
        let name = Self.path + "/superblock"
        for bit in 0..<UInt64(Superblock.slotBytes * Superblock.slotCount * 8) {
            storage.corrupt(name, bit: bit)
            let folder = try VolumeFolder.open(Self.path, on: storage)
            let isFine = isRight(folder.superblock, wanted) && folder.warnings.count == 1
            folder.close()
            storage.corrupt(name, bit: bit)
            if !isFine { Issue.record("bit \(bit)") }
        }
        let folder = try VolumeFolder.open(Self.path, on: storage)
        #expect(folder.warnings.isEmpty)
        folder.close()
    }

    @Test func everyTruncation() throws {
        let storage = try volume()
        let wanted = try VolumeFolder.peek(Self.path, on: storage)
        let bytes = try storage.contents(of: Self.path + "/superblock")
        for count in 0..<bytes.count {
            try put(Array(bytes[..<count]), storage)
            var found: Superblock?
            do throws(VolumeError) {
                found = try VolumeFolder.peek(Self.path, on: storage)
            } catch {
                guard case .superblocksDamaged = error else {
                    Issue.record("\(count) bytes: \(error)")
                    continue
                }
            }
            if let found { #expect(isRight(found, wanted)) }
            #expect(found != nil || count < Superblock.slotBytes, "\(count)")
        }
    }

    private func put(_ bytes: [UInt8], _ storage: SimulatedStorage) throws {
        let file = try storage.open(Self.path + "/superblock", OpenOptions(.readWrite))
        defer { file.close() }
        try file.truncate(to: 0)
        var failure: IOError?
        bytes.withUnsafeBytes { bytes in
            do throws(IOError) { try file.write(bytes, at: 0) } catch { failure = error }
        }
        if let failure { throw failure }
        try file.truncate(to: UInt64(bytes.count))
        try file.sync()
    }

    @Test(arguments: 0..<5) func mutatedSuperblocks(_ part: Int) throws {
        let storage = try volume()
        let wanted = try VolumeFolder.peek(Self.path, on: storage)
        let bytes = try storage.contents(of: Self.path + "/superblock")
        var random = SeededRandom(seed: UInt64(part))
        for round in 0..<10_000 {
            var mutated = bytes
            for _ in 0...random.below(4) where !mutated.isEmpty {
                let at = random.below(mutated.count)
                let end = min(mutated.count, at + 1 + random.below(300))
                switch random.below(5) {
                case 0, 1: mutated[at] ^= 1 << UInt8(random.below(8))
                case 2: mutated.removeSubrange(at...)
                case 3: for i in at..<end { mutated[i] = 0 }
                default:
                    let from = random.below(bytes.count - 300)
                    for i in at..<end { mutated[i] = bytes[from + i - at] }
                }
            }
            try put(mutated, storage)
            do {
                let folder = try VolumeFolder.open(Self.path, on: storage)
                let isFine = isRight(folder.superblock, wanted)
                folder.close()
                if !isFine { Issue.record("part \(part), round \(round)") }
            } catch {}  // a VolumeError: refused
        }
    }

    @Test func aLaterVersionIsRefusedUntouched() throws {
        let storage = try volume()
        var bytes = try storage.contents(of: Self.path + "/superblock")
        bytes[4096 + 12] = 2
        let crc = bytes[4096 + 12..<8192].withUnsafeBytes { checksum($0) }
        for i in 0..<4 { bytes[4096 + 8 + i] = UInt8(truncatingIfNeeded: crc >> (8 * UInt32(i))) }
        try put(bytes, storage)
        let before = storage.operationCount
        var refusal: VolumeError?
        do throws(VolumeError) {
            try VolumeFolder.open(Self.path, on: storage).close()
        } catch { refusal = error }
        guard case .futureVersion(_, 2)? = refusal else {
            Issue.record("not refused as of a later version: \(String(describing: refusal))")
            return
        }
        #expect(storage.operationCount == before)
    }
}

private func checksum(_ bytes: UnsafeRawBufferPointer) -> UInt32 {
    clinux_crc32c(0, bytes.baseAddress, bytes.count)
}
