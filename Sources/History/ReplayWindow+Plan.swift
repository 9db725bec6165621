// What goes into one window of a replay, before there is memory for it. A window is planned while
// the one before is filled, so that stores far away can fetch ahead what will be read.

import BlockModel
import LogFormat

extension ReplayWindow {
    /// Runs, copies and reads of a window. A value.
    struct Plan {
        let view: PointInTimeView
        let runs: [Run]
        /// By source and block.
        let copies: [Copy]
        /// Each group is one read of neighbouring blocks.
        let groups: [Range<Int>]
        /// Memory that no copy fills.
        let uncovered: [Range<Int>]
        /// Memory that it needs.
        let byteCount: Int

        /// `copies` in the order of addresses.
        init(view: PointInTimeView, runs: [Run], copies: [Copy], byteCount: Int) {
            self.view = view
            self.runs = runs
            self.byteCount = byteCount
            uncovered = Self.uncovered(copies, runs)
            self.copies = copies.sorted { a, b in
                a.key == b.key ? a.streamOffset < b.streamOffset : a.key < b.key
            }
            groups = Self.groups(self.copies, view)
        }

        /// Says to the stores what filling the window will read, in the order of the groups.
        func expect() {
            var ranges: [SegmentRange] = []
            var current: UInt32?
            func flush() {
                guard let current, !ranges.isEmpty else { return }
                if case .segment(let reader) = view.sources[Int(current)] {
                    reader.expect(ranges)
                }
                ranges = []
            }
            for group in groups {
                let source = copies[group.lowerBound].source
                guard case .segment(let reader) = view.sources[Int(source)] else { continue }
                if source != current { flush() }
                current = source
                let first = reader.table[Int(copies[group.lowerBound].block)]
                let last = reader.table[Int(copies[group.upperBound - 1].block)]
                ranges.append(
                    SegmentRange(
                        name: reader.name, offset: first.storedOffset,
                        byteCount: last.storedOffset - first.storedOffset
                            + UInt64(last.storedBytes)))
            }
            flush()
        }

        /// Joins copies of one source whose blocks lie close together in the file. Of the tail of
        /// the log some records are a group, or all where only one pass is cheap.
        private static func groups(_ copies: [Copy], _ view: PointInTimeView) -> [Range<Int>] {
            var groups: [Range<Int>] = []
            var begin = 0
            var (firstOffset, lastEnd): (UInt64, UInt64) = (0, 0)
            for (i, copy) in copies.enumerated() {
                var isNear = i > begin && copies[begin].source == copy.source
                if case .segment(let reader) = view.sources[Int(copy.source)] {
                    let block = reader.table[Int(copy.block)]
                    let end = block.storedOffset + UInt64(block.storedBytes)
                    // Blocks of a group rise in the file.
                    isNear =
                        isNear && end - firstOffset <= UInt64(readBytesMax)
                        && block.storedOffset < lastEnd + (128 << 10)
                    if !isNear { firstOffset = block.storedOffset }
                    lastEnd = end
                } else if case .tail(_, let log) = view.sources[Int(copy.source)],
                    log.isRandomAccess
                {
                    isNear = isNear && i - begin < tailGroupMax
                }
                if !isNear, i > begin {
                    groups.append(begin..<i)
                    begin = i
                }
            }
            if begin < copies.count { groups.append(begin..<copies.count) }
            return groups
        }

        /// The parts of granules that no copy fills, which shall be zeros. Every granule of a run
        /// is touched by an extent, so these parts lie at the extents' ends. `copies` come in the
        /// order of addresses.
        private static func uncovered(_ copies: [Copy], _ runs: [Run]) -> [Range<Int>] {
            var found: [Range<Int>] = []
            var position = 0
            for copy in copies {
                if copy.target > position { found.append(position..<copy.target) }
                position = max(position, copy.target + copy.count)
            }
            let end = runs.last.map { $0.memoryOffset + $0.count } ?? 0
            if end > position { found.append(position..<end) }
            return found
        }
    }
}
