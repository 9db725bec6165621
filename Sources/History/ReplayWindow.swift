// One window of a replay: runs of addresses laid end to end in aligned memory, and the list of
// copies that fill it, ordered by source and block so that every block is decompressed once.

import BlockModel
import DiskIO
import LogFormat
import Synchronization

#if canImport(Glibc)
    import Glibc
#endif

/// Decides on windows. Immutable.
struct ReplayPlanner {
    let view: PointInTimeView
    /// Whether the last write may reach past the end of the volume, up to a whole granule.
    let padsEnd: Bool

    static let granule: UInt64 = 4096

    /// The smallest window, between the two sizes, with which few blocks are decompressed again;
    /// small windows let writing begin early and need less memory.
    func windowBytes(min: Int, max: Int) -> Int {
        var size = min
        var visits = blockVisits(windowBytes: .max)
        let once = visits
        while size < max {
            visits = blockVisits(windowBytes: size)
            if visits <= once + once / 4 { break }
            size *= 2
        }
        return Swift.min(size, max)
    }

    /// How often blocks would be decompressed in all.
    private func blockVisits(windowBytes: Int) -> Int {
        var lastWindow = view.sources.map { source -> [UInt32] in
            guard case .segment(let reader) = source else { return [] }
            return [UInt32](repeating: 0, count: reader.table.dataBlocks.count)
        }
        var (visits, filled): (Int, UInt64) = (0, 0)
        var window: UInt32 = 1
        for extent in view.extents {
            guard case .segment(let reader) = view.sources[extent.source] else { continue }
            let blockSectors = UInt64(reader.footer.header.blockBytes) >> Sector.shift
            let last = Int((extent.sector + extent.count - 1) / blockSectors)
            for block in Int(extent.sector / blockSectors)...last
            where lastWindow[extent.source][block] != window {
                lastWindow[extent.source][block] = window
                visits += 1
            }
            filled += extent.count << Sector.shift
            if filled >= UInt64(windowBytes) { (filled, window) = (0, window + 1) }
        }
        return visits
    }

    /// The windows in address order.
    func windows(of bytes: Int) -> ReplayWindows {
        ReplayWindows(planner: self, windowBytes: bytes)
    }
}

/// Makes one window after the other. One thread.
struct ReplayWindows {
    private let view: PointInTimeView
    private let windowBytes: Int
    /// No write reaches past this offset.
    private let endMax: UInt64
    private var index = 0
    /// Sectors of extent `index` that earlier windows took.
    private var taken: UInt64 = 0

    init(planner: ReplayPlanner, windowBytes: Int) {
        view = planner.view
        self.windowBytes = windowBytes & ~(Int(ReplayPlanner.granule) - 1)
        endMax =
            planner.padsEnd
            ? view.byteCount.roundedUp(to: ReplayPlanner.granule) : view.byteCount
    }

    /// What goes into the next window; nil at the end. Says to stores what will be read.
    mutating func next() -> ReplayWindow.Plan? {
        var runs: [ReplayWindow.Run] = []
        var copies: [ReplayWindow.Copy] = []
        var used = 0
        let granule = ReplayPlanner.granule
        while index < view.extents.count {
            var extent = view.extents[index]
            extent.dropFirst(taken)
            let start = extent.start << Sector.shift
            let runStart = start & ~(granule - 1)
            var runEnd: UInt64 = 0
            if let last = runs.last { runEnd = last.offset + UInt64(last.count) }
            if runs.isEmpty || runStart > runEnd {
                if windowBytes - used < Int(granule) { break }
                runs.append(.init(offset: runStart, memoryOffset: used, count: 0))
                runEnd = runStart
            }
            // A window ends on a granule, so no granule is written by two windows.
            let limit = runEnd + UInt64(windowBytes - used)
            if start >= limit { break }
            let end = min(extent.end << Sector.shift, limit)
            let newEnd = max(runEnd, min(end.roundedUp(to: granule), endMax))
            let run = runs[runs.count - 1]
            append(
                extent, bytes: end - start,
                at: run.memoryOffset + Int(start - run.offset), to: &copies)
            used += Int(newEnd - runEnd)
            runs[runs.count - 1].count += Int(newEnd - runEnd)
            if end == extent.end << Sector.shift {
                (index, taken) = (index + 1, 0)
            } else {
                taken += (end - start) >> Sector.shift
                break
            }
        }
        if runs.isEmpty { return nil }
        let plan = ReplayWindow.Plan(view: view, runs: runs, copies: copies, byteCount: used)
        plan.expect()
        return plan
    }

