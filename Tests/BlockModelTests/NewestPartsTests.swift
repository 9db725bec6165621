// newestParts against an array: who wrote each sector last.

import BlockModel
import DiskIO
import Testing

@Suite struct NewestPartsTests {
    @Test func nothingAndOne() {
        #expect(newestParts([]).isEmpty)
        #expect(newestParts([Extent(start: 3, count: 0)]).isEmpty)
        let one = Extent(start: 3, count: 5)
        #expect(newestParts([one]) == [NewestPart(record: 0, extent: one)])
    }

    @Test func randomExtentsAgainstAnArray() {
        var random = SeededRandom(seed: 11)
        for round in 0..<3000 {
            let sectors = 1 + random.below(60)
            let extents = (0..<random.below(14)).map { _ in
                let start = random.below(sectors)
                return Extent(
                    start: UInt64(start), count: UInt64(random.below(sectors - start + 1)))
            }
            var owner = [Int?](repeating: nil, count: sectors)
            for (record, extent) in extents.enumerated() {
                for sector in extent.start..<extent.end { owner[Int(sector)] = record }
            }
            let parts = newestParts(extents)
            var found = [Int?](repeating: nil, count: sectors)
            for part in parts {
                for sector in part.extent.start..<part.extent.end {
                    #expect(found[Int(sector)] == nil, "round \(round)")
                    found[Int(sector)] = part.record
                }
            }
            #expect(found == owner, "round \(round): \(extents)")
            let order = parts.map { [UInt64($0.record), $0.extent.start] }
            #expect(order == order.sorted { $0.lexicographicallyPrecedes($1) })
        }
    }

    @Test func hugeExtentsCostNoMoreThanSmallOnes() {
        let most: UInt64 = 1 << 54
        var extents = (0..<2000).map { Extent(start: UInt64($0) * 1000, count: most / 2) }
        extents.append(Extent(start: 0, count: most))
        #expect(newestParts(extents) == [NewestPart(record: 2000, extent: extents[2000])])
    }
}
