// The patch: what makes of an image at one LSN the image at another. This comment is the format;
// the code around it only follows. Written front to back; read front to back, footer first.
//
// All numbers are little-endian. CRC32C is Castagnoli's, and "continued from x" means that x takes
// the place of the checksum of the bytes before.
//
//   header · pieces · footer
//
// Header, 128 bytes at offset 0
//   offset size  field
//        0    8  magic "LDPATCHF"
//        8    2  format version, 1
//       10    6  zero
//       16   16  volume UUID, in the order of its text
//       32    8  volume size in bytes: a multiple of 512, 512 ... 2^63
//       40    8  LSN of the old image
//       48    8  its wall time, nanoseconds since 1970-01-01 UTC (signed)
//       56    8  LSN of the new image
//       64    8  its wall time
//       72   52  zero
//      124    4  CRC32C of bytes 0..<124
//
// Piece: a run of bytes that differ, in address order
//        0    8  offset on the disk in bytes, a multiple of 512
//        8    4  length in bytes, a multiple of 512, 512 ... 1048576
//       12    4  bits 0..<31: bytes of the data in the file; bit 31: stored as it is;
//                0 in all: the new bytes are zeros and there is no data
//       16   32  SHA-256 of the old bytes
//       48   32  SHA-256 of the new bytes
//       80    4  CRC32C of the new bytes, continued from (header CRC32C + number of the piece,
//                from 0) mod 2^32
//       84    4  CRC32C of the sums
//       88    4  zero
//       92    4  CRC32C of bytes 0..<92, continued as at 80
//       96  4 n  sums: the CRC32C of the old bytes of each of the n = length / 512 sectors
//           ...  data: the new bytes, LZ4-compressed, or as they are where that saves under 1/16
//
// Footer, the last 64 bytes
//        0    8  number of pieces
//        8    8  bytes of all pieces on the disk
//       16   32  SHA-256 of every byte of the file before this field
//       48    4  CRC32C of footer bytes 0..<48
//       52    4  zero
//       56    8  magic "LDPATEND"
//
// A file is a valid patch if and only if
//   1. the header has the right magic and CRC32C and version 1, and fields in these ranges;
//   2. the last 64 bytes are a footer with the right magic and CRC32C;
//   3. there are as many pieces as the footer says, each with the right CRC32C, inside the volume
//      and not before the end of the one before; they end where the footer begins, and their
//      lengths sum to the footer's;
//   4. the sums of each piece have their CRC32C, and its data decompresses to exactly its length
//      with the right CRC32C and SHA-256;
//   5. the SHA-256 of the file is right.
//
// A patch fits an image if for each piece the image has the old bytes, or the new ones, or in each
// sector one or the other: so an image that was patched half-way takes the same patch again. For
// the mixture the sums tell what an old sector is.

import BlockModel
import CLinux
import Crypto

/// Numbers of the format; see the head of this file.
public enum PatchFormat {
    public static let version: UInt16 = 1
    public static let headerBytes = 128
    public static let pieceHeaderBytes = 96
    public static let footerBytes = 64
    /// Longest piece.
    public static let pieceBytesMax = 1 << 20
    /// Bytes of a valid patch, at the least.
    public static let fileBytesMin = UInt64(headerBytes + footerBytes)
    static let headerMagic: UInt64 = 0x4648_4354_4150_444C  // "LDPATCHF"
    static let footerMagic: UInt64 = 0x444E_4554_4150_444C  // "LDPATEND"
    static let digestOffset = 16
    static let rawFlag: UInt32 = 1 << 31
    static let volumeBytesMax: UInt64 = 1 << 63
}

/// Why bytes are not a valid patch (rules: head of this file).
public enum PatchError: Error, Hashable, Sendable {
    case notAPatch
    case futureVersion(UInt16)
    /// Without its end.
    case cutOff
    /// A rule is broken; in piece `piece`, if in one.
    case broken(rule: Int, piece: UInt64? = nil)
}

extension PatchError: CustomStringConvertible {
    public var description: String {
        switch self {
        case .notAPatch: "it does not begin as a patch does"
        case .futureVersion(let version): "format version \(version) is from a newer logdisk"
        case .cutOff: "its end is missing"
        case .broken(1, _): "its header is damaged"
        case .broken(2, _): "its footer is damaged"
        case .broken(5, _): "SHA-256 of the file is wrong"
        case .broken(_, let piece?): "piece \(piece) is damaged"
        case .broken(_, nil): "its pieces do not fit its footer"
        }
    }
}

extension SegmentDigest {
    /// The SHA-256 of `bytes`.
    public init(sha256Of bytes: UnsafeRawBufferPointer) {
        var hash = SHA256()
        hash.update(bufferPointer: bytes)
        self = hash.finalize().withUnsafeBytes { SegmentDigest($0.baseAddress!) }
    }
}

