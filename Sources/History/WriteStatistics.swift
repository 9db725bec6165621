// What was written when and where: counts over time in buckets, and the regions that were
// overwritten most. One pass over indexes in LSN order; memory is bounded whatever the volume's
// size and the length of its history:
//   buckets   at most as many as the scale has
//   bitmap    one bit a granule says whether it was written before; 16 MiB at the most, so the
//             granule is a sector up to 64 GiB and grows with the volume beyond
//   regions   1 MiB each, at most 131072 in memory; when there are more, the half that was
//             overwritten least is forgotten, and the list says that it is approximate

import BlockModel
import LogFormat

/// Equal spans of wall time, aligned to round times.
public struct TimeScale: Hashable, Sendable {
    /// Where the first bucket begins, nanoseconds since 1970-01-01 UTC.
    public let start: Int64
    public let widthNanoseconds: Int64
    public let count: Int

    private static let second: Int64 = 1_000_000_000
    private static let widths: [Int64] =
        [1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000]
        + [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800].map { $0 * second }
        + [1, 2, 3, 6, 12, 24, 48, 168, 336, 672, 1344, 2688, 5376].map { $0 * 3600 * second }

    /// The finest scale that covers `first ... last` with at most `bucketsMax` buckets.
    public init(first: Int64, last: Int64, bucketsMax: Int) {
        precondition(bucketsMax > 0)
        // Clocks say nothing before 1970 nor after 2116; what does is put at these ends, so that no
        // sum below overflows.
        let bound: Int64 = 1 << 62
        let first = min(max(first, 0), bound)
        let last = min(max(first, last), bound)
        var width = Self.widths[0]
        var i = 0
        while Self.buckets(first, last, width) > bucketsMax {
            i += 1
            width = i < Self.widths.count ? Self.widths[i] : width * 2
        }
        start = Self.floor(first, width)
        widthNanoseconds = width
        count = Self.buckets(first, last, width)
    }

    /// The bucket of a time; times outside belong to the first or last one.
    public func bucket(of wall: Int64) -> Int {
        if wall <= start { return 0 }
        let (distance, overflow) = wall.subtractingReportingOverflow(start)
        return overflow ? count - 1 : min(Int(distance / widthNanoseconds), count - 1)
    }

    public func start(of bucket: Int) -> Int64 { start + Int64(bucket) * widthNanoseconds }

    private static func floor(_ wall: Int64, _ width: Int64) -> Int64 { wall - wall % width }

    private static func buckets(_ first: Int64, _ last: Int64, _ width: Int64) -> Int {
        Int((last - floor(first, width)) / width) + 1
    }
}

/// Counts of records.
public struct WriteCounts: Hashable, Sendable {
    public var writes: UInt64 = 0
    public var writtenBytes: UInt64 = 0
    /// Writes that hit something which an earlier write of the same range of time had written.
    public var overwrites: UInt64 = 0
    public var overwrittenBytes: UInt64 = 0
    /// Zeroing and discarding, with the bytes they are about.
    public var discards: UInt64 = 0
    public var discardedBytes: UInt64 = 0
    public var flushes: UInt64 = 0
    public var marks: UInt64 = 0

    public init() {}

    public static func += (a: inout WriteCounts, b: WriteCounts) {
        a.writes += b.writes
        a.writtenBytes += b.writtenBytes
        a.overwrites += b.overwrites
        a.overwrittenBytes += b.overwrittenBytes
        a.discards += b.discards
        a.discardedBytes += b.discardedBytes
        a.flushes += b.flushes
        a.marks += b.marks
    }
}

/// A region of the volume with what was written to it.
public struct HotRegion: Hashable, Sendable {
    public var offset: UInt64
    /// At most `WriteStatistics.regionBytes`; less at the end of the volume.
    public var byteCount: UInt64
    public var writes: UInt64
    public var writtenBytes: UInt64
    public var overwrites: UInt64
    public var overwrittenBytes: UInt64
}

/// The statistics. A value; add records in LSN order.
public struct WriteStatistics: Sendable {
    public static let regionBytes: UInt64 = 1 << 20
    static let regionsMax = 131_072
    private static let granulesMax: UInt64 = 1 << 27

    private struct Region {
        var writes: UInt64 = 0
        var writtenBytes: UInt64 = 0
        var overwrites: UInt64 = 0
        var overwrittenBytes: UInt64 = 0
    }

    public let volumeBytes: UInt64
    public let scale: TimeScale
    public private(set) var buckets: [WriteCounts]
    public private(set) var total = WriteCounts()
    /// Whether regions were forgotten: then the hottest ones may have been more than is said.
    public private(set) var isApproximate = false
    /// log2 of the bytes of a granule.
    private let granuleShift: UInt64
    private var isWritten: [UInt64]
    private var regions: [UInt64: Region] = [:]

