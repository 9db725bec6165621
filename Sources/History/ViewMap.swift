// Newest-wins map of a volume at one point: which bytes of which segment are at which address.
// Built bottom up with one operation, `overlay`: two sorted, disjoint lists, the newer on top of
// the older, in one pass. Entries of a segment are laid over each other pairwise like a merge
// sort, segments likewise; so n records cost n log n steps whatever they overwrite.
//
// n intervals have at most 2n - 1 disjoint visible pieces: that bounds every buffer here.

import BlockModel
import LogFormat

/// A run of sectors and where its bytes are: 24 bytes of memory.
package struct ViewExtent: Equatable {
    package var start: UInt64
    package var count: UInt64
    /// Source in the upper 24 bits, sector in the source's data stream in the lower 40.
    package var location: UInt64

    package static let zeros = UInt64.max
    static let sourcesMax = (1 << 24) - 1

    package init(start: UInt64, count: UInt64, location: UInt64) {
        self.start = start
        self.count = count
        self.location = location
    }

    package static func location(source: Int, sector: UInt64) -> UInt64 {
        UInt64(source) << 40 | sector
    }

    var end: UInt64 { start + count }
    var isZeros: Bool { location == Self.zeros }
    var source: Int { Int(location >> 40) }
    /// Sector in the source's data stream.
    var sector: UInt64 { location & (1 << 40 - 1) }

    @inline(__always)
    mutating func dropFirst(_ sectors: UInt64) {
        start += sectors
        count -= sectors
        if !isZeros { location += sectors }
    }

    /// Whether `next` goes on where this ends, in address and place.
    @inline(__always)
    func continues(in next: ViewExtent) -> Bool {
        end == next.start
            && (isZeros ? next.isZeros : !next.isZeros && location + count == next.location)
    }
}

/// Lays lists over each other. Not for several threads.
package struct ViewMapBuilder {
    /// Oldest first; sizes fall at least by half from each to the next.
    private var layers: [[ViewExtent]] = []

    package init() {}

    /// Puts a sorted, disjoint list on top of everything so far.
    package mutating func add(_ layer: [ViewExtent]) {
        if layer.isEmpty { return }
        layers.append(layer)
        while layers.count > 1, layers[layers.count - 2].count < 2 * layers[layers.count - 1].count
        {
            mergeTopTwo()
        }
    }

    /// The sector-changing records of `entries` with LSNs above `after`, up to `through`, laid over
    /// each other in their order: a sorted, disjoint list.
    package static func layer(
        _ entries: [SegmentEntry], source: Int, after: LSN, through: LSN
    ) -> [ViewExtent] {
        let low = entries.partitioningIndex { $0.stamp.lsn > after }
        let high = entries.partitioningIndex { $0.stamp.lsn > through }
        guard low < high else { return [] }
        var list: [ViewExtent] = []
        list.reserveCapacity(high - low)
        /// Where each ascending run of `list` begins.
        var runs: [Int] = []
        for entry in entries[low..<high] where entry.kind.changesSectors {
            let extent = ViewExtent(
                start: entry.extent.start, count: entry.extent.count,
                location: entry.kind == .write
                    ? ViewExtent.location(
                        source: source, sector: entry.payloadOffset >> Sector.shift)
                    : ViewExtent.zeros)
            if let last = list.last, last.end <= extent.start {
                if last.continues(in: extent) {
                    list[list.count - 1].count += extent.count
                    continue
                }
            } else {
                runs.append(list.count)
            }
            list.append(extent)
        }
        return overlaid(list, runs: runs)
    }

    /// The whole map, zeros left out.
    package mutating func finish() -> [ViewExtent] {
        while layers.count > 1 { mergeTopTwo() }
        let all = layers.popLast() ?? []
        return all.contains { $0.isZeros } ? all.filter { !$0.isZeros } : all
    }

    private mutating func mergeTopTwo() {
        let newer = layers.removeLast()
        let older = layers.removeLast()
        let merged = [ViewExtent](
            unsafeUninitializedCapacity: older.count + 2 * newer.count
        ) { target, count in
            count = older.withUnsafeBufferPointer { older in
                newer.withUnsafeBufferPointer { newer in
                    overlay(newer, on: older, into: target.baseAddress!)
                }
            }
        }
        layers.append(merged)
    }

    /// Lays the ascending runs of `list` over each other, later ones on top.
    private static func overlaid(_ list: [ViewExtent], runs: [Int]) -> [ViewExtent] {
        if runs.count <= 1 { return list }
        // Two buffers in turn. No pass can need more than 2n pieces (see the head of the file).
        let capacity = 2 * list.count
        var (from, to) = (
            UnsafeMutablePointer<ViewExtent>.allocate(capacity: capacity),
            UnsafeMutablePointer<ViewExtent>.allocate(capacity: capacity)
        )
        defer {
            from.deallocate()
            to.deallocate()
        }
        list.withUnsafeBufferPointer {
            from.initialize(from: $0.baseAddress!, count: $0.count)
        }
        var bounds = runs + [list.count]
        while bounds.count > 2 {
            var next = [0]
            next.reserveCapacity(bounds.count / 2 + 2)
            var i = 0
            while i + 1 < bounds.count {
                let older = UnsafeBufferPointer(
                    start: from + bounds[i], count: bounds[i + 1] - bounds[i])
                let end = next[next.count - 1]
                if i + 2 < bounds.count {
                    let newer = UnsafeBufferPointer(
                        start: from + bounds[i + 1], count: bounds[i + 2] - bounds[i + 1])
                    next.append(end + overlay(newer, on: older, into: to + end))
                } else {
                    (to + end).initialize(from: older.baseAddress!, count: older.count)
                    next.append(end + older.count)
                }
                i += 2
            }
            bounds = next
            swap(&from, &to)
        }
        return Array(UnsafeBufferPointer(start: from, count: bounds[1]))
    }
}

/// Writes `newer` laid over `older` to `target`, which has room for all of older and twice newer;
/// returns how many extents that are. Both lists are sorted and disjoint, and so is the result.
private func overlay(
    _ newer: UnsafeBufferPointer<ViewExtent>, on older: UnsafeBufferPointer<ViewExtent>,
    into target: UnsafeMutablePointer<ViewExtent>
) -> Int {
    var count = 0
    @inline(__always)
    func emit(_ extent: ViewExtent) {
        if count > 0, target[count - 1].continues(in: extent) {
            target[count - 1].count += extent.count
        } else {
            (target + count).initialize(to: extent)
            count += 1
        }
    }
    var i = 0
    var below = older.isEmpty ? ViewExtent(start: 0, count: 0, location: 0) : older[0]
    @inline(__always)
    func advance() {
        i += 1
        if i < older.count { below = older[i] }
    }
    for above in newer {
        while i < older.count, below.end <= above.start {
            emit(below)
            advance()
        }
        if i < older.count, below.start < above.start {
            var head = below
            head.count = above.start - below.start
            emit(head)
            below.dropFirst(head.count)
        }
        emit(above)
        while i < older.count, below.end <= above.end { advance() }
        if i < older.count, below.start < above.end { below.dropFirst(above.end - below.start) }
    }
    while i < older.count {
        emit(below)
        advance()
    }
    return count
}
