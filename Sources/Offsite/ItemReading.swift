// Reads an item back from where bytes come by ranges: a large one at a time, the first with the
// header.

import DiskIO
import Spread

/// The bytes of one item in one file that begins with its SegmentHeader. A value; one thread.
struct ItemReading {
    static let rangeBytes = 8 << 20

    /// Fills the front of the target from the offset on; fewer bytes, or none, at the end.
    let fill: (UnsafeMutableRawBufferPointer, UInt64) throws(DeviceFailure) -> Int

    /// A whole file; for small ones and manifests.
    func contents() throws(DeviceFailure) -> [UInt8] {
        var bytes: [UInt8] = []
        let buffer = AlignedBuffer(count: Self.rangeBytes)
        while true {
            let count = try fill(buffer.bytes, UInt64(bytes.count))
            bytes += buffer.bytes[..<count]
            if count < buffer.count { return bytes }
        }
    }

    func read(
        _ item: StoredItem, _ header: (SegmentHeader?) -> Void, _ body: (ItemPiece) throws -> Void
    ) throws {
        let unit = SegmentHeader.unit
        let expected = Int(min(item.size, UInt64(Self.rangeBytes - unit)))
        let buffer = AlignedBuffer(count: expected + unit)
        var filled = try fill(buffer.bytes, 0)
        var front = Array(buffer.bytes[..<min(filled, unit)])
        // What of the first range lies behind the header.
        var rest = min(filled, unit)..<filled
        while let claimed = SegmentHeader.claimedBytes(front), claimed > front.count {
            var more = [UInt8](repeating: 0, count: claimed - front.count)
            let count = try more.withUnsafeMutableBytes { target in
                try fill(target, UInt64(front.count))
            }
            guard count == more.count else { break }
            front += more
            rest = min(filled, front.count)..<filled
        }
        guard let found = SegmentHeader(decoding: front) else { return header(nil) }
        header(found)
        var left = item.size
        var offset = UInt64(front.count)
        while left > 0 {
            if rest.isEmpty {
                let wanted = Int(min(left, UInt64(buffer.count)))
                let target = UnsafeMutableRawBufferPointer(rebasing: buffer.bytes[..<wanted])
                filled = try fill(target, offset)
                rest = 0..<filled
                // Cut short: the caller counts.
                if rest.isEmpty { return }
            }
            let count = Int(min(left, UInt64(rest.count)))
            let piece = buffer.bytes[rest.lowerBound..<rest.lowerBound + count]
            try body(.bytes(UnsafeRawBufferPointer(rebasing: piece)))
            rest = (rest.lowerBound + count)..<rest.upperBound
            offset += UInt64(count)
            left -= UInt64(count)
        }
    }
}
