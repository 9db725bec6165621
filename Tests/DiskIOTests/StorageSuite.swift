// The contract of `Storage`, run against the system's disk and against its simulated twin: what
// holds for one must hold for the other, or the simulator proves nothing.

import DiskIO
import Testing

#if canImport(Glibc)
    import Glibc
#endif

@Suite struct StorageSuite {
    @Test(arguments: StorageKind.allCases) func readsWhatWasWritten(_ kind: StorageKind) throws {
        let place = try StoragePlace(kind)
        let file = try place.create("a")
        try file.put(pattern(10_000, 7), at: 100)
        #expect(try file.size() == 10_100)
        #expect(try file.get(200, at: 0) == pattern(100, 0) + pattern(100, 7))
        #expect(try file.get(500, at: 10_000) == pattern(100, 7))
        #expect(try file.get(10, at: 10_100) == [])
        try file.put([1, 2, 3], at: 4095)
        #expect(try file.get(5, at: 4094) == [7, 1, 2, 3, 7])
    }

    @Test(arguments: StorageKind.allCases) func readZeroExtendedFillsUp(
        _ kind: StorageKind
    ) throws {
        let file = try StoragePlace(kind).create("a")
        try file.put([1, 2], at: 0)
        var bytes = pattern(6, 9)
        try bytes.withUnsafeMutableBytes { try file.readZeroExtended(into: $0, at: 1) }
        #expect(bytes == [2, 0, 0, 0, 0, 0])
    }

    @Test(arguments: StorageKind.allCases) func gathersVectors(_ kind: StorageKind) throws {
        let file = try StoragePlace(kind).create("a")
        let pieces: [[UInt8]] = [pattern(3, 1), pattern(5000, 2), pattern(1, 3)]
        let flat = UnsafeMutableRawBufferPointer.allocate(byteCount: 5004, alignment: 16)
        defer { flat.deallocate() }
        flat.copyBytes(from: pieces.flatMap { $0 })
        let base = UnsafeRawPointer(flat.baseAddress!)
        var vectors = [
            IOVector(base: base, count: 3), IOVector(base: base + 3, count: 5000),
            IOVector(base: base + 5003, count: 1),
        ]
        try vectors.withUnsafeMutableBufferPointer { try file.write(vectors: $0, at: 10) }
        #expect(try file.get(5004, at: 10) == Array(flat))
    }

    @Test(arguments: StorageKind.allCases) func writesInPieces(_ kind: StorageKind) throws {
        let file = try StoragePlace(kind).create("a")
        file.expectSmallAccess()
        let bytes = (0..<200_000).map { UInt8(truncatingIfNeeded: $0 / 7) }
        try file.put(bytes, at: 60_001)
        try file.writeBack(offset: 0, count: 300_000)
        file.forgetCached()
        #expect(try file.get(200_000, at: 60_001) == bytes)
        #expect(try file.size() == 260_001)
    }

    /// A disk file that expects small access never gives the system more than what lies before the
    /// next multiple of 16 KiB, however the memory is cut up.
    @Test func smallAccessCutsWritesUp() throws {
        let file = try StoragePlace(.disk).create("a")
        let bytes = (0..<45_003).map { UInt8(truncatingIfNeeded: $0 / 5) }
        func writeSome(_ counts: [Int], at offset: UInt64) throws -> Int {
            try bytes.withUnsafeBytes { memory in
                var vectors: [IOVector] = []
                var base = try #require(memory.baseAddress)
                for count in counts {
                    vectors.append(IOVector(base: base, count: count))
                    base += count
                }
                return try vectors.withUnsafeBufferPointer {
                    try file.writeSome($0, at: offset, .deferred)
                }
            }
        }
        #expect(try writeSome([3, 5000, 40_000], at: 60_001) == 45_003)
        file.expectSmallAccess()
        let room = 65_536 - 60_001
        #expect(try writeSome([3, 5000, 40_000], at: 60_001) == room)
        #expect(try file.get(room, at: 60_001) == Array(bytes[..<room]))
        #expect(try writeSome([45_003], at: 65_536) == DiskFile.pieceBytes)
        #expect(try writeSome([45_003], at: 65_536 + 16_383) == 1)
        #expect(try writeSome([16_384, 1], at: 65_536) == DiskFile.pieceBytes)
        #expect(try writeSome([100, 200], at: 65_536) == 300)
        // More vectors than sectors: a short write, too.
        #expect(try writeSome([Int](repeating: 512, count: 80), at: 0) == DiskFile.pieceBytes)
        #expect(try writeSome([Int](repeating: 1, count: 80), at: 0) == 32)
        #expect(try file.get(32, at: 0) == Array(bytes[..<32]))
    }

