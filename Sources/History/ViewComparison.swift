// What differs between two points of a history, to the sector. Only what records between the two
// touch is read; what was written again with the same bytes is no difference.

import BlockModel
import DiskIO
import LogFormat

#if canImport(Glibc)
    import Glibc
#endif

/// A run of bytes that differ: whole sectors, at most 1 MiB. The memory is valid during the call
/// that hands it out.
public struct DifferentBytes {
    /// Byte offset on the disk.
    public var offset: UInt64
    public var old: UnsafeRawBufferPointer
    public var new: UnsafeRawBufferPointer

    public var extent: Extent {
        Extent(start: offset >> Sector.shift, count: UInt64(new.count) >> Sector.shift)
    }
}

/// Two points of one volume, ready to be compared. Memory: two views, 16 bytes an extent of what
/// may differ, and two windows of 1 MiB.
public struct ViewComparison: Sendable {
    public let old: PointInTimeView
    public let new: PointInTimeView
    /// What may differ, in address order: nothing else is read.
    public let candidates: [Extent]
    /// Whether the records between the points are all there; otherwise all of both is compared.
    public let isByRecords: Bool

    private static let windowBytes = 1 << 20
    private static let stepBytes: UInt64 = 4096

    /// Plans. Both points are restorable, `from` is not after `to`.
    public init(
        _ catalogue: HistoryCatalogue, from: Stamp, to: Stamp
    ) throws(HistoryError) {
        precondition(from.lsn <= to.lsn)
        old = try PointInTimeView(catalogue, at: from.lsn)
        new = try PointInTimeView(catalogue, at: to.lsn)
        let touched = try catalogue.touchedExtents(after: from.lsn, through: to.lsn)
        isByRecords = touched != nil
        candidates = touched ?? [Extent(start: 0, count: new.byteCount >> Sector.shift)]
    }

    /// Bytes that may differ.
    public var candidateBytes: UInt64 { candidates.reduce(0) { $0 + $1.byteCount } }

    /// Gives every run of bytes that differ to `body`, in address order.
    public func run(
        monitor: WorkMonitor = .none, _ body: (DifferentBytes) throws(HistoryError) -> Void
    ) throws(HistoryError) {
        let memory = AlignedBuffer(count: 2 * Self.windowBytes)
        let total = candidateBytes
        var before: UInt64 = 0
        for extent in candidates {
            var position = extent.byteOffset
            let end = position + extent.byteCount
            while true {
                // Where neither has data both are zeros.
                let data = min(old.dataStart(from: position), new.dataStart(from: position))
                position = max(position, data)
                guard position < end else { break }
                if monitor.isCancelled() { throw .cancelled }
                let count = Int(min(UInt64(Self.windowBytes), end - position))
                let a = UnsafeMutableRawBufferPointer(rebasing: memory.bytes[..<count])
                let b = UnsafeMutableRawBufferPointer(
                    rebasing: memory.bytes[Self.windowBytes..<Self.windowBytes + count])
                try old.read(into: a, at: position)
                try new.read(into: b, at: position)
                try Self.compare(
                    UnsafeRawBufferPointer(a), UnsafeRawBufferPointer(b), at: position, body)
                position += UInt64(count)
                monitor.report(
                    WorkProgress(
                        doneBytes: before + position - extent.byteOffset, totalBytes: total))
            }
            before += extent.byteCount
        }
        monitor.report(WorkProgress(doneBytes: total, totalBytes: total))
    }

    /// Looks by 4 KiB, and where these differ, by sectors.
    private static func compare(
        _ old: UnsafeRawBufferPointer, _ new: UnsafeRawBufferPointer, at offset: UInt64,
        _ body: (DifferentBytes) throws(HistoryError) -> Void
    ) throws(HistoryError) {
        guard differ(old, new, 0..<old.count) else { return }
        var run = 0..<0
        func close() throws(HistoryError) {
            guard !run.isEmpty else { return }
            try body(
                DifferentBytes(
                    offset: offset + UInt64(run.lowerBound),
                    old: UnsafeRawBufferPointer(rebasing: old[run]),
                    new: UnsafeRawBufferPointer(rebasing: new[run])))
            run = 0..<0
        }
        var step = 0
        while step < old.count {
            let address = offset + UInt64(step)
            let stepEnd = min(old.count, step + Int(stepBytes - address % stepBytes))
            if differ(old, new, step..<stepEnd) {
                for sector in stride(from: step, to: stepEnd, by: Sector.bytes) {
                    guard differ(old, new, sector..<sector + Sector.bytes) else { continue }
                    if run.upperBound != sector { try close() }
                    run = (run.isEmpty ? sector : run.lowerBound)..<sector + Sector.bytes
                }
            }
            step = stepEnd
        }
        try close()
    }

    private static func differ(
        _ a: UnsafeRawBufferPointer, _ b: UnsafeRawBufferPointer, _ range: Range<Int>
    ) -> Bool {
        memcmp(a.baseAddress! + range.lowerBound, b.baseAddress! + range.lowerBound, range.count)
            != 0
    }
}

/// Extents as they come in address order, neighbours joined.
public struct ExtentList: Sendable {
    public private(set) var extents: [Extent] = []
    public private(set) var byteCount: UInt64 = 0

    public init() {}

    public mutating func add(_ extent: Extent) {
        byteCount += extent.byteCount
        if let last = extents.last, last.end == extent.start {
            extents[extents.count - 1].count += extent.count
        } else {
            extents.append(extent)
        }
    }
}
