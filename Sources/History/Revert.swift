// Bringing a volume back to a past point of it by ordinary writes (docs/adr/0015): what differs is
// found, and put there, in address order.
//
//   touched   sectors that any record after the point changed        indexes
//   ∩ data    sectors where the past or the present has data         indexes: zeros equal zeros
//   ≠ bytes   sectors whose bytes differ                             read, 1 MiB at a time
//
// Memory: two views, the list of what was touched, two pieces. Nothing here knows about logs and
// marks: the device does what it does with any write, and who drives this decides what to say
// before the first change and after the last.

import BlockModel
import LogFormat

#if canImport(Glibc)
    import Glibc
#endif

/// Why a volume was not brought back.
public enum RevertError: Error, Sendable {
    /// The past cannot be read.
    case history(HistoryError)
    /// The volume does not take the writes, or cannot be read.
    case device(DeviceError)
    /// A byte does not read back as it was written.
    case readsBackWrong(offset: UInt64)
}

/// Where a volume may differ from a past point of it. Immutable; any thread may call.
public struct RevertPlan: Sendable {
    /// The volume as it shall be.
    public let past: PointInTimeView
    private let present: PointInTimeView
    private let touched: [Extent]
    /// Bytes of all before each of `touched`, and of all of them.
    private let bytesBefore: [UInt64]

    static let pieceBytes: UInt64 = 1 << 20

    /// Plans the way from the state after `now`, the last record, to the one after `lsn`. Throws
    /// `.notRestorable` when history does not have both.
    public init(
        _ catalogue: HistoryCatalogue, from now: LSN, to lsn: LSN
    ) throws(HistoryError) {
        past = try PointInTimeView(catalogue, at: lsn)
        present = try PointInTimeView(catalogue, at: now)
        let whole = Extent(start: 0, count: catalogue.volumeBytes >> Sector.shift)
        touched = try catalogue.touchedExtents(after: lsn, through: now) ?? [whole]
        var sums: [UInt64] = [0]
        sums.reserveCapacity(touched.count + 1)
        for extent in touched { sums.append((sums.last ?? 0) + extent.byteCount) }
        bytesBefore = sums
    }

    /// Bytes to compare, at most.
    public var touchedBytes: UInt64 { bytesBefore.last ?? 0 }

    /// Bytes to compare, at most, that lie before `offset`.
    func touchedBytes(before offset: UInt64) -> UInt64 {
        let i = touched.partitioningIndex { $0.end << Sector.shift > offset }
        guard i < touched.count else { return touchedBytes }
        return bytesBefore[i] + (offset - min(offset, touched[i].byteOffset))
    }

    /// The next run of whole sectors at or after `offset` in which bytes may differ, at most one
    /// piece long; nil when there is none.
    func next(from offset: UInt64) -> Range<UInt64>? {
        var position = offset
        while true {
            let i = touched.partitioningIndex { $0.end << Sector.shift > position }
            guard i < touched.count else { return nil }
            let extent = touched[i]
            position = max(position, extent.byteOffset)
            let data = min(past.dataStart(from: position), present.dataStart(from: position))
            let end = extent.end << Sector.shift
            if data < end { return data..<min(end, data + Self.pieceBytes) }
            if data == .max { return nil }
            position = data
        }
    }
}

/// One pass over a plan, piece by piece. One thread; nobody else writes to the device meanwhile.
///
///     while true {
///         switch try run.look() {         same: the next piece has no difference
///         case .same: continue            differs: `write` puts it right
///         case .differs: try run.write()
///         case .end: ...                  the whole plan is done
///         }
///     }
public struct RevertRun {
    public enum Finding: Sendable { case same, differs, end }

    private struct Difference {
        var range: Range<Int>
        var isZeros: Bool
    }

    private let plan: RevertPlan
    private let device: BlockDevice
    private let past = RawMemory(count: Int(RevertPlan.pieceBytes))
    private let present = RawMemory(count: Int(RevertPlan.pieceBytes))
    private var piece: Range<UInt64> = 0..<0
    private var differences: [Difference] = []

    /// Bytes compared so far, and those of them that were written, with zeros apart.
    public private(set) var comparedBytes: UInt64 = 0
    public private(set) var writtenBytes: UInt64 = 0
    public private(set) var zeroedBytes: UInt64 = 0
    /// How far it is among `plan.touchedBytes`.
    public var progressBytes: UInt64 { plan.touchedBytes(before: piece.upperBound) }

    public init(_ plan: RevertPlan, on device: BlockDevice) {
        precondition(plan.past.byteCount == device.byteCount)
        self.plan = plan
        self.device = device
    }

    /// Compares the next piece.
    public mutating func look() throws(RevertError) -> Finding {
        differences = []
        guard let next = plan.next(from: piece.upperBound) else { return .end }
        piece = next
        let count = next.count
        let then = UnsafeMutableRawBufferPointer(rebasing: past.bytes[..<count])
        let now = UnsafeMutableRawBufferPointer(rebasing: present.bytes[..<count])
        do throws(HistoryError) {
            try plan.past.read(into: then, at: next.lowerBound)
        } catch { throw .history(error) }
        do throws(DeviceError) {
            try device.read(into: now, at: next.lowerBound)
        } catch { throw .device(error) }
        comparedBytes += UInt64(count)
        guard let a = then.baseAddress, let b = now.baseAddress, memcmp(a, b, count) != 0 else {
            return .same
        }
        for offset in stride(from: 0, to: count, by: Sector.bytes)
        where memcmp(a + offset, b + offset, Sector.bytes) != 0 {
            note(offset, isZeros: SnapshotWriter.isZero(a + offset, Sector.bytes))
        }
        return .differs
    }

    /// Writes what differs in the piece that `look` found last.
    public mutating func write() throws(RevertError) {
        do throws(DeviceError) {
            for difference in differences {
                let offset = piece.lowerBound + UInt64(difference.range.lowerBound)
                let count = UInt64(difference.range.count)
                if difference.isZeros {
                    try device.discard(offset: offset, count: count)
                    zeroedBytes += count
                } else {
                    try device.write(
                        UnsafeRawBufferPointer(rebasing: past.bytes[difference.range]), at: offset)
                    writtenBytes += count
                }
            }
        } catch { throw .device(error) }
        differences = []
    }

    /// Where the piece that `look` found last differs first.
    public var firstDifference: UInt64? {
        differences.first.map { piece.lowerBound + UInt64($0.range.lowerBound) }
    }

    private mutating func note(_ offset: Int, isZeros: Bool) {
        let end = offset + Sector.bytes
        if let last = differences.last, last.range.upperBound == offset, last.isZeros == isZeros {
            differences[differences.count - 1].range = last.range.lowerBound..<end
        } else {
            differences.append(Difference(range: offset..<end, isZeros: isZeros))
        }
    }
}
