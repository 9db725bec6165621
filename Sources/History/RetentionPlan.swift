// What a ladder makes of a history: which segments are merged, which snapshots stay, what goes,
// what stays restorable. Pure: made from a catalogue, the ladder and a time; nothing is changed.
//
// Points that stay ("kept points"), as long as the last span reaches: those that the ladder keeps
// for their age (Ladder.swift), marks, snapshots (thinned by the same grid among themselves; the
// newest always). For ever: pins, the points of branches, the newest state. Between two kept
// points that follow each other lies one merged segment, or records as they are:
//
//   snapshot   merged      merged       log: every write
//   ●──────────────●────────────●●●●●●●●●●●●●●●●●●●●●●   points
//
// A log segment is thinned as a whole, so when its last record has left the span of `every`; until
// then the point before it stays, too. So does the border between parts of an interval that is
// too large to merge in the memory allowed.
//
// Where history is cut off at a mark or flush, the record itself stays beside the new base, in a
// merged segment of its own (a "carrier"), so that the mark keeps its name.

import BlockModel
import LogFormat

/// What thinning is asked to do.
public struct RetentionRule: Sendable {
    public var ladder: Ladder
    /// From where ages count, nanoseconds since 1970-01-01 UTC: the clock, or the last write.
    public var now: Int64
    /// Points that stay whatever their age.
    public var pins: Set<LSN> = []
    /// How far past the last span history may reach before it is cut back to it, nanoseconds: a
    /// cut can cost a full snapshot.
    public var slack: Int64 = 0
    /// What follows is not thinned and not deleted: a remote has not acknowledged it. nil: nothing
    /// has to wait for a remote.
    public var unshippedAfter: LSN?
    /// Bounds the memory of a merge: records and pieces that are laid over each other at once.
    public var entriesMax: UInt64 = 1 << 20

    public init(_ ladder: Ladder, now: Int64) {
        self.ladder = ladder
        self.now = now
    }
}

/// What is to be done, in order.
public struct RetentionPlan: Sendable {
    /// A part of a segment: the records after one LSN up to another.
    struct Source: Sendable {
        var segment: CataloguedSegment
        var first: Stamp
        var last: Stamp
        /// Whether its last record is a flush or mark.
        var endsAtRest: Bool

        var isWhole: Bool { first.lsn == segment.first.lsn && last.lsn == segment.last.lsn }
        /// Entries, at most.
        var entryCount: UInt64 {
            segment.name.kind == .log
                ? last.lsn.rawValue - first.lsn.rawValue + 1 : segment.footer.entryCount
        }
    }

    /// A merged segment to be made, and what it makes superfluous.
    struct Merge: Sendable {
        var sources: [Source]
        var replaces: [SegmentName] = []

        var first: Stamp { sources[0].first }
        var last: Stamp { sources[sources.count - 1].last }
        var name: SegmentName { SegmentName(first: first.lsn, last: last.lsn, kind: .merged) }
        /// Nothing to do: it is there.
        var isThere: Bool {
            sources.count == 1 && sources[0].isWhole && sources[0].segment.name.kind == .merged
        }
    }

    /// What happens to one unbroken chain.
    struct Cut: Sendable {
        /// A snapshot to be written: the base of what follows.
        var newBase: Stamp?
        /// The mark or flush that the base stands on.
        var carrier: Merge?
        /// What lies before the base, the newest first.
        var before: [SegmentName] = []
        var merges: [Merge] = []
        /// Snapshots that thinning drops.
        var snapshots: [SegmentName] = []
    }

    /// Left behind by a prune that did not end.
    var strays: [SegmentName] = []
    var cuts: [Cut] = []
    /// Who uses all of it, so that nothing can be done.
    public internal(set) var blockers: [Lease] = []
    /// What can be restored afterwards, without what is not in segments yet.
    public internal(set) var ranges: [RestorableRange] = []
    /// When the ladder has something to do again, if nothing is written; nil: never.
    public internal(set) var nextDue: Int64?
    /// Bytes in the store before.
    public internal(set) var storedBytes: UInt64 = 0

    /// Segments that will be written.
    public var writes: [SegmentName] {
        cuts.flatMap { cut in
            (cut.newBase.map { [SegmentName.snapshot($0.lsn)] } ?? [])
                + ((cut.carrier.map { [$0] } ?? []) + cut.merges).map(\.name)
        }
    }

    /// Segments that will be deleted.
    public var deletes: [SegmentName] {
        strays + cuts.flatMap { $0.before + $0.merges.flatMap(\.replaces) + $0.snapshots }
    }

    public var isEmpty: Bool { writes.isEmpty && deletes.isEmpty }
}
