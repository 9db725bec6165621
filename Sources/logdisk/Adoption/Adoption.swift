// Brings a volume from a log server to this machine, and makes this machine the one that writes it.
//
//   lease ─► newest restorable point ─► image, base snapshot ─┐
//      ┌─► what was shipped meanwhile ◄───────────────────────┘   until nothing was, or some times
//      └─► takeover: from here on the writer before is refused ─► the last difference
//          ─► the remote's settings ─► ready ─► the volume gets its name
//
// All is made in VOL.adopting. What fails or dies before the takeover has changed nothing at the
// server; what dies after it is done again from the start, with a takeover of its own. One writer
// wins because a takeover names the generation that it follows: of two with the same one is
// refused.
//
// The base snapshot carries on the digest of the remote's newest log, and LSNs go on behind it, so
// what is written here follows at the remote without a break. Where the remote cannot restore its
// newest record, LSNs go on behind the hole, on a snapshot of what could be had.
//
// To be mounted first, nothing is fetched here: the image is thin, and a FillRecord says over what.

import BlockModel
import CommandText
import DiskIO
import Foundation
import History
import LogFormat
import ProtectedVolume
import ServerAPI
import Shipping

/// One adoption. One thread.
final class Adoption {
    /// What came of it.
    struct Outcome {
        /// The state that was had back.
        var restored: Stamp
        /// LSNs go on behind it; later than `restored` where the remote had lost the newest
        /// records.
        var start: Stamp
        var generation: UInt64
    }

    let location: VolumeLocation
    let object: String
    let isSilent: Bool
    let plan: AdoptionPlan
    private let archived: ArchivedVolume
    private let writing: any VolumeRemote
    private let folder: VolumeFolder
    private let local: DirectoryStore
    private let epoch: UInt64
    /// What image and local segments hold.
    private var position: Stamp
    private let remote: RemoteVolume
    /// What a log behind `position` names as its predecessor.
    private var digest: SegmentDigest
    private static let roundsMax = 8

    /// Finds the newest point at the server and makes the folder. `remote` is that of `location`.
    init(
        _ location: VolumeLocation, _ remote: RemoteVolume, _ plan: AdoptionPlan, isSilent: Bool
    ) throws(CommandFailure) {
        self.location = location
        self.remote = remote
        self.plan = plan
        self.isSilent = isSilent
        object = location.object
        archived = try remote.open(object: object)
        writing = try remote.remote(writer: plan.writer, object: object)
        let history = try VolumeHistory(location)
        (position, digest) = try Self.newest(history.catalogue, object)
        epoch =
            (history.catalogue.records + history.catalogue.snapshots)
            .map(\.footer.header.epoch).max() ?? 0
        var creation = VolumeCreation(volumeBytes: history.catalogue.volumeBytes)
        if let id = archived.volume { creation.volume = id }
        creation.epoch = epoch
        creation.logDirectory = plan.logDirectory
        creation.walBytesMax = NewVolume.walBytes(
            in: plan.logDirectory ?? PathText.parent(of: plan.path))
        creation.walFileBytes = NewVolume.walFileBytes(of: creation.walBytesMax)
        folder = try plan.makeFolder(creation, object: object)
        local = DirectoryStore(storage: folder.storage, directory: folder.segmentsDirectory)
        do {
            if plan.mountsFirst { try makeThin() } else { try restore(history.catalogue) }
        } catch {
            abandon()
            throw error
        }
    }

    /// Catches up, takes over, and gives the volume its name. Nothing is left here when it throws.
    func finish() throws(CommandFailure) -> Outcome {
        do {
            let state = try catchUp()
            if plan.mountsFirst { _ = try goOn(behind: state.head?.stamp) }
            let taken = try takeOver(state)
            if let head = taken.head, head.stamp.lsn > position.lsn { try fetchDifference() }
            let start = try goOn(behind: taken.head?.stamp)
            if plan.mountsFirst { try writeFillRecord() }
            try plan.writeRemote(in: folder.path, keep: taken.keep)
            try translating(object) { try folder.finishCreation(at: start) }
            try plan.nameFolder(folder, object: object)
            return Outcome(restored: position, start: start, generation: taken.generation)
        } catch {
            abandon()
            throw error
        }
    }

    private func abandon() {
        folder.close()
        plan.removeFolder()
    }

    private var identity: SegmentIdentity {
        SegmentIdentity(
            volume: folder.superblock.volume, volumeBytes: folder.superblock.volumeBytes,
            epoch: epoch)
    }

    // MARK: - before the takeover

    /// Image and base snapshot at `position`.
    private func restore(_ history: HistoryCatalogue) throws(CommandFailure) {
        try translating(object) {
            let view = try PointInTimeView(history, at: position.lsn)
            let progress = MonitoredProgress("restore", totalBytes: 0, isSilent: isSilent)
            do {
                defer { progress.finish() }
                _ = try Replay(view).write(to: folder.image, monitor: progress.monitor)
                try folder.image.truncate(to: view.byteCount)
                try folder.image.sync()
            }
            try writeBase(at: position, predecessor: digest)
        }
    }