    @Test(arguments: StorageKind.allCases) func directFilesTakeWholeSectors(
        _ kind: StorageKind
    ) throws {
        let file = try StoragePlace(kind).create("a", isDirect: true)
        let buffer = AlignedBuffer(count: 8192)
        buffer.bytes.initializeMemory(as: UInt8.self, repeating: 5)
        try file.write(
            UnsafeRawBufferPointer(rebasing: buffer.bytes[..<4096]), at: 4096, .immediate)
        buffer.bytes.initializeMemory(as: UInt8.self, repeating: 9)
        #expect(try file.read(into: buffer.bytes, at: 0) == 8192)
        #expect(buffer.bytes[4095] == 0 && buffer.bytes[4096] == 5)
    }

    @Test(arguments: StorageKind.allCases) func truncatesAndGrows(_ kind: StorageKind) throws {
        let file = try StoragePlace(kind).create("a")
        try file.put(pattern(9000, 4), at: 0)
        try file.truncate(to: 5000)
        try file.truncate(to: 9000)
        #expect(try file.get(4, at: 4998) == [4, 4, 0, 0])
        #expect(try file.size() == 9000)
        try file.sync()
    }

    @Test(arguments: StorageKind.allCases) func allocatesAsZeros(_ kind: StorageKind) throws {
        let place = try StoragePlace(kind)
        let file = try place.create("a")
        try file.put([1], at: 0)
        try file.allocate(offset: 0, count: 1 << 20)
        #expect(try file.size() == 1 << 20)
        #expect(try file.get(3, at: 0) == [1, 0, 0])
        #expect(try file.get(3, at: 500_000) == [0, 0, 0])
        #expect(try place.storage.allocatedBytes(place.path("a")) >= 1 << 20)
    }

    @Test(arguments: StorageKind.allCases) func punchesHolesAndFindsData(
        _ kind: StorageKind
    ) throws {
        let place = try StoragePlace(kind)
        let file = try place.create("a")
        try file.put(pattern(1 << 20, 6), at: 0)
        try file.sync()
        try file.punchHole(offset: 65_536, count: 131_072)
        #expect(try file.get(2, at: 65_535) == [6, 0])
        #expect(try file.get(2, at: 65_536 + 131_071) == [0, 6])
        try file.punchHole(offset: 100, count: 10)
        #expect(try file.get(12, at: 99) == [6] + pattern(10, 0) + [6])
        #expect(try file.size() == 1 << 20)
        // A file system may report less of the hole than there is, never data as a hole.
        #expect(try file.nextData(from: 0)?.lowerBound == 0)
        let second = try #require(try file.nextData(from: 150_000))
        #expect(second.lowerBound <= 196_608 && second.upperBound == 1 << 20)
        #expect(try file.nextData(from: 1 << 20) == nil)
    }

    @Test(arguments: StorageKind.allCases) func sparseFilesHaveNoData(_ kind: StorageKind) throws {
        let place = try StoragePlace(kind)
        let file = try place.create("a")
        try file.truncate(to: 1 << 30)
        #expect(try file.nextData(from: 0) == nil)
        #expect(try place.storage.allocatedBytes(place.path("a")) < 1 << 20)
        try file.put([1], at: 1 << 29)
        #expect(try file.nextData(from: 0)?.lowerBound == 1 << 29)
    }

    @Test(arguments: StorageKind.allCases) func creationFollowsItsOption(
        _ kind: StorageKind
    ) throws {
        let place = try StoragePlace(kind)
        expectCode(ENOENT) { _ = try place.storage.open(place.path("a"), .init(.readOnly)) }
        _ = try place.storage.open(place.path("a"), .init(.readWrite, creation: .ifMissing))
        _ = try place.storage.open(place.path("a"), .init(.readWrite, creation: .ifMissing))
        expectCode(EEXIST) { _ = try place.create("a") }
        expectCode(ENOENT) { _ = try place.create("no/such") }
        let reader = try place.storage.open(place.path("a"), .init(.readOnly))
        expectCode(EBADF) { try reader.put([1], at: 0) }
    }

