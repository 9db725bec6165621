// The writer of the log on a simulated disk: group commit, wrap, files that follow each other, the
// bound, a full disk, a failed append; and that what it wrote is read back.

import BlockModel
import CLinux
import DiskIO
import LogFormat
import Testing
import WriteLog

#if canImport(Glibc)
    import Glibc
#endif

/// A log with its storage.
private struct TestLog {
    let storage: SimulatedStorage
    let log: LogWriter
    let clock = SteppedClock()
    static let volume = VolumeID(high: 0x1111, low: 0x2222)

    init(
        on storage: SimulatedStorage = SimulatedStorage(seed: 1), fileBytes: UInt64 = 40960,
        files: UInt64 = 4, epoch: UInt64 = 1, ringBytes: UInt64 = 64 << 10,
        cutAfter end: LSN? = nil
    ) throws {
        self.storage = storage
        if !storage.exists("/wal") {
            try storage.createDirectory("/wal")
            try storage.syncDirectory("/")
        }
        let contents = try readLog(
            in: "/wal", on: storage, volume: Self.volume, checkpoint: .zero,
            durable: .zero,
            epoch: end.map { (number: epoch, first: $0.next) } ?? (number: 0, first: .max)
        ) { _ in }
        log = try LogWriter.open(
            contents, in: "/wal", on: storage,
            LogOptions(
                volume: Self.volume, epoch: epoch, salt: 0x1000 + UInt32(epoch),
                walFileBytes: fileBytes, walBytesMax: fileBytes * files, ringBytes: ringBytes),
            clock: clock)
    }

    /// Orders a write of `sectors` whose bytes are told by its LSN.
    @discardableResult
    func put(sectors: Int = 1) -> LSN? {
        guard
            case .reserved(let place) = log.ring.reserve(
                .write, Extent(start: 0, count: UInt64(sectors)), payloadBytes: sectors * 512)
        else { return nil }
        let byte = UInt8(truncatingIfNeeded: place.stamp.lsn.rawValue)
        place.payload.initializeMemory(
            as: UInt8.self, repeating: byte, count: place.payloadBytes)
        log.ring.publish(
            place, payloadCRC: clinux_crc32c(0, place.payload, place.payloadBytes))
        return place.stamp.lsn
    }

    /// Puts, makes durable and frees.
    func write(sectors: Int = 1) throws {
        try #require(put(sectors: sectors) != nil)
        try drain()
    }

    func drain() throws {
        while log.durable < log.ring.reserved { try log.makeDurable(through: log.ring.reserved) }
        log.ring.free(before: log.durable)
    }

    /// The log as recovery reads it: LSNs, each record's bytes checked.
    func recovered() throws -> [UInt64] {
        var lsns: [UInt64] = []
        _ = try readLog(
            in: "/wal", on: storage, volume: Self.volume, checkpoint: .zero,
            durable: .zero
        ) { record in
            let lsn = record.header.stamp.lsn.rawValue
            let byte = UInt8(truncatingIfNeeded: lsn)
            #expect(record.payload.allSatisfy { $0 == byte })
            lsns.append(lsn)
        }
        return lsns
    }
}

@Suite struct LogWriterTests {
    @Test func oneAppendForAllThatIsPublished() throws {
        let test = try TestLog()
        for _ in 0..<20 { test.put() }
        let before = test.storage.operationCount
        try test.log.makeDurable(through: test.log.ring.reserved)
        #expect(test.log.counters.appends == 1)
        #expect(test.log.durableLSN == LSN(20))
        // A first file (create, allocate, write, sync, rename, sync folder) and one write.
        #expect(test.storage.operationCount - before == 7)
        try test.log.makeDurable(through: test.log.ring.reserved)
        #expect(test.log.counters.appends == 1)
        #expect(try test.recovered() == Array(1...20))
    }

    @Test func durableWhenItSaysSo() throws {
        for seed: UInt64 in 0..<40 {
            let test = try TestLog(on: SimulatedStorage(seed: seed))
            for _ in 0..<7 { test.put() }
            try test.log.makeDurable(through: test.log.ring.reserved)
            for _ in 0..<5 { test.put() }
            let durable = test.log.durableLSN.rawValue
            // The power goes during the next append.
            test.storage.crash(atOperation: test.storage.operationCount + 1)
            #expect(throws: LogWriter.Refusal.self) { try test.drain() }
            test.storage.crash()
            let lsns = try test.recovered()
            #expect(lsns.count >= durable && lsns == Array((1...12).prefix(lsns.count)))
        }
    }

    @Test func aBatchThatWrapsWithoutAPad() throws {
        let test = try TestLog(fileBytes: 128 << 10)
        for _ in 0..<3 { try test.write(sectors: 31) }
        // The fourth ends at the end of the memory, the fifth begins at its start; one batch.
        test.put(sectors: 31)
        test.put(sectors: 31)
        try test.drain()
        #expect(try test.recovered() == Array(1...5))
    }

