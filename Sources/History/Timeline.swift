// Which LSNs can be restored: a snapshot's own, and from there every LSN that an unbroken chain of
// records leads to. Pure; works on tails.
//
//   snapshot S ──► log that holds S+1 ──► log that begins after it ──► … ──► tail of the WAL
//
// A merged segment leads only to its last LSN. Where two logs meet, the digests must fit.

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

    func overlaps(_ other: RecordRun) -> Bool {
        first.lsn <= other.last.lsn && other.first.lsn <= last.lsn
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

/// The chains that the segments of a volume form.
struct Timeline {
    private let unusable: [UnusableSegment]
    private let tailFailure: (after: LSN, text: String)?
    private let snapshots: [CataloguedSegment]
    /// Logs and the tail by first LSN; disjoint where nothing is wrong.
    let logs: [RecordRun]
    let merged: [RecordRun]
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
        let merged = runs.filter(\.isMerged)
        self.merged = merged
        let alone = merged.filter { run in !logs.contains { $0.overlaps(run) } }
        self.runs = (logs + alone).sorted { $0.first < $1.first }
        tailFailure = tail.flatMap { tail in
            tail.failure.map { (tail.last?.lsn ?? tail.archived, $0) }
        }
    }

    /// The run that leads on from the state at `position`, where the run before was `previous`.
    func next(after position: Stamp, previous: RecordRun?) -> RecordRun? {
        guard position.lsn < .max else { return nil }
        let wanted = position.lsn.next
        if let run = Self.run(holding: wanted, in: logs), follows(run, previous) { return run }
        return Self.run(holding: wanted, in: merged)
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
            segment.name != before.name, before.name.kind == .log, segment.name.kind == .log,
            segment.footer.header.predecessor != .none
        else { return true }
        return segment.footer.header.predecessor == before.footer.digest
            && run.first.wallNanoseconds >= before.last.wallNanoseconds
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

    private static func union(_ ranges: [RestorableRange]) -> [RestorableRange] {
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
        if let run = Self.run(holding: first, in: merged), run.last.lsn > last {
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
