// What a remote whose records end at some LSN needs next: a whole segment, or, where the remote's
// ladder drops superseded writes anyway, an interval merged before it goes. Reads indexes of what
// is merged only.

import BlockModel
import LogFormat

/// Records that go to a remote as one merged segment.
public struct IntervalMerge: Sendable {
    fileprivate let merge: RetentionPlan.Merge

    public var name: SegmentName { merge.name }
    /// Bytes of the data of its sources, uncompressed.
    public var sourceBytes: UInt64 {
        merge.sources.reduce(0) { $0 + $1.segment.footer.dataBytes }
    }

    /// Writes it into `target`; nothing is left there when it throws. `advance` hears of every byte
    /// that is read.
    public func write(
        from store: any SegmentStore, into target: any SegmentStore,
        advance: @escaping (Int) throws(HistoryError) -> Void
    ) throws(HistoryError) -> CataloguedSegment {
        try MergeWriter(merge, in: store, advance: advance).write(into: target)
    }
}

/// What leads on from an LSN.
public enum NextRecords: Sendable {
    /// The segment that begins with the record after it.
    case segment(CataloguedSegment)
    /// The log that holds the record after it, but begins earlier.
    case clipped(CataloguedSegment)
    /// A merged segment that leads over it: only its end can be restored.
    case across(CataloguedSegment)
    case merge(IntervalMerge)
    /// Nothing leads on from there, but history goes on from this snapshot.
    case gap(CataloguedSegment)
    /// Nothing leads on from there, though there are later records, and no snapshot begins anew.
    case broken
    case nothing
}

extension HistoryCatalogue {
    /// Whether its snapshot at LSN 0 stands for the past of another volume.
    public var isBranch: Bool { base != nil }

    /// The digest that a log after `lsn` names as its predecessor; nil where no segment ends there
    /// or that is not known.
    public func chainDigest(at lsn: LSN) -> SegmentDigest? { segment(endingAt: lsn)?.chainDigest }

    /// When the record at `lsn` was written; nil where segments do not tell.
    public func wallNanoseconds(at lsn: LSN) throws(HistoryError) -> Int64? {
        if let segment = segment(endingAt: lsn) { return segment.last.wallNanoseconds }
        if let snapshot = snapshots.first(where: { $0.first.lsn == lsn }) {
            return snapshot.first.wallNanoseconds
        }
        let log = records.first {
            $0.name.kind == .log && $0.first.lsn <= lsn && $0.last.lsn > lsn
        }
        guard let log else { return nil }
        return try index(of: log).entries.first { $0.stamp.lsn == lsn }?.stamp.wallNanoseconds
    }

    private func segment(endingAt lsn: LSN) -> CataloguedSegment? {
        let ending = records.filter { $0.last.lsn == lsn }
        return ending.first { $0.name.kind == .log } ?? ending.last
    }

    /// What follows the records up to `lsn`. With a rule, what it would thin is merged; with
    /// `mergingThrough`, everything up to there is.
    public func nextRecords(
        after lsn: LSN, rule: RetentionRule? = nil, mergingThrough: LSN? = nil
    ) throws(HistoryError) -> NextRecords {
        var previous = segment(endingAt: lsn).map { RecordRun($0) }
        let start = Stamp(lsn: lsn, wallNanoseconds: .min)
        guard let run = timeline.next(after: start, previous: previous),
            case .segment(let first) = run.origin
        else {
            if let snapshot = snapshots.first(where: { $0.first.lsn > lsn }) {
                return .gap(snapshot)
            }
            return records.contains { $0.last.lsn > lsn } ? .broken : .nothing
        }
        if run.isMerged, run.first.lsn <= lsn { return .across(first) }
        if rule == nil, mergingThrough.map({ $0 < first.last.lsn }) ?? true {
            return run.first.lsn == lsn.next ? .segment(first) : .clipped(first)
        }
        var links: [HistoryChain.Link] = []
        var end = lsn
        while let run = timeline.next(
            after: Stamp(lsn: end, wallNanoseconds: .min), previous: previous),
            case .segment(let segment) = run.origin,
            links.isEmpty || !run.isMerged || run.first.lsn > end
        {
            links.append(HistoryChain.Link(segment: segment, after: end))
            (previous, end) = (run, run.last.lsn)
        }
        let planner = RetentionPlanner(
            rule ?? RetentionRule(.newestOnly, now: 0), self, leases: [])
        return try planner.firstShipment(links, mergingThrough: mergingThrough)
    }
}

extension Ladder {
    /// Of each sector the newest entry.
    public static let newestOnly = Ladder(unchecked: [Rung(spacing: .newest, span: .max / 4)])
}

extension RetentionPlanner {
    /// The first thing that a remote needs of `links`, whose first begins behind what it has.
    func firstShipment(
        _ links: [HistoryChain.Link], mergingThrough: LSN?
    ) throws(HistoryError) -> NextRecords {
        var walk = Walk(keepsBase: true)
        for (i, link) in links.enumerated() where walk.items.isEmpty {
            if let mergingThrough, link.segment.last.lsn <= mergingThrough {
                walk.open.append(
                    RetentionPlan.Source(
                        segment: link.segment, first: try first(of: link),
                        last: link.segment.last, endsAtRest: false))
                continue
            }
            if staysWhole(link) || mergingThrough != nil {
                walk.close()
                walk.items.append(.whole(link.segment))
                continue
            }
            var end = Int64.min
            if i + 1 < links.count { end = try first(of: links[i + 1]).wallNanoseconds }
            try thin(link, until: end, &walk)
        }
        walk.close()
        switch walk.items.first {
        case .whole(let segment)?:
            return links[0].isClipped ? .clipped(segment) : .segment(segment)
        case .merge(let sources)?:
            let merge = parts(sources)[0]
            return merge.isThere
                ? .segment(merge.sources[0].segment) : .merge(IntervalMerge(merge: merge))
        case nil: return .nothing
        }
    }
}