    /// The newest state that can be had, and what a log behind it names as its predecessor.
    private static func newest(
        _ history: HistoryCatalogue, _ object: String
    ) throws(CommandFailure) -> (Stamp, SegmentDigest) {
        guard let newest = history.ranges.last?.last else {
            throw CommandFailure(
                HistoryError.notRestorable(NotRestorable(target: .now, reason: .nothing)),
                object: object)
        }
        return (newest, history.chainDigest(at: newest.lsn) ?? .none)
    }

    /// An image that holds nothing itself.
    private func makeThin() throws(CommandFailure) {
        try translating(object) {
            try BranchMaker.makePresent(folder)
            try folder.storage.syncDirectory(folder.path)
        }
    }

    private func writeFillRecord() throws(CommandFailure) {
        let record = FillRecord(
            remote, volume: folder.superblock.volume, at: position, digest: digest)
        try translating(object) { try record.write(to: folder.path) }
    }

    private func writeBase(at stamp: Stamp, predecessor: SegmentDigest) throws {
        let progress = MonitoredProgress(
            "base snapshot", totalBytes: identity.volumeBytes, isSilent: isSilent)
        defer { progress.finish() }
        _ = try SnapshotWriter(store: local, identity: identity).write(
            FileSnapshotSource(folder.image, byteCount: identity.volumeBytes), at: stamp,
            predecessor: predecessor, monitor: progress.monitor)
    }

    /// Fetches what the writer ships meanwhile, as long as it gets shorter; it is still allowed to.
    private func catchUp() throws(CommandFailure) -> VolumeReply {
        var state = try RemoteVolume.state(writing, object)
        for _ in 0..<Self.roundsMax {
            let before = position.lsn
            guard let head = state.head, head.stamp.lsn > before else { break }
            try fetchDifference()
            // What cannot be restored there does not come nearer by asking again.
            guard position.lsn > before else { break }
            state = try RemoteVolume.state(writing, object)
        }
        return state
    }

    /// Copies the segments behind `position`, and brings the image to the newest point that they
    /// lead to.
    private func fetchDifference() throws(CommandFailure) {
        if plan.mountsFirst {
            let history = try VolumeHistory(location).catalogue
            (position, digest) = try Self.newest(history, object)
            return
        }
        try translating(object) {
            let known = Set(try local.list().map(\.name))
            let new = try archived.store.list().filter {
                $0.name.last > position.lsn && !known.contains($0.name)
            }
            let copy = SegmentCopy(from: archived.store, to: local)
            for segment in new {
                do throws(HistoryError) {
                    try copy.copy(
                        segment, monitor: WorkMonitor(isCancelled: { Interruption.isRequested }))
                } catch {
                    // A damaged one, or one of another key, ends what can be had back.
                    switch error {
                    case .damaged: continue
                    case .store(let failure) where failure.isOfOtherKey: continue
                    default: throw error
                    }
                }
            }
            let history = try HistoryCatalogue(store: local, volume: identity.volume)
            guard let newest = history.ranges.last?.last, newest.lsn > position.lsn else { return }
            let image = folder.image
            try ViewComparison(history, from: position, to: newest).run(
                monitor: WorkMonitor(isCancelled: { Interruption.isRequested })
            ) { piece throws(HistoryError) in
                do throws(IOError) {
                    try image.write(piece.new, at: piece.offset)
                } catch { throw .output(error) }
            }
            try image.sync()
            position = newest
        }
    }

    // MARK: - from the takeover on

    private func takeOver(_ state: VolumeReply) throws(CommandFailure) -> VolumeReply {
        do throws(ShipError) {
            return try writing.takeOver(
                WriterRequest(
                    writer: plan.writer, host: ProcessInfo.processInfo.hostName,
                    generation: state.generation))
        } catch {
            guard case .fenced(let why) = error else {
                throw CommandFailure(error, object: object)
            }
            throw CommandFailure(
                .refused, object, "another machine has taken the volume over meanwhile",
                cause: why, hint: "if it shall be this one: logdisk adopt again")
        }
    }

    /// Where LSNs go on: behind `position`, or, when the remote knows of later records that cannot
    /// be had back, behind those.
    private func goOn(behind head: Stamp?) throws(CommandFailure) -> Stamp {
        guard let head, head.lsn > position.lsn else { return position }
        guard !plan.mountsFirst else {
            throw CommandFailure(
                .damaged, object, "its newest records cannot be had back",
                cause: "lsn \(position.lsn.next) to \(head.lsn)",
                hint: "without --mount-first it goes on behind them")
        }
        let start = Stamp(
            lsn: head.lsn.next,
            wallNanoseconds: max(head.wallNanoseconds, VolumeHistory.clock()))
        try translating(object) {
            let old = try local.list().map(\.name)
            try writeBase(at: start, predecessor: .none)
            for name in old { try local.delete(name) }
        }
        return start
    }
}
