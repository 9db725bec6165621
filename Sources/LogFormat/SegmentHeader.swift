// Header and footer of a segment: bytes <-> values. The layout and the numbered rules are at the
// head of SegmentFormat.swift. Pure and total: any bytes decode to a value or to an error.

import BlockModel
import CLinux

/// What is known of a segment before its first record is written.
public struct SegmentHeader: Hashable, Sendable {
    public var kind: SegmentKind
    public var blockBytes: Int
    public var volume: VolumeID
    public var epoch: UInt64
    /// Size of the volume in bytes.
    public var volumeBytes: UInt64
    /// Least LSN and least wall time; for a snapshot its stamp.
    public var first: Stamp
    /// Digest of the log segment before this one in the chain; of a merged segment that of the
    /// log whose last record it ends with; of a snapshot that of the log that ends at it, where
    /// history goes on behind the snapshot without that log (adoption).
    public var predecessor: SegmentDigest

    public init(
        kind: SegmentKind, volume: VolumeID, epoch: UInt64, volumeBytes: UInt64, first: Stamp,
        predecessor: SegmentDigest = .none, blockBytes: Int = SegmentFormat.blockBytesDefault
    ) {
        self.kind = kind
        self.volume = volume
        self.epoch = epoch
        self.volumeBytes = volumeBytes
        self.first = first
        self.predecessor = predecessor
        self.blockBytes = blockBytes
    }

    /// Writes 128 bytes, zeros included; returns the header's CRC32C.
    @discardableResult
    func encode(to target: UnsafeMutableRawPointer) -> UInt32 {
        target.initializeMemory(
            as: UInt8.self, repeating: 0, count: SegmentFormat.headerBytes)
        target.store(SegmentFormat.headerMagic, at: 0)
        target.store(SegmentFormat.version, at: 8)
        target.store(kind.rawValue, at: 10)
        target.store(UInt32(blockBytes), at: 12)
        target.store(volume.high.byteSwapped, at: 16)
        target.store(volume.low.byteSwapped, at: 24)
        target.store(epoch, at: 32)
        target.store(volumeBytes, at: 40)
        target.store(first.lsn.rawValue, at: 48)
        target.store(first.wallNanoseconds, at: 56)
        predecessor.store(to: target + 64)
        let crc = clinux_crc32c(0, target, 124)
        target.store(crc, at: 124)
        return crc
    }

    /// Reads a header (rule 2). Fewer than 128 bytes are not a segment.
    public static func decode(
        _ source: UnsafeRawBufferPointer
    ) throws(SegmentError) -> SegmentHeader {
        guard source.count >= SegmentFormat.headerBytes, let base = source.baseAddress,
            base.load(0, as: UInt64.self) == SegmentFormat.headerMagic
        else { throw .notASegment }
        guard clinux_crc32c(0, base, 124) == base.load(124, as: UInt32.self) else {
            throw .checksum(.header)
        }
        let version = base.load(8, as: UInt16.self)
        guard version == SegmentFormat.version else { throw .futureVersion(version) }
        let blockBytes = Int(base.load(12, as: UInt32.self))
        let volumeBytes = base.load(40, as: UInt64.self)
        guard let kind = SegmentKind(rawValue: base.load(10, as: UInt8.self)),
            SegmentFormat.blockBytesRange.contains(blockBytes),
            blockBytes & (blockBytes - 1) == 0,
            volumeBytes > 0, volumeBytes <= SegmentFormat.volumeBytesMax,
            volumeBytes % UInt64(Sector.bytes) == 0
        else { throw .malformed(.header, rule: 2) }
        return SegmentHeader(
            kind: kind,
            volume: VolumeID(
                high: base.load(16, as: UInt64.self).byteSwapped,
                low: base.load(24, as: UInt64.self).byteSwapped),
            epoch: base.load(32, as: UInt64.self), volumeBytes: volumeBytes,
            first: Stamp(
                lsn: LSN(base.load(48, as: UInt64.self)),
                wallNanoseconds: base.load(56, as: Int64.self)),
            predecessor: SegmentDigest(base + 64), blockBytes: blockBytes)
    }
}

/// The footer: all that planning needs to know of a segment.
public struct SegmentFooter: Hashable, Sendable {
    public var header: SegmentHeader
    public var headerCRC: UInt32
    /// Greatest LSN and greatest wall time.
    public var last: Stamp
    public var dataStoredBytes: UInt64
    /// Length of the data stream, uncompressed.
    public var dataBytes: UInt64
    public var indexStoredBytes: UInt64
    public var indexBytes: UInt64
    public var entryCount: UInt64
    public var flushCount: UInt32
    public var markCount: UInt32
    public var tableCRC: UInt32
    public var digest: SegmentDigest

    /// Number of blocks of the data stream; they come first.
    public var dataBlockCount: Int { Self.blocks(dataBytes, header.blockBytes) }
    public var indexBlockCount: Int { Self.blocks(indexBytes, header.blockBytes) }
    public var tableBytes: Int {
        (dataBlockCount + indexBlockCount) * SegmentFormat.tableEntryBytes
    }
    public var dataOffset: UInt64 { UInt64(SegmentFormat.headerBytes) }
    public var indexOffset: UInt64 { dataOffset + dataStoredBytes }
    public var tableOffset: UInt64 { indexOffset + indexStoredBytes }
    public var footerOffset: UInt64 { tableOffset + UInt64(tableBytes) }
    /// Size of the file.
    public var fileBytes: UInt64 { footerOffset + UInt64(SegmentFormat.footerBytes) }

