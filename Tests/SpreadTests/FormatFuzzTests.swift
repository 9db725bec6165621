// Manifest and journal: bytes that stay as they are for ever, and 20,000 changes of them: never a
// trap, never a wrong byte.

import CLinux
import Crypto
import DiskIO
import Foundation
import Spread
import Testing

@Suite struct FormatFuzzTests {
    private static let identity = SetIdentity(
        name: "monday", id: Array(0..<16), created: 1_700_000_000_123_456_789)
    private static let deviceID = [UInt8](16..<32)

    private static func remembered(_ number: UInt64) -> RememberedItem {
        RememberedItem(
            source: Array("home".utf8), path: Array("a/\(number)".utf8) + [0xFF, 0],
            offset: number << 33, size: 70_000 + number,
            stamp: FileStamp(size: 1 << 40, seconds: -5, nanoseconds: 999_999_999, changed: 77),
            digest: ContentDigest([UInt8](repeating: UInt8(number), count: 32)) ?? ContentDigest(),
            place: number)
    }

    private static var journal: [UInt8] {
        Journal.head(identity, deviceID: deviceID) + Journal.item(remembered(1))
            + Journal.item(remembered(2)) + Journal.item(remembered(3))
            + Journal.item(remembered(2), isTakenBack: true)
    }

    /// A manifest with everything in it that one can hold.
    private static func manifest() throws -> Manifest {
        let world = try SpreadWorld()
        for name in ["a", "b/c", "b/\u{e9}"] { try world.write(name, 5000) }
        try #require(link(world.source + "/a", world.source + "/b/hard") == 0)
        try #require(symlink("nowhere", world.source + "/link") == 0)
        let file = try DiskStorage().open(
            world.source + "/sparse", OpenOptions(.readWrite, creation: .exclusively))
        try file.truncate(to: 1 << 20)
        file.close()
        var scanned = try ScannedSources([SpreadSource(path: world.source, origin: "/srv/src")])
        scanned.readDetails()
        var sources = scanned.sources
        let rows = sources[0].table.rows.indices
        var extra = sources[0].table.extra(1)
        extra.attributes = [.init(name: Array("user.x".utf8), value: [0, 255])]
        extra.dataRanges = [0..<4096]
        sources[0].table.setExtra(1, extra)
        let items = rows.filter { sources[0].table.rows[$0].isFile }.enumerated().map { n, row in
            StoredItem(
                source: 0, row: row, offset: 0, size: sources[0].table.rows[row].size,
                digest: ContentDigest([UInt8](repeating: 9, count: 32)) ?? ContentDigest(),
                device: n % 2, place: UInt64(n))
        }
        return Manifest(
            identity: identity, completed: 1_700_000_001_000_000_000,
            devices: [
                ManifestDevice(name: "dir:a", id: deviceID, site: "b"),
                ManifestDevice(name: "https://h/n", id: Array(32..<48), hasFailed: true),
            ], sources: sources, items: items)
    }

    // MARK: - golden

    @Test func journalGoldenBytes() {
        let head = """
            2f000000bd17313b01000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c\
            1d1e1f15cd853dfe9c97176d6f6e646179
            """
        let item = """
            60000000840354ca020100000000000000000000000200000071110100000000000000000000\
            010000fbffffffffffffff4d00000000000000ffc99a3b010101010101010101010101010101\
            01010101010101010101010101010101010400686f6d65612f31ff00
            """
        let bytes = Journal.head(Self.identity, deviceID: Self.deviceID)
        #expect(bytes.hexText == head)
        #expect(Journal.item(Self.remembered(1)).hexText == item)
    }

    /// The smallest set: one file of three bytes, no devices that failed.
    @Test func manifestGoldenBytes() throws {
        let golden = """
            4c44535052440001000102030405060708090a0b0c0d0e0f066d6f6e646179aab4aed8c7bfce\
            972f80a8a69ccebfce972f01056469723a61101112131415161718191a1b1c1d1e1f01620001\
            0166062f7372762f6602010000a48302e807640309ff93ebdc03000100000003ba7816bf8f01\
            cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad0000d3d25c8736e23c34bda4\
            9561a9e30d6191ad29f0c2edb3f03f7ddb9122dbd432
            """
        let bytes = try #require([UInt8](hexText: golden))
        let manifest = try #require(ManifestDecoder.decode(bytes))
        #expect(manifest.identity == Self.identity)
        #expect(manifest.devices.map(\.name) == ["dir:a"])
        #expect(manifest.sources.map(\.origin) == ["/srv/f"])
        #expect(manifest.sources[0].table.rows[0].size == 3)
        #expect(manifest.items.map(\.place) == [0])
        #expect(ManifestEncoder.bytes(manifest) == bytes)
    }

