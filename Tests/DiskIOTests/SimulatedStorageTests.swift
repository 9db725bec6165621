// The fault model of the simulated storage, rule by rule.

import DiskIO
import Testing

#if canImport(Glibc)
    import Glibc
#endif

/// A synced file of four sectors of 1s at /f.
private func prepared(seed: UInt64, sectors: Int = 4) throws -> (SimulatedStorage, StorageFile) {
    let storage = SimulatedStorage(seed: seed)
    let file = try storage.open("/f", .init(.readWrite, creation: .exclusively))
    try file.put(pattern(512 * sectors, 1), at: 0)
    try file.sync()
    try storage.syncDirectory("/")
    return (storage, file)
}

@Suite struct SimulatedStorageTests {
    @Test func syncedDataSurvivesEveryCrash() throws {
        for seed in 0..<200 as Range<UInt64> {
            let (storage, file) = try prepared(seed: seed)
            try file.put(pattern(512, 2), at: 512)
            try file.sync()
            try file.put(pattern(512, 3), at: 1536, .immediate)
            storage.crash()
            let content = try storage.contents(of: "/f")
            #expect(
                content == pattern(512, 1) + pattern(512, 2) + pattern(512, 1) + pattern(512, 3))
        }
    }

    @Test func unsyncedSectorsAreKeptOrLostOneByOne() throws {
        var seen = Set<[UInt8]>()
        for seed in 0..<600 as Range<UInt64> {
            let (storage, file) = try prepared(seed: seed)
            try file.put(pattern(1024, 2), at: 0)
            try file.put(pattern(1024, 3), at: 512)
            storage.crash()
            let content = try storage.contents(of: "/f")
            for start in stride(from: 0, to: 2048, by: 512) {
                #expect(Set(content[start..<start + 512]).count == 1, "a torn sector")
            }
            seen.insert(stride(from: 0, to: 2048, by: 512).map { content[$0] })
        }
        // Sector 0: old or 2; sector 1: old, 2 or 3; sector 2: old or 3; sector 3 untouched.
        #expect(seen.count == 12)
        #expect(seen.allSatisfy { $0[3] == 1 && $0[2] != 2 && $0[0] != 3 })
    }

    @Test func sectorsTearOnlyWhenAsked() throws {
        var torn = 0
        for seed in 0..<100 as Range<UInt64> {
            let (storage, file) = try prepared(seed: seed)
            storage.faults.tornSectorRatio = 1
            try file.put(pattern(512, 2), at: 0)
            storage.crash()
            if Set(try storage.contents(of: "/f")[..<512]).count > 1 { torn += 1 }
        }
        #expect(torn > 20)
    }

    @Test func sizeAndDataAreIndependent() throws {
        var seen = Set<[UInt8]>()
        for seed in 0..<300 as Range<UInt64> {
            let (storage, file) = try prepared(seed: seed, sectors: 1)
            try file.put(pattern(512, 2), at: 512)
            storage.crash()
            seen.insert(Array(try storage.contents(of: "/f")[512...].prefix(1)))
        }
        #expect(seen == [[], [0], [2]])
    }

    @Test func truncationIsNotUndoneByOlderWrites() throws {
        for seed in 0..<200 as Range<UInt64> {
            let (storage, file) = try prepared(seed: seed)
            try file.put(pattern(2048, 2), at: 0)
            try file.truncate(to: 0)
            try file.put(pattern(512, 3), at: 0)
            try file.sync()
            try file.truncate(to: 1024)
            try file.sync()
            storage.crash()
            #expect(try storage.contents(of: "/f") == pattern(512, 3) + pattern(512, 0))
        }
    }

    @Test func immediateWritesCarryTheSizeWithThem() throws {
        for seed in 0..<200 as Range<UInt64> {
            let (storage, file) = try prepared(seed: seed)
            try file.allocate(offset: 0, count: 65_536)
            try file.put(pattern(512, 9), at: 512)
            try file.put(pattern(512, 2), at: 32_768, .immediate)
            storage.crash()
            let content = try storage.contents(of: "/f")
            #expect(content.count == 65_536)
            #expect(Array(content[32_768..<33_280]) == pattern(512, 2))
            #expect([1, 9].contains(content[512]))
        }
    }

    @Test func namesLastOnceTheirFolderIsSynced() throws {
        var seen = Set<[String]>()
        for seed in 0..<200 as Range<UInt64> {
            let (storage, _) = try prepared(seed: seed)
            for name in ["/a", "/b"] {
                _ = try storage.open(name, .init(.readWrite, creation: .exclusively))
            }
            try storage.remove("/f")
            storage.crash()
            seen.insert(try storage.list("/"))
        }
        #expect(seen == [["f"], ["a", "f"], ["a", "b", "f"], ["a", "b"]])
    }

    @Test func renamesAreAtomicAlsoBetweenFolders() throws {
        for seed in 0..<300 as Range<UInt64> {
            let (storage, _) = try prepared(seed: seed)
            try storage.createDirectory("/d")
            try storage.syncDirectory("/")
            _ = try storage.open("/d/x", .init(.readWrite, creation: .exclusively))
            _ = try storage.open("/y", .init(.readWrite, creation: .exclusively))
            try storage.rename("/f", to: "/d/f")
            if seed % 2 == 0 { try storage.syncDirectory("/d") }
            storage.crash()
            let isMoved = storage.exists("/d/f")
            #expect(storage.exists("/f") != isMoved)
            if isMoved { #expect(storage.exists("/d/x") && storage.exists("/y")) }
            if seed % 2 == 0 { #expect(isMoved) }
        }
    }

    @Test func renameWithoutSyncCanLeaveAnEmptyFile() throws {
        var lengths = Set<Int>()
        for seed in 0..<200 as Range<UInt64> {
            let (storage, _) = try prepared(seed: seed)
            let file = try storage.open("/new", .init(.readWrite, creation: .exclusively))
            try file.put(pattern(512, 2), at: 0)
            try storage.rename("/new", to: "/f")
            try storage.syncDirectory("/")
            storage.crash()
            lengths.insert(try storage.contents(of: "/f").count)
        }
        #expect(lengths == [0, 512])
    }

    @Test func replaceSurvivesACrashAtEveryOperation() throws {
        let old = pattern(700, 1)
        let new = pattern(900, 2)
        for number in 1...8 as ClosedRange<UInt64> {
            for seed in 0..<50 as Range<UInt64> {
                let storage = SimulatedStorage(seed: seed)
                try old.withUnsafeBytes { try storage.replace("s", in: "", with: $0) }
                storage.crash(atOperation: storage.operationCount + number)
                let isDone =
                    (try? new.withUnsafeBytes {
                        try storage.replace("s", in: "", with: $0)
                    }) != nil
                #expect(isDone == (number > 5))
                storage.crash()
                let content = try storage.contents(of: "/s")
                #expect(content == new || (!isDone && content == old))
                try new.withUnsafeBytes { try storage.replace("s", in: "", with: $0) }
                #expect(try storage.list("/") == ["s"])
            }
        }
    }

    @Test func powerLossStopsEverythingAndKillsHandles() throws {
        let (storage, file) = try prepared(seed: 1)
        storage.crash(atOperation: storage.operationCount + 2)
        try file.put([2], at: 0)
        expectCode(SimulatedStorage.crashCode) { try file.sync() }
        expectCode(SimulatedStorage.crashCode) { _ = try file.get(1, at: 0) }
        expectCode(SimulatedStorage.crashCode) { _ = try storage.list("/") }
        #expect(storage.isDown && !storage.exists("/f"))
        storage.crash()
        expectCode(SimulatedStorage.crashCode) { try file.put([3], at: 0) }
        let again = try storage.open("/f", .init(.readWrite))
        #expect(try again.tryLock())
        try again.put([4], at: 0)
        storage.kill()
        expectCode(SimulatedStorage.crashCode) { try again.sync() }
        #expect(try storage.contents(of: "/f")[0] == 4)
        #expect(try storage.open("/f", .init(.readWrite)).tryLock())
    }

    @Test func aFailedSyncDropsWhatWaited() throws {
        var lost = 0
        for seed in 0..<100 as Range<UInt64> {
            let (storage, file) = try prepared(seed: seed)
            storage.faults.evictionAfterSyncErrorRatio = 0
            try file.put(pattern(512, 2), at: 0)
            storage.inject(PlannedFault(.sync, .error(EIO)))
            expectCode(EIO) { try file.sync() }
            #expect(try file.get(1, at: 0) == [2])
            try file.put(pattern(512, 3), at: 512)
            try file.sync()
            if seed % 2 == 0 { storage.evictCaches() } else { storage.crash() }
            let content = try storage.contents(of: "/f")
            #expect(content[512] == 3)
            if content[0] == 1 { lost += 1 }
        }
        #expect(lost > 10)
    }

    @Test func plannedFaultsStrikeWherePlanned() throws {
        let (storage, file) = try prepared(seed: 1)
        storage.inject(PlannedFault(.write, pathPart: "f", .error(EIO), skip: 1, count: 2))
        try file.put([2], at: 0)
        expectCode(EIO) { try file.put([2], at: 0) }
        expectCode(EIO) { try file.put([2], at: 0) }
        try file.put([2], at: 0)
        storage.inject(PlannedFault(.read, .error(EIO)))
        expectCode(EIO) { _ = try file.get(1, at: 0) }
        storage.inject(PlannedFault(.write, .lost))
        try file.put([7], at: 100)
        #expect(try file.get(1, at: 100) == [1])
        storage.inject(PlannedFault(.write, .misdirected))
        try file.put(pattern(512, 8), at: 0)
        #expect(try storage.contents(of: "/f").filter { $0 == 8 }.count == 512)
        for (operation, call) in [
            (.create, { _ = try storage.open("/n", .init(.readWrite, creation: .ifMissing)) }),
            (.rename, { try storage.rename("/f", to: "/g") }),
            (.remove, { try storage.remove("/f") }),
            (.syncDirectory, { try storage.syncDirectory("/") }),
            (.truncate, { try file.truncate(to: 0) }),
        ] as [(IOError.Operation, () throws -> Void)] {
            storage.inject(PlannedFault(operation, .error(EIO)))
            expectCode(EIO, call)
        }
        #expect(storage.plannedFaults.isEmpty)
        #expect(try storage.list("/") == ["f"])
    }

    @Test func shortWritesAreFinishedByTheLoop() throws {
        let (storage, file) = try prepared(seed: 3, sectors: 40)
        storage.faults.shortWriteRatio = 0.7
        let bytes = (0..<20_000).map { UInt8(truncatingIfNeeded: $0 * 7) }
        try file.put(bytes, at: 100)
        #expect(try file.get(20_000, at: 100) == bytes)
    }

    @Test func spaceRunsOutAndComesBack() throws {
        let (storage, file) = try prepared(seed: 3)
        storage.faults.capacityBytes = 12_288
        expectCode(ENOSPC) { try file.put(pattern(16_384, 2), at: 0) }
        #expect(try file.size() == 12_288)
        #expect(try storage.freeBytes("/") == 0)
        try file.put(pattern(4096, 3), at: 4096)
        expectCode(ENOSPC) { try file.allocate(offset: 0, count: 16_384) }
        try file.punchHole(offset: 0, count: 4096)
        try file.put([1], at: 20_000)
        storage.faults.isFull = true
        expectCode(ENOSPC) { try file.put([1], at: 0) }
        storage.faults.isFull = false
        storage.faults.capacityBytes = nil
        try file.put([1], at: 0)
    }

    @Test func directFilesRefuseCrookedCalls() throws {
        let storage = SimulatedStorage(seed: 1)
        let file = try storage.open(
            "/f", .init(.readWrite, creation: .exclusively, isDirect: true))
        let buffer = AlignedBuffer(count: 4096)
        expectCode(EINVAL) {
            try file.write(UnsafeRawBufferPointer(rebasing: buffer.bytes[..<100]), at: 0)
        }
        expectCode(EINVAL) { try file.write(UnsafeRawBufferPointer(buffer.bytes), at: 100) }
        expectCode(EINVAL) {
            _ = try file.read(
                into: UnsafeMutableRawBufferPointer(rebasing: buffer.bytes[8..<520]), at: 0)
        }
    }

    @Test func damageAtRestShows() throws {
        let (storage, file) = try prepared(seed: 1)
        #expect(storage.corrupt("/f", bit: 8 * 600 + 1))
        #expect(!storage.corrupt("/f", bit: 8 * 4096))
        #expect(try file.get(1, at: 600) == [3])
        storage.crash()
        #expect(try storage.contents(of: "/f")[600] == 3)
        storage.makeUnreadable("/f", sectors: 2..<3)
        let again = try storage.open("/f", .init(.readWrite))
        #expect(try again.get(512, at: 512).count == 512)
        expectCode(EIO) { _ = try again.get(1, at: 1024) }
        try again.put(pattern(512, 5), at: 1024)
        #expect(try again.get(1, at: 1024) == [5])
    }

    @Test func forksAreWorldsOfTheirOwn() throws {
        let (storage, file) = try prepared(seed: 1)
        try file.put(pattern(512, 2), at: 0)
        let twin = storage.fork(seed: 9)
        try file.put(pattern(512, 3), at: 0)
        #expect(try twin.contents(of: "/f")[0] == 2)
        let other = try twin.open("/f", .init(.readWrite))
        try other.put(pattern(512, 4), at: 512)
        #expect(try file.get(1, at: 512) == [1])
        var seen = Set<UInt8>()
        for seed in 0..<50 as Range<UInt64> {
            let world = storage.fork(seed: seed)
            world.crash()
            seen.insert(try world.contents(of: "/f")[0])
        }
        #expect(seen == [1, 2, 3])
        #expect(try file.get(1, at: 0) == [3])
    }

    @Test func devicesKeepTheirSize() throws {
        let storage = SimulatedStorage(seed: 1)
        try storage.addDevice("/dev", byteCount: 8192)
        let device = try storage.open("/dev", .init(.readWrite))
        #expect(device.isBlockDevice)
        expectCode(ENOSPC) { try device.put(pattern(512, 1), at: 8192) }
        expectCode(ENOSPC) { try device.put(pattern(1024, 1), at: 7680) }
        try device.truncate(to: 0)
        #expect(try device.size() == 8192)
        storage.crash()
        #expect(try storage.contents(of: "/dev").count == 8192)
    }

    @Test func aSeedReproducesARun() throws {
        func run(_ seed: UInt64) throws -> ([UInt8], [String]) {
            let (storage, file) = try prepared(seed: seed)
            storage.tracing = true
            for round in 0..<20 as Range<UInt8> {
                try file.put(pattern(700, round), at: UInt64(round) * 333)
            }
            _ = try storage.open("/z", .init(.readWrite, creation: .exclusively))
            storage.crash()
            return (
                try storage.contents(of: "/f"),
                storage.trace.map(\.description) + (try storage.list("/"))
            )
        }
        for seed in 0..<20 as Range<UInt64> {
            let first = try run(seed)
            let second = try run(seed)
            #expect(first.0 == second.0 && first.1 == second.1)
        }
    }
}
