// Sets at a server, read back: each file in large ranges.

import DiskIO
import ServerAPI
import Shipping
import Spread

extension ServerDevice {
    private static let rangeBytes = 8 << 20

    /// A whole file; for small ones and manifests.
    func contents(_ file: String, of set: String) throws(DeviceFailure) -> [UInt8] {
        var bytes: [UInt8] = []
        let buffer = AlignedBuffer(count: Self.rangeBytes)
        while true {
            let count = try fill(buffer.bytes, file, set, at: UInt64(bytes.count))
            bytes += buffer.bytes[..<count]
            if count < buffer.count { return bytes }
        }
    }

    /// Bytes of a file; fewer, or none, at its end.
    private func fill(
        _ target: UnsafeMutableRawBufferPointer, _ file: String, _ set: String, at offset: UInt64
    ) throws(DeviceFailure) -> Int {
        try ask { () throws(ShipError) in
            do throws(ShipError) {
                return try client.readFile(file, ofSet: set, into: target, at: offset)
            } catch {
                if case .rejected(let reply) = error, reply.code == .range { return 0 }
                throw error
            }
        }
    }

    func readItem(
        _ item: StoredItem, _ file: String, _ set: String,
        _ header: (SegmentHeader?) -> Void, _ body: (ItemPiece) throws -> Void
    ) throws {
        let unit = SegmentHeader.unit
        let expected = Int(min(item.size, UInt64(Self.rangeBytes - unit)))
        let buffer = AlignedBuffer(count: expected + unit)
        var filled = try fill(buffer.bytes, file, set, at: 0)
        var front = Array(buffer.bytes[..<min(filled, unit)])
        // What of the first range lies behind the header.
        var rest = min(filled, unit)..<filled
        while let claimed = SegmentHeader.claimedBytes(front), claimed > front.count {
            var more = [UInt8](repeating: 0, count: claimed - front.count)
            let count = try more.withUnsafeMutableBytes { target in
                try fill(target, file, set, at: UInt64(front.count))
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
                filled = try fill(target, file, set, at: offset)
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
