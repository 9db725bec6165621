// One user of a run of a file's bytes: reads, writes, maps, punches, zeroes and syncs it in every
// way there is, and compares each read with an array in memory. After fsx.

import CLinux
import Foundation

/// One thread at a time.
final class ByteUser: @unchecked Sendable {
    // @unchecked: used by its own thread, then by the test.
    let run: Range<Int>
    private(set) var model: [UInt8]
    /// The first thing that was wrong.
    private(set) var complaint: String?
    private var generator: SeededGenerator
    private let buffer = UnsafeMutableRawBufferPointer.allocate(
        byteCount: longest + 8192, alignment: 4096)

    private static let longest = 300_000

    init(_ run: Range<Int>, seed: UInt64) {
        self.run = run
        model = [UInt8](repeating: 0, count: run.count)
        generator = SeededGenerator(seed: seed)
    }

    deinit { buffer.deallocate() }

    func use(_ path: String, operations: Int) {
        let cached = open(path, O_RDWR | O_CLOEXEC)
        let direct = open(path, O_RDWR | O_CLOEXEC | clinux_o_direct)
        let synced = open(path, O_RDWR | O_CLOEXEC | O_SYNC)
        defer { for descriptor in [cached, direct, synced] { close(descriptor) } }
        guard cached >= 0, direct >= 0, synced >= 0 else { return complain("cannot open") }
        for _ in 0..<operations where complaint == nil {
            let part = somePart()
            switch generator.below(100) {
            case 0..<25: read(cached, part)
            case 25..<50: write(cached, part)
            case 50..<60: readMapped(cached, part)
            case 60..<72: writeMapped(cached, part)
            case 72..<78: clear(cached, part, clinux_falloc_punch_hole | clinux_falloc_keep_size)
            case 78..<83: clear(cached, part, clinux_falloc_zero_range)
            case 83..<89: write(direct, sectors(in: part))
            case 89..<93: read(direct, sectors(in: part))
            case 93..<96: write(synced, part.prefix(20_000))
            case 96..<98: if fdatasync(cached) != 0 { complain("fdatasync") }
            default: if fsync(direct) != 0 { complain("fsync") }
            }
        }
        if fsync(cached) != 0 { complain("fsync at the end") }
    }

    private func complain(_ what: String) {
        if complaint == nil { complaint = "\(what): \(String(cString: strerror(errno)))" }
    }

    // MARK: - parts, as offsets in the file

    private func somePart() -> Range<Int> {
        let most = min(run.count, generator.below(10) == 0 ? Self.longest : 9000)
        let count = 1 + generator.below(most)
        let start = run.lowerBound + generator.below(run.count - count + 1)
        return start..<start + count
    }

    /// What O_DIRECT may touch: whole sectors of this user's; may be empty.
    private func sectors(in part: Range<Int>) -> Range<Int> {
        let start = (part.lowerBound + 511) / 512 * 512
        let end = part.upperBound / 512 * 512
        return start < end ? start..<end : part.lowerBound..<part.lowerBound
    }

    private func modelRange(_ part: Range<Int>) -> Range<Int> {
        part.lowerBound - run.lowerBound..<part.upperBound - run.lowerBound
    }

    private func newBytes(_ count: Int) -> UnsafeMutableRawBufferPointer {
        let bytes = UnsafeMutableRawBufferPointer(rebasing: buffer[..<count])
        var noise = SeededGenerator(seed: generator.next())
        for offset in stride(from: 0, to: count, by: 8) {
            buffer.storeBytes(of: noise.next(), toByteOffset: offset, as: UInt64.self)
        }
        return bytes
    }

    // MARK: - operations

    private func read(_ descriptor: Int32, _ part: Range<Int>) {
        guard !part.isEmpty else { return }
        let n = pread(descriptor, buffer.baseAddress, part.count, off_t(part.lowerBound))
        guard n == part.count else { return complain("read \(n) of \(part)") }
        compare(UnsafeRawBufferPointer(rebasing: buffer[..<part.count]), part, "read")
    }

    private func compare(_ bytes: UnsafeRawBufferPointer, _ part: Range<Int>, _ what: String) {
        let expected = model[modelRange(part)]
        guard !bytes.elementsEqual(expected) else { return }
        let first = zip(bytes, expected).enumerated().first { $1.0 != $1.1 }?.offset ?? 0
        complaint = "\(what) of \(part): differs from byte \(part.lowerBound + first) on"
    }

    private func write(_ descriptor: Int32, _ part: Range<Int>) {
        guard !part.isEmpty else { return }
        let bytes = newBytes(part.count)
        let n = pwrite(descriptor, bytes.baseAddress, part.count, off_t(part.lowerBound))
        guard n == part.count else { return complain("wrote \(n) of \(part)") }
        model.replaceSubrange(modelRange(part), with: bytes)
    }

    private func clear(_ descriptor: Int32, _ part: Range<Int>, _ mode: Int32) {
        let code = clinux_fallocate(
            descriptor, mode, UInt64(part.lowerBound), UInt64(part.count))
        guard code == 0 else { return complain("fallocate \(mode) of \(part) -> \(code)") }
        for index in modelRange(part) { model[index] = 0 }
    }

    private func readMapped(_ descriptor: Int32, _ part: Range<Int>) {
        withMapping(descriptor, part) { compare(UnsafeRawBufferPointer($0), part, "mapped read") }
    }

    private func writeMapped(_ descriptor: Int32, _ part: Range<Int>) {
        withMapping(descriptor, part) { mapped in
            let bytes = newBytes(part.count)
            mapped.copyMemory(from: UnsafeRawBufferPointer(bytes))
            model.replaceSubrange(modelRange(part), with: bytes)
        }
    }

    private func withMapping(
        _ descriptor: Int32, _ part: Range<Int>, _ body: (UnsafeMutableRawBufferPointer) -> Void
    ) {
        let start = part.lowerBound / 4096 * 4096
        let count = part.upperBound - start
        guard
            let memory = mmap(
                nil, count, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, off_t(start)),
            memory != MAP_FAILED
        else { return complain("mmap") }
        body(
            UnsafeMutableRawBufferPointer(
                start: memory + (part.lowerBound - start), count: part.count))
        if generator.below(2) == 0, msync(memory, count, Int32(MS_SYNC)) != 0 { complain("msync") }
        munmap(memory, count)
    }
}
