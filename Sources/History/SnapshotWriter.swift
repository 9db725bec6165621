// Writes a `snapshot` segment: every non-zero 4 KiB block of a volume at one stamp, in address
// order, neighbours joined. The content comes from a `SnapshotSource`: a raw image at creation, or
// a frozen picture of a running volume, or a view of the past.

import BlockModel
import DiskIO
import LogFormat

#if canImport(Glibc)
    import Glibc
#endif

/// A volume's content at one LSN; it does not change while it is read. One thread at a time.
public protocol SnapshotSource: AnyObject {
    /// Size of the volume in bytes, a multiple of 512.
    var byteCount: UInt64 { get }
    /// The next range at or after `offset` that may hold other bytes than zero; nil at the end.
    func nextData(from offset: UInt64) throws -> Range<UInt64>?
    /// Fills `target` with the bytes at `offset`; the range lies inside the volume.
    func read(into target: UnsafeMutableRawBufferPointer, at offset: UInt64) throws
}

/// A raw image file or block device as the source of a snapshot.
public final class FileSnapshotSource: SnapshotSource {
    private let file: StorageFile
    public let byteCount: UInt64

    /// The file is borrowed; what lies past its end reads as zeros.
    public init(_ file: StorageFile, byteCount: UInt64) {
        self.file = file
        self.byteCount = byteCount
    }

    public func nextData(from offset: UInt64) throws -> Range<UInt64>? {
        try file.nextData(from: offset)
    }

    public func read(into target: UnsafeMutableRawBufferPointer, at offset: UInt64) throws {
        try file.readZeroExtended(into: target, at: offset)
    }
}

/// Makes snapshots in a store. A value; `write` may run on any thread.
public struct SnapshotWriter: Sendable {
    private let store: any SegmentStore
    private let identity: SegmentIdentity
    private let blockBytes: Int

    static let granule = 4096
    private static let portion = 1 << 20

    public init(
        store: any SegmentStore, identity: SegmentIdentity,
        blockBytes: Int = SegmentFormat.blockBytesDefault
    ) {
        self.store = store
        self.identity = identity
        self.blockBytes = blockBytes
    }

    /// Writes the content of `source` as the snapshot at `stamp`. When it throws, there is nothing.
    /// `predecessor` where history goes on behind the snapshot without the log that ends at it: the
    /// digest of that log.
    public func write(
        _ source: any SnapshotSource, at stamp: Stamp, predecessor: SegmentDigest = .none,
        monitor: WorkMonitor = .none
    ) throws(HistoryError) -> SegmentName {
        let segment = try OpenSegment(
            header: SegmentHeader(
                kind: .snapshot, volume: identity.volume, epoch: identity.epoch,
                volumeBytes: identity.volumeBytes, first: stamp, predecessor: predecessor,
                blockBytes: blockBytes),
            in: store)
        let buffer = AlignedBuffer(count: Self.portion)
        var run = Extent(start: 0, count: 0)
        var position: UInt64 = 0
        let total = identity.volumeBytes
        while let range = try nextData(source, from: position), range.lowerBound < total {
            // Whole granules, so that a run never begins or ends inside one.
            position = max(position, range.lowerBound & ~UInt64(Self.granule - 1))
            let end = min(total, range.upperBound.roundedUp(to: UInt64(Self.granule)))
            while position < end {
                guard !monitor.isCancelled() else { throw .cancelled }
                let count = Int(min(UInt64(Self.portion), end - position))
                let bytes = UnsafeMutableRawBufferPointer(rebasing: buffer.bytes[..<count])
                do { try source.read(into: bytes, at: position) } catch { throw .source(error) }
                try put(UnsafeRawBufferPointer(bytes), at: position, in: segment, run: &run)
                position += UInt64(count)
                monitor.report(WorkProgress(doneBytes: position, totalBytes: total))
            }
        }
        if !run.isEmpty { segment.beginExtent(run) }
        guard !monitor.isCancelled() else { throw .cancelled }
        let (name, _) = try segment.commit()
        monitor.report(WorkProgress(doneBytes: total, totalBytes: total))
        return name
    }

    /// Appends the granules of `bytes` that are not zero. `run` is the run that may still grow.
    private func put(
        _ bytes: UnsafeRawBufferPointer, at offset: UInt64, in segment: OpenSegment,
        run: inout Extent
    ) throws(HistoryError) {
        var i = 0
        while i < bytes.count {
            let zeros = i + Self.length(of: bytes, from: i, zero: true)
            let end = zeros + Self.length(of: bytes, from: zeros, zero: false)
            if end > zeros {
                let extent = Extent(
                    start: (offset + UInt64(zeros)) >> Sector.shift,
                    count: UInt64(end - zeros) >> Sector.shift)
                if run.end == extent.start, !run.isEmpty {
                    run.count += extent.count
                } else {
                    if !run.isEmpty { segment.beginExtent(run) }
                    run = extent
                }
                try segment.appendData(UnsafeRawBufferPointer(rebasing: bytes[zeros..<end]))
            }
            i = end
        }
    }

    /// Bytes from `start` on in granules that are (not) all zero.
    private static func length(of bytes: UnsafeRawBufferPointer, from start: Int, zero: Bool) -> Int
    {
        var i = start
        while i < bytes.count {
            let count = min(granule, bytes.count - i)
            guard isZero(bytes.baseAddress! + i, count) == zero else { break }
            i += count
        }
        return i - start
    }

    /// Whether all bytes are zero: the first is, and each equals the one before.
    static func isZero(_ bytes: UnsafeRawPointer, _ count: Int) -> Bool {
        bytes.load(as: UInt8.self) == 0 && memcmp(bytes, bytes + 1, count - 1) == 0
    }

    private func nextData(
        _ source: any SnapshotSource, from offset: UInt64
    ) throws(HistoryError) -> Range<UInt64>? {
        guard offset < identity.volumeBytes else { return nil }
        do { return try source.nextData(from: offset) } catch { throw .source(error) }
    }
}

extension UInt64 {
    /// Rounded up to a multiple of `unit`, a power of two; below 2^63.
    func roundedUp(to unit: UInt64) -> UInt64 { (self + unit - 1) & ~(unit - 1) }
}
