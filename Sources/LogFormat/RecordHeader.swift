// The record: how one write, zero, discard, flush or mark lies in the ring and in a WAL file.
//
// A record is one header sector (512 bytes, of which the first 64 are used and the rest is zero),
// followed by the payload, padded with zeros to whole sectors. All numbers little-endian.
//
//   offset size  field
//        0    4  magic "LDR1"
//        4    4  header CRC32C: of bytes 8..<64, continued from the epoch's salt
//        8    8  LSN
//       16    8  wall time, nanoseconds since 1970-01-01 UTC (signed)
//       24    8  LBA of the first sector              (0 for flush, mark, pad)
//       32    8  number of sectors                    (0 for flush, mark; pad: sectors to skip,
//                                                      its own header included)
//       40    4  payload length in bytes              (write: sectors * 512; mark: name; else 0)
//       44    4  payload CRC32C                       (0 where there is none)
//       48    1  kind (RecordKind)
//       49    1  version of the record format, 1
//       50    6  zero
//       56    8  durable LSN: every record up to it was durable when this one was ordered
//       64  448  zero (not covered by any checksum, not read)
//
// A record at some place of a WAL file is valid if and only if
//   1. the magic and the version are these, the kind is known;
//   2. the header CRC32C is right for the salt in the WAL file's header;
//   3. the LSN is the expected one: one more than the record before (pads carry the LSN that the
//      record after them will have);
//   4. the payload length fits its kind and the rest of the file;
//   5. the payload CRC32C is right.
// The salt is drawn anew for each epoch, so nothing that an earlier life of a recycled file left
// behind passes 2; within an epoch LSNs never repeat, so nothing stale passes 3. A sector of
// zeros fails 1.
//
// The durable LSN tells a torn end from damage: where the valid prefix ends before an LSN that a
// later readable record declares durable, acknowledged records are lost and the log is damaged.

import BlockModel
public import CLinux

/// The decoded header of a record. `encode`/`decode` are exact inverses for valid headers.
public struct RecordHeader: Hashable, Sendable {
    public static let magic: UInt32 = 0x3152_444C
    public static let version: UInt8 = 1
    /// Bytes that a header takes in the log.
    public static let byteCount = Sector.bytes
    @usableFromInline static let usedBytes = 64
    /// Longest payload of one record; longer writes become several records.
    public static let payloadBytesMax = 1 << 20
    /// Longest name of a mark in UTF-8 bytes.
    public static let markNameBytesMax = 255

    public var stamp: Stamp
    public var kind: RecordKind
    public var extent: Extent
    public var payloadBytes: Int
    public var payloadCRC: UInt32
    /// Every record up to this one was durable when this record was ordered.
    public var durableLSN: LSN

    public init(
        stamp: Stamp, kind: RecordKind, extent: Extent, payloadBytes: Int, payloadCRC: UInt32,
        durableLSN: LSN = .zero
    ) {
        self.durableLSN = durableLSN
        self.stamp = stamp
        self.kind = kind
        self.extent = extent
        self.payloadBytes = payloadBytes
        self.payloadCRC = payloadCRC
    }

    /// Bytes of the record in the log: header sector and padded payload.
    public var logBytes: Int { Self.logBytes(payloadBytes: payloadBytes) }

    @inline(__always)
    public static func logBytes(payloadBytes: Int) -> Int {
        byteCount + (payloadBytes + Sector.bytes - 1) / Sector.bytes * Sector.bytes
    }

    /// Writes the 64 used bytes at `target` (the rest of the sector must be zero already).
    public func encode(to target: UnsafeMutableRawPointer, salt: UInt32) {
        encodeUnpublished(to: target, salt: salt)
        target.storeBytes(of: Self.magic.littleEndian, as: UInt32.self)
    }

    /// The same without the magic, which the ring stores last, to publish the record.
    @inlinable
    public func encodeUnpublished(to target: UnsafeMutableRawPointer, salt: UInt32) {
        target.storeBytes(of: stamp.lsn.rawValue.littleEndian, toByteOffset: 8, as: UInt64.self)
        target.storeBytes(
            of: stamp.wallNanoseconds.littleEndian, toByteOffset: 16, as: Int64.self)
        target.storeBytes(of: extent.start.littleEndian, toByteOffset: 24, as: UInt64.self)
        target.storeBytes(of: extent.count.littleEndian, toByteOffset: 32, as: UInt64.self)
        target.storeBytes(
            of: UInt32(truncatingIfNeeded: payloadBytes).littleEndian, toByteOffset: 40,
            as: UInt32.self)
        target.storeBytes(of: payloadCRC.littleEndian, toByteOffset: 44, as: UInt32.self)
        target.storeBytes(
            of: (UInt64(kind.rawValue) | UInt64(Self.version) << 8).littleEndian,
            toByteOffset: 48, as: UInt64.self)
        target.storeBytes(
            of: durableLSN.rawValue.littleEndian, toByteOffset: 56, as: UInt64.self)
        let crc = clinux_crc32c(Fault.saltIgnored.isOn ? 0 : salt, target + 8, Self.usedBytes - 8)
        target.storeBytes(of: crc.littleEndian, toByteOffset: 4, as: UInt32.self)
    }

    /// Reads a header; nil unless rules 1, 2 and the part of 4 that the header alone can tell hold.
    /// `source` holds at least 64 bytes.
    public static func decode(_ source: UnsafeRawPointer, salt: UInt32) -> RecordHeader? {
        func load<T: FixedWidthInteger & BitwiseCopyable>(_ offset: Int, _: T.Type) -> T {
            T(littleEndian: source.loadUnaligned(fromByteOffset: offset, as: T.self))
        }
        guard load(0, UInt32.self) == magic, load(49, UInt8.self) == version,
            let kind = RecordKind(rawValue: load(48, UInt8.self)),
            load(50, UInt16.self) == 0, load(52, UInt32.self) == 0
        else { return nil }
        let crc = clinux_crc32c(Fault.saltIgnored.isOn ? 0 : salt, source + 8, usedBytes - 8)
        guard crc == load(4, UInt32.self) else { return nil }
        let header = RecordHeader(
            stamp: Stamp(lsn: LSN(load(8, UInt64.self)), wallNanoseconds: load(16, Int64.self)),
            kind: kind,
            extent: Extent(start: load(24, UInt64.self), count: load(32, UInt64.self)),
            payloadBytes: Int(load(40, UInt32.self)), payloadCRC: load(44, UInt32.self),
            durableLSN: LSN(load(56, UInt64.self)))
        return header.isPlausible ? header : nil
    }

    /// Whether lengths and extent fit the kind. Guards every later computation against overflow.
    private var isPlausible: Bool {
        let extentMax: UInt64 = 1 << 54  // 8 EiB in sectors
        guard extent.start <= extentMax, extent.count <= extentMax - extent.start else {
            return false
        }
        switch kind {
        case .write:
            return extent.count > 0 && payloadBytes <= Self.payloadBytesMax
                && extent.count == UInt64(payloadBytes / Sector.bytes)
                && payloadBytes % Sector.bytes == 0
        case .zero, .discard:
            return extent.count > 0 && payloadBytes == 0
        case .flush:
            return extent.count == 0 && payloadBytes == 0
        case .mark:
            return extent.count == 0 && payloadBytes > 0 && payloadBytes <= Self.markNameBytesMax
        case .pad:
            return extent.count > 0 && payloadBytes == 0
        }
    }
}
