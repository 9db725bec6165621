// Which parts of a sequence of records are still seen after all of them: the newest record that
// touches a sector has it. Pure; n records take n log n steps, however large their extents are.

import BlockModel

/// A part of a record's extent that no later record touches.
package struct NewestPart: Equatable {
    /// The record, by its place in the sequence.
    package var record: Int
    package var extent: Extent

    package init(record: Int, extent: Extent) {
        self.record = record
        self.extent = extent
    }
}

/// A max-heap of places in the sequence.
private struct NewestFirst {
    private var items: [Int] = []

    var first: Int? { items.first }

    mutating func insert(_ item: Int) {
        items.append(item)
        var index = items.count - 1
        while index > 0, items[(index - 1) / 2] < items[index] {
            items.swapAt(index, (index - 1) / 2)
            index = (index - 1) / 2
        }
    }

    mutating func removeFirst() {
        items.swapAt(0, items.count - 1)
        items.removeLast()
        var index = 0
        while true {
            var greatest = index
            for child in [2 * index + 1, 2 * index + 2]
            where child < items.count && items[child] > items[greatest] { greatest = child }
            if greatest == index { return }
            items.swapAt(index, greatest)
            index = greatest
        }
    }
}

/// What of `extents`, in the order of their records, is seen at the end; by record, then by
/// address.
package func newestParts(_ extents: [Extent]) -> [NewestPart] {
    let byStart = extents.indices.filter { !extents[$0].isEmpty }.sorted {
        extents[$0].start < extents[$1].start
    }
    var parts: [NewestPart] = []
    var open = NewestFirst()
    var position: UInt64 = 0
    var next = 0
    while next < byStart.count || open.first != nil {
        while let newest = open.first, extents[newest].end <= position { open.removeFirst() }
        guard let newest = open.first else {
            guard next < byStart.count else { break }
            position = max(position, extents[byStart[next]].start)
            while next < byStart.count, extents[byStart[next]].start <= position {
                open.insert(byStart[next])
                next += 1
            }
            continue
        }
        // The newest is seen until it ends or another record begins.
        var end = extents[newest].end
        if next < byStart.count { end = min(end, extents[byStart[next]].start) }
        if end > position {
            if let last = parts.last, last.record == newest, last.extent.end == position {
                parts[parts.count - 1].extent.count += end - position
            } else {
                parts.append(
                    NewestPart(
                        record: newest, extent: Extent(start: position, count: end - position)))
            }
        }
        position = end
        while next < byStart.count, extents[byStart[next]].start <= position {
            open.insert(byStart[next])
            next += 1
        }
    }
    return parts.sorted {
        ($0.record, $0.extent.start) < ($1.record, $1.extent.start)
    }
}