    /// The window itself, not yet filled. Uses memory of `recycling` if there is any.
    func window(
        _ plan: ReplayWindow.Plan, recycling spare: inout [AlignedBuffer]
    ) -> ReplayWindow {
        let used = plan.byteCount
        let buffer =
            spare.popLast().flatMap { $0.count >= used ? $0 : nil } ?? Self.memory(used)
        return ReplayWindow(plan, buffer: buffer)
    }

    /// Memory for a window. Huge pages where there are any: a hundred faults instead of many
    /// thousands, and fewer pages for the disk driver to pin.
    private static func memory(_ count: Int) -> AlignedBuffer {
        let buffer = AlignedBuffer(count: count)
        _ = madvise(buffer.base, buffer.count, Int32(MADV_HUGEPAGE))
        return buffer
    }

    /// One copy for each block that the first `bytes` of `extent` lie in.
    private func append(
        _ extent: ViewExtent, bytes: UInt64, at target: Int, to copies: inout [ReplayWindow.Copy]
    ) {
        let begin = extent.sector << Sector.shift
        // Records of the tail are read as they are, in one go.
        var blockBytes: UInt64 = 1 << 49
        if case .segment(let reader) = view.sources[extent.source] {
            blockBytes = UInt64(reader.footer.header.blockBytes)
        }
        var position = begin
        while position < begin + bytes {
            let block = position / blockBytes
            let count = min(begin + bytes, (block + 1) * blockBytes) - position
            copies.append(
                .init(
                    source: UInt32(extent.source), block: UInt32(block),
                    streamOffset: position, target: target + Int(position - begin),
                    count: Int(count)))
            position += count
        }
    }
}

/// A window. `fill` runs on several threads at once: each takes groups of copies that no other
/// takes, and the copies of a window never overlap.
final class ReplayWindow: @unchecked Sendable {
    // @unchecked: everything is constant but the window's memory (see above) and the atomic.
    /// Bytes to write at `offset`.
    struct Run {
        var offset: UInt64
        var memoryOffset: Int
        var count: Int
    }
    struct Copy {
        var source: UInt32
        var block: UInt32
        /// Byte in the source's data stream.
        var streamOffset: UInt64
        /// Byte in the window's memory.
        var target: Int
        var count: Int

        var key: UInt64 { UInt64(source) << 32 | UInt64(block) }
    }

    let runs: [Run]
    let buffer: AlignedBuffer
    private let view: PointInTimeView
    private let copies: [Copy]
    /// Of copies.
    private let groups: [Range<Int>]
    private let nextGroup = Atomic<Int>(0)
    /// Pieces of runs, in address order, each one write.
    let writes: [Run]
    private let nextWrite = Atomic<Int>(0)
    static let readBytesMax = 2 << 20
    static let tailGroupMax = 256
    private static let writeBytesMax = 4 << 20

    /// Where the last run ends.
    var end: UInt64 { runs.last.map { $0.offset + UInt64($0.count) } ?? 0 }

    init(_ plan: Plan, buffer: AlignedBuffer) {
        view = plan.view
        runs = plan.runs
        copies = plan.copies
        groups = plan.groups
        self.buffer = buffer
        for range in plan.uncovered {
            (buffer.base + range.lowerBound).initializeMemory(
                as: UInt8.self, repeating: 0, count: range.count)
        }
        writes = runs.flatMap { run in
            stride(from: 0, to: run.count, by: Self.writeBytesMax).map { start in
                Run(
                    offset: run.offset + UInt64(start), memoryOffset: run.memoryOffset + start,
                    count: min(Self.writeBytesMax, run.count - start))
            }
        }
    }

