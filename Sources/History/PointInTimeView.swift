// A volume as it was after one LSN, served without writing it out. Built from the nearest earlier
// snapshot and the records after it, from indexes alone; data is read, decompressed and checked
// when it is asked for. Memory: 24 bytes an extent, 16 bytes a block of the segments in use, and a
// cache of blocks of bounded size, however long the history.

import BlockModel
import LogFormat
import Synchronization

#if canImport(Glibc)
    import Glibc
#endif

/// An immutable picture of a volume. Any thread may call.
public final class PointInTimeView: SnapshotSource, Sendable {
    /// The LSN whose state this is.
    public let lsn: LSN
    /// Size of the volume in bytes.
    public let byteCount: UInt64
    /// The snapshot that it stands on.
    public let snapshot: SegmentName
    let extents: [ViewExtent]
    let sources: [ViewSource]
    let cache: BlockCache
    /// Bytes of blocks kept for the next read.
    public static let cacheBytesDefault = 128 << 20

    /// Plans and builds. `snapshot` pins the snapshot to stand on; nil takes the nearest one from
    /// which a chain of segments leads to `lsn`. Throws `.notRestorable` where none does.
    public init(
        _ catalogue: HistoryCatalogue, at lsn: LSN, snapshot: LSN? = nil,
        cacheBytesMax: Int = PointInTimeView.cacheBytesDefault
    ) throws(HistoryError) {
        let built = try catalogue.tolerating { history throws(HistoryError) in
            try Self.build(history, try history.plan(to: lsn, snapshot: snapshot))
        }
        self.lsn = lsn
        byteCount = built.plan.snapshot.footer.header.volumeBytes
        self.snapshot = built.plan.snapshot.name
        extents = built.extents
        sources = built.sources
        cache = BlockCache(bytesMax: cacheBytesMax)
    }

    /// The segments it reads; they must stay while it is used.
    public var segments: Set<SegmentName> {
        var names: Set<SegmentName> = [snapshot]
        for case .segment(let reader) in sources { names.insert(reader.name) }
        return names
    }
    /// Bytes that are not known to be zero.
    public var dataBytes: UInt64 { extents.reduce(0) { $0 + $1.count } << Sector.shift }
    public var extentCount: Int { extents.count }

    /// Fills `target` with the bytes at `offset`; the range lies inside the volume, aligned or not.
    public func read(
        into target: UnsafeMutableRawBufferPointer, at offset: UInt64
    ) throws(HistoryError) {
        guard let base = target.baseAddress, target.count > 0 else { return }
        let end = offset + UInt64(target.count)
        precondition(end <= byteCount)
        var position = offset
        var i = extents.partitioningIndex { $0.end << Sector.shift > offset }
        while position < end {
            let start = i < extents.count ? extents[i].start << Sector.shift : end
            if start > position {
                let zeros = Int(min(start, end) - position)
                (base + Int(position - offset)).initializeMemory(
                    as: UInt8.self, repeating: 0, count: zeros)
                position += UInt64(zeros)
                continue
            }
            let extent = extents[i]
            let count = Int(min(extent.end << Sector.shift, end) - position)
            try sources[extent.source].read(
                into: UnsafeMutableRawBufferPointer(
                    start: base + Int(position - offset), count: count),
                at: extent.sector << Sector.shift + (position - start), source: extent.source,
                cache: cache)
            position += UInt64(count)
            i += 1
        }
    }

    /// The first byte at or after `offset` that may be other than zero; .max where there is none.
    func dataStart(from offset: UInt64) -> UInt64 {
        let i = extents.partitioningIndex { $0.end << Sector.shift > offset }
        return i < extents.count ? max(offset, extents[i].start << Sector.shift) : .max
    }

    public func nextData(from offset: UInt64) -> Range<UInt64>? {
        let i = extents.partitioningIndex { $0.end << Sector.shift > offset }
        guard i < extents.count else { return nil }
        var end = extents[i].end
        for extent in extents[(i + 1)...] {
            guard extent.start == end else { break }
            end = extent.end
        }
        return max(offset, extents[i].start << Sector.shift)..<end << Sector.shift
    }

    // MARK: - Building

    private struct Built {
        var plan: ViewPlan
        var extents: [ViewExtent]
        var sources: [ViewSource]
    }

