// Header, manifest and journal: bytes that stay as they are, and damage that is seen.

import Foundation
import Spread
import Testing

@Suite struct SetFormatTests {
    static let header = SegmentHeader(
        setName: Array("monday".utf8), setID: Array(0..<16), source: Array("home".utf8),
        path: Array("a b/%\u{1}".utf8) + [0xFF], offset: 4096, size: 10, total: 5000, position: 3,
        count: 17, digest: [UInt8](repeating: 0xAB, count: 32))

    @Test func headerGoldenBytes() {
        let text = """
            logdisk-spread segment 1
            set monday
            set-id 000102030405060708090a0b0c0d0e0f
            source home
            path a%20b/%25%01%FF
            offset 4096
            size 10
            total 5000
            position 3 of 17
            sha256 abababababababababababababababababababababababababababababababab
            header-bytes 4096

            """
        let bytes = Self.header.encoded()
        #expect(bytes.count == 4096)
        #expect(bytes.starts(with: text.utf8))
        #expect(bytes.dropFirst(text.utf8.count).starts(with: "crc32c ".utf8))
        #expect(SegmentHeader(decoding: bytes) == Self.header)
        #expect(SegmentHeader.claimedBytes(bytes) == 4096)
    }

    @Test func noFlippedBitOfAHeaderPasses() {
        let bytes = Self.header.encoded()
        for position in 0..<600 {
            for bit in 0..<8 {
                var damaged = bytes
                damaged[position] ^= 1 << bit
                #expect(SegmentHeader(decoding: damaged) == nil, "byte \(position)")
            }
        }
    }

    @Test func longPathsMakeLongHeaders() {
        var header = Self.header
        header.path = [UInt8](repeating: 0x20, count: 4000)
        header.digest = nil
        let without = header.encoded().count
        header.digest = [UInt8](repeating: 1, count: 32)
        #expect(header.encoded().count == without && without > 4096)
        #expect(SegmentHeader(decoding: header.encoded()) == header)
    }
}
