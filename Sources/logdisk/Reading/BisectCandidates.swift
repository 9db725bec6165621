// The points among which `bisect` searches, by number: flushes, or every restorable record.

import BlockModel
import History

/// Points strictly between two others, in LSN order.
struct BisectCandidates {
    /// One run of LSNs, each a candidate, and the number of the first.
    private struct Run {
        var first: UInt64
        var count: UInt64
        var number: Int
    }
    private var runs: [Run] = []
    private(set) var count = 0

    /// The flushes between `good` and `bad`: 24 bytes of memory each.
    static func flushes(
        _ history: HistoryCatalogue, between good: Stamp, and bad: Stamp
    ) throws(HistoryError) -> BisectCandidates {
        var found = BisectCandidates()
        try history.forEachFlush(from: good.wallNanoseconds, to: bad.wallNanoseconds) { stamp in
            if stamp.lsn > good.lsn, stamp.lsn < bad.lsn { found.add(stamp.lsn.rawValue, 1) }
            return true
        }
        return found
    }

    /// Every record between them that can be restored.
    static func records(
        _ history: HistoryCatalogue, between good: Stamp, and bad: Stamp
    ) -> BisectCandidates {
        var found = BisectCandidates()
        for range in history.ranges {
            let first = max(range.first.lsn.rawValue, good.lsn.rawValue + 1)
            let end = min(range.last.lsn.rawValue, bad.lsn.rawValue - 1)
            if first <= end { found.add(first, end - first + 1) }
        }
        return found
    }

    private mutating func add(_ first: UInt64, _ count: UInt64) {
        runs.append(Run(first: first, count: count, number: self.count))
        self.count += Int(count)
    }

    subscript(number: Int) -> LSN {
        precondition(number >= 0 && number < count)
        var (low, high) = (0, runs.count)
        while high - low > 1 {
            let middle = (low + high) / 2
            if runs[middle].number <= number { low = middle } else { high = middle }
        }
        return LSN(runs[low].first + UInt64(number - runs[low].number))
    }
}