    private static func build(
        _ history: HistoryCatalogue, _ plan: ViewPlan
    ) throws(HistoryError) -> Built {
        var builder = ViewMapBuilder()
        let batch = HistoryCatalogue.indexesAhead
        history.store.expect([plan.snapshot.indexRange])
        history.expectIndexes(of: plan.runs.prefix(2 * batch))
        var (sources, extents) = try base(of: plan, history)
        builder.add(extents)
        extents = []
        let first = sources.count
        precondition(first + plan.runs.count <= ViewExtent.sourcesMax)
        // Indexes are read and laid out by several threads, some at a time to bound the memory.
        for start in stride(from: 0, to: plan.runs.count, by: batch) {
            if start > 0 {
                history.expectIndexes(of: plan.runs.dropFirst(start + batch).prefix(batch))
            }
            let runs = Array(plan.runs[start..<min(start + batch, plan.runs.count)])
            let layers = Mutex([Layer?](repeating: nil, count: runs.count))
            let failure = Mutex<HistoryError?>(nil)
            let next = Atomic<Int>(0)
            let threads = min(runs.count, max(2, sysconf(Int32(_SC_NPROCESSORS_ONLN))))
            runInParallel(threads) { _ in
                while true {
                    // Relaxed: the number alone decides; the lock and the join order the rest.
                    let i = next.add(1, ordering: .relaxed).oldValue
                    guard i < runs.count else { return }
                    do throws(HistoryError) {
                        let layer = try Self.layer(
                            of: runs[i], source: first + start + i, history, plan)
                        layers.withLock { $0[i] = layer }
                    } catch {
                        failure.withLock { $0 = $0 ?? error }
                        return
                    }
                }
            }
            if let error = failure.withLock({ $0 }) { throw error }
            for layer in layers.withLock({ $0 }) {
                sources.append(layer?.source ?? .unused)
                builder.add(layer?.extents ?? [])
            }
        }
        extents = builder.finish()
        // Segments of which nothing is visible any more need no block table.
        var isUsed = [Bool](repeating: false, count: sources.count)
        for extent in extents { isUsed[extent.source] = true }
        for i in sources.indices where !isUsed[i] { sources[i] = .unused }
        return Built(plan: plan, extents: extents, sources: sources)
    }

    /// What lies below all records: the snapshot, or what that of a branch stands for.
    private static func base(
        of plan: ViewPlan, _ history: HistoryCatalogue
    ) throws(HistoryError) -> ([ViewSource], [ViewExtent]) {
        if let below = history.base, plan.snapshot.first.lsn == .zero {
            return (below.sources, below.extents)
        }
        let snapshot = try SegmentReader(
            plan.snapshot.name, footer: plan.snapshot.footer, in: history.store)
        let extents = try snapshot.snapshotIndex().extents.map {
            ViewExtent(
                start: $0.extent.start, count: $0.extent.count,
                location: ViewExtent.location(source: 0, sector: $0.dataOffset >> Sector.shift))
        }
        return ([.segment(snapshot)], extents)
    }

    private struct Layer: Sendable {
        var source: ViewSource
        var extents: [ViewExtent]
    }

    /// What one run of records lays over what was there before.
    private static func layer(
        of run: RecordRun, source number: Int, _ history: HistoryCatalogue, _ plan: ViewPlan
    ) throws(HistoryError) -> Layer {
        let source: ViewSource
        let index: RecordIndex
        switch run.origin {
        case .segment(let segment):
            let reader = try SegmentReader(
                segment.name, footer: segment.footer, in: history.store)
            (source, index) = (.segment(reader), try reader.recordIndex())
        case .tail:
            guard let tail = history.tail, let log = history.tailLog else {
                preconditionFailure("a run of the tail without a tail")
            }
            (source, index) = (.tail(tail, log), tail.index)
        }
        return Layer(
            source: source,
            extents: ViewMapBuilder.layer(
                index.entries, source: number, after: plan.snapshot.last.lsn,
                through: plan.target))
    }
}

/// What a view is built from.
struct ViewPlan {
    var target: LSN
    var snapshot: CataloguedSegment
    /// In LSN order; the first may begin at or before the snapshot.
    var runs: [RecordRun]
}

extension HistoryCatalogue {
    /// The newest snapshot at or before `target` from which an unbroken chain leads to it.
    func plan(to target: LSN, snapshot pinned: LSN?) throws(HistoryError) -> ViewPlan {
        for snapshot in snapshots.reversed() where snapshot.first.lsn <= target {
            if let pinned, snapshot.first.lsn != pinned { continue }
            if let runs = chain(from: snapshot.first, to: target) {
                return ViewPlan(target: target, snapshot: snapshot, runs: runs)
            }
        }
        // Say why, in the words of `resolve`; what it finds restorable fails for the pin alone.
        _ = try resolve(.lsn(target), now: .max)
        throw .notRestorable(
            NotRestorable(target: .lsn(target), reason: .noSuchSnapshot(pinned ?? target)))
    }

    /// The runs that lead from the state at `start` to that at `target`, the first of which may
    /// begin before; nil where there is no unbroken chain.
    func chain(from start: Stamp, to target: LSN) -> [RecordRun]? {
        var position = start
        var runs: [RecordRun] = []
        while position.lsn < target {
            guard let run = timeline.next(after: position, previous: runs.last),
                !run.isMerged || run.last.lsn <= target
            else { return nil }
            runs.append(run)
            position = run.last
        }
        return runs
    }
}
