// Writes sectors that say of themselves by whom, when and where they were written, and judges what
// a crash left of them.
//
//   sector: 0 magic u64 · 8 writer u32 · 12 CRC32C of the rest u32 · 16 count u64 · 24 LBA u64 ·
//           32 noise from the count, so that a torn sector cannot pass
//
// A writer owns a run of sectors and is one thread, so its operations have one order. After a crash
// its sectors must be exactly what the first m operations make, for one m that is at least the
// number of operations complete when the last answered flush began: nothing lost that was flushed,
// nothing torn, nothing from elsewhere, no hole in the order.

import CLinux
import Foundation
import Synchronization

final class StampedWriter: @unchecked Sendable {
    // @unchecked: used by one thread at a time: its own while it writes, the test's between.

    enum Kind { case write, zero }

    struct Operation {
        var kind: Kind
        var start: Int
        var count: Int
        /// Rises over the whole life of the writer; 0 is the empty sector.
        var number: UInt64
    }

    static let sectorsMax = 256
    private static let magic: UInt64 = 0x6c6f_6764_6973_6b21

    let identity: UInt32
    let sectors: Range<Int>
    private var generator: SeededGenerator
    /// Number of the operation that each sector holds, as of the last crash.
    private var base: [UInt64]
    private var operations: [Operation] = []
    private var flushed = 0
    private var number: UInt64 = 0
    private let buffer: UnsafeMutableRawBufferPointer

    init(identity: UInt32, sectors: Range<Int>, seed: UInt64) {
        self.identity = identity
        self.sectors = sectors
        generator = SeededGenerator(seed: seed &+ UInt64(identity))
        base = [UInt64](repeating: 0, count: sectors.count)
        buffer = .allocate(byteCount: Self.sectorsMax * 512, alignment: 4096)
    }

    deinit { buffer.deallocate() }

    /// Writes until `progress` says stop or the disk answers no more. Returns the errno that ended
    /// it, 0 when told to.
    func write(to descriptor: Int32, _ progress: LoadProgress) -> Int32 {
        operations.removeAll(keepingCapacity: true)
        flushed = 0
        while !progress.isEnding {
            let choice = generator.below(100)
            if choice < 6 {
                if fdatasync(descriptor) != 0 { return errno }
                flushed = operations.count
            } else {
                let code = change(descriptor, choice < 10 ? .zero : .write)
                if code != 0 { return code }
            }
            progress.countOne()
        }
        return 0
    }

    private func change(_ descriptor: Int32, _ kind: Kind) -> Int32 {
        let longest = generator.below(8) == 0 ? Self.sectorsMax : 16
        let count = 1 + generator.below(longest)
        let start = sectors.lowerBound + generator.below(sectors.count - count + 1)
        number += 1
        let operation = Operation(kind: kind, start: start, count: count, number: number)
        // Known before it is tried: a crash may keep what was never answered.
        operations.append(operation)
        let offset = off_t(start) * 512
        switch kind {
        case .write:
            fill(operation)
            let n = pwrite(descriptor, buffer.baseAddress, count * 512, offset)
            return n == count * 512 ? 0 : (n < 0 ? errno : EIO)
        case .zero:
            let mode = clinux_falloc_punch_hole | clinux_falloc_keep_size
            return clinux_fallocate(descriptor, mode, UInt64(offset), UInt64(count) * 512)
        }
    }

    private func fill(_ operation: Operation) {
        for index in 0..<operation.count {
            let sector = UnsafeMutableRawBufferPointer(
                rebasing: buffer[index * 512..<(index + 1) * 512])
            sector.storeBytes(of: Self.magic, as: UInt64.self)
            sector.storeBytes(of: identity, toByteOffset: 8, as: UInt32.self)
            sector.storeBytes(of: 0, toByteOffset: 12, as: UInt32.self)
            sector.storeBytes(of: operation.number, toByteOffset: 16, as: UInt64.self)
            sector.storeBytes(
                of: UInt64(operation.start + index), toByteOffset: 24, as: UInt64.self)
            var noise = SeededGenerator(seed: operation.number)
            for offset in stride(from: 32, to: 512, by: 8) {
                sector.storeBytes(of: noise.next(), toByteOffset: offset, as: UInt64.self)
            }
            let crc = clinux_crc32c(0, sector.baseAddress, 512)
            sector.storeBytes(of: crc, toByteOffset: 12, as: UInt32.self)
        }
    }

