// Which parts of a sequence of records are still seen after all of them: the newest record that
// touches a sector has it. One pass over the addresses: at each place the newest of the records
// that reach over it wins. n records take n log n steps, however large their extents are, and have
// at most 2n - 1 parts; 16 bytes of memory a record and 24 a part.

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

/// What of `extents`, in the order of their records and empty for those that change no sectors, is
/// seen at the end; by record, then by address.
package func newestParts(_ extents: [Extent]) -> [NewestPart] {
    precondition(extents.count < UInt32.max)
    let order = extents.indices.filter { !extents[$0].isEmpty }.map { UInt32($0) }
        .sorted { extents[Int($0)].start < extents[Int($1)].start }
    var parts: [NewestPart] = []
    var open = NewestFirstHeap()
    var next = 0
    var position: UInt64 = 0
    while true {
        while let top = open.newest, extents[Int(top)].end <= position { open.removeNewest() }
        if open.newest == nil {
            guard next < order.count else { break }
            position = extents[Int(order[next])].start
        }
        while next < order.count, extents[Int(order[next])].start == position {
            open.insert(order[next])
            next += 1
        }
        guard let top = open.newest else { break }
        var end = extents[Int(top)].end
        if next < order.count { end = min(end, extents[Int(order[next])].start) }
        if let last = parts.last, last.record == Int(top), last.extent.end == position {
            parts[parts.count - 1].extent.count += end - position
        } else {
            parts.append(
                NewestPart(
                    record: Int(top), extent: Extent(start: position, count: end - position)))
        }
        position = end
    }
    parts.sort { ($0.record, $0.extent.start) < ($1.record, $1.extent.start) }
    return parts
}

/// A binary heap whose first element is the greatest.
private struct NewestFirstHeap {
    private var items: [UInt32] = []

    var newest: UInt32? { items.first }

    mutating func insert(_ item: UInt32) {
        items.append(item)
        var i = items.count - 1
        while i > 0, items[(i - 1) / 2] < items[i] {
            items.swapAt(i, (i - 1) / 2)
            i = (i - 1) / 2
        }
    }

    mutating func removeNewest() {
        items.swapAt(0, items.count - 1)
        items.removeLast()
        var i = 0
        while true {
            var greatest = i
            for child in [2 * i + 1, 2 * i + 2]
            where child < items.count && items[child] > items[greatest] {
                greatest = child
            }
            if greatest == i { return }
            items.swapAt(i, greatest)
            i = greatest
        }
    }
}
