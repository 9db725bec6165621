// An open volume with its history: the volume writes the log, this turns the log into segments,
// takes snapshots, and answers for both. Used by a mount for its lifetime, and for a moment by
// commands on a volume that is not mounted.
//
// Threads: any may call; archiving and snapshots are one at a time each.

import BlockModel
import CommandText
import DiskIO
import Foundation
import History
import LogFormat
import Logging
import ProtectedVolume
import Synchronization
import WriteLog

final class VolumeService: Sendable {
    let path: String
    /// The volume as the user named it, for messages.
    let object: String
    let folder: VolumeFolder
    let volume: ProtectedVolume
    let store: DirectoryStore
    let location: VolumeLocation
    /// What lies below image and segments; filling changes it.
    let ground: Mutex<VolumeGround>
    /// The files, where the image is thin.
    let thinStorage: BranchStorage?
    /// What the image stands on; nil for a volume of its own.
    var base: PastState? { ground.withLock { $0.image } }
    /// Whether the volume keeps its history elsewhere.
    let opensAlone: Bool
    let archiver: Archiver
    let log: Logger
    private let archiving = Mutex(())
    private let stopping = Atomic<Bool>(false)
    let snapshotting = Mutex(())
    let reverting = Mutex(())
    /// Somebody wants the revert under way to stop.
    let isRevertUnwanted = Atomic<Bool>(false)
    let pruning = Mutex(())
    let filling = Mutex(())
    /// How far the filling is; nil: all of the volume is here.
    let filled: Mutex<StatusReport.Filling?>
    /// The remotes; nil where nothing is shipped.
    let shipping = Mutex<VolumeShipping?>(nil)
    let problems = Mutex<[ProblemArea: String]>([:])
    let openedAt = ContinuousClock.now

    /// What a problem concerns; a new one of the same area replaces the old.
    enum ProblemArea: Int, Comparable {
        case archive, gap, snapshot, prune, past, fill, remote

