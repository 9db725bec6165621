// The points of a history: ranges, gaps, marks, snapshots, flushes.

import BlockModel
import LogFormat

extension HistoryCatalogue {
    /// Whether the volume as it was after the record `lsn` can be restored.
    public func isRestorable(_ lsn: LSN) -> Bool { range(holding: lsn) != nil }

    func range(holding lsn: LSN) -> RestorableRange? {
        let i = ranges.partitioningIndex { $0.first.lsn > lsn }
        guard i > 0, ranges[i - 1].last.lsn >= lsn else { return nil }
        return ranges[i - 1]
    }

    /// What can be restored between two wall times, both included; nil is no bound. Reads the
    /// indexes of segments with marks only. Ranges and gaps are given whole where they touch the
    /// interval; gaps whose times are not known always.
    public func points(from: Int64? = nil, to: Int64? = nil) throws(HistoryError) -> PointsReport {
        try tolerating { history throws(HistoryError) in
            try history.pointsOnce(from ?? .min, to ?? .max)
        }
    }

    private func pointsOnce(_ from: Int64, _ to: Int64) throws(HistoryError) -> PointsReport {
        func isInside(_ stamp: Stamp) -> Bool {
            (from...max(from, to)).contains(stamp.wallNanoseconds)
        }
        var marks: [MarkPoint] = []
        let flushCountMax: UInt64
        let inside = timeline.runs.filter {
            $0.first.wallNanoseconds <= to && $0.last.wallNanoseconds >= from
        }
        flushCountMax = inside.reduce(0) { $0 + $1.flushCount }
        for run in expecting(inside.filter { $0.markCount > 0 }) {
            let index = try index(of: run)
            for entry in index.entries where entry.kind == .mark && isInside(entry.stamp) {
                if isRestorable(entry.stamp.lsn) {
                    marks.append(MarkPoint(name: index.name(of: entry), stamp: entry.stamp))
                }
            }
        }
        return PointsReport(
            ranges: ranges.filter {
                $0.first.wallNanoseconds <= to && $0.last.wallNanoseconds >= from
            },
            gaps: gaps.filter { gap in
                let before = ranges.last { $0.last.lsn < gap.first }?.last.wallNanoseconds
                let after = ranges.first { $0.first.lsn > gap.last }?.first.wallNanoseconds
                return (before ?? .min) <= to && (after ?? .max) >= from
            },
            marks: marks,
            snapshots: snapshots.filter { isInside($0.first) }.map {
                SnapshotPoint(
                    segment: $0.name, stamp: $0.first, byteCount: $0.footer.fileBytes)
            }, flushCountMax: flushCountMax)
    }

    /// Gives the restorable flushes between two wall times in LSN order until `body` returns false.
    /// Memory does not grow with their number.
    public func forEachFlush(
        from: Int64? = nil, to: Int64? = nil, _ body: (Stamp) -> Bool
    ) throws(HistoryError) {
        let (from, to) = (from ?? .min, to ?? .max)
        let inside = timeline.runs.filter {
            $0.flushCount > 0 && $0.first.wallNanoseconds <= to && $0.last.wallNanoseconds >= from
        }
        for run in expecting(inside) {
            let found: RecordIndex
            do throws(HistoryError) {
                found = try index(of: run)
            } catch {
                if case .damaged = error { continue }  // a gap: `points` tells
                throw error
            }
            for entry in found.entries where entry.kind == .flush {
                let time = entry.stamp.wallNanoseconds
                guard time >= from, time <= to, isRestorable(entry.stamp.lsn) else { continue }
                if !body(entry.stamp) { return }
            }
        }
    }

    /// The newest mark of that name, restorable or not.
    public func mark(named name: String) throws(HistoryError) -> MarkPoint? {
        for run in expecting(timeline.runs.reversed().filter({ $0.markCount > 0 })) {
            let index = try index(of: run)
            let found = index.entries.last { $0.kind == .mark && index.name(of: $0) == name }
            if let found { return MarkPoint(name: name, stamp: found.stamp) }
        }
        return nil
    }

    /// The nearest restorable entry of a kind at or before `lsn`, or after it.
    func nearest(
        _ kind: RecordKind, to lsn: LSN, after isAfter: Bool
    ) throws(HistoryError) -> (entry: SegmentEntry, name: String)? {
        let runs = timeline.runs.filter {
            (kind == .flush ? $0.flushCount : $0.markCount) > 0
                && (isAfter ? $0.last.lsn > lsn : $0.first.lsn <= lsn)
        }
        for run in isAfter ? runs : runs.reversed() {
            let index = try index(of: run)
            let entries = index.entries
            let split = entries.partitioningIndex { $0.stamp.lsn > lsn }
            func fits(_ entry: SegmentEntry) -> Bool {
                entry.kind == kind && isRestorable(entry.stamp.lsn)
            }
            let found =
                isAfter
                ? entries[split...].first(where: fits) : entries[..<split].last(where: fits)
            if let found { return (found, index.name(of: found)) }
        }
        return nil
    }
}
