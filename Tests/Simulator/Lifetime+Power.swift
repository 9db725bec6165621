// Creation, opening, closing, and coming back after a power cut or a kill: where R1, R2, R3 and R6
// are checked.

import BlockModel
import DiskIO
import History
import LogFormat
import ProtectedVolume
import WriteLog

extension Lifetime {
    private var imagePath: String { Self.path + "/image.raw" }

    // MARK: - creation

    /// Makes the volume; false when the power went during it and no volume came of it.
    func create() throws -> Bool {
        let mayFail = plan.troubles.contains(.power) && chance(0.2)
        if mayFail { storage.crash(atOperation: 1 + UInt64(random.below(60))) }
        do {
            try make()
            if !isDown { return true }
        } catch {
            try check(isDown, "creation failed for no reason: \(error)")
        }
        note("the power went during creation")
        coverage.note("crash in creation")
        dropVolume()
        storage.crash()
        // What is there is a whole volume or none, and nothing in between.
        do throws(VolumeError) {
            let folder = try VolumeFolder.open(Self.path, on: storage)
            folder.close()
            return true
        } catch {
            switch error {
            case .notAVolume, .halfCreated, .superblocksDamaged: return false
            default: throw Failure(message: "after a crash in creation: \(error)")
            }
        }
    }

    private func make() throws {
        var creation = VolumeCreation(
            volumeBytes: UInt64(plan.volumeBytes), createdWall: clock.now)
        creation.walFileBytes = plan.walFileBytes
        creation.walBytesMax = plan.walFileBytes * plan.walFiles
        creation.ringBytes = plan.ringBytes
        creation.volume = VolumeID.random(using: &random)
        createdWall = clock.now
        let folder = try VolumeFolder.create(Self.path, creation, on: storage)
        defer { folder.close() }
        if plan.hasContent {
            // Sectors of zeros stay holes.
            for sector in 0..<model.byteCount / Sector.bytes {
                let place = sector * Sector.bytes..<(sector + 1) * Sector.bytes
                guard model.base[place.lowerBound] != 0 else { continue }
                let bytes = Array(model.base[place])
                try withBytes(bytes) { bytes throws(IOError) in
                    try folder.image.write(bytes, at: UInt64(place.lowerBound))
                }
            }
        }
        let store = DirectoryStore(
            storage: storage, directory: folder.segmentsDirectory, owner: "seed")
        _ = try SnapshotWriter(store: store, identity: identity(folder.superblock)).write(
            FileSnapshotSource(folder.image, byteCount: UInt64(plan.volumeBytes)),
            at: Stamp(lsn: .zero, wallNanoseconds: clock.now))
        try folder.finishCreation()
    }

    private func withBytes(
        _ bytes: [UInt8], _ body: (UnsafeRawBufferPointer) throws(IOError) -> Void
    ) throws(IOError) {
        var failure: IOError?
        bytes.withUnsafeBytes { bytes in
            do throws(IOError) { try body(bytes) } catch { failure = error }
        }
        if let failure { throw failure }
    }

    func identity(_ superblock: Superblock) -> SegmentIdentity {
        SegmentIdentity(
            volume: superblock.volume, volumeBytes: superblock.volumeBytes,
            epoch: superblock.epoch)
    }

    // MARK: - opening

    /// What opening came to.
    enum Opening {
        case opened
        case refused(VolumeError)
    }

    private func tryOpen() -> Opening {
        do throws(VolumeError) {
            let folder = try VolumeFolder.open(Self.path, on: storage)
            self.folder = folder
            var options = ProtectedVolume.Options()
            options.isManual = true
            options.clock = clock
            options.salt = UInt32(truncatingIfNeeded: random.next())
            openVolume = try ProtectedVolume.open(folder, options)
            superblock = folder.superblock
            return .opened
        } catch {
            dropVolume()
            return .refused(error)
        }
    }