    // MARK: - changes

    /// One to four changes: a bit, a byte, a cut, a piece that is doubled or taken out.
    private static func change(_ bytes: [UInt8], _ random: inout SeededRandom) -> [UInt8] {
        var bytes = bytes
        for _ in 0...random.below(4) where !bytes.isEmpty {
            let at = random.below(bytes.count)
            switch random.below(6) {
            case 0: bytes[at] ^= 1 << UInt8(random.below(8))
            case 1: bytes[at] = UInt8(random.below(256))
            case 2: bytes[at] = [0, 1, 0x7F, 0x80, 0xFF][random.below(5)]
            case 3: bytes.removeLast(bytes.count - at)
            case 4:
                let end = min(bytes.count, at + random.below(40))
                bytes.insert(contentsOf: bytes[at..<end], at: at)
            default: bytes.removeSubrange(at..<min(bytes.count, at + 1 + random.below(12)))
            }
        }
        return bytes
    }

    /// With the digest made right again, so that the fields are reached.
    @Test(arguments: [false, true]) func manifests(_ isSealed: Bool) throws {
        let manifest = try Self.manifest()
        let good = ManifestEncoder.bytes(manifest)
        let decoded = try #require(ManifestDecoder.decode(good))
        #expect(ManifestEncoder.bytes(decoded) == good)
        var random = SeededRandom(seed: isSealed ? 61 : 60)
        var accepted = 0
        for number in 0..<20_000 {
            var bytes = Self.change(Array(good.dropLast(32)), &random)
            bytes += isSealed ? Array(SHA256.hash(data: bytes)) : Array(good.suffix(32))
            guard let found = ManifestDecoder.decode(bytes) else { continue }
            accepted += 1
            // What is taken says what the bytes say, all of them.
            #expect(ManifestEncoder.bytes(found) == bytes, "change \(number)")
            #expect(isSealed || bytes == good, "change \(number)")
            for item in found.items {
                let table = found.sources[item.source].table
                #expect(item.offset + item.size <= table.rows[item.row].size, "change \(number)")
                #expect(item.device < found.devices.count, "change \(number)")
            }
        }
        #expect(!isSealed || accepted > 100, "\(accepted): the fields are not reached")
    }

    /// A journal gives a prefix of what was written, whatever is torn.
    @Test func journals() throws {
        let good = Self.journal
        let whole = try #require(Journal.decode(good))
        #expect(whole.items == [Self.remembered(1), Self.remembered(3)])
        #expect(Journal.validBytes(good) == good.count)
        let first = [1, 2, 3].map { Self.remembered($0) }
        let prefixes: [[RememberedItem]] =
            (0...3).map { Array(first[..<$0]) } + [whole.items]
        var random = SeededRandom(seed: 62)
        for number in 0..<20_000 {
            let bytes = Self.change(good, &random)
            guard let found = Journal.decode(bytes) else { continue }
            #expect(found.identity == Self.identity && found.deviceID == Self.deviceID)
            // A record that is doubled whole is a record.
            let once = found.items.reduce(into: [RememberedItem]()) {
                if !$0.contains($1) { $0.append($1) }
            }
            #expect(prefixes.contains(once), "change \(number): \(once.map(\.place))")
            #expect(Journal.validBytes(bytes) <= bytes.count)
        }
    }

    /// With the checksums made right again: what is taken is what the bytes say.
    @Test func journalsWithRightChecksums() throws {
        let head = Journal.head(Self.identity, deviceID: Self.deviceID)
        let payload = Array(Journal.item(Self.remembered(1)).dropFirst(8))
        var random = SeededRandom(seed: 63)
        var accepted = 0
        for number in 0..<20_000 {
            let changed = Self.change(payload, &random)
            let checksum = changed.withUnsafeBytes { clinux_crc32c(0, $0.baseAddress, $0.count) }
            let record =
                [UInt32(changed.count), checksum].flatMap { value in
                    withUnsafeBytes(of: value.littleEndian) { Array($0) }
                } + changed
            guard let item = Journal.decode(head + record)?.items.first else { continue }
            accepted += 1
            #expect(Journal.item(item) == record, "change \(number)")
        }
        #expect(accepted > 100)
    }
}