    @Test func aBatchThatWrapsWithAPad() throws {
        let test = try TestLog(fileBytes: 128 << 10)
        for _ in 0..<3 { try test.write(sectors: 32) }
        test.put(sectors: 20)
        test.put(sectors: 32)
        try test.drain()
        #expect(try test.recovered() == Array(1...5))
    }

    @Test func filesFollowEachOther() throws {
        let test = try TestLog()
        for _ in 0..<12 { try test.write(sectors: 20) }  // three to a file
        #expect(try test.storage.list("/wal").count == 4)
        #expect(try test.recovered() == Array(1...12))
        let source = test.log.reader(first: LSN(2), last: LSN(11))
        var lsns: [UInt64] = []
        while let record = try source.next() { lsns.append(record.header.stamp.lsn.rawValue) }
        #expect(lsns == Array(2...11))
    }

    @Test func theBoundHoldsUntilFilesAreReleased() throws {
        let test = try TestLog(files: 3)
        for _ in 0..<9 { try test.write(sectors: 20) }
        test.put(sectors: 20)
        #expect(throws: LogWriter.Refusal.behind) { try test.drain() }
        #expect(test.log.health == .behind)
        #expect(test.log.durableLSN == LSN(9))
        #expect(test.log.files.space.bytes == test.log.files.space.bound)
        test.log.files.release(through: LSN(3))
        try test.drain()
        #expect(test.log.health == .good && test.log.durableLSN == LSN(10))
        #expect(test.log.files.oldestLSN == LSN(4))
        #expect(try test.storage.list("/wal").count == 3)
    }

    /// What an earlier opening cut off stays cut off, also when no file of the later epoch is left
    /// to tell: then the superblock does.
    @Test func theSuperblockTellsWhereAnEpochEnds() throws {
        let test = try TestLog()
        for _ in 0..<5 { try test.write() }
        for (epoch, end) in [(UInt64(2), UInt64(3)), (1, 5)] {
            let contents = try readLog(
                in: "/wal", on: test.storage, volume: TestLog.volume, checkpoint: .zero,
                durable: .zero, epoch: (epoch, LSN(4))
            ) { _ in }
            #expect(contents.last.lsn == LSN(end))
            #expect(contents.end == .ended)
        }
    }

    /// What recovery cut off may be readable again: damage that came from the reading. No reader
    /// takes it for the records that another epoch has given the same LSNs.
    @Test func readersStopWhereRecoveryCut() throws {
        let test = try TestLog()
        for _ in 0..<5 { try test.write() }
        let again = try TestLog(on: test.storage, epoch: 2, cutAfter: LSN(3))
        for _ in 0..<3 { try again.write(sectors: 2) }
        let contents = try readLog(
            in: "/wal", on: test.storage, volume: TestLog.volume, checkpoint: .zero,
            durable: .zero
        ) { _ in }
        #expect(contents.files.map(\.last) == [LSN(3), LSN(6)])
        let sources: [any RecordSource] = [
            again.log.reader(first: LSN(1), last: LSN(6)),
            WALFolderReader(contents, from: LSN(1), on: test.storage),
        ]
        for source in sources {
            var sectors: [UInt64] = []
            while let record = try source.next() { sectors.append(record.header.extent.count) }
            #expect(sectors == [1, 1, 1, 2, 2, 2])
        }
    }

    /// A ring whose longest record would not fit a file is made smaller.
    @Test func theRingFitsTheFiles() throws {
        let test = try TestLog(ringBytes: 1 << 20)
        #expect(test.log.ring.capacity == 64 << 10)
        for _ in 0..<4 { try test.write(sectors: test.log.ring.payloadBytesMax / 512) }
        #expect(try test.recovered() == Array(1...4))
        #expect(try TestLog(fileBytes: 2 << 20, ringBytes: 8 << 20).log.ring.capacity == 8 << 20)
    }

    /// A log that fills its files within moments has several ready; they count within the bound.
    @Test func filesArePreparedAhead() throws {
        let test = try TestLog(files: 16)
        for _ in 0..<12 { try test.write(sectors: 20) }  // four files
        test.log.files.prepareAhead()
        #expect(try test.storage.list("/wal").count == 8)
        let appends = test.log.counters.appends
        for _ in 0..<12 { try test.write(sectors: 20) }
        #expect(test.log.counters.appends == appends + 12)
        #expect(try test.storage.list("/wal").count == 8)
        #expect(try test.recovered() == Array(1...24))
        #expect(test.log.files.bytes(after: .zero) == 24 * 21 * 512)
        #expect(test.log.files.bytes(after: LSN(18)) == 6 * 21 * 512)
        #expect(test.log.files.bytes(after: LSN(24)) == 0)
        #expect(test.log.files.share == 0.5)
        test.log.files.release(through: LSN(12), isEnding: true)
        test.log.files.prepareAhead()
        let space = test.log.files.space
        #expect(space.bytes <= space.bound)
        #expect(test.log.files.oldestLSN == LSN(13))
    }

