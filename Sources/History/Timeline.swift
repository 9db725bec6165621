// Which LSNs can be restored: a snapshot's own, and from there every LSN that an unbroken chain of
// records leads to. Pure; works on tails.
//
//   snapshot S ──► log that holds S+1 ──► log that begins after it ──► … ──► tail of the WAL
//
// A merged segment leads only to its last LSN. Where two logs meet, the digests must fit; a merged
// segment carries on the digest of the log whose last record it ends with. While thinning puts
// merged segments in place of others both are there: then what is finer counts, logs before all.

import BlockModel
import LogFormat

/// One run of records: a segment, or the tail.
struct RecordRun {
    enum Origin {
        case segment(CataloguedSegment)
        case tail
    }
    var first: Stamp
    var last: Stamp
    var origin: Origin
    var flushCount: UInt64
    var markCount: UInt64

    var isMerged: Bool {
        if case .segment(let segment) = origin { segment.name.kind == .merged } else { false }
    }

    init(_ segment: CataloguedSegment) {
        (first, last, origin) = (segment.first, segment.last, .segment(segment))
        flushCount = UInt64(segment.footer.flushCount)
        markCount = UInt64(segment.footer.markCount)
    }

    init?(_ tail: TailIndex) {
        guard let first = tail.first, let last = tail.last else { return nil }
        (self.first, self.last, origin) = (first, last, .tail)
        (flushCount, markCount) = (tail.flushCount, tail.markCount)
    }
}

extension CataloguedSegment {
    /// What a log that follows must name as its predecessor; nil where that is not known.
    var chainDigest: SegmentDigest? {
        switch name.kind {
        case .log: footer.digest
        case .merged: footer.header.predecessor == .none ? nil : footer.header.predecessor
        case .snapshot: nil
        }
    }
}

/// A snapshot and the segments that lead on from it without a break.
struct HistoryChain {
    struct Link {
        var segment: CataloguedSegment
        /// The LSN before; the segment counts from the record after it on.
        var after: LSN

        /// Whether the segment begins earlier than it counts.
        var isClipped: Bool { segment.first.lsn != after.next }
    }
    var base: CataloguedSegment
    var links: [Link] = []
    /// Snapshots after the base, up to the end.
    var snapshots: [CataloguedSegment] = []

    init(base: CataloguedSegment) { self.base = base }

    var end: Stamp { links.last?.segment.last ?? base.first }
}

/// The chains that the segments of a volume form.
struct Timeline {
    private let unusable: [UnusableSegment]
    private let tailFailure: (after: LSN, text: String)?
    private let snapshots: [CataloguedSegment]
    /// Logs and the tail by first LSN; disjoint where nothing is wrong.
    let logs: [RecordRun]
    /// By first and last LSN; they may lie in each other, but never overlap otherwise.
    let merged: [RecordRun]
    /// The greatest last LSN of `merged` up to each place.
    private let mergedReach: [LSN]
    /// All runs to search, in LSN order and disjoint: merged ones only where there is no log.
    let runs: [RecordRun]

    init(
        records: [CataloguedSegment], snapshots: [CataloguedSegment], unusable: [UnusableSegment],
        tail: TailIndex?
    ) {
        self.init(
            runs: records.map { RecordRun($0) }, snapshots: snapshots, unusable: unusable,
            tail: tail)
    }

    /// `runs` may be pieces of segments; those of logs are disjoint.
    init(
        runs: [RecordRun], snapshots: [CataloguedSegment], unusable: [UnusableSegment],
        tail: TailIndex?
    ) {
        self.snapshots = snapshots
        self.unusable = unusable
        var logs = runs.filter { !$0.isMerged }.sorted { $0.first < $1.first }
        if let tail, let run = RecordRun(tail) { logs.append(run) }
        self.logs = logs
        let merged = runs.filter(\.isMerged).sorted {
            ($0.first.lsn, $0.last.lsn) < ($1.first.lsn, $1.last.lsn)
        }
        self.merged = merged
        var reach = LSN.zero
        mergedReach = merged.map { run in
            reach = max(reach, run.last.lsn)
            return reach
        }
        self.runs = (logs + Self.alone(merged, beside: logs)).sorted { $0.first < $1.first }
        tailFailure = tail.flatMap { tail in
            tail.failure.map { (tail.last?.lsn ?? tail.archived, $0) }
        }
    }

    /// The merged runs that overlap no log, and of nested ones the finest.
    private static func alone(_ merged: [RecordRun], beside logs: [RecordRun]) -> [RecordRun] {
        var found: [RecordRun] = []
        for run in merged {
            if let last = found.last, run.first.lsn <= last.last.lsn { continue }
            let i = logs.partitioningIndex { $0.first.lsn > run.last.lsn }
            if i == 0 || logs[i - 1].last.lsn < run.first.lsn { found.append(run) }
        }
        return found
    }

    /// The run that leads on from the state at `position`, where the run before was `previous`.
    func next(after position: Stamp, previous: RecordRun?) -> RecordRun? {
        guard position.lsn < .max else { return nil }
        let wanted = position.lsn.next
        if let run = Self.run(holding: wanted, in: logs), follows(run, previous) { return run }
        return mergedRun(holding: wanted)
    }

    /// The merged run with that LSN that ends first; of several that begins last.
    private func mergedRun(holding lsn: LSN) -> RecordRun? {
        var best: RecordRun?
        var i = merged.partitioningIndex { $0.first.lsn > lsn }
        while i > 0, mergedReach[i - 1] >= lsn {
            i -= 1
            let run = merged[i]
            if run.last.lsn >= lsn, best.map({ run.last.lsn < $0.last.lsn }) ?? true { best = run }
        }
        return best
    }

