// The coarse map of what was written to the image.

import BlockModel
import ProtectedVolume
import Testing

@Suite struct DirtyRegionsTests {
    private static let region: UInt64 = 4 << 20

    @Test func everyTouchedRegionIsNamedOnce() {
        var regions = DirtyRegions(volumeBytes: 1 << 30)
        #expect(regions.ranges.isEmpty)
        regions.insert(Extent(start: 0, count: 1))
        regions.insert(Extent(start: 8, count: 8))
        regions.insert(Extent(start: 3 * Self.region / 512 - 1, count: 2))
        regions.insert(Extent(start: (1 << 30) / 512 - 1, count: 1))
        regions.insert(Extent(start: 99, count: 0))
        #expect(
            regions.ranges == [
                0..<Self.region, 2 * Self.region..<3 * Self.region,
                3 * Self.region..<4 * Self.region, (1 << 30) - Self.region..<(1 << 30),
            ])
        regions.removeAll()
        #expect(regions.ranges.isEmpty)
    }

    @Test func largeVolumesHaveLargeRegions() {
        let bytes = UInt64(Int64.max) / 512 * 512
        var regions = DirtyRegions(volumeBytes: bytes)
        regions.insert(Extent(start: bytes / 512 - 1, count: 1))
        let ranges = regions.ranges
        #expect(ranges.count == 1 && ranges[0].contains(bytes - 1))
    }
}
