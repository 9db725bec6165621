// Which sectors records have touched, from indexes alone.
//
// The list is bounded: where it would grow past its bound, runs are rounded outwards to a coarser
// grain and melt together. So it may name sectors that nobody touched, but never leaves one out:
// whoever compares bytes afterwards only reads a little more.

import BlockModel
import LogFormat

/// A set of sectors as sorted, disjoint runs that do not meet. One thread.
package struct ExtentUnion {
    private let runsMax: Int
    /// Sectors; a power of two. Every run begins and ends at a multiple of it.
    private var grain: UInt64 = 1
    private var runs: [Extent] = []
    /// Not merged into `runs` yet; as long as those at most, so that merging is paid for.
    private var pending: [Extent] = []

    private static let pendingMin = 4096

    /// 16 bytes of memory a run, three times that while runs are merged.
    package init(runsMax: Int = 1 << 20) { self.runsMax = max(1, runsMax) }

    package mutating func insert(_ extent: Extent) {
        if extent.isEmpty { return }
        pending.append(rounded(extent))
        if pending.count >= max(Self.pendingMin, runs.count) { settle() }
    }

    /// All of it, cut at `sectors`.
    package mutating func finish(sectors: UInt64) -> [Extent] {
        settle()
        let all = Extent(start: 0, count: sectors)
        return runs.compactMap { $0.intersection(all) }
    }

    private func rounded(_ extent: Extent) -> Extent {
        let start = extent.start & ~(grain - 1)
        let end = (extent.end + grain - 1) & ~(grain - 1)
        return Extent(start: start, count: end - start)
    }

    private mutating func settle() {
        merge()
        while runs.count > runsMax {
            grain <<= 3
            pending = runs.map { rounded($0) }
            runs = []
            merge()
        }
    }

    private mutating func merge() {
        var all = runs + pending
        pending = []
        all.sort { $0.start < $1.start }
        runs = []
        for extent in all {
            if let last = runs.last, extent.start <= last.end {
                runs[runs.count - 1].count = max(last.end, extent.end) - last.start
            } else {
                runs.append(extent)
            }
        }
    }
}

extension HistoryCatalogue {
    /// What the records after `lsn` up to `last` touch, or more; in address order. nil where
    /// records between the two are missing, so that any sector may differ.
    func touchedExtents(after lsn: LSN, through last: LSN) throws(HistoryError) -> [Extent]? {
        try tolerating { history throws(HistoryError) in
            try history.touchedOnce(after: lsn, through: last)
        }
    }

    private func touchedOnce(after lsn: LSN, through last: LSN) throws(HistoryError) -> [Extent]? {
        guard let runs = chain(from: Stamp(lsn: lsn, wallNanoseconds: 0), to: last) else {
            return nil
        }
        var found = ExtentUnion()
        for run in runs {
            for entry in try index(of: run).entries
            where entry.kind.changesSectors && entry.stamp.lsn > lsn && entry.stamp.lsn <= last {
                found.insert(entry.extent)
            }
        }
        return found.finish(sectors: volumeBytes >> Sector.shift)
    }
}
