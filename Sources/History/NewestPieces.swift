// Which sectors of many records are still visible after the last of them: the newest-wins rule of
// a merge, from extents alone. One pass over the addresses: at each place the newest of the
// records that reach over it wins. n records have at most 2n - 1 visible pieces; 16 bytes of memory
// a record and 24 a piece.

import BlockModel

/// A part of a record's extent that no later record covers.
struct VisiblePiece: Equatable {
    /// Place of the record among all.
    var record: UInt32
    var extent: Extent
}

/// `extents` in the order of the records, empty ones for those that change no sectors. The pieces
/// come in the order of the records, those of one record in address order.
func newestPieces(_ extents: [Extent]) -> [VisiblePiece] {
    precondition(extents.count < UInt32.max)
    let order = extents.indices.filter { !extents[$0].isEmpty }.map { UInt32($0) }
        .sorted { extents[Int($0)].start < extents[Int($1)].start }
    var pieces: [VisiblePiece] = []
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
        if let last = pieces.last, last.record == top, last.extent.end == position {
            pieces[pieces.count - 1].extent.count += end - position
        } else {
            pieces.append(
                VisiblePiece(
                    record: top, extent: Extent(start: position, count: end - position)))
        }
        position = end
    }
    pieces.sort { ($0.record, $0.extent.start) < ($1.record, $1.extent.start) }
    return pieces
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
