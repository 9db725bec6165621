// What history there is: all segments of a store, known by their tails, and the records that are
// not in segments yet. It finds which LSNs can be restored and which segments a point needs. What
// is damaged, missing or of another volume becomes a gap with its reason, never a failure.
//
// Immutable once made (the indexes it reads are cached inside): make a new one to see what came
// since. Any thread may call.

import BlockModel
import LogFormat
import Synchronization

/// A usable segment.
public struct CataloguedSegment: Hashable, Sendable {
    public var name: SegmentName
    public var footer: SegmentFooter

    public init(name: SegmentName, footer: SegmentFooter) {
        self.name = name
        self.footer = footer
    }

    public var first: Stamp { footer.header.first }
    public var last: Stamp { footer.last }
    /// Index, block table and footer.
    var indexRange: SegmentRange {
        SegmentRange(
            name: name, offset: footer.indexOffset,
            byteCount: footer.fileBytes - footer.indexOffset)
    }
}

extension StoredSegment {
    /// nil where it is too short to have one.
    fileprivate var footerRange: SegmentRange? {
        let size = UInt64(SegmentFormat.footerBytes)
        guard byteCount >= SegmentFormat.fileBytesMin else { return nil }
        return SegmentRange(name: name, offset: byteCount - size, byteCount: size)
    }
}

/// A segment that cannot be used.
public struct UnusableSegment: Hashable, Sendable {
    public var name: SegmentName
    public var byteCount: UInt64
    public var reason: HistoryGap.Reason
}

/// The history of one volume in one store.
public final class HistoryCatalogue: Sendable {
    public let store: any SegmentStore
    /// Log and merged segments, in LSN order.
    public let records: [CataloguedSegment]
    /// In LSN order.
    public let snapshots: [CataloguedSegment]
    public let unusable: [UnusableSegment]
    /// The volume that the segments belong to; nil where there is none.
    public let volume: VolumeID?
    public let volumeBytes: UInt64
    /// LSNs that can be restored, in order.
    public let ranges: [RestorableRange]
    /// LSNs that cannot, between the least and greatest that are known of, in order.
    public let gaps: [HistoryGap]

    /// Of a branch: what its snapshot at LSN 0, which is empty, stands for.
    let base: PointInTimeView?
    let tailLog: (any TailLog)?
    let tail: TailIndex?
    let timeline: Timeline
    private let cache = Mutex<[(name: SegmentName, index: RecordIndex)]>([])
    private static let cachedIndexesMax = 2

    /// Reads every tail in `store`. `volume` decides which segments count; without it the volume of
    /// the first usable segment does. `base` is the state below a branch's snapshot at LSN 0.
    /// A segment that is sealed with another key cannot be used; where that is so of all, the key
    /// is the wrong one. Throws only then, and when the store cannot be listed or reached.
    public convenience init(
        store: any SegmentStore, volume: VolumeID? = nil, tail tailLog: (any TailLog)? = nil,
        base: PointInTimeView? = nil
    ) throws(HistoryError) {
        let stored: [StoredSegment]
        do throws(StoreError) { stored = try store.list() } catch { throw .store(error) }
        store.expect(stored.compactMap(\.footerRange))
        var (records, snapshots): ([CataloguedSegment], [CataloguedSegment]) = ([], [])
        var unusable: [UnusableSegment] = []
        var owner = volume
        var size: UInt64?
        var wrongKey: StoreError?
        for segment in stored {
            switch try Self.look(at: segment, in: store, owner: &owner, size: &size) {
            case .success(let found):
                if found.name.kind == .snapshot {
                    snapshots.append(found)
                } else {
                    records.append(found)
                }
            case .failure(let found):
                if case .unreadable(_, let failure) = found.reason, failure.isOfOtherKey {
                    wrongKey = wrongKey ?? failure
                }
                unusable.append(found)
            case nil: continue
            }
        }
        if let wrongKey, records.isEmpty, snapshots.isEmpty { throw .store(wrongKey) }
        self.init(
            store: store, volume: owner, records: records, snapshots: snapshots,
            unusable: unusable, base: base, tailLog: tailLog,
            tail: tailLog.map {
                TailIndex(
                    $0,
                    after: records.map(\.last.lsn).max() ?? snapshots.first?.first.lsn ?? .zero)
            })
    }

    private init(
        store: any SegmentStore, volume: VolumeID?, records: [CataloguedSegment],
        snapshots: [CataloguedSegment], unusable: [UnusableSegment], base: PointInTimeView?,
        tailLog: (any TailLog)?, tail: TailIndex?
    ) {
        self.store = store
        self.volume = volume
        self.records = records
        self.snapshots = snapshots
        self.unusable = unusable
        self.base = base
        self.tailLog = tailLog
        self.tail = tail
        let newest = (records + snapshots).max { $0.name.last < $1.name.last }
        volumeBytes = newest?.footer.header.volumeBytes ?? 0
        timeline = Timeline(
            records: records, snapshots: snapshots, unusable: unusable, tail: tail)
        (ranges, gaps) = timeline.restorable()
    }

