// The archive: segments, snapshots, points in time. Where R3, R4 and R5 are checked.

import BlockModel
import DiskIO
import History
import LogFormat
import ProtectedVolume

extension Lifetime {
    private var store: DirectoryStore {
        DirectoryStore(storage: storage, directory: Self.path + "/segments", owner: "seed")
    }

    /// What a mount does first: finds out how far the archive reaches.
    func openArchive(attempts: Int = 3) throws(Failure) {
        guard let superblock else { throw Failure(message: "simulator: no superblock") }
        do {
            try store.removeUnfinished()
            let archiver = try Archiver(
                store: store, identity: identity(superblock), limits: limits)
            openArchiver = archiver
            let end = try volume().recovery.end.lsn
            if !logIsLying {
                try check(
                    archiver.archivedLSN <= end,
                    "R5: \(archiver.archivedLSN) is archived, the log ends at \(end)")
            }
            try volume().archived(through: min(archiver.archivedLSN, end))
            try checkLogHoldsTheRest()
        } catch let failure as Failure {
            throw failure
        } catch {
            note("the archive does not open: \(error)")
            if isDown { return }
            let mayFail = logIsLying || hasReadFaults || plan.troubles.contains(.archiveErrors)
            try check(mayFail && attempts > 1, "the archive does not open: \(error)")
            calm()
            try openArchive(attempts: attempts - 1)
        }
    }

    private var limits: Archiver.Limits {
        var limits = Archiver.Limits()
        limits.payloadBytesMax = 24 << 10
        limits.blockBytes = 16 << 10
        return limits
    }

    /// R5: whatever is not archived is in the log, byte for byte.
    private func checkLogHoldsTheRest() throws {
        guard let archiver = openArchiver else { return }
        let volume = try volume()
        let first = archiver.archivedLSN
        let last = volume.durableStamp.lsn
        guard first < last else { return }
        do {
            let source = volume.recordSource(after: first, through: last)
            var lsn = first.rawValue
            while let record = try source.next() {
                lsn += 1
                try compare(record, lsn)
            }
            try check(lsn == last.rawValue, "R5: the log ends at \(lsn), durable is \(last)")
        } catch let failure as Failure {
            throw failure
        } catch {
            if isDown || logIsLying || hasReadFaults { return }
            throw Failure(message: "R5: records after \(first) cannot be read: \(error)")
        }
    }

    private func compare(_ record: LogRecord, _ lsn: UInt64) throws(Failure) {
        let header = record.header
        try check(header.stamp.lsn.rawValue == lsn, "R5: record \(header.stamp.lsn) for \(lsn)")
        try check(lsn <= model.newest, "R5: record \(lsn) was never ordered")
        let wanted = model.records[Int(lsn) - 1]
        try check(
            header.kind == wanted.kind && Int(header.extent.byteOffset) == wanted.range.lowerBound
                && Int(header.extent.byteCount) == wanted.range.count,
            "R5: record \(lsn) is a \(header.kind) of \(header.extent)")
        try check(record.payload.elementsEqual(wanted.payload), "R5: record \(lsn) has other bytes")
        try check(
            header.stamp.wallNanoseconds == wanted.wall,
            "R6: record \(lsn) has the time \(header.stamp.wallNanoseconds), not \(wanted.wall)")
        try check(header.durableLSN.rawValue < lsn, "record \(lsn) declares its own future durable")
    }

    /// What the archiver's thread does.
    func archive() throws(Failure) {
        guard let archiver = openArchiver else { return }
        let volume = try volume()
        let last = volume.durableStamp.lsn
        guard archiver.archivedLSN < last else { return }
        do {
            let source = volume.recordSource(after: archiver.archivedLSN, through: last)
            try archiver.archive(from: source, through: last) { name in
                volume.archived(through: name.last)
                return true
            }
            note("archived through \(last)")
            coverage.note("archived")
        } catch {
            note("archiving fails: \(error)")
            coverage.note("archive refused")
            let isExplained =
                isDown || logIsLying
                || !plan.troubles.isDisjoint(
                    with: [.archiveErrors, .noSpace, .readErrors])
            try check(isExplained, "archiving fails: \(error)")
        }
    }

