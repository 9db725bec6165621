// The overlay against an array that knows for each sector the younger of what was entered.

import BlockModel
import DiskIO
import ProtectedVolume
import Testing

@Suite struct BlockOverlayTests {
    private struct Record {
        var extent: Extent
        var place: UInt32
        var isZero: Bool
        /// Large zeros are kept apart.
        var isLarge: Bool { isZero && extent.count > BlockOverlay.largeZeroSectors }
    }

    /// Where a sector's newest bytes are: the place, and whether they are zeros.
    private struct Entry: Equatable {
        var place: UInt32
        var isZero: Bool
    }

    /// What a read finds of a sector: in the table, unless a younger large zero covers it.
    private func look(_ overlay: BlockOverlay, _ sector: UInt64) -> Entry? {
        let shard = overlay.shard(ofSector: sector)
        var found: Entry?
        if let entry = shard.find(sector >> BlockOverlay.blockShift) {
            let bit = UInt8(1) << UInt8(sector & 7)
            if entry.pointee.valid & bit != 0 {
                found = Entry(
                    place: entry.pointee[Int(sector & 7)], isZero: entry.pointee.zero & bit != 0)
            }
        }
        for zero in overlay.largeZeros(touching: Extent(start: sector, count: 1))
        where found.map({ BlockOverlay.isYounger(zero.place, than: $0.place) }) ?? true {
            found = Entry(place: zero.place, isZero: true)
        }
        return found
    }

    /// Records are entered in any order of two neighbours (as by two threads), and taken out in
    /// LSN order, as the applier does.
    @Test(arguments: [UInt32(0), UInt32.max - 40_000]) func randomRecords(_ origin: UInt32) {
        var random = SeededRandom(seed: 5)
        for _ in 0..<60 {
            let overlay = BlockOverlay()
            let sectors: UInt64 = 12_000
            var place = origin
            var waiting: [Record] = []
            for _ in 0..<150 {
                if random.chance(0.6) || waiting.isEmpty {
                    var fresh = [make(&random, sectors, &place)]
                    if random.chance(0.3) { fresh.append(make(&random, sectors, &place)) }
                    for record in fresh.reversed() { enter(record, overlay) }
                    waiting += fresh
                } else {
                    let oldest = waiting.removeFirst()
                    if oldest.isLarge {
                        overlay.removeLargeZero(place: oldest.place)
                    } else {
                        overlay.remove(
                            oldest.extent, place: oldest.place, isZero: oldest.isZero)
                    }
                }
            }
            check(overlay, waiting, sectors)
            for record in waiting {
                if record.isLarge {
                    overlay.removeLargeZero(place: record.place)
                } else {
                    overlay.remove(record.extent, place: record.place, isZero: record.isZero)
                }
            }
            #expect(overlay.isEmpty && overlay.blockCount == 0)
        }
    }

    private func make(
        _ random: inout SeededRandom, _ sectors: UInt64, _ place: inout UInt32
    ) -> Record {
        let isZero = random.chance(0.3)
        let most = isZero && random.chance(0.3) ? 5000 : 40
        let start = UInt64(random.below(Int(sectors) - most))
        let extent = Extent(start: start, count: UInt64(1 + random.below(most)))
        defer { place &+= isZero ? 1 : 1 &+ UInt32(extent.count) }
        // A write's place is that of its first payload sector, a zero's that of its header.
        return Record(extent: extent, place: isZero ? place : place &+ 1, isZero: isZero)
    }

    private func enter(_ record: Record, _ overlay: BlockOverlay) {
        if record.isZero {
            overlay.insertZeros(record.extent, place: record.place)
        } else {
            overlay.insertWrite(record.extent, place: record.place)
        }
    }

    /// A record that was taken out left nothing; of the others the youngest is found. A sector
    /// whose youngest was taken out shows nothing older, for that one went before it.
    private func check(_ overlay: BlockOverlay, _ waiting: [Record], _ sectors: UInt64) {
        var oracle = [Entry?](repeating: nil, count: Int(sectors))
        for record in waiting {
            for sector in record.extent.start..<record.extent.end {
                let place =
                    record.isZero
                    ? record.place
                    : record.place &+ UInt32(truncatingIfNeeded: sector - record.extent.start)
                oracle[Int(sector)] = Entry(place: place, isZero: record.isZero)
            }
        }
        let wrong = (0..<sectors).filter { look(overlay, $0) != oracle[Int($0)] }
        #expect(wrong.isEmpty, "\(wrong.prefix(5))")
    }
}
