// A past state of a volume, opened for reading: the point found, the view built, and a lease on
// what it reads, taken in an order that leaves pruning no moment in between.
//
//   lease on everything ─► history ─► point ─► view ─► lease on its segments ─► first lease ends

import BlockModel
import CommandText
import DiskIO
import Foundation
import History
import LogFormat
import ProtectedVolume

/// A view with leases on what it reads. They end when this is dropped.
struct PastState: Sendable {
    let point: ResolvedPoint
    let view: PointInTimeView
    /// Its own, and of a branch those of the states below.
    private let leases: [any ReadingLease]

    /// Opens the state of the volume in `location` at `target`. Records that are not in segments
    /// yet are brought there first: by the mount, or, where there is none, by opening the volume.
    /// `purpose` and `holder` tell others who keeps the segments from being pruned.
    static func open(
        _ location: VolumeLocation, at target: Target, barrier: Bool, purpose: String,
        holder: String
    ) throws(CommandFailure) -> PastState {
        let leases = try location.leaseTaker()
        let everything = Lease(purpose: purpose, holder: holder)
        let first = try translating(location.object) { try leases.hold(everything) }
        defer { first?.release() }
        var history = try VolumeHistory(location, for: target)
        var point = try history.resolve(target, barrier: barrier)
        if history.needsTail(for: point.stamp.lsn) {
            try VolumeService.withUnmounted(location, purpose: purpose) {
                service throws(CommandFailure) in
                _ = try service.archive()
            }
            history = try VolumeHistory(location)
            point = try history.resolve(.lsn(point.stamp.lsn), barrier: false)
        }
        return try translating(location.object) {
            let view = try PointInTimeView(history.catalogue, at: point.stamp.lsn)
            return try PastState(
                point: point, view: view, leases: leases, everything, over: history.base)
        }
    }

    /// Of a view whose segments cannot go away before this returns. `base` is what its volume
    /// stands on, if that is a branch.
    init(
        point: ResolvedPoint, view: PointInTimeView, leases: any LeaseTaker, _ lease: Lease,
        over base: PastState?
    ) throws {
        self.point = point
        self.view = view
        var lease = lease
        lease.at = view.lsn
        lease.segments = view.segments
        let held = try leases.hold(lease).map { [$0] } ?? []
        self.leases = held + (base?.leases ?? [])
    }

    /// Gives all leases back; the view must not be read any more.
    func release() {
        for lease in leases { lease.release() }
    }
}

extension VolumeLocation {
    /// The leases on the volume's history.
    func leases() throws(CommandFailure) -> LeaseFolder {
        LeaseFolder(
            storage: DiskStorage(),
            logDirectory: VolumeFolder.logDirectory(path, try superblock()))
    }
}