    // MARK: - views

    /// R4: what is listed is restored exactly, what is not is refused.
    func checkHistory() throws(Failure) {
        guard let archiver = openArchiver, !isDown else { return }
        do {
            let archived = archiver.archivedLSN.rawValue
            let history = try HistoryCatalogue(store: store, volume: identityVolume)
            if hasReadFaults, !history.unusable.isEmpty { return }
            try check(history.unusable.isEmpty, "R4: unusable segments \(history.unusable)")
            try check(history.gaps.isEmpty, "R4: gaps \(history.gaps)")
            try check(
                history.ranges.count == 1 && history.ranges[0].first.lsn == .zero
                    && history.ranges[0].last.lsn.rawValue == archived,
                "R4: restorable is \(history.ranges), archived is \(archived)")
            var targets = [archived, UInt64(random.below(Int(archived) + 1))]
            if let mark = marks.last, mark.lsn <= archived { targets.append(mark.lsn) }
            for lsn in targets { try checkView(history, lsn) }
            try checkTargets(history, archived)
            note("history is right at \(targets)")
            coverage.note("view")
        } catch let failure as Failure {
            throw failure
        } catch {
            try check(isDown || hasReadFaults, "history cannot be read: \(error)")
        }
    }

    private var identityVolume: VolumeID? { superblock?.volume }
    var hasReadFaults: Bool { plan.troubles.contains(.readErrors) }

    private func checkView(
        _ history: HistoryCatalogue, _ lsn: UInt64, snapshot: LSN? = nil
    ) throws {
        let view = try PointInTimeView(history, at: LSN(lsn), snapshot: snapshot)
        var bytes = [UInt8](repeating: 0xEE, count: model.byteCount)
        try bytes.withUnsafeMutableBytes { try view.read(into: $0, at: 0) }
        try check(
            areSame(bytes[...], model.state(at: lsn)[...]), "R4: the view at \(lsn) has wrong bytes"
        )
    }

    private func checkTargets(_ history: HistoryCatalogue, _ archived: UInt64) throws {
        do {
            _ = try PointInTimeView(history, at: LSN(archived + 1))
            throw Failure(message: "R4: a view past the end at \(archived + 1)")
        } catch HistoryError.notRestorable {}
        if let mark = marks.last(where: { $0.lsn <= archived }) {
            let point = try history.resolve(.mark(mark.name), now: .max)
            try check(
                point.stamp.lsn.rawValue == mark.lsn,
                "R4: mark \(mark.name) is \(point.stamp.lsn), not \(mark.lsn)")
        }
        guard archived > 0 else { return }
        let wall = model.records[random.below(Int(archived))].wall
        let wanted = min(model.newest(atOrBefore: wall), archived)
        let point = try history.resolve(.time(wall), now: .max)
        try check(
            point.stamp.lsn.rawValue == wanted,
            "R4: the time \(wall) is \(point.stamp.lsn), not \(wanted)")
    }

    /// R3: replay to now is the live disk.
    func checkReplayToNow() throws {
        guard let archiver = openArchiver, !isDown, !logIsLying else { return }
        let durable = try volume().durableStamp.lsn
        guard archiver.archivedLSN == durable, durable.rawValue == model.newest else { return }
        try compareAll()
        // In a world of its own: replay works with several threads.
        let twin = storage.fork(seed: 1)
        twin.faults = .none
        let history = try HistoryCatalogue(
            store: DirectoryStore(storage: twin, directory: Self.path + "/segments"))
        var options = Replay.Options()
        options.workers = 1
        try Replay(PointInTimeView(history, at: durable), options: options).write(
            toFile: "/replayed", in: twin)
        let bytes = try twin.contents(of: "/replayed")
        try check(areSame(bytes[...], model.current[...]), "R3: replay to now is not the live disk")
        coverage.note("replay")
    }

