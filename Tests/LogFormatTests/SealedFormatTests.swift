// The bytes of the sealed container, kept for ever, and that no changed byte is ever taken for a
// right one. The golden bytes were made by another program from the comment that is the format.

import BlockModel
import DiskIO
import LogFormat
import Testing

/// A container made with known keys, and read back in whole.
enum SealedSample {
    static let key = key(0)
    static let dataKey = (64..<96).map { UInt8($0) }
    static let nonce = (200..<212).map { UInt8($0) }

    static func key(_ start: UInt8) -> SealingKey {
        guard let key = (0..<32).map({ start &+ $0 }).withUnsafeBytes({ SealingKey($0) }) else {
            preconditionFailure("a key has 32 bytes")
        }
        return key
    }

    static func plain(_ count: Int) -> [UInt8] {
        (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 31 ^ $0 >> 8) }
    }

    private final class Bytes { var all: [UInt8] = [] }

    /// Sealed in portions of `portion` bytes; as the log of LSNs `first` to `last`.
    static func seal(
        _ plain: [UInt8], _ first: UInt64, _ last: UInt64, portion: Int = 70_001,
        with cipher: SealedCipher? = nil
    ) -> [UInt8] {
        let bytes = Bytes()
        let cipher =
            cipher ?? SealedCipher(sealingWith: key, dataKey: dataKey, nonce: nonce)
        let encoder = SealedEncoder<Never>(cipher, key: key) { bytes.all.append(contentsOf: $0) }
        for start in stride(from: 0, to: plain.count, by: portion) {
            plain[start..<min(plain.count, start + portion)].withUnsafeBytes { encoder.append($0) }
        }
        encoder.finish(kind: .log, first: LSN(first), last: LSN(last))
        return bytes.all
    }

    static func footer(_ container: [UInt8]) throws(SealedError) -> SealedFooter {
        let tail = Array(container.suffix(SealedFormat.footerBytes))
        return try reading(tail) { bytes throws(SealedError) in
            try SealedFooter.decode(bytes, fileBytes: UInt64(container.count))
        }
    }

    /// All that a reader of every byte checks.
    static func open(_ container: [UInt8], with key: SealingKey = key) throws(SealedError)
        -> [UInt8]
    {
        let footer = try footer(container)
        let cipher = try SealedCipher(opening: footer.header, with: key)
        try reading(Array(container.suffix(SealedFormat.footerBytes))) {
            bytes throws(SealedError) in
            try cipher.check(footer: bytes)
        }
        guard container.withUnsafeBytes({ footer.header.isAt(start: $0) }) else {
            throw .malformed(.header, rule: 4)
        }
        let layout = footer.layout
        var plain: [UInt8] = []
        for number in 0..<layout.chunkCount {
            let range = layout.fileRange(number)
            let sealed = Array(container[Int(range.lowerBound)..<Int(range.upperBound)])
            let target = UnsafeMutableRawBufferPointer.allocate(
                byteCount: sealed.count - SealedFormat.tagBytes, alignment: 1)
            defer { target.deallocate() }
            try reading(sealed) { bytes throws(SealedError) in
                try cipher.open(
                    chunk: number, isTail: number == layout.tailNumber, bytes, into: target)
            }
            plain += target
        }
        return plain
    }

    static func reading<T>(
        _ bytes: [UInt8], _ body: (UnsafeRawBufferPointer) throws(SealedError) -> T
    ) throws(SealedError) -> T {
        let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 1)
        defer { copy.deallocate() }
        copy.copyBytes(from: bytes)
        return try body(UnsafeRawBufferPointer(copy))
    }
}

@Suite struct SealedGoldenTests {
    private static func hex(_ bytes: [UInt8]) -> String {
        bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }

    @Test func aLog() throws {
        let golden = SegmentGolden.bytes(SealedGolden.log)
        let plain = SegmentGolden.bytes(SegmentGolden.log)
        let sealed = SealedSample.seal(plain, 41, 45)
        #expect(sealed == golden, "\(Self.hex(sealed))")
        #expect(try SealedSample.open(golden) == plain)
        let footer = try SealedSample.footer(golden)
        #expect(footer.header.keyID == SealedSample.key.id)
        let label = footer.label
        #expect(label.kind == .log && label.plainBytes == UInt64(plain.count))
        #expect(label.first == Stamp(lsn: LSN(41), wallNanoseconds: 1_795_262_400_000_000_000))
        #expect(label.last == Stamp(lsn: LSN(45), wallNanoseconds: 1_795_262_400_000_000_004))
        #expect(label.content?.volumeBytes == 1 << 20 && label.content?.epoch == 3)
        let tail = Array(plain.suffix(256))
        let inner = try tail.withUnsafeBytes {
            try SegmentFooter.decode($0, fileBytes: UInt64(plain.count))
        }
        let volume = inner.header.volume
        #expect(label.content?.volume == volume)
        #expect(
            label.content?.chainID == SealedSample.key.chainID(of: inner.digest, volume: volume))
        #expect(label.content?.chainID != inner.digest && label.content?.predecessorID == nil)
    }

    @Test func bytesThatAreNoSegment() throws {
        for golden in SealedGolden.digests {
            let plain = SealedSample.plain(golden.byteCount)
            for portion in [1 << 20, 65_536, 65_792, golden.byteCount < 1000 ? 1 : 997] {
                let sealed = SealedSample.seal(plain, 1, 9, portion: portion)
                #expect(sealed.count == golden.containerBytes)
                let digest = sealed.withUnsafeBytes { SegmentDigest.ofAll($0) }
                #expect("\(digest)" == golden.digest, "\(golden.byteCount) by \(portion)")
                #expect(try SealedSample.open(sealed) == plain)
                #expect(try SealedSample.footer(sealed).label.content == nil)
            }
        }
    }

    @Test func sizesBothWays() {
        var plain: [UInt64] = Array(0...600)
        for chunks in [1, 2, 3, 1000] as [UInt64] {
            for offset in 0...600 as ClosedRange<UInt64> { plain.append(chunks * 65_536 + offset) }
        }
        plain += [1 << 40, 1 << 54]
        var sizes: Set<UInt64> = []
        for count in plain {
            guard let layout = SealedLayout(plainBytes: count) else {
                Issue.record("\(count) is possible")
                continue
            }
            sizes.insert(layout.fileBytes)
            #expect(SealedLayout(fileBytes: layout.fileBytes) == layout)
            #expect(layout.plainRange(layout.tailNumber).upperBound == count)
            #expect(layout.fileRange(layout.tailNumber).upperBound == layout.footerOffset)
            for offset in [0, count / 2, count - min(count, 257), count - min(count, 1)]
            where offset < count {
                #expect(layout.plainRange(layout.chunk(holding: offset)).contains(offset))
            }
        }
        #expect(SealedLayout(plainBytes: 1 << 54 + 1) == nil)
        for size in 0...(66_000 as UInt64) where !sizes.contains(size) {
            // What is a size is the size of the length that it says.
            guard let layout = SealedLayout(fileBytes: size) else { continue }
            #expect(layout.fileBytes == size && layout.plainBytes > 600)
        }
        for size in [UInt64.max, 1 << 63, 1 << 55] { #expect(SealedLayout(fileBytes: size) == nil) }
    }
}

@Suite struct SealedDamageTests {
    private static let plain = SegmentGolden.bytes(SegmentGolden.log)
    private static let container = SegmentGolden.bytes(SealedGolden.log)