/// SHA-256 of bytes that come in portions.
public struct StreamDigest {
    private var hash = SHA256()

    public init() {}

    public mutating func update(_ bytes: UnsafeRawBufferPointer) {
        hash.update(bufferPointer: bytes)
    }

    public var value: SegmentDigest {
        hash.finalize().withUnsafeBytes { SegmentDigest($0.baseAddress!) }
    }
}

/// What a patch is of.
public struct PatchHeader: Hashable, Sendable {
    public var volume: VolumeID
    /// Size of the volume in bytes.
    public var volumeBytes: UInt64
    public var old: Stamp
    public var new: Stamp

    public init(volume: VolumeID, volumeBytes: UInt64, old: Stamp, new: Stamp) {
        self.volume = volume
        self.volumeBytes = volumeBytes
        self.old = old
        self.new = new
    }

    /// Writes 128 bytes; returns the CRC32C.
    func encode(to target: UnsafeMutableRawPointer) -> UInt32 {
        target.initializeMemory(as: UInt8.self, repeating: 0, count: PatchFormat.headerBytes)
        target.store(PatchFormat.headerMagic, at: 0)
        target.store(PatchFormat.version, at: 8)
        target.store(volume.high.byteSwapped, at: 16)
        target.store(volume.low.byteSwapped, at: 24)
        target.store(volumeBytes, at: 32)
        target.store(old.lsn.rawValue, at: 40)
        target.store(old.wallNanoseconds, at: 48)
        target.store(new.lsn.rawValue, at: 56)
        target.store(new.wallNanoseconds, at: 64)
        let crc = clinux_crc32c(0, target, 124)
        target.store(crc, at: 124)
        return crc
    }

    /// Reads the header and its CRC32C from the first 128 bytes.
    static func decode(
        _ source: UnsafeRawBufferPointer
    ) throws(PatchError) -> (header: PatchHeader, crc: UInt32) {
        guard source.count >= PatchFormat.headerBytes, let base = source.baseAddress,
            base.load(0, as: UInt64.self) == PatchFormat.headerMagic
        else { throw .notAPatch }
        let crc = base.load(124, as: UInt32.self)
        guard clinux_crc32c(0, base, 124) == crc else { throw .broken(rule: 1) }
        let version = base.load(8, as: UInt16.self)
        guard version == PatchFormat.version else { throw .futureVersion(version) }
        let header = PatchHeader(
            volume: VolumeID(
                high: base.load(16, as: UInt64.self).byteSwapped,
                low: base.load(24, as: UInt64.self).byteSwapped),
            volumeBytes: base.load(32, as: UInt64.self),
            old: Stamp(
                lsn: LSN(base.load(40, as: UInt64.self)),
                wallNanoseconds: base.load(48, as: Int64.self)),
            new: Stamp(
                lsn: LSN(base.load(56, as: UInt64.self)),
                wallNanoseconds: base.load(64, as: Int64.self)))
        guard header.volumeBytes > 0, header.volumeBytes <= PatchFormat.volumeBytesMax,
            header.volumeBytes % UInt64(Sector.bytes) == 0
        else { throw .broken(rule: 1) }
        return (header, crc)
    }
}

/// The end of a patch.
struct PatchFooter: Hashable, Sendable {
    var pieceCount: UInt64
    var changedBytes: UInt64
    var digest: SegmentDigest

    /// The bytes that the digest covers.
    func encodeBeforeDigest(to target: UnsafeMutableRawPointer) {
        target.store(pieceCount, at: 0)
        target.store(changedBytes, at: 8)
    }

    func encode(to target: UnsafeMutableRawPointer) {
        encodeBeforeDigest(to: target)
        digest.store(to: target + PatchFormat.digestOffset)
        target.store(clinux_crc32c(0, target, 48), at: 48)
        target.store(UInt32(0), at: 52)
        target.store(PatchFormat.footerMagic, at: 56)
    }

    static func decode(_ source: UnsafeRawBufferPointer) throws(PatchError) -> PatchFooter {
        guard source.count == PatchFormat.footerBytes, let base = source.baseAddress,
            base.load(56, as: UInt64.self) == PatchFormat.footerMagic
        else { throw .cutOff }
        guard clinux_crc32c(0, base, 48) == base.load(48, as: UInt32.self),
            base.load(52, as: UInt32.self) == 0
        else { throw .broken(rule: 2) }
        return PatchFooter(
            pieceCount: base.load(0, as: UInt64.self), changedBytes: base.load(8, as: UInt64.self),
            digest: SegmentDigest(base + PatchFormat.digestOffset))
    }
}
