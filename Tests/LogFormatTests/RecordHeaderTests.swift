// The record header: round trip, golden bytes, and no flipped bit passes.

import BlockModel
import LogFormat
import Testing

private let salt: UInt32 = 0x5A17_0001

private func encoded(_ header: RecordHeader, salt: UInt32 = salt) -> [UInt8] {
    var sector = [UInt8](repeating: 0, count: RecordHeader.byteCount)
    sector.withUnsafeMutableBytes { header.encode(to: $0.baseAddress!, salt: salt) }
    return sector
}

private func decoded(_ sector: [UInt8], salt: UInt32 = salt) -> RecordHeader? {
    sector.withUnsafeBytes { RecordHeader.decode($0.baseAddress!, salt: salt) }
}

/// Sectors of the longest write.
private let longest = UInt64(RecordHeader.payloadBytesMax / Sector.bytes)

private let valid: [RecordHeader] = [
    RecordHeader(
        stamp: Stamp(lsn: LSN(1), wallNanoseconds: 1_795_255_503_200_000_000), kind: .write,
        extent: Extent(start: 2048, count: 8), payloadBytes: 4096, payloadCRC: 0xDEAD_BEEF),
    RecordHeader(
        stamp: Stamp(lsn: LSN(0x0102_0304_0506_0708), wallNanoseconds: -5), kind: .write,
        extent: Extent(start: (1 << 54) - longest, count: longest),
        payloadBytes: RecordHeader.payloadBytesMax, payloadCRC: 0,
        durableLSN: LSN(0x0102_0304_0506_0700)),
    RecordHeader(
        stamp: Stamp(lsn: LSN(2), wallNanoseconds: 0), kind: .zero,
        extent: Extent(start: 0, count: 1 << 54), payloadBytes: 0, payloadCRC: 0),
    RecordHeader(
        stamp: Stamp(lsn: LSN(3), wallNanoseconds: 7), kind: .discard,
        extent: Extent(start: 9, count: 1), payloadBytes: 0, payloadCRC: 0, durableLSN: LSN(2)),
    RecordHeader(
        stamp: Stamp(lsn: LSN(4), wallNanoseconds: 7), kind: .flush,
        extent: Extent(start: 0, count: 0), payloadBytes: 0, payloadCRC: 0),
    RecordHeader(
        stamp: Stamp(lsn: LSN(5), wallNanoseconds: .max), kind: .mark,
        extent: Extent(start: 0, count: 0), payloadBytes: 255, payloadCRC: 1),
    RecordHeader(
        stamp: Stamp(lsn: LSN.max, wallNanoseconds: .min), kind: .pad,
        extent: Extent(start: 0, count: 3), payloadBytes: 0, payloadCRC: 0),
]

@Suite struct RecordHeaderTests {
    @Test(arguments: valid) func roundTrip(_ header: RecordHeader) {
        #expect(decoded(encoded(header)) == header)
    }

    @Test(arguments: valid) func noFlippedBitPasses(_ header: RecordHeader) {
        let sector = encoded(header)
        for bit in 0..<64 * 8 {
            var damaged = sector
            damaged[bit / 8] ^= 1 << UInt8(bit % 8)
            if decoded(damaged) != nil { Issue.record("bit \(bit) passed") }
        }
    }

    @Test(arguments: valid) func anotherSaltNeverPasses(_ header: RecordHeader) {
        let sector = encoded(header)
        for bit in 0..<32 { #expect(decoded(sector, salt: salt ^ (1 << UInt32(bit))) == nil) }
        #expect(decoded(sector, salt: 0) == nil)
    }

    /// The format, byte by byte. A change here is a new format version.
    @Test func goldenBytes() {
        let header = RecordHeader(
            stamp: Stamp(lsn: LSN(0x1122_3344_5566_7788), wallNanoseconds: 0x0A0B_0C0D_0E0F_1011),
            kind: .write, extent: Extent(start: 0x0031_3233_3435_3637, count: 8),
            payloadBytes: 4096, payloadCRC: 0xC1C2_C3C4, durableLSN: LSN(0xD1D2_D3D4_D5D6_D7D8))
        let golden: [UInt8] = [
            0x4C, 0x44, 0x52, 0x31,  // LDR1
            0xD3, 0xA5, 0x72, 0x99,  // CRC32C, computed apart from this code
            0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11,  // LSN
            0x11, 0x10, 0x0F, 0x0E, 0x0D, 0x0C, 0x0B, 0x0A,  // wall time
            0x37, 0x36, 0x35, 0x34, 0x33, 0x32, 0x31, 0x00,  // first LBA
            0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,  // sectors
            0x00, 0x10, 0x00, 0x00,  // payload bytes
            0xC4, 0xC3, 0xC2, 0xC1,  // payload CRC32C
            0x01, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,  // kind, version
            0xD8, 0xD7, 0xD6, 0xD5, 0xD4, 0xD3, 0xD2, 0xD1,  // durable LSN
        ]
        let sector = encoded(header)
        #expect(Array(sector[..<64]) == golden)
        #expect(sector[64...].allSatisfy { $0 == 0 })
    }

    /// Headers with a right checksum whose fields contradict each other.
    @Test(
        arguments: [
            (.write, 0, 0, 0), (.write, 0, 8, 4095), (.write, 0, 7, 4096), (.write, 0, 8, 0),
            (.write, 0, longest + 1, RecordHeader.payloadBytesMax + 512),
            (.write, UInt64.max, 8, 4096),
            (.write, 1 << 54, 8, 4096),
            (.zero, 0, 0, 0), (.zero, 0, 1, 512), (.zero, 1, 1 << 54, 0), (.zero, 5, .max, 0),
            (.discard, 0, 0, 0), (.flush, 0, 1, 0), (.flush, 0, 0, 512), (.mark, 0, 0, 0),
            (.mark, 0, 0, 256), (.mark, 0, 1, 5), (.pad, 0, 0, 0), (.pad, 0, 1, 1),
        ] as [(RecordKind, UInt64, UInt64, Int)])
    func implausibleHeadersAreRefused(
        _ row: (kind: RecordKind, start: UInt64, count: UInt64, payloadBytes: Int)
    ) {
        let header = RecordHeader(
            stamp: Stamp(lsn: LSN(1), wallNanoseconds: 0), kind: row.kind,
            extent: Extent(start: row.start, count: row.count), payloadBytes: row.payloadBytes,
            payloadCRC: 0)
        #expect(decoded(encoded(header)) == nil)
    }

    @Test func zerosAndOnesAreNoHeader() {
        for value in [0, 0xFF] as [UInt8] {
            let sector = [UInt8](repeating: value, count: 512)
            for salt in [0, 1, salt] as [UInt32] { #expect(decoded(sector, salt: salt) == nil) }
        }
    }

    @Test func lengthInTheLog() {
        #expect(RecordHeader.logBytes(payloadBytes: 0) == 512)
        #expect(RecordHeader.logBytes(payloadBytes: 1) == 1024)
        #expect(RecordHeader.logBytes(payloadBytes: 512) == 1024)
        #expect(RecordHeader.logBytes(payloadBytes: 4096) == 4608)
    }
}