    @Test(arguments: StorageKind.allCases) func renamesReplace(_ kind: StorageKind) throws {
        let place = try StoragePlace(kind)
        try place.create("a").put([1], at: 0)
        try place.create("b").put([2], at: 0)
        try place.storage.rename(place.path("a"), to: place.path("b"))
        #expect(try place.storage.contents(of: place.path("b")) == [1])
        #expect(try place.storage.list(place.folder) == ["b"])
        expectCode(ENOENT) { try place.storage.rename(place.path("a"), to: place.path("c")) }
    }

    @Test(arguments: StorageKind.allCases) func foldersHoldNames(_ kind: StorageKind) throws {
        let place = try StoragePlace(kind)
        let storage = place.storage
        try storage.createDirectory(place.path("d"))
        expectCode(EEXIST) { try storage.createDirectory(place.path("d")) }
        expectCode(ENOENT) { try storage.createDirectory(place.path("x/y")) }
        _ = try place.create("d/two")
        _ = try place.create("d/one")
        #expect(try storage.list(place.path("d")) == ["one", "two"])
        #expect(storage.isDirectory(place.path("d")) && !storage.isDirectory(place.path("d/one")))
        #expect(storage.exists(place.path("d/one")) && !storage.exists(place.path("d/three")))
        expectCode(ENOTEMPTY) { try storage.remove(place.path("d")) }
        try storage.remove(place.path("d/one"))
        try storage.remove(place.path("d/two"))
        try storage.remove(place.path("d"))
        expectCode(ENOENT) { try storage.remove(place.path("d")) }
        expectCode(ENOENT) { _ = try storage.list(place.path("d")) }
        try storage.syncDirectory(place.folder)
        #expect(try storage.freeBytes(place.folder) > 0)
    }

    @Test(arguments: StorageKind.allCases) func removedFilesLiveWhileOpen(
        _ kind: StorageKind
    ) throws {
        let place = try StoragePlace(kind)
        let file = try place.create("a")
        try place.storage.remove(place.path("a"))
        try file.put([1, 2], at: 0)
        #expect(try file.get(2, at: 0) == [1, 2])
    }

    @Test(arguments: StorageKind.allCases) func locksExcludeOthersUntilClose(
        _ kind: StorageKind
    ) throws {
        let place = try StoragePlace(kind)
        let first = try place.create("lock")
        let second = try place.storage.open(place.path("lock"), .init(.readWrite))
        #expect(try first.tryLock())
        #expect(try first.tryLock())
        #expect(try !second.tryLock())
        first.close()
        #expect(try second.tryLock())
        first.close()
    }

    @Test(arguments: StorageKind.allCases) func replaceIsReadBack(_ kind: StorageKind) throws {
        let place = try StoragePlace(kind)
        for content in [[UInt8]("first".utf8), [UInt8]("second, longer".utf8)] {
            try content.withUnsafeBytes {
                try place.storage.replace("state", in: place.folder, with: $0)
            }
            #expect(try place.storage.contents(of: place.path("state")) == content)
        }
        #expect(try place.storage.list(place.folder) == ["state"])
        expectCode(EFBIG) { _ = try place.storage.contents(of: place.path("state"), limit: 3) }
    }

    @Test(arguments: StorageKind.allCases) func cloneCopiesOrDeclines(_ kind: StorageKind) throws {
        let place = try StoragePlace(kind)
        if let simulated = place.storage as? SimulatedStorage { simulated.faults.canClone = true }
        let source = try place.create("a")
        try source.put(pattern(8192, 3), at: 4096)
        let target = try place.create("b")
        if place.storage.clone(source, to: target) {
            #expect(try target.size() == 12_288)
            #expect(try target.get(2, at: 4095) == [0, 3])
        } else {
            #expect(kind == .disk)
            #expect(try target.size() == 0)
        }
    }
}