    // MARK: - snapshots

    /// A snapshot while writes go on, as a mount takes it.
    func takeSnapshot() throws {
        guard openArchiver != nil, !isDown else { return }
        let volume = try volume()
        let before = model.newest
        do {
            guard let session = try volume.beginImageSnapshot() else {
                throw Failure(message: "a snapshot session was left open")
            }
            defer { session.end() }
            try takePoint()
            let lsn = session.stamp.lsn
            try check(
                lsn.rawValue >= before && lsn.rawValue <= model.newest,
                "a snapshot of \(before) began at \(lsn)")
            acknowledged = max(acknowledged, lsn.rawValue)
            note("snapshot at \(lsn) begins")
            try archive()
            guard let archiver = openArchiver, archiver.archivedLSN >= lsn, let superblock,
                !isDown, try !store.list().contains(where: { $0.name == .snapshot(lsn) })
            else { return }
            let history = try HistoryCatalogue(store: store, volume: superblock.volume)
            let view = try PointInTimeView(history, at: lsn)
            _ = try SnapshotWriter(store: store, identity: identity(superblock)).write(
                BusySource(self, session, view), at: session.stamp)
            note("snapshot at \(lsn) ends")
            coverage.note("snapshot")
            let now = try HistoryCatalogue(store: store, volume: superblock.volume)
            try checkView(now, lsn.rawValue, snapshot: lsn)
        } catch let failure as Failure {
            throw failure
        } catch HistoryError.source(let error as Failure) {
            throw error
        } catch {
            try takePoint()
            note("snapshot fails: \(error)")
            let expected: Set<Trouble> = [
                .archiveErrors, .noSpace, .readErrors, .imageErrors, .logErrors, .misdirectedLog,
                .superblockErrors,
            ]
            try check(
                isDown || error is DeviceError || !plan.troubles.isDisjoint(with: expected),
                "a snapshot fails: \(error)")
        }
    }

    /// Enters the flush that the volume may have made by itself.
    private func takePoint() throws(Failure) {
        let stamp = try volume().status().published
        while model.newest < stamp.lsn.rawValue {
            model.append(
                ModelRecord(
                    lsn: model.newest + 1, wall: stamp.wallNanoseconds, kind: .flush, range: 0..<0,
                    payload: [], durableBefore: 0))
            try see(stamp)
        }
    }
}

/// The image at the moment a session began at, while the volume is written between the reads.
private final class BusySource: SnapshotSource {
    private let life: Lifetime
    private let session: ImageSnapshotSession
    private let view: PointInTimeView
    let byteCount: UInt64

    init(_ life: Lifetime, _ session: ImageSnapshotSession, _ view: PointInTimeView) {
        self.life = life
        self.session = session
        self.view = view
        byteCount = session.volumeBytes
    }

    func nextData(from offset: UInt64) throws -> Range<UInt64>? {
        let next = view.nextData(from: offset)
        if next == nil { try session.confirm() }
        return next
    }

    func read(into target: UnsafeMutableRawBufferPointer, at offset: UInt64) throws {
        for _ in 0..<life.random.below(6) where !life.isDown {
            switch life.random.below(6) {
            case 0, 1: try life.writeSomething()
            case 2: try life.zeroSomething()
            case 3: try life.stepWriter()
            case 4: try life.stepKeeper()
            default: try life.stepApplier()
            }
        }
        try session.readImage(into: target, at: offset)
        for range in session.changed(in: offset..<offset + UInt64(target.count)) {
            let start = Int(range.lowerBound - offset)
            try view.read(
                into: UnsafeMutableRawBufferPointer(
                    rebasing: target[start..<start + range.count]), at: range.lowerBound)
        }
    }
}