    static func blocks(_ bytes: UInt64, _ blockBytes: Int) -> Int {
        Int(bytes / UInt64(blockBytes)) + (bytes % UInt64(blockBytes) == 0 ? 0 : 1)
    }

    /// Writes footer bytes 0..<208; the digest covers them, so `seal` comes after.
    func encodeBeforeDigest(to target: UnsafeMutableRawPointer) {
        target.initializeMemory(
            as: UInt8.self, repeating: 0, count: SegmentFormat.footerBytes)
        header.encode(to: target)
        target.store(last.lsn.rawValue, at: 128)
        target.store(last.wallNanoseconds, at: 136)
        target.store(dataStoredBytes, at: 144)
        target.store(dataBytes, at: 152)
        target.store(indexStoredBytes, at: 160)
        target.store(indexBytes, at: 168)
        target.store(entryCount, at: 176)
        target.store(flushCount, at: 184)
        target.store(markCount, at: 188)
        target.store(tableCRC, at: 192)
    }

    /// Number of footer bytes that the digest covers.
    public static let digestOffset = 208

    /// Writes what follows the bytes under the digest.
    static func seal(_ target: UnsafeMutableRawPointer, digest: SegmentDigest) {
        digest.store(to: target + digestOffset)
        target.store(SegmentFormat.version, at: 240)
        target.store(clinux_crc32c(0, target, 244), at: 244)
        target.store(SegmentFormat.footerMagic, at: 248)
    }

    /// Reads a footer (rules 1 to 3) from the last 256 bytes of a file of `fileBytes`.
    public static func decode(
        _ source: UnsafeRawBufferPointer, fileBytes: UInt64
    ) throws(SegmentError) -> SegmentFooter {
        guard source.count == SegmentFormat.footerBytes, let base = source.baseAddress,
            fileBytes >= SegmentFormat.fileBytesMin,
            base.load(248, as: UInt64.self) == SegmentFormat.footerMagic
        else { throw .notASegment }
        guard clinux_crc32c(0, base, 244) == base.load(244, as: UInt32.self) else {
            throw .checksum(.footer)
        }
        let version = base.load(240, as: UInt16.self)
        guard version == SegmentFormat.version else { throw .futureVersion(version) }
        let footer = SegmentFooter(
            header: try SegmentHeader.decode(
                UnsafeRawBufferPointer(rebasing: source[..<SegmentFormat.headerBytes])),
            headerCRC: base.load(124, as: UInt32.self),
            last: Stamp(
                lsn: LSN(base.load(128, as: UInt64.self)),
                wallNanoseconds: base.load(136, as: Int64.self)),
            dataStoredBytes: base.load(144, as: UInt64.self),
            dataBytes: base.load(152, as: UInt64.self),
            indexStoredBytes: base.load(160, as: UInt64.self),
            indexBytes: base.load(168, as: UInt64.self),
            entryCount: base.load(176, as: UInt64.self),
            flushCount: base.load(184, as: UInt32.self),
            markCount: base.load(188, as: UInt32.self),
            tableCRC: base.load(192, as: UInt32.self), digest: SegmentDigest(base + digestOffset))
        guard footer.hasPlausibleSizes(fileBytes: fileBytes) else {
            throw .malformed(.footer, rule: 3)
        }
        return footer
    }

    /// Rule 3, in an order in which no sum or product can overflow.
    private func hasPlausibleSizes(fileBytes: UInt64) -> Bool {
        let limit: UInt64 = 1 << 54  // so that 255 times a size, and sums, stay below 2^63
        guard fileBytes < limit, dataStoredBytes < fileBytes, indexStoredBytes < fileBytes,
            dataBytes <= 255 * dataStoredBytes, dataBytes <= 1 << 49,
            indexBytes <= 255 * indexStoredBytes,
            entryCount <= indexBytes, UInt64(flushCount) <= entryCount,
            UInt64(markCount) <= entryCount, header.first.lsn <= last.lsn,
            header.first.wallNanoseconds <= last.wallNanoseconds
        else { return false }
        return self.fileBytes == fileBytes
    }
}

// Little-endian access at unaligned offsets; the callers have checked the bounds.
extension UnsafeMutableRawPointer {
    @inline(__always)
    func store<T: FixedWidthInteger & BitwiseCopyable>(_ value: T, at offset: Int) {
        storeBytes(of: value.littleEndian, toByteOffset: offset, as: T.self)
    }
}

extension UnsafeRawPointer {
    @inline(__always)
    func load<T: FixedWidthInteger & BitwiseCopyable>(_ offset: Int, as: T.Type) -> T {
        T(littleEndian: loadUnaligned(fromByteOffset: offset, as: T.self))
    }
}

extension SegmentFooter {
    /// Of a segment that cannot be looked into: no sizes, nothing to read by.
    public init(standingIn header: SegmentHeader, last: Stamp, digest: SegmentDigest) {
        self.header = header
        headerCRC = 0
        self.last = last
        (dataStoredBytes, dataBytes, indexStoredBytes, indexBytes) = (0, 0, 0, 0)
        (entryCount, flushCount, markCount, tableCRC) = (0, 0, 0, 0)
        self.digest = digest
    }
}
