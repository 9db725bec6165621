// What can be restored and what cannot, as values: ranges, gaps, marks, snapshots, and the answer
// to "not restorable".

import BlockModel
import LogFormat

/// A run of LSNs each of which can be restored.
public struct RestorableRange: Hashable, Sendable {
    public var first: Stamp
    public var last: Stamp

    public init(first: Stamp, last: Stamp) {
        self.first = first
        self.last = last
    }
}

/// LSNs between (or before, or after) restorable ranges that cannot be restored, and why.
public struct HistoryGap: Hashable, Sendable {
    public enum Reason: Hashable, Sendable {
        /// No segment with these records is there.
        case missing
        /// The segment is there but cannot be used.
        case damaged(SegmentName, SegmentError)
        /// The segment is there but the store cannot read it.
        case unreadable(SegmentName, StoreError)
        /// The segment belongs to another volume.
        case foreignVolume(SegmentName, VolumeID)
        /// The segment was made for another size of the volume.
        case otherSize(SegmentName, UInt64)
        /// The segment's name does not say what is in it.
        case misnamed(SegmentName)
        /// The segment does not follow the one before it: one of them was exchanged.
        case chainBroken(SegmentName)
        /// The records are there, but no usable snapshot before them.
        case noSnapshot
        /// Dropped by thinning.
        case thinned(SegmentName)
        /// The records that are not yet in segments could not be read.
        case tail(String)
    }
    public var first: LSN
    public var last: LSN
    public var reason: Reason

    public init(first: LSN, last: LSN, reason: Reason) {
        self.first = first
        self.last = last
        self.reason = reason
    }

    /// Whether it was made on purpose, by thinning.
    public var isThinned: Bool { if case .thinned = reason { true } else { false } }
}

extension HistoryGap.Reason: CustomStringConvertible {
    public var description: String {
        switch self {
        case .missing: "segments are missing"
        case .damaged(let name, let error): "segment \(name) is damaged: \(error)"
        case .unreadable(_, let error): error.description
        case .foreignVolume(let name, let id): "segment \(name) is of another volume, \(id)"
        case .otherSize(let name, let bytes):
            "segment \(name) is of a volume of \(bytes) bytes"
        case .misnamed(let name): "segment \(name) does not hold what its name says"
        case .chainBroken(let name): "segment \(name) does not follow the one before it"
        case .noSnapshot: "no usable snapshot before these records"
        case .thinned(let name): "thinned, see \(name)"
        case .tail(let text): "the write-ahead log could not be read: \(text)"
        }
    }
}

/// A named point.
public struct MarkPoint: Hashable, Sendable {
    public var name: String
    public var stamp: Stamp

    public init(name: String, stamp: Stamp) {
        self.name = name
        self.stamp = stamp
    }
}

/// A snapshot that can be used.
public struct SnapshotPoint: Hashable, Sendable {
    public var segment: SegmentName
    public var stamp: Stamp
    /// Size in the store.
    public var byteCount: UInt64
}

/// What can be restored between two times. Flushes can be millions: they come one by one from
/// `HistoryCatalogue.forEachFlush`.
public struct PointsReport: Sendable {
    public var ranges: [RestorableRange]
    public var gaps: [HistoryGap]
    /// In LSN order, restorable ones only.
    public var marks: [MarkPoint]
    public var snapshots: [SnapshotPoint]
    /// Flushes in the segments that reach into the interval: an upper bound of what
    /// `forEachFlush` gives.
    public var flushCountMax: UInt64
}

/// A target that cannot be restored, with the nearest points that can.
public struct NotRestorable: Error, Hashable, Sendable {
    public enum Reason: Hashable, Sendable {
        /// Later than now.
        case inFuture
        /// An LSN beyond the last record.
        case beyondLast(LSN)
        /// Before the first restorable point.
        case beforeBase
        case gap(HistoryGap)
        /// No mark of that name; the names that are most like it.
        case unknownMark(similar: [String])
        /// `--barrier`, and no flush at or before the point since the gap or base before it.
        case noFlush
        /// The snapshot that was asked for does not exist or cannot lead to the point.
        case noSuchSnapshot(LSN)
        /// Nothing is restorable at all.
        case nothing
    }
    public var target: Target
    public var reason: Reason
    /// The nearest restorable points.
    public var before: Stamp?
    public var after: Stamp?

    public init(target: Target, reason: Reason, before: Stamp? = nil, after: Stamp? = nil) {
        self.target = target
        self.reason = reason
        self.before = before
        self.after = after
    }
}

extension NotRestorable.Reason: CustomStringConvertible {
    public var description: String {
        switch self {
        case .inFuture: "it is in the future"
        case .beyondLast(let lsn): "the last record is \(lsn)"
        case .beforeBase: "it is before the first restorable point"
        case .gap(let gap): "\(gap.reason), records \(gap.first) to \(gap.last)"
        case .unknownMark: "there is no such mark"
        case .noFlush: "there is no flush before it to go back to"
        case .noSuchSnapshot(let lsn): "snapshot \(lsn) does not lead to it"
        case .nothing: "there is no usable snapshot at all"
        }
    }
}

extension NotRestorable: CustomStringConvertible {
    public var description: String { "not restorable (\(reason))" }
}

/// What a target means.
public struct ResolvedPoint: Hashable, Sendable {
    /// Every record up to this LSN counts.
    public var stamp: Stamp
    /// The nearest flush at or before, and after.
    public var flushBefore: Stamp?
    public var flushAfter: Stamp?
    /// The nearest mark at or before, and after.
    public var markBefore: MarkPoint?
    public var markAfter: MarkPoint?
}
