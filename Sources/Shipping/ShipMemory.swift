// What a client remembers of a remote between requests and over restarts. It is never ahead of the
// truth: written after the remote has acknowledged. Losing it costs a question, not data.

import BlockModel
import History
import LogFormat

/// Where the remote stands, as far as we know.
public struct ShipMemory: Hashable, Sendable, Codable {
    /// Records up to this LSN are durable at the remote, and when the last of them was written.
    public var ackedLSN: UInt64?
    public var ackedWallNanoseconds: Int64 = 0
    /// Snapshots up to this LSN were sent, or need not be: what the remote has pruned since is not
    /// sent again.
    public var snapshotLSN: UInt64?
    /// The snapshot at the remote that records may begin anew behind.
    public var restartLSN: UInt64?
    /// Records up to this LSN go as one interval: more waited than may.
    public var dropThroughLSN: UInt64?
    /// Intervals that went so, since the remote was added.
    public var dropCount = 0
    public var lastDropWallNanoseconds: Int64?
    /// What stopped shipping for good, in words; kept so that `status` tells it of a volume that is
    /// not mounted, too.
    public var standing: String?

    public init() {}

    public var acked: LSN? { ackedLSN.map { LSN($0) } }

    /// The remote has everything up to `lsn`.
    public mutating func acknowledge(_ lsn: UInt64, wall: Int64) {
        ackedLSN = lsn
        ackedWallNanoseconds = wall
        if let through = dropThroughLSN, through <= lsn { dropThroughLSN = nil }
    }

    enum CodingKeys: String, CodingKey {
        case standing
        case ackedLSN = "acked_lsn"
        case ackedWallNanoseconds = "acked_wall_nanoseconds"
        case snapshotLSN = "snapshot_lsn"
        case restartLSN = "restart_lsn"
        case dropThroughLSN = "drop_through_lsn"
        case dropCount = "drops"
        case lastDropWallNanoseconds = "last_drop_wall_nanoseconds"
    }
}

extension ShipMemory {
    /// What need not lie here any more when the remote is where the volume keeps its history. Of
    /// `segments`, all that lie here, stays:
    ///
    ///   what the remote has not acknowledged
    ///   records behind a snapshot that was not sent yet: they lead on from it
    ///   the newest records, or a snapshot where there are none: they tell how far the archive is,
    ///   also when the remote cannot be asked
    public func superfluous(_ segments: [StoredSegment]) -> [SegmentName] {
        guard let acked else { return [] }
        let names = segments.map(\.name)
        let (snapshots, records) = (
            names.filter { $0.kind == .snapshot }, names.filter { $0.kind != .snapshot }
        )
        let sent = snapshotLSN.map { LSN($0) }
        func isThere(_ snapshot: SegmentName) -> Bool {
            sent.map { snapshot.last <= min($0, acked) } ?? false
        }
        let waiting = snapshots.filter { !isThere($0) }.map(\.last).min()
        let bound = min(acked, waiting ?? acked)
        let newest = records.map(\.last).max()
        let anchor = newest == nil ? snapshots.max { $0.last < $1.last } : nil
        return records.filter { $0.last <= bound && $0.last != newest }
            + snapshots.filter { isThere($0) && $0 != anchor }
    }
}