    public init(volumeBytes: UInt64, scale: TimeScale) {
        self.volumeBytes = volumeBytes
        self.scale = scale
        buckets = Array(repeating: WriteCounts(), count: scale.count)
        var shift = Sector.shift
        while (volumeBytes - 1) >> shift >= Self.granulesMax { shift += 1 }
        granuleShift = shift
        let granules = volumeBytes == 0 ? 0 : (volumeBytes - 1) >> shift + 1
        isWritten = Array(repeating: 0, count: Int((granules + 63) / 64))
    }

    public mutating func add(_ entry: SegmentEntry) {
        var counts = WriteCounts()
        switch entry.kind {
        case .write:
            counts.writes = 1
            counts.writtenBytes = entry.extent.byteCount
            counts.overwrittenBytes = write(entry.extent)
            counts.overwrites = counts.overwrittenBytes > 0 ? 1 : 0
        case .zero, .discard:
            counts.discards = 1
            counts.discardedBytes = entry.extent.byteCount
        case .flush: counts.flushes = 1
        case .mark: counts.marks = 1
        case .pad: return
        }
        total += counts
        buckets[scale.bucket(of: entry.stamp.wallNanoseconds)] += counts
    }

    /// The regions that were overwritten most often, most first; never written ones are none.
    public func hottest(_ count: Int) -> [HotRegion] {
        regions.sorted { a, b in
            (a.value.overwrites, a.value.writes, b.key)
                > (b.value.overwrites, b.value.writes, a.key)
        }.prefix(count).map { number, region in
            let offset = number * Self.regionBytes
            return HotRegion(
                offset: offset, byteCount: min(Self.regionBytes, volumeBytes - offset),
                writes: region.writes, writtenBytes: region.writtenBytes,
                overwrites: region.overwrites, overwrittenBytes: region.overwrittenBytes)
        }
    }

    /// Notes a write; returns how many of its bytes were written before.
    private mutating func write(_ extent: Extent) -> UInt64 {
        var before: UInt64 = 0
        var position = extent.byteOffset
        let end = min(position + extent.byteCount, volumeBytes)
        while position < end {
            let number = position / Self.regionBytes
            let pieceEnd = min(end, (number + 1) * Self.regionBytes)
            let overwritten = cover(position, pieceEnd)
            var region = regions[number] ?? Region()
            region.writes += 1
            region.writtenBytes += pieceEnd - position
            region.overwrites += overwritten > 0 ? 1 : 0
            region.overwrittenBytes += overwritten
            regions[number] = region
            before += overwritten
            position = pieceEnd
        }
        if regions.count > Self.regionsMax { forget() }
        return before
    }

    /// Sets the granules of a range; returns the bytes of the range in those that were set.
    private mutating func cover(_ start: UInt64, _ end: UInt64) -> UInt64 {
        var covered: UInt64 = 0
        for granule in start >> granuleShift...(end - 1) >> granuleShift {
            let (word, bit) = (Int(granule >> 6), UInt64(1) << (granule & 63))
            if isWritten[word] & bit != 0 {
                let low = max(start, granule << granuleShift)
                covered += min(end - low, (granule + 1) << granuleShift - low)
            } else {
                isWritten[word] |= bit
            }
        }
        return covered
    }

    private mutating func forget() {
        isApproximate = true
        let kept = regions.sorted {
            ($0.value.overwrites, $0.value.writes) > ($1.value.overwrites, $1.value.writes)
        }.prefix(Self.regionsMax / 2)
        regions = Dictionary(uniqueKeysWithValues: kept.map { ($0.key, $0.value) })
    }
}

extension HistoryCatalogue {
    /// Gives the records between two wall times, both included, in LSN order: of thinned history
    /// those that are left. Damaged segments are passed over: `points` tells. Returns whether
    /// thinned history was among it.
    public func forEachRecord(
        from: Int64 = .min, to: Int64 = .max, isCancelled: () -> Bool = { false },
        _ body: (SegmentEntry) -> Void
    ) throws(HistoryError) -> Bool {
        var isThinned = false
        for run in timeline.runs
        where run.first.wallNanoseconds <= to && run.last.wallNanoseconds >= from {
            if isCancelled() { throw .cancelled }
            let found: RecordIndex
            do throws(HistoryError) {
                found = try index(of: run)
            } catch {
                if case .damaged = error { continue }
                throw error
            }
            isThinned = isThinned || run.isMerged
            for entry in found.entries
            where entry.stamp.wallNanoseconds >= from && entry.stamp.wallNanoseconds <= to {
                body(entry)
            }
        }
        return isThinned
    }

    /// The wall times of the first and last record between two wall times, as far as tails tell;
    /// nil where there are none.
    public func recordTimes(from: Int64 = .min, to: Int64 = .max) -> ClosedRange<Int64>? {
        let runs = timeline.runs.filter {
            $0.first.wallNanoseconds <= to && $0.last.wallNanoseconds >= from
        }
        guard let first = runs.first?.first.wallNanoseconds,
            let last = runs.map(\.last.wallNanoseconds).max()
        else { return nil }
        let start = max(from, first)
        return start...max(start, min(to, last))
    }
}