    /// Opens after whatever happened, as often as the power goes again, and compares.
    func open(byKill: Bool = false) throws {
        for attempt in 0... {
            let image = imageAtRest()
            let before = try? VolumeFolder.peek(Self.path, on: storage)
            let crashes = plan.troubles.contains(.power) && attempt < 3 && chance(0.15)
            if crashes {
                storage.crash(
                    atOperation: storage.operationCount + 1 + UInt64(random.below(40)))
            }
            switch tryOpen() {
            case .opened:
                try checkOpened(image, before)
                if isDown { try comeBack(byKill: byKill) }
                return
            case .refused(let error):
                if isDown {
                    note("the power went while the volume was opened")
                    coverage.note("crash in recovery")
                    if byKill { storage.kill() } else { storage.crash() }
                    continue
                }
                if logIsLying {
                    try checkRefusal(error)
                    isOver = true
                    return
                }
                // A planned error may have struck; it strikes once.
                note("opening failed: \(error)")
                noteLogFiles()
                try check(
                    attempt < 6 && !storage.faultsAreQuiet(before: error),
                    "the volume does not open: \(error)")
                calm()
            }
        }
    }

    /// For the trace of a failure: what lies in the log's folder.
    private func noteLogFiles() {
        let window = AlignedBuffer(count: WALFileCursor.windowBytes)
        let files = try? findWALFiles(in: Self.path + "/wal", on: storage, window: window)
        for file in files ?? [] {
            let header = try? file.header.get()
            let epoch = header.map { "\($0.epoch) from \($0.epochFirstLSN)" } ?? "?"
            note(
                "  \(file.path): epoch \(epoch),"
                    + " begins with \(file.firstLSN.map { "\($0)" } ?? "nothing"),"
                    + " \(file.isConsistent ? "" : "not its name's,") cut short: \(file.isCutShort)"
            )
        }
    }

    /// A damaged log may be refused, and says where it ends.
    func checkRefusal(_ error: VolumeError) throws(Failure) {
        note("refused: \(error)")
        coverage.note("refused damage")
        switch error {
        case .logDamaged(_, let lastGood, _):
            try check(
                lastGood.lsn.rawValue <= model.newest, "the log claims a future \(lastGood)")
        case .io, .foreignFile, .futureVersion, .superblocksDamaged: break
        default: throw Failure(message: "a damaged volume is refused with \(error)")
        }
    }

    /// The image's bytes as the disk has them before recovery.
    private func imageAtRest() -> [UInt8]? {
        // A read that fails is no reason to stop.
        plan.troubles.contains(.tornSectors) ? nil : try? storage.contents(of: imagePath)
    }

    private func checkOpened(_ image: [UInt8]?, _ before: Superblock?) throws(Failure) {
        let volume = try volume()
        let end = volume.recovery.end
        let lsn = end.lsn.rawValue
        note(
            "opened at \(lsn) of \(model.newest), acknowledged \(acknowledged), redone"
                + " \(volume.recovery.redoneRecords)")
        coverage.note("opened")
        try check(lsn <= model.newest, "R2: recovered to \(lsn), which was never ordered")
        if logIsLying {
            try checkFloor(lsn)
            acknowledged = min(acknowledged, lsn)
        }
        try check(
            lsn >= acknowledged, "R1: recovered to \(lsn), but \(acknowledged) was acknowledged")
        if let image, let before, !logIsLying {
            let checkpoint = before.checkpoint.lsn.rawValue
            try check(checkpoint <= lsn, "the checkpoint \(checkpoint) is past the end \(lsn)")
            // A write that was cut in the middle of a sector may have reached the disk like that.
            let isCut = !plan.troubles.isDisjoint(with: [.shortWrites, .imageErrors, .noSpace])
            let place = model.firstUnexplained(
                in: image, units: isCut ? 1 : Sector.bytes, checkpoint: checkpoint, end: lsn)
            try check(
                place == nil,
                "R3: the image at \(place ?? 0) is as at no LSN of \(checkpoint)...\(lsn)")
        }
        if damage == .any, lsn < durableAtDamage {
            // One misdirected write can take a record and all that tells of it.
            coverage.note("log lost without a trace")
            isOver = true
            return
        }
        if lsn < model.newest { coverage.note("lost unacknowledged records") }
        model.truncate(to: lsn)
        marks.removeAll { $0.lsn > lsn }
        openedAt = lsn
        acknowledged = lsn
        // Stamps of what was lost were never seen by anybody; those of what is there count.
        let wall = model.records.last?.wall ?? createdWall
        try check(
            end.wallNanoseconds == wall,
            "R6: the wall time of \(lsn) is \(end.wallNanoseconds), it was \(wall)")
        newestStamp = Stamp(lsn: end.lsn, wallNanoseconds: wall)
        try compareAll()
        try openArchive()
    }

