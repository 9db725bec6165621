// What lies below a volume's own image and segments: nothing for most; the state of another volume
// below a branch; a state at a remote, or the base snapshot made of it, below one that is being
// filled (FillRecord); the segments at its store beside one that keeps its history there.

import BlockModel
import CommandText
import DiskIO
import Foundation
import History
import LogFormat
import ProtectedVolume

/// A value; keeps the leases on what it names.
struct VolumeGround: Sendable {
    /// What the image stands on where it is thin.
    var image: PastState?
    /// What the empty first snapshot of a branch stands for.
    var base: PastState?
    /// Segments of somebody else that belong to this history, up to an LSN.
    private var remote: (store: any SegmentStore, reach: @Sendable () -> LSN)?
    /// Whether the volume is opened by its own segments alone: those elsewhere are older ones.
    private(set) var opensAlone = false

    /// The history, of which `own` are the volume's segments.
    func history(_ own: DirectoryStore) -> any SegmentStore {
        guard let remote else { return own }
        return JoinedStore(own: own, remote: remote.store, through: remote.reach)
    }

    init() {}

    /// Of a branch, if it is one.
    init(_ base: PastState?) { (image, self.base) = (base, base) }

    /// A state at a remote.
    init(_ image: PastState, remote: any SegmentStore, through last: LSN) {
        self.image = image
        self.remote = (remote, { last })
    }

    /// Nothing below, but history at `store`, up to what `reach` says at the time.
    init(store: any SegmentStore, through reach: @escaping @Sendable () -> LSN) {
        remote = (store, reach)
        opensAlone = true
    }

    /// A state in the volume's own segments.
    init(own image: PastState) { self.image = image }
}

extension VolumeLocation {
    /// What lies below this volume.
    func ground() throws(CommandFailure) -> VolumeGround {
        guard let record = try FillRecord.read(path, object: object) else {
            if let store = try storeGround() { return store }
            return VolumeGround(try base())
        }
        guard DiskStorage().exists("\(path)/\(BranchRecord.presentName)") else {
            // Everything had come when the file with the bits was removed; not before.
            if record.stage == .here { return VolumeGround() }
            throw CommandFailure(
                .damaged, object, "it is lost what of this volume is here",
                cause: "\(path)/\(BranchRecord.presentName) is missing",
                hint: "adopt it once more, into another folder")
        }
        switch record.stage {
        case .remote: return try remoteGround(record)
        case .here: return VolumeGround(own: try ownState(at: record.stamp))
        }
    }

    private func remoteGround(_ record: FillRecord) throws(CommandFailure) -> VolumeGround {
        let place = VolumeLocation(record.url, record.files)
        do throws(CommandFailure) {
            guard let archived = try place.archived(),
                archived.volume?.description == record.volume
            else {
                throw CommandFailure(
                    .damaged, object, "another volume lies where the rest of this one should",
                    cause: record.url)
            }
            let state = try PastState.open(
                place, at: .lsn(record.stamp.lsn), barrier: false, purpose: "filling",
                holder: "process \(getpid()), \(path)")
            return VolumeGround(state, remote: archived.store, through: record.stamp.lsn)
        } catch {
            throw CommandFailure(
                error.status, object, "a part of this volume still lies at \(record.url)",
                cause: error.sentence, hint: error.hint)
        }
    }

    /// The state at `stamp`, from the volume's own segments.
    func ownState(at stamp: Stamp) throws(CommandFailure) -> PastState {
        let superblock = try superblock()
        let store = segmentStore(superblock)
        let leases = try leases()
        return try translating(object) {
            let history = try HistoryCatalogue(store: store, volume: superblock.volume)
            let point = try history.resolve(.lsn(stamp.lsn), now: VolumeHistory.clock())
            return try PastState(
                point: point, view: PointInTimeView(history, at: stamp.lsn), leases: leases,
                Lease(purpose: "filling", holder: "process \(getpid()), \(path)"), over: nil)
        }
    }

    /// Throws as long as history up to the adoption lies at the server.
    func mustHaveBase() throws(CommandFailure) {
        guard let record = try FillRecord.read(path, object: object), record.stage == .remote
        else { return }
        throw CommandFailure(
            .inUse, object, "the volume is still being filled", cause: "from \(record.url)",
            hint: "mounted, it goes on; try again when its base snapshot is here")
    }
}
