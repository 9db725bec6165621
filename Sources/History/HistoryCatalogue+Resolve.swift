// From what a person asked for to one LSN, or to the reason why not with the nearest points that
// can be restored.

import BlockModel
import LogFormat

extension HistoryCatalogue {
    /// Whether records that are not in this history yet could change what `target` is.
    public func needsNewest(for target: Target, now: Int64) -> Bool {
        guard let last else { return true }
        return switch target {
        case .now, .mark: true
        case .time(let time): time >= last.wallNanoseconds
        case .ago(let length): now - length >= last.wallNanoseconds
        case .lsn(let lsn): lsn > last.lsn
        }
    }

    /// Finds the point that `target` means. A time means every record at or before it; equal times
    /// count. A time after the last record, but not after `now`, is the last record. `barrier`
    /// goes back to the last flush at or before the point, in the same unbroken range.
    /// Throws `.notRestorable` and nothing else, unless the store fails.
    public func resolve(
        _ target: Target, now: Int64, barrier: Bool = false
    ) throws(HistoryError) -> ResolvedPoint {
        try tolerating { history throws(HistoryError) in
            try Resolver(history: history, target: target, now: now).resolve(barrier: barrier)
        }
    }
}

private struct Resolver {
    let history: HistoryCatalogue
    let target: Target
    let now: Int64

    func resolve(barrier: Bool) throws(HistoryError) -> ResolvedPoint {
        guard !history.ranges.isEmpty else { throw no(.nothing, at: nil) }
        var stamp = try point()
        let flush = try history.nearest(.flush, to: stamp.lsn, after: false)?.entry.stamp
        if barrier { stamp = try back(from: stamp, to: flush) }
        let before = try history.nearest(.mark, to: stamp.lsn, after: false)
        let after = try history.nearest(.mark, to: stamp.lsn, after: true)
        return ResolvedPoint(
            stamp: stamp, flushBefore: flush,
            flushAfter: try history.nearest(.flush, to: stamp.lsn, after: true)?.entry.stamp,
            markBefore: before.map { MarkPoint(name: $0.name, stamp: $0.entry.stamp) },
            markAfter: after.map { MarkPoint(name: $0.name, stamp: $0.entry.stamp) })
    }

    private func point() throws(HistoryError) -> Stamp {
        switch target {
        case .now: try newest()
        case .time(let time): try point(at: time)
        case .ago(let nanoseconds):
            try point(at: now.subtractingReportingOverflow(nanoseconds).partialValue)
        case .lsn(let lsn): try point(lsn)
        case .mark(let name): try point(markedAs: name)
        }
    }

    private func newest() throws(HistoryError) -> Stamp {
        guard let last = history.last else { throw no(.nothing, at: nil) }
        // What is known of but cannot be used lies behind: that would have been "now".
        if let gap = history.gaps.last, gap.last >= last.lsn { throw no(.gap(gap), at: gap.first) }
        return last
    }

    private func point(_ lsn: LSN) throws(HistoryError) -> Stamp {
        guard history.isRestorable(lsn) else {
            if let gap = history.gaps.first(where: { $0.first <= lsn && lsn <= $0.last }) {
                throw no(.gap(gap), at: lsn)
            }
            guard let last = history.last, lsn > last.lsn else { throw no(.beforeBase, at: lsn) }
            throw no(.beyondLast(last.lsn), at: lsn)
        }
        return try stamp(of: lsn)
    }

    private func point(markedAs name: String) throws(HistoryError) -> Stamp {
        if let mark = try history.mark(named: name) { return try point(mark.stamp.lsn) }
        let names = Set(try history.points().marks.map(\.name))
        let similar = names.map { (editDistance($0, name), $0) }.sorted { $0 < $1 }
        throw no(.unknownMark(similar: similar.prefix(3).map(\.1)), at: nil)
    }

    private func point(at time: Int64) throws(HistoryError) -> Stamp {
        if time > now, time > history.last?.wallNanoseconds ?? .min {
            throw no(.inFuture, at: .max)
        }
        guard let known = try lastKnown(at: time) else { throw no(.beforeBase, at: nil) }
        // Records that nobody can read may lie between the known one and `time`.
        if time > known.wallNanoseconds, known.lsn < .max, !isKnown(known.lsn.next),
            let gap = history.gaps.first(where: { $0.last > known.lsn }),
            gap.first <= known.lsn.next
        {
            throw no(.gap(gap), at: known.lsn)
        }
        return try point(known.lsn)
    }

    /// The newest record or snapshot, restorable or not, with a wall time at or before `time`.
    private func lastKnown(at time: Int64) throws(HistoryError) -> Stamp? {
        let runs = history.timeline.runs
        let i = runs.partitioningIndex { $0.first.wallNanoseconds > time }
        var found: Stamp?
        if i > 0 {
            let entries = try history.index(of: runs[i - 1]).entries
            let j = entries.partitioningIndex { $0.stamp.wallNanoseconds > time }
            // A merged segment may end after its last record.
            found =
                runs[i - 1].last.wallNanoseconds <= time
                ? runs[i - 1].last : j > 0 ? entries[j - 1].stamp : runs[i - 1].first
        }
        let k = history.snapshots.partitioningIndex { $0.first.wallNanoseconds > time }
        if k > 0 { found = max(found ?? .zero, history.snapshots[k - 1].first) }
        return found
    }

    private func isKnown(_ lsn: LSN) -> Bool {
        history.timeline.runs.contains { $0.first.lsn <= lsn && lsn <= $0.last.lsn }
            || history.snapshots.contains { $0.first.lsn == lsn }
    }

    private func stamp(of lsn: LSN) throws(HistoryError) -> Stamp {
        if let snapshot = history.snapshots.first(where: { $0.first.lsn == lsn }) {
            return snapshot.first
        }
        for run in history.timeline.runs where run.first.lsn <= lsn && lsn <= run.last.lsn {
            if run.last.lsn == lsn { return run.last }
            let entries = try history.index(of: run).entries
            let i = entries.partitioningIndex { $0.stamp.lsn > lsn }
            if i > 0 { return entries[i - 1].stamp }
        }
        throw no(.nothing, at: lsn)
    }

    private func back(from stamp: Stamp, to flush: Stamp?) throws(HistoryError) -> Stamp {
        guard let range = history.range(holding: stamp.lsn) else { return stamp }
        if let flush, flush.lsn >= range.first.lsn { return flush }
        // The content that a volume began with was at rest.
        if range.first.lsn == .zero { return range.first }
        throw no(.noFlush, at: stamp.lsn)
    }

    /// The refusal, with the restorable points around `lsn`; nil stands for before everything.
    private func no(_ reason: NotRestorable.Reason, at lsn: LSN?) -> HistoryError {
        let position = lsn ?? .zero
        var refusal = NotRestorable(target: target, reason: reason)
        for range in history.ranges {
            if range.last.lsn <= position, lsn != nil { refusal.before = range.last }
            if range.first.lsn > position || lsn == nil {
                refusal.after = refusal.after ?? range.first
            }
        }
        if reason == .noFlush { refusal.before = nil }
        return .notRestorable(refusal)
    }
}

/// Levenshtein distance in characters.
package func editDistance(_ a: String, _ b: String) -> Int {
    let (a, b) = (Array(a), Array(b))
    var row = Array(0...b.count)
    for i in a.indices {
        var diagonal = row[0]
        row[0] = i + 1
        for j in b.indices {
            let cost = a[i] == b[j] ? diagonal : min(diagonal, row[j], row[j + 1]) + 1
            diagonal = row[j + 1]
            row[j + 1] = cost
        }
    }
    return row[b.count]
}