        static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }
    }

    /// Opens, locks and recovers the volume in `location`.
    init(
        _ location: VolumeLocation, purpose: String, _ options: ProtectedVolume.Options, log: Logger
    ) throws(CommandFailure) {
        path = location.path
        object = location.object
        self.log = log
        self.location = location
        let ground = try location.ground()
        self.ground = Mutex(ground)
        opensAlone = ground.opensAlone
        let record = try FillRecord.read(location.path, object: location.object)
        let storage = try location.storage(over: ground.image)
        thinStorage = storage as? BranchStorage
        let folder = try translating(location.object) {
            try VolumeFolder.open(location.path, on: storage, purpose: purpose)
        }
        self.folder = folder
        filled = Mutex(
            record.map {
                .init(
                    stage: $0.stage.rawValue, url: $0.url, doneBytes: 0,
                    totalBytes: folder.superblock.volumeBytes)
            })
        do {
            volume = try translating(location.object) {
                try ProtectedVolume.open(folder, options)
            }
        } catch {
            folder.close()
            throw error
        }
        let store = DirectoryStore(
            storage: folder.storage, directory: folder.segmentsDirectory)
        self.store = store
        do {
            archiver = try translating(location.object) {
                try store.removeUnfinished()
                let identity = Self.identity(folder.superblock)
                return try Archiver(
                    store: ground.opensAlone ? store : ground.history(store), identity: identity)
            }
        } catch {
            try? volume.close()
            folder.close()
            throw error
        }
        volume.archived(through: min(archiver.archivedLSN, volume.recovery.end.lsn))
        logRecovery()
        try checkArchive()
    }

    /// New records must not get LSNs that segments have used.
    private func checkArchive() throws(CommandFailure) {
        let (archived, end) = (archiver.archivedLSN, volume.recovery.end.lsn)
        guard archived > end else { return }
        try? volume.close()
        folder.close()
        throw CommandFailure(
            .damaged, object, "the log ends before the segments do",
            cause: "lsn \(end) and \(archived)",
            hint: "restore to a new image: logdisk replay \(object) --at now --output FILE")
    }

    static func identity(_ superblock: Superblock) -> SegmentIdentity {
        SegmentIdentity(
            volume: superblock.volume, volumeBytes: superblock.volumeBytes, epoch: superblock.epoch)
    }

    var identity: SegmentIdentity { Self.identity(folder.superblock) }

    /// What lies in segments at this moment.
    func catalogue() throws(HistoryError) -> HistoryCatalogue {
        let ground = ground.withLock { $0 }
        return try HistoryCatalogue(
            store: ground.history(store), volume: identity.volume, base: ground.base?.view)
    }

    var leases: LeaseFolder {
        LeaseFolder(storage: folder.storage, logDirectory: folder.logDirectory)
    }

    private func logRecovery() {
        for warning in folder.warnings { log.warning("\(warning)") }
        let recovery = volume.recovery
        let end = "lsn \(recovery.end.lsn) of \(recovery.end.time)"
        if recovery.wasClean {
            log.info("opened \(path) at \(end)")
        } else {
            let work = "\(recovery.redoneRecords) records, \(ByteSize(bytes: recovery.redoneBytes))"
            log.notice("recovered \(path) to \(end): redid \(work), in \(recovery.seconds) s")
        }
    }

    /// Whether long work shall give up.
    var isStopping: Bool { stopping.load(ordering: .relaxed) || Interruption.isRequested }

    // MARK: - archive

    /// Brings every record up to `last` into segments, or as many as `mayGoOn`, asked after each
    /// segment, allows. Records that cannot be read back, by decay or because their file is gone,
    /// become a gap that ends with the file they are in.
    func archive(
        through last: LSN, while mayGoOn: () -> Bool = { true }
    ) throws(CommandFailure) {
        do {
            try archiving.withLock { _ throws(CommandFailure) in
                var readable = archiver.archivedLSN
                var isWelcome = true
                while archiver.archivedLSN < last, isWelcome {
                    readable = max(readable, archiver.archivedLSN)
                    do throws(HistoryError) {
                        try archiveOnce(after: readable, through: last) {
                            isWelcome = mayGoOn()
                            return isWelcome
                        }
                    } catch {
                        guard case .source(let cause as LogDamage) = error else {
                            throw CommandFailure(error, object: object)
                        }
                        readable = try step(over: cause, after: readable, through: last)
                    }
                }
            }
            problems.withLock { $0[.archive] = nil }
        } catch {
            problems.withLock {
                $0[.archive] = "the log cannot be archived: \(error.sentence)"
            }
            throw error
        }
    }

    /// Archives what is before the damage. Returns the LSN after which the log can be read again.
    private func step(
        over damage: LogDamage, after readable: LSN, through last: LSN
    ) throws(CommandFailure) -> LSN {
        let start = max(readable, archiver.archivedLSN)
        if start.next < damage.lsn {
            try translating(object) { try archiveOnce(after: start, through: damage.lsn.previous) }
        }
        let next = volume.readableLSN(behind: damage.lsn)
        let end = next.map { "to \($0.previous)" } ?? "on"
        let text =
            "records from \(damage.lsn) \(end) cannot be read from the log; "
            + "history goes on with the next snapshot"
        let isNew = problems.withLock { $0.updateValue(text, forKey: .gap) != text }
        if isNew { log.error("\(text)") }
        guard let next, next <= last else {
            // What comes now shall not share the file with the damage.
            volume.beginNextLogFile()
            throw CommandFailure(HistoryError.source(damage), object: object)
        }
        return next.previous
    }

    private func archiveOnce(
        after start: LSN, through last: LSN, while mayGoOn: () -> Bool = { true }
    ) throws(HistoryError) {
        let volume = self.volume
        let log = self.log
        do throws(HistoryError) {
            try archiver.archive(
                from: volume.recordSource(after: start, through: last), through: last,
                acceptingGap: start > archiver.archivedLSN
            ) { name in
                log.debug("archived \(name)")
                volume.archived(through: name.last)
                return mayGoOn()
            }
        } catch {
            if error.isNoSpace { volume.archiveIsFull() }
            throw error
        }
    }

    /// History has a gap that no snapshot follows yet.
    var hasGap: Bool { problems.withLock { $0[.gap] != nil } }

    // MARK: - end

    /// Drains, applies, checkpoints, archives, and gives the volume free. Nothing may be in flight.
    /// Throws after having closed all the same.
    func close() throws(CommandFailure) {
        defer {
            folder.close()
            base?.release()
        }
        // Best effort: without it the next mount takes the snapshot.
        if hasGap { _ = try? snapshot(name: nil) }
        stopping.store(true, ordering: .relaxed)
        // Until what runs has given up.
        snapshotting.withLock { _ in }
        pruning.withLock { _ in }
        filling.withLock { _ in }
        reverting.withLock { _ in }
        let object = self.object
        var failure: CommandFailure?
        do throws(CommandFailure) {
            try translating(object) { try volume.quiesce() }
            try archive(through: volume.durableStamp.lsn)
        } catch {
            // What the log has lost is told as a gap; it is no reason not to end cleanly.
            if error.status != .damaged || !hasGap { failure = error }
        }
        do throws(CommandFailure) {
            try translating(object) { try volume.close() }
        } catch { failure = failure ?? error }
        if let failure { throw failure }
    }

    /// Opens a volume that is not mounted for `body`, and closes it again.
    static func withUnmounted<R>(
        _ location: VolumeLocation, purpose: String, onFull: ProtectedVolume.OnFull = .hold,
        _ body: (VolumeService) throws(CommandFailure) -> R
    ) throws(CommandFailure) -> R {
        var log = Logger(label: "logdisk")
        log.logLevel = .error
        var options = ProtectedVolume.Options()
        options.ringBytes = 4 << 20
        options.onFull = onFull
        let service = try VolumeService(location, purpose: purpose, options, log: log)
        let result: R
        do throws(CommandFailure) {
            result = try body(service)
        } catch {
            try? service.close()
            throw error
        }
        try service.close()
        return result
    }
}

extension VolumeService {
    /// Names the present moment.
    func mark(_ name: String) throws(CommandFailure) -> PointReply {
        try MarkName.check(name, object: object)
        let stamp = try translating(object) { try volume.mark(name) }
        log.notice("mark \(name) at lsn \(stamp.lsn)")
        return PointReply(stamp, name: name)
    }

    /// Flushes, and brings everything up to now into segments. While the log takes nothing a flush
    /// would wait for room: then everything that is durable.
    func archive() throws(CommandFailure) -> PointReply {
        let isGood = volume.status().health == .good
        let stamp = try isGood ? translating(object) { try volume.barrier() } : volume.durableStamp
        try archive(through: stamp.lsn)
        return PointReply(stamp)
    }
}

extension PointReply {
    init(_ stamp: Stamp, name: String? = nil) {
        self.init(
            lsn: stamp.lsn.rawValue, time: stamp.time, wallNanoseconds: stamp.wallNanoseconds,
            name: name)
    }
}
