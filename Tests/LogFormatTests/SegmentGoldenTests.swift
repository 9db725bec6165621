// The bytes of the segment format, kept for ever: what version 1 wrote must always read, and must
// be what is written. The message of a failed comparison shows the bytes that were written.

import BlockModel
import LogFormat
import Testing

@Suite struct SegmentGoldenTests {
    private static let volume = VolumeID(high: 0x0011_2233_4455_4677, low: 0x8899_AABB_CCDD_EEFF)

    private static func header(_ kind: SegmentKind, _ lsn: UInt64) -> SegmentHeader {
        SegmentHeader(
            kind: kind, volume: volume, epoch: 3, volumeBytes: 1 << 20,
            first: Stamp(lsn: LSN(lsn), wallNanoseconds: 1_795_262_400_000_000_000),
            blockBytes: 4096)
    }

    private final class Bytes { var all: [UInt8] = [] }

    private static func encode(
        _ header: SegmentHeader, _ body: (SegmentEncoder<Never>) -> Void
    ) -> [UInt8] {
        let bytes = Bytes()
        let encoder = SegmentEncoder<Never>(header: header) { bytes.all.append(contentsOf: $0) }
        body(encoder)
        _ = encoder.finish()
        return bytes.all
    }

    private static let payload = (0..<1024).map { UInt8(truncatingIfNeeded: $0 &* 7 ^ $0 >> 3) }
    private static let name = Array("before-upgrade".utf8)

    private static func log() -> [UInt8] {
        encode(header(.log, 41)) { encoder in
            func put(
                _ lsn: UInt64, _ kind: RecordKind, _ extent: Extent, _ payload: [UInt8] = []
            ) {
                payload.withUnsafeBytes {
                    encoder.append(
                        LogRecord(
                            header: RecordHeader(
                                stamp: Stamp(
                                    lsn: LSN(lsn),
                                    wallNanoseconds: 1_795_262_400_000_000_000 + Int64(lsn - 41)),
                                kind: kind, extent: extent, payloadBytes: payload.count,
                                payloadCRC: Checksum.crc32c($0)),
                            payload: $0))
                }
            }
            let none = Extent(start: 0, count: 0)
            put(41, .write, Extent(start: 100, count: 2), payload)
            put(42, .zero, Extent(start: 100, count: 1))
            put(43, .discard, Extent(start: 0, count: 2048))
            put(44, .mark, none, name)
            put(45, .flush, none)
        }
    }

    private static func snapshot() -> [UInt8] {
        encode(header(.snapshot, 41)) { encoder in
            payload.withUnsafeBytes { encoder.appendData($0) }
            encoder.beginExtent(Extent(start: 8, count: 1))
            encoder.beginExtent(Extent(start: 16, count: 1))
        }
    }

    private static func hex(_ bytes: [UInt8]) -> String {
        bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }

    private static func check(_ bytes: [UInt8], golden: String) {
        #expect(hex(bytes) == golden.filter { !$0.isWhitespace })
    }

    private static func open(_ bytes: [UInt8]) throws -> (SegmentFooter, SegmentBlockTable) {
        try bytes.withUnsafeBytes { all in
            let footer = try SegmentFooter.decode(
                UnsafeRawBufferPointer(rebasing: all.suffix(SegmentFormat.footerBytes)),
                fileBytes: UInt64(all.count))
            let table = Int(footer.tableOffset)..<Int(footer.footerOffset)
            return (
                footer,
                try SegmentBlockTable(UnsafeRawBufferPointer(rebasing: all[table]), of: footer)
            )
        }
    }

    /// The stream of the given blocks, decompressed.
    private static func stream(
        _ blocks: Range<Int>, _ table: SegmentBlockTable, _ bytes: [UInt8]
    ) throws -> [UInt8] {
        var result: [UInt8] = []
        for number in blocks {
            let block = table[number]
            var plain = [UInt8](repeating: 0, count: block.byteCount)
            let start = Int(block.storedOffset)
            try bytes[start..<start + block.storedBytes].withUnsafeBytes { stored in
                try plain.withUnsafeMutableBytes { try block.decode(stored, into: $0) }
            }
            result += plain
        }
        return result
    }

    @Test func logBytes() throws {
        Self.check(Self.log(), golden: SegmentGolden.log)
    }

    @Test func snapshotBytes() throws {
        Self.check(Self.snapshot(), golden: SegmentGolden.snapshot)
    }

    @Test func logReads() throws {
        let bytes = SegmentGolden.bytes(SegmentGolden.log)
        let (footer, table) = try Self.open(bytes)
        #expect(footer.header == Self.header(.log, 41))
        #expect(footer.last.lsn == LSN(45) && footer.flushCount == 1 && footer.markCount == 1)
        let stream = try Self.stream(table.indexBlocks, table, bytes)
        let index = try stream.withUnsafeBytes { try RecordIndex($0, of: footer) }
        #expect(index.entries.map(\.kind) == [.write, .zero, .discard, .mark, .flush])
        #expect(index.entries.map(\.stamp.lsn.rawValue) == [41, 42, 43, 44, 45])
        #expect(index.entries[2].extent == Extent(start: 0, count: 2048))
        #expect(index.name(of: index.entries[3]) == "before-upgrade")
        #expect(try Self.stream(table.dataBlocks, table, bytes) == Self.payload)
        #expect(
            index.entries[0].payloadCRC == Self.payload.withUnsafeBytes { Checksum.crc32c($0) })
    }

    @Test func snapshotReads() throws {
        let bytes = SegmentGolden.bytes(SegmentGolden.snapshot)
        let (footer, table) = try Self.open(bytes)
        let stream = try Self.stream(table.indexBlocks, table, bytes)
        let index = try stream.withUnsafeBytes { try SnapshotIndex($0, of: footer) }
        #expect(index.extents.map(\.extent.start) == [8, 16])
        #expect(index.extents.map(\.dataOffset) == [0, 512])
        #expect(try Self.stream(table.dataBlocks, table, bytes) == Self.payload)
    }

    @Test func rubbishIsRefused() {
        var state: UInt64 = 42
        for length in 0..<2000 {
            var bytes = (0..<length % 400).map { _ -> UInt8 in
                state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                return UInt8(truncatingIfNeeded: state >> 33)
            }
            if length % 3 == 0 { bytes = [UInt8](repeating: 0, count: bytes.count) }
            if bytes.count < SegmentFormat.footerBytes {
                bytes += [UInt8](repeating: 0, count: SegmentFormat.footerBytes)
            }
            #expect(throws: SegmentError.self) { _ = try Self.open(bytes) }
            _ = bytes.withUnsafeBytes { bytes in
                #expect(throws: SegmentError.self) { _ = try SegmentHeader.decode(bytes) }
            }
        }
    }
}