    @Test func everyFlippedBitIsRefused() {
        for i in Self.container.indices {
            for bit in [0, 3, 7] {
                var bytes = Self.container
                bytes[i] ^= 1 << UInt8(bit)
                #expect(throws: SealedError.self, "byte \(i), bit \(bit)") {
                    try SealedSample.open(bytes)
                }
            }
        }
    }

    @Test func everyTruncationIsRefused() {
        for count in 0..<Self.container.count {
            #expect(throws: SealedError.self) {
                try SealedSample.open(Array(Self.container[..<count]))
            }
            #expect(throws: SealedError.self) {
                try SealedSample.open(Array(Self.container[(Self.container.count - count)...]))
            }
        }
    }

    /// Chunks moved, left out or taken from another container, with footers made to fit.
    @Test func chunksOutOfPlace() throws {
        let plain = [UInt8](repeating: 7, count: 3 * 65_536 + 256)
        let one = SealedSample.seal(plain, 1, 9)
        let other = SealedSample.seal(
            plain, 1, 9, with: SealedCipher(sealingWith: SealedSample.key))
        #expect(try SealedSample.open(other) == plain)
        let layout = try SealedSample.footer(one).layout
        func range(_ n: UInt64) -> Range<Int> {
            Int(layout.fileRange(n).lowerBound)..<Int(layout.fileRange(n).upperBound)
        }
        var swapped = one
        swapped.replaceSubrange(range(0), with: one[range(1)])
        swapped.replaceSubrange(range(1), with: one[range(0)])
        #expect(throws: SealedError.tag(.chunk(0))) { try SealedSample.open(swapped) }
        for n in 0..<layout.chunkCount {
            var mixed = one
            mixed.replaceSubrange(range(n), with: other[range(n)])
            #expect(throws: SealedError.tag(.chunk(n))) { try SealedSample.open(mixed) }
        }
        // A whole chunk less, with the footer of a shorter segment of the same key.
        var short = one
        short.removeSubrange(range(2))
        #expect(throws: SealedError.malformed(.footer, rule: 3)) { try SealedSample.open(short) }
        let shorter = SealedSample.seal(Array(plain.dropFirst(65_536)), 1, 9)
        short.replaceSubrange((short.count - 384)..., with: shorter.suffix(384))
        #expect(throws: SealedError.self) { try SealedSample.open(short) }
    }

    /// The header of another container, in both places and with right checksums.
    @Test func wrappedKeysExchanged() {
        let other = SealedSample.seal(
            Self.plain, 41, 45, with: SealedCipher(sealingWith: SealedSample.key))
        var bytes = Self.container
        bytes.replaceSubrange(..<128, with: other[..<128])
        let footer = bytes.count - 384
        bytes.replaceSubrange(footer..<footer + 128, with: other[..<128])
        Self.mendChecksums(&bytes)
        #expect(throws: SealedError.tag(.footer)) { try SealedSample.open(bytes) }
        // Only the 48 bytes of the wrapped key: the nonce is another one.
        bytes = Self.container
        for start in [0, footer] {
            bytes.replaceSubrange(start + 48..<start + 96, with: other[48..<96])
            let crc = bytes[start..<start + 124].withUnsafeBytes { Checksum.crc32c($0) }
            withUnsafeBytes(of: crc.littleEndian) {
                bytes.replaceSubrange(start + 124..<start + 128, with: $0)
            }
        }
        Self.mendChecksums(&bytes)
        #expect(throws: SealedError.tag(.dataKey)) { try SealedSample.open(bytes) }
    }

    /// What is told of the segment cannot be changed, although its checksum can be made to fit.
    @Test func aLabelThatWasChanged() {
        let footer = Self.container.count - 384
        for field in [128, 144, 154, 160, 168, 176, 184, 208, 240] {
            var bytes = Self.container
            bytes[footer + field] ^= 1
            Self.mendChecksums(&bytes)
            #expect(throws: SealedError.self, "field \(field)") { try SealedSample.open(bytes) }
        }
    }

    @Test func anotherKeyIsToldAsSuch() {
        #expect(throws: SealedError.otherKey(SealedSample.key.id)) {
            try SealedSample.open(Self.container, with: SealedSample.key(1))
        }
    }

    @Test func newerVersionsAreToldAsSuch() {
        var bytes = Self.container
        bytes[bytes.count - 16] = 2
        Self.mendChecksums(&bytes)
        #expect(throws: SealedError.futureVersion(2)) { try SealedSample.open(bytes) }
    }

    @Test func noPlaintextShows() {
        let words = Array("the secret of the house".utf8)
        let plain = Array((0..<3000).map { _ in words }.joined())
        let sealed = SealedSample.seal(plain, 1, 9)
        #expect(plain.count > 65_536)
        for start in 0...sealed.count - 8 {
            #expect(!sealed[start..<start + 8].elementsEqual(words[..<8]))
        }
    }

    /// Random bytes, and valid ones with random changes under right checksums: never a trap, and
    /// never another content.
    @Test(arguments: [1, 2, 3] as [UInt64]) func fuzz(_ seed: UInt64) {
        var random = SeededRandom(seed: seed)
        for _ in 0..<3000 {
            var bytes = Self.container
            switch random.below(4) {
            case 0: bytes = (0..<random.below(2000)).map { _ in UInt8(random.below(256)) }
            case 1: bytes.removeSubrange(..<random.below(bytes.count))
            case 2: bytes.removeLast(random.below(bytes.count))
            default: break
            }
            for _ in 0..<random.below(4) where !bytes.isEmpty {
                bytes[random.below(bytes.count)] = UInt8(random.below(256))
            }
            if bytes.count >= 384, random.chance(0.7) { Self.mendChecksums(&bytes) }
            if let plain = try? SealedSample.open(bytes) { #expect(plain == Self.plain) }
        }
    }

    /// As an attacker would: digest, CRC32C and magic made anew.
    private static func mendChecksums(_ bytes: inout [UInt8]) {
        let footer = bytes.count - 384
        var digest = SealedDigest()
        bytes[..<(footer + 304)].withUnsafeBytes { digest.update($0) }
        let sum = digest.finalize()
        bytes.replaceSubrange(footer + 304..<footer + 336, with: sum.bytes)
        let crc = bytes[footer..<footer + 372].withUnsafeBytes { Checksum.crc32c($0) }
        withUnsafeBytes(of: crc.littleEndian) {
            bytes.replaceSubrange(footer + 372..<footer + 376, with: $0)
        }
        bytes.replaceSubrange(footer + 376..<footer + 384, with: Array("LDSEAEND".utf8))
    }
}
