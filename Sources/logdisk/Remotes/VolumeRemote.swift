// A volume at a remote, whatever keeps it there. Commands, shippers and adoption work with this;
// what speaks to one kind of remote stands behind it, in a file of its own (LogServerRemote,
// ObjectRemote). Which kind a URL means is decided in RemotePlace, and nowhere else.

import BlockModel
import CommandText
import History
import ServerAPI
import Shipping

/// One volume at one remote. Any thread may call; calls block.
protocol VolumeRemote: AnyObject, Sendable {
    /// Carries segments there, and knows where the volume stands.
    var target: any ShipTarget { get }

    /// Its segments, for reading. Asks for nothing yet.
    func store() -> any SegmentStore

    /// Makes the writer that this was opened with the one that may write.
    func takeOver(_ request: WriterRequest) throws(ShipError) -> VolumeReply

    /// Keeps segments from being pruned there. `.refused` and `.rejected`: it cannot be had, and
    /// reading works without.
    func lease(_ request: LeaseRequest) throws(ShipError) -> any ReadingLease

    /// Nothing is asked for a while: connections may go.
    func rest()

    /// What was asked since this was opened; nil where nobody counts.
    var usage: RemoteReport.Usage? { get }

    /// Thins what is there by its ladder, where nobody does it there; nil where somebody does.
    var retention: (any RemoteRetention)? { get }
}

extension VolumeRemote {
    var usage: RemoteReport.Usage? { nil }
    var retention: (any RemoteRetention)? { nil }
}

/// The thinning of a volume at a remote, by the process that writes there. One thread.
protocol RemoteRetention: AnyObject, Sendable {
    /// Thins by the ladder that is kept there, or by `keep`, which is kept from then on; then
    /// deletes what was pruned long enough ago. `leases` tells what is read by way of this machine.
    func run(
        keep: String?, pins: Set<LSN>, leases: @escaping @Sendable () throws -> [Lease],
        monitor: WorkMonitor
    ) throws -> RemoteReport.Retention
}
