// Extent arithmetic and volume identities.

import BlockModel
import Testing

@Suite struct ExtentTests {
    @Test func arithmetic() {
        let extent = Extent(start: 10, count: 5)
        #expect(extent.end == 15 && !extent.isEmpty)
        #expect(extent.byteOffset == 5120 && extent.byteCount == 2560)
        #expect(Extent(start: 3, count: 0).isEmpty)
    }

    /// All pairs of small extents against sets of sectors.
    @Test func overlapAndIntersectionAgreeWithSets() {
        let all = (0..<7).flatMap { start in
            (0..<7).map { Extent(start: UInt64(start), count: UInt64($0)) }
        }
        for a in all {
            for b in all {
                let common = Set(a.start..<a.end).intersection(b.start..<b.end)
                if !a.isEmpty && !b.isEmpty { #expect(a.overlaps(b) == !common.isEmpty) }
                let cut = a.intersection(b)
                #expect(Set(cut.map { $0.start..<$0.end } ?? 0..<0) == common, "\(a) \(b)")
            }
        }
    }

    @Test(
        arguments: [
            (0, 0, 0, 0), (0, 1, 0, 1), (0, 512, 0, 1), (0, 513, 0, 2), (511, 1, 0, 1),
            (511, 2, 0, 2), (512, 512, 1, 1), (1000, 3000, 1, 7), (4096, 4096, 8, 8),
            (700, 0, 1, 0),
        ] as [(UInt64, UInt64, UInt64, UInt64)])
    func coversBytes(_ row: (offset: UInt64, count: UInt64, start: UInt64, sectors: UInt64)) {
        let extent = Extent(coveringBytesAt: row.offset, count: row.count)
        #expect(extent == Extent(start: row.start, count: row.sectors))
    }
}

@Suite struct VolumeIDTests {
    @Test func textAndBack() throws {
        let id = VolumeID(high: 0x0123_4567_89AB_4DEF, low: 0x8000_0000_0000_0001)
        #expect(id.description == "01234567-89ab-4def-8000-000000000001")
        #expect(VolumeID(id.description) == id)
        #expect(VolumeID("01234567-89AB-4DEF-8000-000000000001") == id)
        for _ in 0..<100 {
            let id = VolumeID.random()
            #expect(VolumeID(id.description) == id)
            #expect(id.high >> 12 & 0xF == 4 && id.low >> 62 == 0b10, "version 4, RFC 9562")
        }
    }

    @Test(arguments: [
        "", "01234567", "01234567-89ab-4def-8000-00000000000",
        "0123456789ab-4def-8000-000000000001",
        "01234567-89ab-4def-8000-00000000000g", "+1234567-89ab-4def-8000-000000000001",
        "01234567-89ab-4def-+000-000000000001", "01234567-89ab-4def-8000-000000000001-",
    ]) func refusesOtherText(_ text: String) {
        #expect(VolumeID(text) == nil)
    }
}

@Suite struct LSNTests {
    @Test func orderAndNeighbours() {
        #expect(LSN(3).next == LSN(4) && LSN(3).previous == LSN(2))
        #expect(LSN.zero < LSN(1) && LSN(1) < LSN.max)
        #expect(LSN(42).description == "42")
        let early = Stamp(lsn: LSN(1), wallNanoseconds: 9)
        let late = Stamp(lsn: LSN(2), wallNanoseconds: 9)
        #expect(early < late && !(late < early))
    }

    @Test func kindsOnDiskNeverChange() {
        let numbers = RecordKind.allCases.map(\.rawValue)
        #expect(numbers == [1, 2, 3, 4, 5, 6])
        #expect(RecordKind.allCases.filter(\.changesSectors) == [.write, .zero, .discard])
    }
}
