// The plain model of a disk: what a volume must be after each record, told without rings, logs or
// images. Everything that the simulator asserts is a comparison with this. One thread.

import BlockModel
import LogFormat

#if canImport(Glibc)
    import Glibc
#endif

/// Whether two runs of bytes are equal; quick, for it is most of the simulator's work.
func areSame(_ a: ArraySlice<UInt8>, _ b: ArraySlice<UInt8>) -> Bool {
    guard a.count == b.count else { return false }
    let count = a.count
    return a.withUnsafeBytes { a in
        b.withUnsafeBytes { b in
            guard let a = a.baseAddress, let b = b.baseAddress else { return true }
            return memcmp(a, b, count) == 0
        }
    }
}

/// One record as the model expects it in the log.
struct ModelRecord {
    var lsn: UInt64
    var wall: Int64
    var kind: RecordKind
    /// Bytes that it changes; empty for flushes and marks.
    var range: Range<Int>
    /// New content of `range` for writes, the name of a mark; empty for zeros, discards, flushes.
    var payload: [UInt8]
    /// The volume's durable LSN before the record was ordered, at least.
    var durableBefore: UInt64

    func apply(to disk: inout [UInt8]) {
        switch kind {
        case .write:
            disk.withUnsafeMutableBytes { target in
                payload.withUnsafeBytes {
                    UnsafeMutableRawBufferPointer(rebasing: target[range]).copyMemory(from: $0)
                }
            }
        case .zero, .discard:
            disk.withUnsafeMutableBytes { target in
                _ = UnsafeMutableRawBufferPointer(rebasing: target[range]).initializeMemory(
                    as: UInt8.self, repeating: 0)
            }
        case .flush, .mark, .pad: break
        }
    }
}

/// A disk with its whole past: content before the first record, and the records since.
struct ModelDisk {
    let base: [UInt8]
    private(set) var current: [UInt8]
    /// The record with LSN n is at index n - 1.
    private(set) var records: [ModelRecord] = []

    init(base: [UInt8]) {
        self.base = base
        current = base
    }

    var byteCount: Int { base.count }
    var newest: UInt64 { UInt64(records.count) }

    mutating func append(_ record: ModelRecord) {
        precondition(record.lsn == newest + 1)
        record.apply(to: &current)
        records.append(record)
    }

    /// Forgets what came after `lsn`: it was lost, as it may be.
    mutating func truncate(to lsn: UInt64) {
        guard lsn < newest else { return }
        records.removeSubrange(Int(lsn)...)
        current = state(at: lsn)
    }

    /// The content after the record `lsn`; 0 is the base.
    func state(at lsn: UInt64) -> [UInt8] {
        var disk = base
        for record in records[..<Int(min(lsn, newest))] { record.apply(to: &disk) }
        return disk
    }

    /// Whether every unit of `image` (a sector, or a byte where writes may be cut anywhere) is as
    /// it was at some LSN from `checkpoint` to `end`; or at any LSN, where a record after the
    /// checkpoint overwrites it. The offset of the first that is not; nil where all are.
    func firstUnexplained(
        in image: [UInt8], units unit: Int, checkpoint: UInt64, end: UInt64
    ) -> Int? {
        var disk = state(at: checkpoint)
        if areSame(image[...], disk[...]) { return nil }
        var open = Set<Int>()
        var overwritten = Set<Int>()
        func differs(_ index: Int) -> Bool {
            let place = index * unit..<(index + 1) * unit
            return !areSame(image[place], disk[place])
        }
        func close(_ record: ModelRecord, _ body: (Int) -> Void) {
            record.apply(to: &disk)
            for index in record.range.lowerBound / unit..<record.range.upperBound / unit
            where open.contains(index) {
                body(index)
                if !differs(index) { open.remove(index) }
            }
        }
        for index in 0..<byteCount / unit where differs(index) { open.insert(index) }
        for record in records[Int(checkpoint)..<Int(min(end, newest))] {
            close(record) { overwritten.insert($0) }
        }
        if open.isEmpty || !open.isSubset(of: overwritten) {
            return open.subtracting(overwritten).min().map { $0 * unit }
        }
        disk = base
        for index in open where !differs(index) { open.remove(index) }
        for record in records[..<Int(checkpoint)] { close(record) { _ in } }
        return open.min().map { $0 * unit }
    }

    /// The newest record at or before a wall time.
    func newest(atOrBefore wall: Int64) -> UInt64 {
        UInt64(records.lastIndex { $0.wall <= wall }.map { $0 + 1 } ?? 0)
    }
}