    private static func run(holding lsn: LSN, in runs: [RecordRun]) -> RecordRun? {
        let i = runs.partitioningIndex { $0.first.lsn > lsn }
        guard i > 0, runs[i - 1].last.lsn >= lsn else { return nil }
        return runs[i - 1]
    }

    /// Whether the digests let `run` stand behind `previous`.
    private func follows(_ run: RecordRun, _ previous: RecordRun?) -> Bool {
        guard case .segment(let segment) = run.origin,
            let previous, case .segment(let before) = previous.origin,
            segment.name != before.name, segment.name.kind == .log,
            segment.footer.header.predecessor != .none, let expected = before.chainDigest
        else { return true }
        return segment.footer.header.predecessor == expected
            && run.first.wallNanoseconds >= before.last.wallNanoseconds
    }

    /// The unbroken chains that begin at snapshots, in LSN order; without the tail.
    func chains() -> [HistoryChain] {
        var found: [HistoryChain] = []
        for snapshot in snapshots {
            if let last = found.last?.end.lsn, snapshot.first.lsn <= last {
                let goesOn =
                    snapshot.first.lsn == last && next(after: snapshot.first, previous: nil) != nil
                guard goesOn else {
                    found[found.count - 1].snapshots.append(snapshot)
                    continue
                }
            }
            var chain = HistoryChain(base: snapshot)
            var previous: RecordRun?
            while let run = next(after: chain.end, previous: previous),
                case .segment(let segment) = run.origin
            {
                chain.links.append(HistoryChain.Link(segment: segment, after: chain.end.lsn))
                previous = run
            }
            found.append(chain)
        }
        return found
    }

    /// Restorable ranges and the gaps between them, both in LSN order.
    func restorable() -> ([RestorableRange], [HistoryGap]) {
        var found: [RestorableRange] = []
        var walked: Set<LSN> = []
        for snapshot in snapshots {
            var range = RestorableRange(first: snapshot.first, last: snapshot.first)
            var previous: RecordRun?
            while let run = next(after: range.last, previous: previous) {
                if run.isMerged {
                    found.append(range)
                    range = RestorableRange(first: run.last, last: run.last)
                } else {
                    range.last = run.last
                }
                previous = run
                // An earlier snapshot's chain went on from here already.
                if !walked.insert(run.last.lsn).inserted { break }
            }
            found.append(range)
        }
        let ranges = Self.union(found)
        return (ranges, gaps(between: ranges))
    }

    static func union(_ ranges: [RestorableRange]) -> [RestorableRange] {
        var result: [RestorableRange] = []
        for range in ranges.sorted(by: { ($0.first, $0.last) < ($1.first, $1.last) }) {
            if let last = result.last,
                range.first.lsn <= last.last.lsn
                    || range.first.lsn == last.last.lsn.next
            {
                result[result.count - 1].last = max(last.last, range.last)
            } else {
                result.append(range)
            }
        }
        return result
    }

    private func gaps(between ranges: [RestorableRange]) -> [HistoryGap] {
        let known =
            (logs + merged).map { ($0.first.lsn, $0.last.lsn) }
            + unusable.map { ($0.name.first, $0.name.last) }
            + snapshots.map { ($0.name.first, $0.name.first) }
        guard let least = known.map(\.0).min(), let greatest = known.map(\.1).max() else {
            return []
        }
        var gaps: [HistoryGap] = []
        var position: LSN? = least
        for range in ranges {
            if let start = position, start < range.first.lsn {
                gaps.append(gap(start, range.first.lsn.previous))
            }
            position = range.last.lsn < .max ? range.last.lsn.next : nil
        }
        if let start = position, start <= greatest { gaps.append(gap(start, greatest)) }
        if let tailFailure, tailFailure.after < .max, gaps.last?.last ?? .zero <= tailFailure.after
        {
            let lsn = tailFailure.after.next
            gaps.append(HistoryGap(first: lsn, last: lsn, reason: .tail(tailFailure.text)))
        }
        return gaps
    }

    /// Finds the reason why `first ... last` cannot be restored: the damage that lies in it, or
    /// what broke the chain at its start.
    private func gap(_ first: LSN, _ last: LSN) -> HistoryGap {
        HistoryGap(first: first, last: last, reason: reason(first, last))
    }

    private func reason(_ first: LSN, _ last: LSN) -> HistoryGap.Reason {
        let bad = unusable.filter { $0.name.first <= last && $0.name.last >= first }
        if let cause = bad.first(where: { $0.name.kind != .snapshot }) ?? bad.first {
            return cause.reason
        }
        if let run = mergedRun(holding: first), run.last.lsn > last {
            if case .segment(let segment) = run.origin { return .thinned(segment.name) }
        }
        guard let run = Self.run(holding: first, in: logs) else { return .missing }
        // The records are there. Either the chain to them broke, or nothing begins it.
        if first > .zero, let before = Self.run(holding: first.previous, in: logs),
            !follows(run, before), case .segment(let segment) = run.origin
        {
            return .chainBroken(segment.name)
        }
        return unusable.first { $0.name.kind == .snapshot && $0.name.first <= first }?.reason
            ?? .noSnapshot
    }
}

extension RandomAccessCollection where Index == Int {
    /// The first index whose element fulfils `belongs`; elements that do stand behind all others.
    func partitioningIndex(where belongs: (Element) -> Bool) -> Int {
        var (low, high) = (startIndex, endIndex)
        while low < high {
            let middle = low + (high - low) / 2
            if belongs(self[middle]) { high = middle } else { low = middle + 1 }
        }
        return low
    }
}
