// The index of a segment: bytes -> entries, with rules 6 and 7 of SegmentFormat.swift. Whatever
// passes can be used in arithmetic without a further check.

import BlockModel

/// One record of a log or merged segment.
public struct SegmentEntry: Hashable, Sendable {
    public var stamp: Stamp
    public var extent: Extent
    /// Where the payload begins in the data stream (write), or in the names (mark).
    public var payloadOffset: UInt64
    public var payloadBytes: UInt32
    public var payloadCRC: UInt32
    public var kind: RecordKind

    public init(
        stamp: Stamp, kind: RecordKind, extent: Extent, payloadOffset: UInt64,
        payloadBytes: UInt32, payloadCRC: UInt32
    ) {
        self.stamp = stamp
        self.kind = kind
        self.extent = extent
        self.payloadOffset = payloadOffset
        self.payloadBytes = payloadBytes
        self.payloadCRC = payloadCRC
    }
}

/// One run of a snapshot.
public struct SnapshotExtent: Hashable, Sendable {
    public var extent: Extent
    /// Where its bytes begin in the data stream.
    public var dataOffset: UInt64
}

/// The decoded index of a log or merged segment.
public struct RecordIndex: Sendable {
    /// In LSN order.
    public let entries: [SegmentEntry]
    private let names: [UInt8]

    /// From records that are not in a segment: entries in LSN order, payload offsets as in one.
    public init(entries: [SegmentEntry], names: [UInt8]) {
        self.entries = entries
        self.names = names
    }

    /// Reads the uncompressed index stream (rule 6).
    public init(_ source: UnsafeRawBufferPointer, of footer: SegmentFooter) throws(SegmentError) {
        let bad = SegmentError.malformed(.index, rule: 6)
        let count = footer.entryCount
        guard footer.header.kind != .snapshot, UInt64(source.count) == footer.indexBytes,
            count <= UInt64(source.count / SegmentFormat.recordEntryBytes)
        else { throw bad }
        let (first, last) = (footer.header.first, footer.last)
        let isLog = footer.header.kind == .log
        if isLog {
            guard count > 0, last.lsn.rawValue - first.lsn.rawValue == count - 1 else { throw bad }
        }
        var entries: [SegmentEntry] = []
        entries.reserveCapacity(Int(count))
        var previous = first
        var (dataBytes, nameBytes): (UInt64, UInt64) = (0, 0)
        var (flushes, marks): (UInt32, UInt32) = (0, 0)
        for i in 0..<Int(count) {
            let base = source.baseAddress! + i * SegmentFormat.recordEntryBytes
            guard var entry = Self.entry(base, sectors: footer.header.volumeBytes >> Sector.shift)
            else { throw bad }
            let lsn = entry.stamp.lsn
            guard entry.stamp.wallNanoseconds >= previous.wallNanoseconds,
                isLog
                    ? lsn.rawValue == first.lsn.rawValue + UInt64(i)
                    : lsn >= previous.lsn && lsn <= last.lsn
            else { throw bad }
            previous = entry.stamp
            switch entry.kind {
            case .write:
                entry.payloadOffset = dataBytes
                dataBytes += UInt64(entry.payloadBytes)
            case .mark:
                entry.payloadOffset = nameBytes
                nameBytes += UInt64(entry.payloadBytes)
                marks += 1
            case .flush: flushes += 1
            default: break
            }
            entries.append(entry)
        }
        let entryBytes = Int(count) * SegmentFormat.recordEntryBytes
        guard previous.wallNanoseconds <= last.wallNanoseconds, dataBytes == footer.dataBytes,
            nameBytes == UInt64(source.count - entryBytes), flushes == footer.flushCount,
            marks == footer.markCount
        else { throw bad }
        self.entries = entries
        names = Array(source[entryBytes...])
    }

    /// The name of a mark, with U+FFFD for what is not UTF-8; empty for other kinds.
    public func name(of entry: SegmentEntry) -> String {
        guard entry.kind == .mark else { return "" }
        let start = Int(entry.payloadOffset)
        return String(decoding: names[start..<start + Int(entry.payloadBytes)], as: UTF8.self)
    }

    /// The bytes of the name of a mark.
    public func nameBytes(of entry: SegmentEntry) -> ArraySlice<UInt8> {
        guard entry.kind == .mark else { return [] }
        let start = Int(entry.payloadOffset)
        return names[start..<start + Int(entry.payloadBytes)]
    }

    /// One entry, or nil where kind, extent and length do not fit together.
    private static func entry(_ base: UnsafeRawPointer, sectors: UInt64) -> SegmentEntry? {
        let packed = base.load(24, as: UInt64.self)
        guard let kind = RecordKind(rawValue: UInt8(packed >> 56)) else { return nil }
        let extent = Extent(start: base.load(16, as: UInt64.self), count: packed & (1 << 56 - 1))
        let payloadBytes = base.load(32, as: UInt32.self)
        guard extent.start <= sectors, extent.count <= sectors - extent.start else { return nil }
        switch kind {
        case .write:
            guard extent.count > 0, UInt64(payloadBytes) == extent.byteCount else { return nil }
        case .zero, .discard:
            guard extent.count > 0, payloadBytes == 0 else { return nil }
        case .flush:
            guard extent.start == 0, extent.count == 0, payloadBytes == 0 else { return nil }
        case .mark:
            guard extent.start == 0, extent.count == 0, payloadBytes > 0,
                payloadBytes <= UInt32(RecordHeader.markNameBytesMax)
            else { return nil }
        case .pad: return nil
        }
        return SegmentEntry(
            stamp: Stamp(
                lsn: LSN(base.load(0, as: UInt64.self)),
                wallNanoseconds: base.load(8, as: Int64.self)),
            kind: kind, extent: extent, payloadOffset: 0, payloadBytes: payloadBytes,
            payloadCRC: base.load(36, as: UInt32.self))
    }
}

/// The decoded index of a snapshot.
public struct SnapshotIndex: Sendable {
    /// In address order, disjoint.
    public let extents: [SnapshotExtent]

    /// Reads the uncompressed index stream (rule 7).
    public init(_ source: UnsafeRawBufferPointer, of footer: SegmentFooter) throws(SegmentError) {
        let bad = SegmentError.malformed(.index, rule: 7)
        let count = source.count / SegmentFormat.extentEntryBytes
        guard footer.header.kind == .snapshot, UInt64(source.count) == footer.indexBytes,
            source.count % SegmentFormat.extentEntryBytes == 0,
            UInt64(count) == footer.entryCount, footer.header.first == footer.last,
            footer.flushCount == 0, footer.markCount == 0
        else { throw bad }
        let sectors = footer.header.volumeBytes >> Sector.shift
        var extents: [SnapshotExtent] = []
        extents.reserveCapacity(count)
        var (position, dataBytes): (UInt64, UInt64) = (0, 0)
        for i in 0..<count {
            let base = source.baseAddress! + i * SegmentFormat.extentEntryBytes
            let extent = Extent(
                start: base.load(0, as: UInt64.self), count: base.load(8, as: UInt64.self))
            guard extent.count > 0, extent.start >= position, extent.start <= sectors,
                extent.count <= sectors - extent.start
            else { throw bad }
            extents.append(SnapshotExtent(extent: extent, dataOffset: dataBytes))
            position = extent.end
            dataBytes += extent.byteCount
        }
        guard dataBytes == footer.dataBytes else { throw bad }
        self.extents = extents
    }
}