    @Test func aReaderKeepsItsFiles() throws {
        let test = try TestLog(files: 4)
        for _ in 0..<9 { try test.write(sectors: 20) }
        do {
            let source = test.log.reader(first: LSN(2), last: LSN(9))
            test.log.files.release(through: LSN(9))
            #expect(test.log.files.oldestLSN == LSN(1))
            for lsn in 2...9 {
                #expect(try source.next()?.header.stamp.lsn == LSN(UInt64(lsn)))
            }
            #expect(try source.next() == nil)
        }
        test.log.files.release(through: LSN(9))
        #expect(test.log.files.oldestLSN == LSN(7))  // the active file stays
    }

    /// A recycled file has its first record's place cleared: what an earlier life of this epoch
    /// left would be taken for a record, and recovery would begin with it.
    @Test func aRecycledFileBeginsEmpty() throws {
        let test = try TestLog(files: 4)
        for _ in 0..<6 { try test.write(sectors: 20) }
        test.log.files.release(through: LSN(3))
        test.log.prepareNextFile()
        let contents = try readLog(
            in: "/wal", on: test.storage, volume: TestLog.volume,
            checkpoint: Stamp(lsn: LSN(3), wallNanoseconds: 0), durable: LSN(3)
        ) { _ in }
        #expect(contents.last.lsn == LSN(6))
        #expect(contents.files.count == 1 && contents.unneeded.count == 1)
    }

    @Test func noSpaceIsNoFailure() throws {
        let test = try TestLog()
        try test.write()
        test.storage.faults.isFull = true
        for _ in 0..<4 { test.put(sectors: 20) }
        #expect(throws: LogWriter.Refusal.full) { try test.drain() }
        #expect(test.log.health == .full)
        #expect(test.log.failure?.code == ENOSPC)
        #expect(try test.storage.list("/wal").allSatisfy { $0.hasSuffix(".wal") })
        test.storage.faults.isFull = false
        try test.drain()
        #expect(test.log.health == .good)
        #expect(try test.recovered() == Array(1...5))
    }

    @Test func aFailedAppendIsTheEnd() throws {
        let test = try TestLog()
        try test.write()
        test.storage.inject(PlannedFault(.write, pathPart: "/wal/", .error(EIO)))
        test.put()
        #expect(throws: LogWriter.Refusal.failed) { try test.drain() }
        #expect(throws: LogWriter.Refusal.failed) { try test.drain() }
        #expect(test.log.health == .failed && test.log.durableLSN == LSN(1))
        #expect(try test.recovered().first == 1)
    }

    @Test func shortWritesAreCarriedOn() throws {
        var faults = SimulatedFaults.none
        faults.shortWriteRatio = 0.7
        let test = try TestLog(on: SimulatedStorage(seed: 3, faults: faults))
        for _ in 0..<6 { test.put(sectors: 9) }
        try test.drain()
        #expect(try test.recovered() == Array(1...6))
    }

    @Test func aLaterRecordClaimsWhatIsDurable() throws {
        let test = try TestLog()
        test.put()
        try test.log.makeDurable(through: test.log.ring.reserved)
        let first = test.log.durable
        #expect(test.log.claimed == 0)
        test.put()
        try test.log.makeDurable(through: test.log.ring.reserved)
        #expect(test.log.claimed == first)
        test.log.claim(through: test.log.durable)
        #expect(test.log.claimed == test.log.durable)
    }

    @Test func aHoleInTheLogIsDamageToItsReader() throws {
        let test = try TestLog(fileBytes: 128 << 10)
        for _ in 0..<5 { try test.write() }
        test.storage.corrupt(
            "/wal/000000000001.wal", bit: UInt64(WALFileHeader.byteCount + 2 * 1024 + 600) * 8)
        let source = test.log.reader(first: LSN(1), last: LSN(5))
        #expect(try source.next()?.header.stamp.lsn == LSN(1))
        #expect(try source.next()?.header.stamp.lsn == LSN(2))
        #expect(throws: LogDamage.self) { try source.next() }
    }

    @Test func anotherEpochGoesOnInANewFile() throws {
        let test = try TestLog()
        for _ in 0..<2 { try test.write() }
        let again = try TestLog(on: test.storage, epoch: 2)
        try again.write()
        #expect(again.log.durableLSN == LSN(3))
        #expect(try again.recovered() == [1, 2, 3])
        let contents = try readLog(
            in: "/wal", on: test.storage, volume: TestLog.volume, checkpoint: .zero,
            durable: .zero
        ) { _ in }
        #expect(contents.bytes(after: .zero) == 3 * 1024)
        #expect(contents.bytes(after: LSN(1)) == 2 * 1024)
        #expect(contents.bytes(after: LSN(3)) == 0)
        let reader = WALFolderReader(contents, from: LSN(2), on: test.storage)
        #expect(try reader.next()?.header.stamp.lsn == LSN(2))
        #expect(try reader.next()?.header.stamp.lsn == LSN(3))
        #expect(try reader.next() == nil)
    }
}
