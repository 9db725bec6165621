// The digest of a container (SealedFormat.swift, footer byte 304), from bytes as they come in any
// portions: SHA-256 over the CRC32C of each 65536 bytes. Pure; a value.

import Crypto

/// Digests the bytes of a container that stand before the digest.
public struct SealedDigest: Sendable {
    /// Bytes under one CRC32C; the last piece may be shorter.
    static let pieceBytes = 64 << 10

    private var sums = SHA256()
    /// Of the piece under way, of which `fill` bytes have come.
    private var crc: UInt32 = 0
    private var fill = 0

    public init() {}

    /// Counts in the next bytes.
    public mutating func update(_ bytes: UnsafeRawBufferPointer) {
        var rest = bytes
        while !rest.isEmpty {
            let count = min(rest.count, Self.pieceBytes - fill)
            crc = Checksum.crc32c(UnsafeRawBufferPointer(rebasing: rest[..<count]), continuing: crc)
            rest = UnsafeRawBufferPointer(rebasing: rest[count...])
            fill += count
            if fill == Self.pieceBytes { Self.end(&crc, &fill, &sums) }
        }
    }

    /// Of the bytes so far; more may follow.
    public func finalize() -> SegmentDigest {
        var (crc, fill, sums) = (crc, fill, sums)
        if fill > 0 { Self.end(&crc, &fill, &sums) }
        return sums.finalize().withUnsafeBytes { SegmentDigest($0.baseAddress!) }
    }

    private static func end(_ crc: inout UInt32, _ fill: inout Int, _ sums: inout SHA256) {
        withUnsafeBytes(of: crc.littleEndian) { sums.update(bufferPointer: $0) }
        (crc, fill) = (0, 0)
    }
}