    /// After damage to the log the end may lie before what was acknowledged only if no later record
    /// says that more was durable.
    private func checkFloor(_ end: UInt64) throws(Failure) {
        guard damage == .oneRecord || damage == .lostWrite, end + 2 <= durableAtDamage else {
            return
        }
        for record in model.records[Int(end) + 1..<Int(min(durableAtDamage, model.newest))] {
            try check(
                record.durableBefore <= end,
                "recovered to \(end), though record \(record.lsn) says that"
                    + " \(record.durableBefore) was durable")
        }
    }

    // MARK: - the ways down

    /// The power was off: the machine comes back, or only the program was killed.
    func comeBack(byKill: Bool) throws {
        note(byKill ? "killed" : "power back")
        coverage.note(byKill ? "kill" : "power cut")
        noteDurable()
        dropVolume()
        calm()
        if byKill { storage.kill() } else { storage.crash() }
        try open(byKill: byKill)
    }

    /// What the volume took for durable before it went, where the disk may have lied.
    private func noteDurable() {
        guard logIsLying, let openVolume else { return }
        durableAtDamage = openVolume.durableStamp.lsn.rawValue
        note("took \(durableAtDamage) for durable")
    }

    func closeAndReopen() throws {
        let volume = try volume()
        var isClean = true
        let newest = model.newest
        do throws(DeviceError) { try volume.close() } catch {
            note("close fails with errno \(error.rawValue)")
            isClean = false
        }
        // Closing flushes.
        let published = volume.status().published
        while model.newest < published.lsn.rawValue {
            model.append(
                ModelRecord(
                    lsn: model.newest + 1, wall: published.wallNanoseconds, kind: .flush,
                    range: 0..<0, payload: [], durableBefore: 0))
        }
        try check(model.newest - newest <= 1, "closing made \(model.newest - newest) records")
        noteDurable()
        openVolume = nil
        openArchiver = nil
        folder?.close()
        folder = nil
        if isDown { return try comeBack(byKill: chance(0.2)) }
        if isClean {
            note("closed at \(model.newest)")
            coverage.note("clean close")
            acknowledged = model.newest
            if !logIsLying {
                let image = imageAtRest()
                try check(
                    image == nil || image == model.current, "R3: the closed image is not the volume"
                )
            }
        } else {
            calm()
        }
        try open()
    }

    /// With no fault in force a volume works, or goes on working once the archiver caught up;
    /// unless its log failed, which only opening it anew heals.
    func checkLiveness() throws {
        calm()
        if isDown || isOver { return }
        for _ in 0..<8 {
            try stepWriter()
            if isDown { return }
            if try volume().status().health == .failed {
                note("the log failed: opened anew")
                return try closeAndReopen()
            }
            try stepApplier()
            try stepKeeper()
            try archive()
            if isDown || isOver { return }
        }
        let before = acknowledged
        let newest = model.newest
        try flush()
        // What the archiver cannot read from a lying log holds everything up.
        if isDown || logIsLying { return }
        let health = try volume().status().health
        try check(
            acknowledged >= newest && acknowledged >= before,
            "the volume does not go on without faults: \(health)")
        try compareAll()
    }
}

extension SimulatedStorage {
    /// Whether no fault is left that could explain an error.
    func faultsAreQuiet(before error: VolumeError) -> Bool {
        if case .io = error { return false }
        return plannedFaults.isEmpty && !faults.isFull
    }
}
