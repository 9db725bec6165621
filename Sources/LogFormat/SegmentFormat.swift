// The segment: one immutable file of history. This comment is the format; the code around it only
// follows. One layout for three kinds: `log` (every record between two LSNs), `merged` (between
// two LSNs only what the kept points need), `snapshot` (every non-zero 4 KiB block at one LSN).
//
// All numbers are little-endian. CRC32C is Castagnoli's, and "continued from x" means that x takes
// the place of the checksum of the bytes before. A segment can be written front to back without
// ever going back, so it can be streamed to a file, over HTTP or into object storage; therefore
// what is known only at the end (greatest LSN, sizes, digest) stands in the footer, and the footer
// repeats the header: whoever plans a restore reads tails only.
//
//   header · data blocks · index blocks · block table · footer
//
// Two streams of bytes lie in it, each cut into blocks of `block bytes` (the last one of a stream
// may be shorter), each block LZ4-compressed, or stored as it is where that saves under 1/16:
//   data    log, merged: the payloads of the writes, in the order of their entries
//           snapshot:    the contents of the extents, in the order of their entries
//   index   all entries, then (log, merged) the names of the marks, in the order of their entries
//
// Header, 128 bytes at offset 0
//   offset size  field
//        0    8  magic "LDSEGMNT"
//        8    2  format version, 1
//       10    1  kind: 1 log, 2 merged, 3 snapshot
//       11    1  zero
//       12    4  block bytes: a power of two, 4096 ... 4194304
//       16   16  volume UUID, in the order of its text
//       32    8  epoch in which the segment was made
//       40    8  volume size in bytes: a multiple of 512, 512 ... 2^63
//       48    8  least LSN (snapshot: its LSN)
//       56    8  least wall time, nanoseconds since 1970-01-01 UTC (signed)
//       64   32  digest of the log segment before this one in the chain; zeros where there is none
//                (merged: of the log segment whose last record was its greatest LSN, which the log
//                segment behind names; zeros where it ends inside one; snapshot: the same, where
//                history goes on behind it without the segments before, else zeros)
//       96   28  zero
//      124    4  CRC32C of bytes 0..<124
//
// Entry of a log or merged segment, 40 bytes, records in LSN order
//        0    8  LSN
//        8    8  wall time
//       16    8  LBA of the first sector                        (0 for flush and mark)
//       24    8  bits 0..<56: number of sectors (0 for flush and mark); bits 56..<64: RecordKind
//       32    4  payload length in bytes   (write: sectors * 512; mark: of the name; else 0)
//       36    4  CRC32C of the payload, as the WAL had it       (0 where there is none)
//
// Entry of a snapshot, 16 bytes, in address order
//        0    8  LBA of the first sector
//        8    8  number of sectors
//
// Block table, 8 bytes for each block, data blocks first
//        0    4  bits 0..<31: bytes in the file; bit 31: stored as it is
//        4    4  CRC32C of the block's uncompressed bytes, continued from
//                (header CRC32C + number of the block in its stream, + 2^31 in the index) mod 2^32
//
// Footer, the last 256 bytes
//        0  128  the header, again
//      128    8  greatest LSN
//      136    8  greatest wall time
//      144    8  bytes of all data blocks in the file
//      152    8  length of the data stream
//      160    8  bytes of all index blocks in the file
//      168    8  length of the index stream
//      176    8  number of entries
//      184    4  number of entries that are flushes
//      188    4  number of entries that are marks
//      192    4  CRC32C of the block table
//      196   12  zero
//      208   32  SHA-256 of every byte of the file before this field
//      240    2  format version, 1
//      242    2  zero
//      244    4  CRC32C of footer bytes 0..<244
//      248    8  magic "LDSEGEND"
//
// A file is a valid segment if and only if
//   1. it ends with a footer whose magic and CRC32C are right, and whose version is 1 (any other
//      version under a right CRC32C is a format from the future, and nothing more is said of it;
//      every future format keeps the last 256 bytes of this shape and this CRC32C);
//   2. the header in the footer has the right magic, version and CRC32C, and fields in the ranges
//      given above;
//   3. 128 + data bytes + index bytes + 8 * blocks + 256 is the size of the file, where blocks is
//      the sum of both streams' lengths divided by block bytes, each rounded up; and no stream is
//      longer than 255 times its bytes in the file (LZ4 cannot do better), nor the data stream
//      longer than 2^49; least is not above greatest;
//   4. the block table's CRC32C is right; a block stored as it is takes its length in the file,
//      any other takes less and at least one byte; the sums are the byte counts of the footer;
//   5. each block decompresses to exactly its length and has the right CRC32C;
//   6. log, merged: each entry's kind, extent and length fit together as in a WAL record (no pad)
//      and the extent lies inside the volume; LSNs and wall times lie between least and greatest;
//      LSNs rise by exactly one from least to greatest (log) or never fall (merged); wall times
//      never fall; the writes' lengths sum to the data stream's length, and the index stream is
//      40 * entries + the marks' lengths; flushes and marks are as many as the footer says;
//   7. snapshot: least and greatest are equal (LSN and time); extents are not empty, lie inside
//      the volume, and none starts before the end of the one before; their bytes sum to the data
//      stream's length; the index stream is 16 * entries; flushes and marks are 0;
//   8. the bytes at offset 0 are the header that the footer repeats, and the SHA-256 is right;
//   9. each payload has the CRC32C of its entry.
// A reader of some bytes checks 1-4, the index by 5, 6 and 7, and 5 for each data block it uses:
// no wrong byte passes that. A verifier checks all nine.
//
// What each checksum is for: the block's CRC32C finds bad bytes and, by what it continues from, a
// block in the wrong place or of another segment; the payload's CRC32C is the one computed when
// the write was accepted and finds what went wrong anywhere since; the SHA-256 chains segments, so
// that one that was exchanged or is missing shows.