    /// Does what is left of the window's copies; called by every worker.
    func fill(_ job: ReplayJob) throws(HistoryError) {
        var scratch: RawMemory?
        var stored: RawMemory?
        while true {
            // Relaxed: the number alone says whose the group is; joining the threads publishes
            // what they wrote.
            let group = nextGroup.add(1, ordering: .relaxed).oldValue
            guard group < groups.count else { return }
            try job.check()
            let range = groups[group]
            switch view.sources[Int(copies[range.lowerBound].source)] {
            case .segment(let reader):
                try fill(range, reader, &scratch, &stored)
            case .tail, .unused:
                for copy in copies[range] { try fillFromTail(copy) }
            }
        }
    }

    /// Writes what no other writer of the window took.
    func write(to file: StorageFile, _ job: ReplayJob) throws(HistoryError) {
        while true {
            // Relaxed, as in `fill`.
            let i = nextWrite.add(1, ordering: .relaxed).oldValue
            guard i < writes.count else { return }
            try job.check()
            let piece = writes[i]
            let memory = piece.memoryOffset..<piece.memoryOffset + piece.count
            do throws(IOError) {
                try file.write(
                    UnsafeRawBufferPointer(rebasing: buffer.bytes[memory]), at: piece.offset)
            } catch { throw .output(error) }
            job.advance(by: piece.count)
        }
    }

    private func fillFromTail(_ copy: Copy) throws(HistoryError) {
        try view.sources[Int(copy.source)].read(
            into: target(copy), at: copy.streamOffset, source: Int(copy.source),
            cache: view.cache)
    }

    private func target(_ copy: Copy) -> UnsafeMutableRawBufferPointer {
        UnsafeMutableRawBufferPointer(
            rebasing: buffer.bytes[copy.target..<copy.target + copy.count])
    }

    /// Reads the blocks of a group at once and distributes them.
    private func fill(
        _ range: Range<Int>, _ reader: SegmentReader, _ scratch: inout RawMemory?,
        _ stored: inout RawMemory?
    ) throws(HistoryError) {
        let first = reader.table[Int(copies[range.lowerBound].block)]
        let last = reader.table[Int(copies[range.upperBound - 1].block)]
        let count = Int(last.storedOffset - first.storedOffset) + last.storedBytes
        let input = Self.room(count, &stored)
        try reader.readStored(into: input, at: first.storedOffset)
        var i = range.lowerBound
        while i < range.upperBound {
            let block = reader.table[Int(copies[i].block)]
            let from = Int(block.storedOffset - first.storedOffset)
            let bytes = UnsafeRawBufferPointer(rebasing: input[from..<from + block.storedBytes])
            if copies[i].count == block.byteCount {
                try reader.decode(block, bytes, into: target(copies[i]))
                i += 1
                continue
            }
            let plain = Self.room(block.byteCount, &scratch)
            try reader.decode(block, bytes, into: plain)
            let start = UInt64(block.number) * UInt64(reader.footer.header.blockBytes)
            while i < range.upperBound, Int(copies[i].block) == block.number {
                target(copies[i]).baseAddress!.copyMemory(
                    from: plain.baseAddress! + Int(copies[i].streamOffset - start),
                    byteCount: copies[i].count)
                i += 1
            }
        }
    }

    private static func room(
        _ count: Int, _ memory: inout RawMemory?
    ) -> UnsafeMutableRawBufferPointer {
        if let memory, memory.count >= count {
            return UnsafeMutableRawBufferPointer(rebasing: memory.bytes[..<count])
        }
        let new = RawMemory(count: max(count, readBytesMax))
        memory = new
        return UnsafeMutableRawBufferPointer(rebasing: new.bytes[..<count])
    }
}
