// The history of a volume for reading: of a mounted one by asking its process to bring everything
// into segments first, of an unmounted one from segments and WAL, of one that lies at a log server
// from the segments there (HistorySource.swift). Nothing in the volume changes.

import BlockModel
import CommandText
import DiskIO
import Foundation
import FuseMount
import History
import LogFormat
import ProtectedVolume

struct VolumeHistory {
    let location: VolumeLocation
    /// nil when both copies are damaged: then what the segments hold can be read all the same. And
    /// of what is no volume of this machine.
    let superblock: Superblock?
    let catalogue: HistoryCatalogue
    let store: any SegmentStore
    /// nil for a volume of this machine.
    let archived: ArchivedVolume?
    let isMounted: Bool
    /// Why the newest records are not in the catalogue.
    let missingNewest: CommandFailure?
    /// The log of an unmounted volume, if it can be read.
    let tail: WALTail?
    /// What lies below the volume's own image and segments.
    let ground: VolumeGround
    /// What its image stands on.
    var base: PastState? { ground.image }

    /// Where `target` is given, a mount is not asked for newer records than that needs.
    init(
        _ location: VolumeLocation, for target: Target? = nil
    ) throws(CommandFailure) {
        self.location = location
        let archived = try location.archived()
        self.archived = archived
        if let archived {
            (superblock, tail, ground, missingNewest) = (nil, nil, VolumeGround(), nil)
            (isMounted, store) = (false, archived.store)
            catalogue = try translating(location.object) {
                try HistoryCatalogue(store: archived.store, volume: archived.volume)
            }
            return
        }
        let (superblock, logs, unreadable) = try Self.place(location)
        self.superblock = superblock
        var missing = unreadable
        let ground = try location.ground()
        self.ground = ground
        let store = ground.history(
            DirectoryStore(storage: DiskStorage(), directory: logs + "/segments"))
        self.store = store
        var tail: WALTail?
        if let superblock, let client = try location.client(superblock) {
            isMounted = true
            if let target {
                let found = try translating(location.object) {
                    try HistoryCatalogue(
                        store: store, volume: superblock.volume, base: ground.base?.view)
                }
                if !found.needsNewest(for: target, now: Self.clock()) {
                    (catalogue, self.tail, missingNewest) = (found, nil, nil)
                    return
                }
            }
            missing = Self.archive(client)
        } else if let superblock {
            isMounted = false
            do {
                tail = try WALTail(
                    directory: logs + "/wal", superblock: superblock, on: DiskStorage())
            } catch {
                missing = CommandFailure(
                    RecoveryFailure.volumeError(error), object: location.object)
            }
        } else {
            isMounted = false
        }
        self.tail = tail
        missingNewest = missing
        let volume = superblock?.volume
        catalogue = try translating(location.object) {
            try HistoryCatalogue(
                store: store, volume: volume, tail: tail, base: ground.base?.view)
        }
    }

    /// The superblock of a volume of this machine, and where its log lies. Where both copies are
    /// damaged the segments may be readable all the same: then there is none, and the reason.
    private static func place(
        _ location: VolumeLocation
    ) throws(CommandFailure) -> (Superblock?, logs: String, CommandFailure?) {
        var superblock: Superblock?
        var logs = location.path
        var missing: CommandFailure?
        do throws(CommandFailure) {
            let found = try location.superblock()
            guard found.state == .ready else {
                throw CommandFailure(
                    VolumeError.halfCreated(location.path), object: location.object)
            }
            superblock = found
            logs = VolumeFolder.logDirectory(location.path, found)
        } catch {
            guard error.status == .damaged, DiskStorage().isDirectory(logs + "/segments") else {
                throw error
            }
            missing = error
        }
        guard DiskStorage().isDirectory(logs + "/segments") else {
            throw CommandFailure(VolumeError.logDirectoryMissing(logs), object: location.object)
        }
        return (superblock, logs, missing)
    }

    /// The failure, if the mount could not do it.
    private static func archive(_ client: ControlClient) -> CommandFailure? {
        do {
            let _: PointReply = try client.post("/v1/archive")
            return nil
        } catch let failure as CommandFailure {
            return failure
        } catch {
            return CommandFailure(.failed, client.object, "\(error)")
        }
    }

    // MARK: - targets

    /// Reads what the user typed.
    static func target(_ text: String, _ option: String) throws(CommandFailure) -> Target {
        do throws(TargetError) {
            return try Target.parse(text, now: clock())
        } catch {
            throw CommandFailure(
                .usage, "", "\(option) \(text.isEmpty ? "''" : text) names no point in time",
                cause: "\(error)",
                hint: "now, -15m, 2026-11-21T10:05:03Z, '2026-11-21 10:05', lsn:1234 or mark:NAME")
        }
    }

    /// Finds the point. A point that would be the last known one is refused while the newest
    /// records cannot be had: it could be an older state than the one that was asked for.
    func resolve(_ target: Target, barrier: Bool) throws(CommandFailure) -> ResolvedPoint {
        let point: ResolvedPoint
        do throws(CommandFailure) {
            point = try translating(location.object) {
                try catalogue.resolve(target, now: Self.clock(), barrier: barrier)
            }
        } catch {
            // It may be among what cannot be had.
            throw missingNewest ?? error
        }
        if let missingNewest, catalogue.last.map({ point.stamp.lsn >= $0.lsn }) ?? true {
            throw missingNewest
        }
        return point
    }

    /// Whether the state at `lsn` needs records that are in the log of an unmounted volume only.
    func needsTail(for lsn: LSN) -> Bool {
        let archived = (catalogue.records + catalogue.snapshots).map(\.last.lsn).max() ?? .zero
        return !isMounted && lsn > archived
    }

    static func clock() -> Int64 {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
    }
}