import BlockModel

/// What a segment holds. Raw values are on disk: never renumber.
public enum SegmentKind: UInt8, Sendable, Codable, CaseIterable {
    /// Every record between two LSNs.
    case log = 1
    /// Between two LSNs only what the kept points need.
    case merged = 2
    /// Every non-zero block at one LSN.
    case snapshot = 3

    /// The word in file names and messages.
    public var word: String {
        switch self {
        case .log: "log"
        case .merged: "merged"
        case .snapshot: "snapshot"
        }
    }
}

/// Numbers of the format; see the head of this file.
public enum SegmentFormat {
    public static let version: UInt16 = 1
    public static let headerBytes = 128
    public static let footerBytes = 256
    public static let recordEntryBytes = 40
    public static let extentEntryBytes = 16
    public static let tableEntryBytes = 8
    public static let blockBytesRange = 4096...(4 << 20)
    /// What writers use: a random read decompresses one such block.
    public static let blockBytesDefault = 128 << 10
    /// Bytes of a valid segment, at the least.
    public static let fileBytesMin = UInt64(headerBytes + footerBytes)
    static let headerMagic: UInt64 = 0x544E_4D47_4553_444C  // "LDSEGMNT"
    static let footerMagic: UInt64 = 0x444E_4547_4553_444C  // "LDSEGEND"
    static let volumeBytesMax: UInt64 = 1 << 63
}

/// Which part of a segment a complaint is about.
public enum SegmentPart: String, Sendable, Codable {
    case header, footer, table = "block table", index, data, digest
}

/// Why bytes are not a valid segment (rules: head of SegmentFormat.swift).
public enum SegmentError: Error, Hashable, Sendable {
    /// Too short, or without the magic at its end: not a segment, or one that was cut off.
    case notASegment
    /// Made by a newer logdisk.
    case futureVersion(UInt16)
    /// The bytes of a part do not have their checksum; for data, `block` is the block's number.
    case checksum(SegmentPart, block: Int? = nil)
    /// A rule other than a checksum is broken.
    case malformed(SegmentPart, rule: Int)
    /// A record's payload does not have the checksum that it had when it was accepted.
    case payload(LSN)
    /// It lies sealed, and its container is not valid.
    case sealed(SealedError)
}

extension SegmentError: CustomStringConvertible {
    public var description: String {
        switch self {
        case .notASegment: "not a segment, or cut off"
        case .futureVersion(let version): "format version \(version) is from a newer logdisk"
        case .checksum(.digest, _): "SHA-256 of the file is wrong"
        case .checksum(let part, let block?): "checksum of \(part.rawValue) block \(block) is wrong"
        case .checksum(let part, nil): "checksum of the \(part.rawValue) is wrong"
        case .malformed(let part, let rule): "\(part.rawValue) breaks rule \(rule) of the format"
        case .payload(let lsn): "payload of record \(lsn) has the wrong checksum"
        case .sealed(let error): error.description
        }
    }
}

/// SHA-256 of a segment: its identity in the chain.
public struct SegmentDigest: Hashable, Sendable, Codable {
    /// The 32 bytes as four big-endian words.
    private var words: SIMD4<UInt64>

    /// What stands for "no segment before".
    public static let none = SegmentDigest(words: .zero)

    private init(words: SIMD4<UInt64>) { self.words = words }

    /// From 32 bytes.
    public init(_ bytes: UnsafeRawPointer) {
        words = .zero
        for i in 0..<4 {
            words[i] = UInt64(
                bigEndian: bytes.loadUnaligned(fromByteOffset: i * 8, as: UInt64.self))
        }
    }

    func store(to target: UnsafeMutableRawPointer) {
        for i in 0..<4 {
            target.storeBytes(of: words[i].bigEndian, toByteOffset: i * 8, as: UInt64.self)
        }
    }
}

extension SegmentDigest: CustomStringConvertible {
    /// 64 hexadecimal digits.
    public var description: String {
        (0..<4).map {
            let digits = String(words[$0], radix: 16)
            return String(repeating: "0", count: 16 - digits.count) + digits
        }.joined()
    }
}
