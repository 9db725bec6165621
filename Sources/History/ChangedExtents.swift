// Where two points of a history can differ at all: the union of what the records between them
// touch. From indexes alone.

import BlockModel
import LogFormat

extension HistoryCatalogue {
    /// What the records after `old` up to `new` touch: sorted, disjoint, neighbours joined. nil
    /// where records between the two are missing, so that any sector may differ.
    func changedExtents(from old: Stamp, to new: LSN) throws(HistoryError) -> [Extent]? {
        guard let runs = chain(from: old, to: new) else { return nil }
        var union = ExtentUnion()
        for run in runs {
            let entries = try index(of: run).entries
            let low = entries.partitioningIndex { $0.stamp.lsn > old.lsn }
            let high = entries.partitioningIndex { $0.stamp.lsn > new }
            guard low < high else { continue }
            union.add(entries[low..<high].filter(\.kind.changesSectors).map(\.extent))
        }
        return union.extents()
    }
}

/// The union of many lists of extents. 16 bytes an extent that is left after joining, and as much
/// again while it is built.
package struct ExtentUnion {
    /// Sorted and disjoint each; sizes fall at least by half from each to the next.
    private var layers: [[Extent]] = []

    /// Adds extents in any order.
    package init() {}

    package mutating func add(_ extents: [Extent]) {
        let layer = Self.joined(extents.sorted { $0.start < $1.start })
        if layer.isEmpty { return }
        layers.append(layer)
        while layers.count > 1, layers[layers.count - 2].count < 2 * layers[layers.count - 1].count
        {
            mergeTopTwo()
        }
    }

    package mutating func extents() -> [Extent] {
        while layers.count > 1 { mergeTopTwo() }
        return layers.first ?? []
    }

    private mutating func mergeTopTwo() {
        let a = layers.removeLast()
        let b = layers.removeLast()
        var merged: [Extent] = []
        merged.reserveCapacity(a.count + b.count)
        var (i, j) = (0, 0)
        while i < a.count || j < b.count {
            if j == b.count || i < a.count && a[i].start < b[j].start {
                Self.join(a[i], to: &merged)
                i += 1
            } else {
                Self.join(b[j], to: &merged)
                j += 1
            }
        }
        layers.append(merged)
    }

    private static func joined(_ sorted: [Extent]) -> [Extent] {
        var result: [Extent] = []
        for extent in sorted where extent.count > 0 { join(extent, to: &result) }
        return result
    }

    private static func join(_ extent: Extent, to list: inout [Extent]) {
        if let last = list.last, extent.start <= last.end {
            list[list.count - 1].count = max(last.end, extent.end) - last.start
        } else {
            list.append(extent)
        }
    }
}