    // MARK: - judging

    /// What is wrong with `disk` (the whole volume); nil when it is a state that a crash may leave.
    /// From then on that state is where this writer starts.
    func judge(_ disk: UnsafeMutableRawBufferPointer) -> String? {
        var found = [UInt64](repeating: 0, count: sectors.count)
        for lba in sectors {
            switch read(disk, lba) {
            case .success(let number): found[lba - sectors.lowerBound] = number
            case .failure(let wrong): return "writer \(identity), sector \(lba): \(wrong.what)"
            }
        }
        var expected = base
        for operation in operations[..<flushed] { apply(operation, to: &expected) }
        var wrong = zip(expected, found).count { $0 != $1 }
        var next = flushed
        while wrong > 0, next < operations.count {
            let range = indices(operations[next])
            wrong -= zip(expected[range], found[range]).count { $0 != $1 }
            apply(operations[next], to: &expected)
            wrong += zip(expected[range], found[range]).count { $0 != $1 }
            next += 1
        }
        guard wrong == 0 else { return explain(found) }
        base = found
        operations.removeAll(keepingCapacity: true)
        flushed = 0
        return nil
    }

    private struct Wrong: Error { var what: String }

    private func read(
        _ disk: UnsafeMutableRawBufferPointer, _ lba: Int
    ) -> Result<UInt64, Wrong> {
        let sector = UnsafeMutableRawBufferPointer(rebasing: disk[lba * 512..<(lba + 1) * 512])
        let magic = sector.loadUnaligned(as: UInt64.self)
        if magic == 0 {
            return sector.allSatisfy { $0 == 0 } ? .success(0) : .failure(Wrong(what: "torn"))
        }
        let crc = sector.loadUnaligned(fromByteOffset: 12, as: UInt32.self)
        sector.storeBytes(of: 0, toByteOffset: 12, as: UInt32.self)
        defer { sector.storeBytes(of: crc, toByteOffset: 12, as: UInt32.self) }
        guard clinux_crc32c(0, sector.baseAddress, 512) == crc else {
            return .failure(Wrong(what: "torn"))
        }
        let writer = sector.loadUnaligned(fromByteOffset: 8, as: UInt32.self)
        let number = sector.loadUnaligned(fromByteOffset: 16, as: UInt64.self)
        let place = sector.loadUnaligned(fromByteOffset: 24, as: UInt64.self)
        guard writer == identity, place == UInt64(lba) else {
            return .failure(Wrong(what: "holds sector \(place) of writer \(writer)"))
        }
        return .success(number)
    }

    private func apply(_ operation: Operation, to state: inout [UInt64]) {
        for index in indices(operation) {
            state[index] = operation.kind == .write ? operation.number : 0
        }
    }

    private func indices(_ operation: Operation) -> Range<Int> {
        let first = operation.start - sectors.lowerBound
        return first..<first + operation.count
    }

    /// Which flushed write is lost, or where the order has a hole.
    private func explain(_ found: [UInt64]) -> String {
        var flushedState = base
        for operation in operations[..<flushed] { apply(operation, to: &flushedState) }
        var text = "writer \(identity): no prefix of its \(operations.count) operations"
        for (index, pair) in zip(flushedState, found).enumerated()
        where pair.1 != 0 && pair.1 < pair.0 {
            return text + "; sector \(sectors.lowerBound + index) holds \(pair.1), "
                + "flushed was \(pair.0)"
        }
        let newest = found.max() ?? 0
        var expected = base
        for operation in operations where operation.number <= newest {
            apply(operation, to: &expected)
        }
        for (index, pair) in zip(expected, found).enumerated() where pair.0 != pair.1 {
            text += "; sector \(sectors.lowerBound + index) holds \(pair.1), "
            return text + "up to the newest found (\(newest)) it was \(pair.0)"
        }
        return text
    }
}

/// Counts the operations of all writers of a round, and ends it.
final class LoadProgress: Sendable {
    private let operations = Atomic<Int>(0)
    private let ending = Atomic<Bool>(false)

    func countOne() { operations.wrappingAdd(1, ordering: .relaxed) }
    var count: Int { operations.load(ordering: .relaxed) }
    var isEnding: Bool { ending.load(ordering: .relaxed) }
    func end() { ending.store(true, ordering: .relaxed) }
}
