// The patch format: golden bytes, round trips, and that no damage passes and none traps.

import BlockModel
import DiskIO
import LogFormat
import Testing

@Suite struct PatchFormatTests {
    private struct Piece: Equatable {
        var offset: UInt64
        var old: [UInt8]
        var new: [UInt8]
    }

    private struct Decoded: Equatable {
        var offset: UInt64
        var new: [UInt8]
        var isZeros: Bool
        /// For each sector of the piece whether the old bytes given to the encoder pass its sum.
        var oldPasses: Bool
    }

    private static let header = PatchHeader(
        volume: VolumeID(high: 0x0123_4567_89AB_4DEF, low: 0x8877_6655_4433_2211),
        volumeBytes: 8 << 20, old: Stamp(lsn: LSN(41), wallNanoseconds: 1_795_000_000_000_000_000),
        new: Stamp(lsn: LSN(44), wallNanoseconds: 1_795_000_001_000_000_000))

    private static func encode(_ pieces: [Piece]) -> [UInt8] {
        var bytes: [UInt8] = []
        let encoder = PatchEncoder<Never>(header: header) { bytes.append(contentsOf: $0) }
        for piece in pieces {
            piece.old.withUnsafeBytes { old in
                piece.new.withUnsafeBytes { new in
                    encoder.append(offset: piece.offset, old: old, new: new)
                }
            }
        }
        encoder.finish()
        return bytes
    }

    /// Everything in it, or the first complaint.
    private static func decode(
        _ bytes: [UInt8], _ pieces: [Piece] = []
    ) -> Result<[Decoded], PatchError> {
        do throws(PatchDecoder<Never>.Problem) {
            let decoder = try PatchDecoder<Never>(fileBytes: UInt64(bytes.count)) {
                target, offset in
                target.copyBytes(from: bytes[Int(offset)..<Int(offset) + target.count])
            }
            var found: [Decoded] = []
            while let piece = try decoder.next() {
                let old = pieces.first { $0.offset == piece.offset }?.old ?? []
                let passes = old.withUnsafeBytes { old in
                    (0..<old.count / 512).allSatisfy {
                        piece.isOld(
                            sector: $0,
                            UnsafeRawBufferPointer(rebasing: old[$0 * 512..<$0 * 512 + 512])
                        )
                    }
                }
                #expect(old.isEmpty || piece.oldDigest == SegmentDigest(old))
                found.append(
                    Decoded(
                        offset: piece.offset, new: Array(piece.new), isZeros: piece.isZeros,
                        oldPasses: passes))
            }
            #expect(decoder.header == header)
            return .success(found)
        } catch {
            switch error {
            case .patch(let problem): return .failure(problem)
            }
        }
    }

    private static func pieces() -> [Piece] {
        var random = SeededRandom(seed: 7)
        let noise = (0..<1024).map { _ in UInt8(truncatingIfNeeded: random.next()) }
        return [
            Piece(offset: 512, old: noise, new: [UInt8](repeating: 0x61, count: 1024)),
            Piece(offset: 4096, old: [UInt8](repeating: 1, count: 1024), new: noise),
            Piece(offset: 1 << 20, old: noise, new: [UInt8](repeating: 0, count: 1024)),
        ]
    }

    @Test func roundTrip() throws {
        let pieces = Self.pieces()
        let bytes = Self.encode(pieces)
        let found = try Self.decode(bytes, pieces).get()
        #expect(found.map(\.offset) == pieces.map(\.offset))
        #expect(found.map(\.new) == pieces.map(\.new))
        #expect(found.map(\.isZeros) == [false, false, true])
        #expect(found.map(\.oldPasses) == [true, true, true])
        #expect(try Self.decode(Self.encode([])).get() == [])
    }

    @Test func longRunsBecomeSeveralPieces() throws {
        let new = [UInt8](repeating: 5, count: (2 << 20) + 512)
        let piece = Piece(offset: 0, old: [UInt8](repeating: 0, count: new.count), new: new)
        let found = try Self.decode(Self.encode([piece])).get()
        #expect(found.map(\.new.count) == [1 << 20, 1 << 20, 512])
    }

    /// What lies on people's disks: a change here is a new version.
    @Test func goldenBytes() {
        let bytes = Self.encode([
            Piece(
                offset: 1536, old: [UInt8](repeating: 2, count: 512),
                new: [UInt8](repeating: 9, count: 512))
        ])
        #expect(bytes == SegmentGolden.bytes(PatchGolden.onePiece))
    }

    @Test func noFlippedBitPasses() {
        let bytes = Self.encode(Self.pieces())
        for bit in 0..<bytes.count * 8 {
            var damaged = bytes
            damaged[bit / 8] ^= 1 << UInt8(bit % 8)
            guard case .failure = Self.decode(damaged) else {
                Issue.record("bit \(bit) passed")
                continue
            }
        }
    }

    @Test func noCutPasses() {
        let bytes = Self.encode(Self.pieces())
        for count in 0..<bytes.count {
            guard case .failure = Self.decode(Array(bytes[..<count])) else {
                Issue.record("a patch of \(count) bytes passed")
                continue
            }
        }
        #expect(Self.decode([]) == .failure(.notAPatch))
        #expect(Self.decode(Array(bytes[..<100])) == .failure(.cutOff))
        #expect(Self.decode(Array(bytes.dropLast())) == .failure(.cutOff))
    }

    @Test(arguments: 0..<200 as Range<UInt64>) func rubbishNeverTraps(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        var bytes = Self.encode(Self.pieces())
        for _ in 0..<1 + random.below(40) {
            switch random.below(3) {
            case 0: bytes[random.below(bytes.count)] = UInt8(truncatingIfNeeded: random.next())
            case 1:
                let at = random.below(bytes.count)
                bytes.insert(contentsOf: bytes[random.below(at + 1)...at], at: at)
            default:
                let at = random.below(bytes.count)
                bytes.removeSubrange(at..<min(bytes.count, at + 1 + random.below(64)))
                if bytes.isEmpty { bytes = [0] }
            }
        }
        _ = Self.decode(bytes)
    }
}

extension SegmentDigest {
    fileprivate init(_ bytes: [UInt8]) {
        self = bytes.withUnsafeBytes { SegmentDigest(sha256Of: $0) }
    }
}

enum PatchGolden {
    static let onePiece = """
        4c4450415443484601000000000000000123456789ab4def8877665544332211000080000000000029000000
        000000000080d35bfd1ee9182c00000000000000004a6e97fd1ee91800000000000000000000000000000000
        000000000000000000000000000000000000000000000000000000000000000000000000807f321800060000
        00000000000200000c0000001bd8d04bb127c9dbdb406c3c213b202c84dc75f122ecd553b02fb322bffafdc9
        702afe5b5f6a15bb360d0ea9771e100d37f1dd68ec666b481f8ef5b098404336b31eb781f6b97d3e00000000
        4b04ca11db239eaa1f090100ffe8500909090909010000000000000000020000000000007c0e7fc5a69312d2
        5e4bb469514665ed57e10bb8322d17291cef15a145f408c358fe83b2000000004c44504154454e44
        """
}
