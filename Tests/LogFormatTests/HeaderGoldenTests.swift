// Golden bytes of the WAL file header, the superblock and a whole WAL record: the format is what
// lies on people's disks, so a change here is a new version, not a new golden value.

import BlockModel
import CLinux
import LogFormat
import Testing

@Suite struct HeaderGoldenTests {
    private func hex(_ bytes: ArraySlice<UInt8>) -> String {
        bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }

    private let volume = VolumeID(high: 0x0123_4567_89AB_4DEF, low: 0x8877_6655_4433_2211)

    @Test func walFileHeader() {
        let header = WALFileHeader(
            volume: volume, sequence: 0x0102, epoch: 3, epochFirstLSN: LSN(0x0A0B),
            salt: 0xC0FF_EE01, fileBytes: 67_108_864)
        var bytes = [UInt8](repeating: 0xEE, count: WALFileHeader.byteCount)
        bytes.withUnsafeMutableBytes { header.encode(to: $0) }
        #expect(hex(bytes[..<72]) == WALGolden.header)
        #expect(bytes[72..<512].allSatisfy { $0 == 0 })
        #expect(Array(bytes[..<512]) == Array(bytes[512..<1024]))
        #expect(bytes[1024...].allSatisfy { $0 == 0 })
        let decoded = bytes.withUnsafeBytes { WALFileHeader.decode($0) }
        #expect(decoded == .success(header))
        #expect(WALFileHeader.fileName(sequence: 258) == "000000000258.wal")
        #expect(WALFileHeader.sequence(fileName: "000000000258.wal") == 258)
        for name in ["258.wal", "000000000258.WAL", "0000000000258.wal", "+00000000258.wal", ""] {
            #expect(WALFileHeader.sequence(fileName: name) == nil)
        }
    }

    @Test func superblock() {
        var superblock = Superblock(
            volume: volume, volumeBytes: 10 << 30, createdWall: 0x1122_3344_5566,
            walFileBytes: 64 << 20, walBytesMax: 4 << 30, ringBytes: 64 << 20,
            imagePath: "image.raw", logDirectory: "/log")
        superblock.generation = 7
        superblock.epoch = 2
        superblock.epochFirstLSN = LSN(0x31)
        superblock.checkpoint = Stamp(lsn: LSN(0x30), wallNanoseconds: -2)
        superblock.durableLSN = LSN(0x40)
        superblock.state = .ready
        superblock.isClean = false
        var bytes = [UInt8](repeating: 0xEE, count: Superblock.slotBytes)
        bytes.withUnsafeMutableBytes { superblock.encode(to: $0) }
        #expect(superblock.slotOffset == 4096)
        #expect(hex(bytes[..<128]) == WALGolden.superblock)
        #expect(bytes[128..<512].allSatisfy { $0 == 0 })
        #expect(hex(bytes[512..<523]) == "0900696d6167652e726177")
        #expect(hex(bytes[2048..<2054]) == "04002f6c6f67")
        #expect(bytes[523..<2048].allSatisfy { $0 == 0 } && bytes[2054...].allSatisfy { $0 == 0 })
        let decoded = bytes.withUnsafeBytes { Superblock.decode($0) }
        #expect(decoded == .success(superblock))
        // Right checksum, impossible sizes.
        var strange = superblock
        strange.walFileBytes = Superblock.walFileBytesMin - 4096
        bytes.withUnsafeMutableBytes { strange.encode(to: $0) }
        #expect(bytes.withUnsafeBytes { Superblock.decode($0) } == .failure(.damaged))
    }

    @Test func record() {
        let payload = (0..<512).map { UInt8(truncatingIfNeeded: $0) }
        let crc = payload.withUnsafeBytes { clinux_crc32c(0, $0.baseAddress, $0.count) }
        let header = RecordHeader(
            stamp: Stamp(lsn: LSN(0x41), wallNanoseconds: 0x1122_3344_5566), kind: .write,
            extent: Extent(start: 0x99, count: 1), payloadBytes: 512, payloadCRC: crc,
            durableLSN: LSN(0x40))
        var bytes = [UInt8](repeating: 0, count: RecordHeader.byteCount)
        bytes.withUnsafeMutableBytes { target in
            guard let base = target.baseAddress else { return }
            header.encode(to: base, salt: 0xC0FF_EE01)
        }
        #expect(hex(bytes[..<64]) == WALGolden.record)
        #expect(bytes[64...].allSatisfy { $0 == 0 })
    }
}

/// Their checksums were computed by another implementation as well.
private enum WALGolden {
    static let header =
        "4c4457414c30303107d06c8001000000ef4dab89674523011122334455667788"
        + "020100000000000003000000000000000b0a00000000000001eeffc000000000"
        + "0000000400000000"
    static let superblock =
        "4c44535550455231ebb15c77010000000700000000000000ef4dab8967452301"
        + "1122334455667788000000800200000002000000000000003100000000000000"
        + "3000000000000000feffffffffffffff66554433221100000000000400000000"
        + "0000000001000000000000040000000002000000000000004000000000000000"
    static let record =
        "4c44523166338dee410000000000000066554433221100009900000000000000"
        + "0100000000000000000200005aee10ae01010000000000004000000000000000"
}
