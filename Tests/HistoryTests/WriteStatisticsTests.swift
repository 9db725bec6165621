// Statistics against plain counting, and the scale of time against its promises.

import BlockModel
import DiskIO
import History
import HistoryModel
import LogFormat
import Testing

@Suite struct WriteStatisticsTests {
    @Test(arguments: 0..<60 as Range<UInt64>) func equalsPlainCounting(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        let world = try ModelHistory(&random)
        let catalogue = try world.catalogue()
        let (from, to) = world.twoPoints(&random)
        let (start, end) = (from.wallNanoseconds, to.wallNanoseconds)
        let scale = TimeScale(first: start, last: end, bucketsMax: 1 + random.below(20))
        var found = WriteStatistics(volumeBytes: catalogue.volumeBytes, scale: scale)
        let isThinned = try catalogue.forEachRecord(from: start, to: end) { found.add($0) }
        #expect(!isThinned)

        var expected = WriteCounts()
        var isWritten = [Bool](repeating: false, count: world.volume.sectors)
        for record in world.volume.records
        where (start...end).contains(record.header.stamp.wallNanoseconds) {
            let extent = record.header.extent
            switch record.header.kind {
            case .write:
                let range = Int(extent.start)..<Int(extent.end)
                let over = isWritten[range].filter { $0 }.count
                expected.writes += 1
                expected.writtenBytes += extent.byteCount
                expected.overwrites += over > 0 ? 1 : 0
                expected.overwrittenBytes += UInt64(over * Sector.bytes)
                for i in range { isWritten[i] = true }
            case .zero, .discard:
                expected.discards += 1
                expected.discardedBytes += extent.byteCount
            case .flush: expected.flushes += 1
            case .mark: expected.marks += 1
            case .pad: break
            }
        }
        #expect(found.total == expected)
        var sum = WriteCounts()
        for bucket in found.buckets { sum += bucket }
        #expect(sum == expected)
        #expect(found.buckets.count == scale.count && !found.isApproximate)
        let hottest = found.hottest(10)
        #expect(hottest.count == (expected.writes > 0 ? 1 : 0))  // the model has one region
        if let region = hottest.first {
            #expect(region.overwrites == expected.overwrites)
            #expect(region.byteCount == catalogue.volumeBytes)
        }
    }

    private func write(_ number: UInt64, _ start: UInt64, _ count: UInt64) -> SegmentEntry {
        SegmentEntry(
            stamp: Stamp(lsn: LSN(number), wallNanoseconds: Int64(number)), kind: .write,
            extent: Extent(start: start, count: count), payloadOffset: 0,
            payloadBytes: UInt32(count * 512), payloadCRC: 0)
    }

    @Test func hottestRegionsOfALargeVolume() {
        let scale = TimeScale(first: 0, last: 1000, bucketsMax: 10)
        let volumeBytes: UInt64 = 1 << 50
        var found = WriteStatistics(volumeBytes: volumeBytes, scale: scale)
        // More regions than are kept, each written once; three hot ones, one across a border.
        var number: UInt64 = 0
        for round in 0..<3 as Range<UInt64> {
            for region in 0..<100_000 as Range<UInt64> {
                number += 1
                found.add(write(number, (region + round * 100_000) * 2048 * 64, 8))
            }
            for _ in 0..<50 {
                number += 1
                found.add(write(number, 7 * 2048 - 4, 8))
                found.add(write(number, volumeBytes / 512 - 8, 8))
            }
        }
        #expect(found.isApproximate)
        let hottest = found.hottest(3).map(\.offset)
        #expect(Set(hottest) == [6 << 20, 7 << 20, volumeBytes - 1 << 20])
    }

    @Test(arguments: [
        (Int64(0), Int64(0)), (5, 5), (1_795_263_411_113_676_722, 1_795_263_411_113_676_723),
        (1_795_263_411_000_000_000, 1_795_349_811_000_000_000), (0, .max), (.min, .max),
        (-7_000_000_000, 12),
    ])
    func scalesCover(first: Int64, last: Int64) {
        for most in [1, 2, 7, 48, 1000] {
            let scale = TimeScale(first: first, last: last, bucketsMax: most)
            #expect((1...most).contains(scale.count))
            #expect(scale.bucket(of: first) == 0)
            #expect(scale.bucket(of: last) == scale.count - 1)
            #expect(scale.bucket(of: .max) == scale.count - 1 && scale.bucket(of: .min) == 0)
            #expect(scale.start % scale.widthNanoseconds == 0)
            if scale.count > 1 {
                #expect(scale.bucket(of: scale.start(of: 1)) == 1)
                #expect(scale.bucket(of: scale.start(of: 1) - 1) == 0)
            }
        }
    }
}
