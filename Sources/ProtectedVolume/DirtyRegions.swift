// Where the image was written since someone looked: one bit for 4 MiB, or more on large volumes.

import BlockModel

/// A coarse set of byte ranges. A value; not synchronised.
package struct DirtyRegions {
    private static let countMax: UInt64 = 1 << 18
    private let regionBytes: UInt64
    private var words: [UInt64]
    private var isEmpty = true

    package init(volumeBytes: UInt64) {
        var bytes: UInt64 = 4 << 20
        while (volumeBytes + bytes - 1) / bytes > Self.countMax { bytes *= 2 }
        regionBytes = bytes
        words = [UInt64](repeating: 0, count: Int((volumeBytes / bytes + 64) / 64))
    }

    package mutating func insert(_ extent: Extent) {
        guard extent.count > 0 else { return }
        let last = (extent.byteOffset + extent.byteCount - 1) / regionBytes
        for region in (extent.byteOffset / regionBytes)...last {
            words[Int(region >> 6)] |= 1 << (region & 63)
        }
        isEmpty = false
    }

    package mutating func removeAll() {
        guard !isEmpty else { return }
        for index in words.indices { words[index] = 0 }
        isEmpty = true
    }

    /// Byte ranges in rising order; the last may reach beyond the volume.
    package var ranges: [Range<UInt64>] {
        var ranges: [Range<UInt64>] = []
        for (index, word) in words.enumerated() where word != 0 {
            for bit in 0..<64 where word & (1 << UInt64(bit)) != 0 {
                let start = UInt64(index * 64 + bit) * regionBytes
                ranges.append(start..<(start + regionBytes))
            }
        }
        return ranges
    }
}
