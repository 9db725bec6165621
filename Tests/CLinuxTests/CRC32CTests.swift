// CRC32C against published vectors, and the fast implementation against the plain one.

import CLinux
import Testing

private func crc(_ bytes: [UInt8], from start: UInt32 = 0) -> UInt32 {
    bytes.withUnsafeBytes { clinux_crc32c(start, $0.baseAddress, $0.count) }
}

@Suite struct CRC32CTests {
    /// RFC 3720 (iSCSI), appendix B.4, and the check value of the algorithm's catalogue entry.
    @Test func knownVectors() {
        #expect(crc([]) == 0)
        #expect(crc(Array("123456789".utf8)) == 0xE306_9283)
        #expect(crc([UInt8](repeating: 0, count: 32)) == 0x8A91_36AA)
        #expect(crc([UInt8](repeating: 0xFF, count: 32)) == 0x62A8_AB43)
        #expect(crc((0..<32).map { $0 }) == 0x46DD_794E)
        #expect(crc((0..<32).reversed().map { $0 }) == 0x113F_DB5C)
        let readCommand: [UInt8] =
            [0x01, 0xC0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x14, 0, 0, 0, 0, 0, 4, 0]
            + [0, 0, 0, 0x14, 0, 0, 0, 0x18, 0x28, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]
        #expect(crc(readCommand) == 0xD996_3A56)
    }

    private static let sample: [UInt8] = (0..<20_000).map {
        UInt8(truncatingIfNeeded: ($0 &* 2_654_435_761) >> 13)
    }

    @Test func everySmallLengthAndAlignmentAgreesWithTheTable() {
        Self.sample.withUnsafeBytes { sample in
            let base = sample.baseAddress!
            var lengths = Array(0...600)
            // Around the borders of the interleaved rounds (3 x 160, 3 x 1360) and sectors.
            for border in [960, 4080, 4096, 4560, 8160, 8192, 12_288] {
                lengths += border - 9...border + 9
            }
            for length in lengths {
                for alignment in 0..<16 {
                    let fast = clinux_crc32c(77, base + alignment, length)
                    let plain = clinux_crc32c_portable(77, base + alignment, length)
                    if fast != plain { Issue.record("length \(length), alignment \(alignment)") }
                }
            }
        }
    }

    @Test func copyingGivesTheSameSumAndTheSameBytes() {
        Self.sample.withUnsafeBytes { sample in
            let target = UnsafeMutableRawBufferPointer.allocate(byteCount: 16_000, alignment: 64)
            defer { target.deallocate() }
            for length in Array(0...300) + [511, 512, 4079, 4080, 4081, 4096, 12_288, 13_001] {
                for alignment in 0..<8 {
                    target.initializeMemory(as: UInt8.self, repeating: 0xAA)
                    let source = sample.baseAddress! + alignment
                    let place = target.baseAddress! + (7 - alignment)
                    let sum = clinux_crc32c_copy(5, place, source, length)
                    let isRight =
                        sum == clinux_crc32c_portable(5, source, length)
                        && UnsafeRawBufferPointer(start: place, count: length).elementsEqual(
                            UnsafeRawBufferPointer(start: source, count: length))
                        && place.load(fromByteOffset: length, as: UInt8.self) == 0xAA
                    if !isRight { Issue.record("length \(length), alignment \(alignment)") }
                }
            }
        }
    }

    @Test func continuesFromAnEarlierSum() {
        let whole = crc(Self.sample)
        for cut in [0, 1, 7, 8, 511, 4096, 19_999, 20_000] {
            #expect(crc(Array(Self.sample[cut...]), from: crc(Array(Self.sample[..<cut]))) == whole)
        }
    }
}