    /// The same history, known to be without `name`: its index turned out to be damaged.
    func without(_ name: SegmentName, _ reason: HistoryGap.Reason) -> HistoryCatalogue {
        let bytes = (records + snapshots).first { $0.name == name }?.footer.fileBytes ?? 0
        return HistoryCatalogue(
            store: store, volume: volume, records: records.filter { $0.name != name },
            snapshots: snapshots.filter { $0.name != name },
            unusable: unusable + [
                UnusableSegment(name: name, byteCount: bytes, reason: reason)
            ], base: base, tailLog: tailLog, tail: tail)
    }

    /// Runs `body` on this history; where an index turns out to be damaged, on what remains
    /// without that segment.
    func tolerating<T>(
        _ body: (HistoryCatalogue) throws(HistoryError) -> T
    ) throws(HistoryError) -> T {
        var history = self
        while true {
            do throws(HistoryError) {
                return try body(history)
            } catch {
                guard case .damaged(let name, let why) = error,
                    (history.records + history.snapshots).contains(where: { $0.name == name })
                else { throw error }
                history = history.without(name, .damaged(name, why))
            }
        }
    }

    /// The greatest LSN in the records or snapshots, with its time; nil for an empty history.
    public var last: Stamp? {
        [records.map(\.last).max(), snapshots.last?.last, tail?.last].compactMap { $0 }.max()
    }

    private enum Look { case success(CataloguedSegment), failure(UnusableSegment) }

    /// Reads one footer; nil where the segment went away meanwhile.
    private static func look(
        at segment: StoredSegment, in store: any SegmentStore, owner: inout VolumeID?,
        size: inout UInt64?
    ) throws(HistoryError) -> Look? {
        func no(_ reason: HistoryGap.Reason) -> Look {
            .failure(
                UnusableSegment(
                    name: segment.name, byteCount: segment.byteCount, reason: reason))
        }
        let footer: SegmentFooter
        do throws(HistoryError) {
            footer = try SegmentReader.footer(of: segment, in: store)
        } catch {
            switch error {
            case .damaged(let name, let why): return no(.damaged(name, why))
            case .store(let failure) where failure.cause == .missing: return nil
            case .store(let failure):
                guard failure.isOfOneSegment else { throw error }
                return no(.unreadable(segment.name, failure))
            default: throw error
            }
        }
        let name = segment.name
        guard footer.header.kind == name.kind, footer.header.first.lsn == name.first,
            footer.last.lsn == name.last
        else { return no(.misnamed(name)) }
        if owner == nil { owner = footer.header.volume }
        guard footer.header.volume == owner else {
            return no(.foreignVolume(name, footer.header.volume))
        }
        if size == nil { size = footer.header.volumeBytes }
        guard footer.header.volumeBytes == size else {
            return no(.otherSize(name, footer.header.volumeBytes))
        }
        return .success(CataloguedSegment(name: name, footer: footer))
    }

    /// How many indexes are fetched ahead of the one that is needed, where the store is far away.
    static let indexesAhead = 8

    /// Says to the store that the indexes of some runs will be read soon, in this order.
    func expectIndexes(of runs: some Sequence<RecordRun>) {
        store.expect(
            runs.compactMap { run in
                guard case .segment(let segment) = run.origin else { return nil }
                return segment.indexRange
            })
    }

    /// Gives runs in their order, and the store time to fetch what is read of them.
    func expecting<Runs: Collection<RecordRun>>(
        _ runs: Runs
    ) -> some Sequence<RecordRun> {
        let ahead = Self.indexesAhead
        return runs.enumerated().lazy.map { [self] (i, run) in
            if i % ahead == 0 {
                expectIndexes(
                    of: runs.dropFirst(i == 0 ? 0 : i + ahead).prefix(i == 0 ? 2 * ahead : ahead))
            }
            return run
        }
    }

    /// The index of a run of records.
    func index(of run: RecordRun) throws(HistoryError) -> RecordIndex {
        switch run.origin {
        case .segment(let segment): try index(of: segment)
        case .tail: tail?.index ?? RecordIndex(entries: [], names: [])
        }
    }

    /// The index of a log or merged segment; recently used ones are kept.
    func index(of segment: CataloguedSegment) throws(HistoryError) -> RecordIndex {
        let known = cache.withLock { $0.first { $0.name == segment.name }?.index }
        if let known { return known }
        let index = try SegmentReader(segment.name, footer: segment.footer, in: store)
            .recordIndex()
        cache.withLock { cache in
            if cache.count >= Self.cachedIndexesMax { cache.removeFirst() }
            cache.append((segment.name, index))
        }
        return index
    }
}
