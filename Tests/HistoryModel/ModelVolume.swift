// The plain model that history is compared with: an image as bytes, the records that made it, and
// every past state by doing the records again.

import BlockModel
import DiskIO
import History
import LogFormat

/// A small volume and everything that was ever written to it.
package struct ModelVolume {
    package struct Record {
        package var header: RecordHeader
        package var payload: [UInt8]
    }
    package let id = VolumeID(high: 0x1111_2222_3333_4444, low: 0x8555_6666_7777_8888)
    package let sectors: Int
    package let base: [UInt8]
    package private(set) var records: [Record] = []
    package private(set) var wall: Int64 = 1_700_000_000_000_000_000

    package init(sectors: Int, base: [UInt8]? = nil) {
        self.sectors = sectors
        self.base = base ?? [UInt8](repeating: 0, count: sectors * Sector.bytes)
    }

    package var byteCount: UInt64 { UInt64(sectors * Sector.bytes) }
    package var last: LSN { LSN(UInt64(records.count)) }
    package var baseStamp: Stamp { Stamp(lsn: .zero, wallNanoseconds: 1_700_000_000_000_000_000) }
    package var identity: SegmentIdentity {
        SegmentIdentity(volume: id, volumeBytes: byteCount, epoch: 1)
    }

    package func stamp(_ lsn: LSN) -> Stamp {
        lsn == .zero ? baseStamp : records[Int(lsn.rawValue) - 1].header.stamp
    }

    package mutating func append(
        _ kind: RecordKind, _ extent: Extent = Extent(start: 0, count: 0), payload: [UInt8] = [],
        after nanoseconds: Int64 = 1000
    ) {
        wall += nanoseconds
        records.append(
            Record(
                header: RecordHeader(
                    stamp: Stamp(lsn: last.next, wallNanoseconds: wall), kind: kind,
                    extent: extent, payloadBytes: payload.count,
                    payloadCRC: payload.withUnsafeBytes { Checksum.crc32c($0) }),
                payload: payload))
    }

    package mutating func write(_ start: Int, _ count: Int, fill: UInt8) {
        append(
            .write, Extent(start: UInt64(start), count: UInt64(count)),
            payload: [UInt8](repeating: fill, count: count * Sector.bytes))
    }

    /// One record of any kind; times stand still now and then.
    package mutating func appendRandom(_ random: inout SeededRandom) {
        let pause = random.chance(0.3) ? 0 : Int64(random.below(2000))
        let start = random.below(sectors)
        let count = 1 + random.below(min(sectors - start, random.chance(0.1) ? sectors : 12))
        let extent = Extent(start: UInt64(start), count: UInt64(count))
        switch random.below(20) {
        case 0: append(.zero, extent, after: pause)
        case 1: append(.discard, extent, after: pause)
        case 2, 3: append(.flush, after: pause)
        case 4: append(.mark, payload: Array("mark-\(random.below(5))".utf8), after: pause)
        default:
            let isText = random.chance(0.5)
            let fill = UInt8(random.below(256))
            let bytes = (0..<count * Sector.bytes).map { _ in
                isText ? fill : UInt8(truncatingIfNeeded: random.next())
            }
            append(.write, extent, payload: bytes, after: pause)
        }
    }

    /// The image after every record up to `lsn`.
    package func image(at lsn: LSN) -> [UInt8] {
        var image = base
        for record in records.prefix(Int(lsn.rawValue)) where record.header.kind.changesSectors {
            let extent = record.header.extent
            let range = Int(extent.byteOffset)..<Int(extent.byteOffset + extent.byteCount)
            if record.header.kind == .write {
                image.replaceSubrange(range, with: record.payload)
            } else {
                image.replaceSubrange(range, with: repeatElement(0, count: range.count))
            }
        }
        return image
    }

    package func source(from lsn: LSN = LSN(1)) -> ArraySource {
        ArraySource(Array(records.dropFirst(Int(lsn.rawValue) - 1)))
    }
}

/// Records from an array. The payload of the record before is overwritten at each call, as the
/// contract of `RecordSource` allows.
package final class ArraySource: RecordSource {
    private var records: ArraySlice<ModelVolume.Record>
    private var memory: UnsafeMutableRawBufferPointer?

    package init(_ records: [ModelVolume.Record]) { self.records = records[...] }
    deinit { memory?.deallocate() }

    package func next() -> LogRecord? {
        memory?.initializeMemory(as: UInt8.self, repeating: 0xDD)
        memory?.deallocate()
        memory = nil
        guard let record = records.popFirst() else { return nil }
        let bytes = UnsafeMutableRawBufferPointer.allocate(
            byteCount: record.payload.count, alignment: 8)
        bytes.copyBytes(from: record.payload)
        memory = bytes
        return LogRecord(header: record.header, payload: UnsafeRawBufferPointer(bytes))
    }
}

/// An image as the source of a snapshot; says that every second run of zeros may be data.
package final class ImageSource: SnapshotSource {
    private let image: [UInt8]
    package init(_ image: [UInt8]) { self.image = image }

    package var byteCount: UInt64 { UInt64(image.count) }
    package func nextData(from offset: UInt64) -> Range<UInt64>? {
        guard let i = image[Int(offset)...].firstIndex(where: { $0 != 0 }) else { return nil }
        var end = i
        while end < image.count, image[end] != 0 { end += 1 }
        return max(offset, UInt64(i) & ~511)..<UInt64(end)
    }
    package func read(into target: UnsafeMutableRawBufferPointer, at offset: UInt64) {
        target.copyBytes(from: image[Int(offset)..<Int(offset) + target.count])
    }
}

extension PointInTimeView {
    /// All bytes.
    package func contents() throws -> [UInt8] { try bytes(0..<Int(byteCount)) }

    package func bytes(_ range: Range<Int>) throws -> [UInt8] {
        var bytes = [UInt8](repeating: 0xEE, count: range.count)
        try bytes.withUnsafeMutableBytes { try read(into: $0, at: UInt64(range.lowerBound)) }
        return bytes
    }
}

/// The error that `body` throws, if it is one of History's.
package func historyError(_ body: () throws -> Void) -> HistoryError? {
    do { try body() } catch { return error as? HistoryError }
    return nil
}

/// The refusal that `body` throws.
package func refusal(_ body: () throws -> Void) -> NotRestorable? {
    if case .notRestorable(let refusal)? = historyError(body) { refusal } else { nil }
}
