// The format of dm-log-writes: bytes as the kernel writes them, and that nothing traps.

import DiskIO
import LogFormat
import Testing

@Suite struct LogWritesFormatTests {
    private func decode(_ bytes: [UInt8]) throws(LogWritesError) -> LogWritesSuper {
        var result: Result<LogWritesSuper, LogWritesError>?
        bytes.withUnsafeBytes { source in
            do throws(LogWritesError) {
                result = .success(try LogWritesSuper.decode(source))
            } catch { result = .failure(error) }
        }
        guard let result else { throw .notALog }
        return try result.get()
    }

    private func entry(_ bytes: [UInt8], number: UInt64 = 3) throws(LogWritesError)
        -> LogWritesEntry
    {
        var result: Result<LogWritesEntry, LogWritesError>?
        bytes.withUnsafeBytes { source in
            do throws(LogWritesError) {
                result = .success(try LogWritesEntry.decode(source, number: number))
            } catch { result = .failure(error) }
        }
        guard let result else { throw .notALog }
        return try result.get()
    }

    private func little(_ value: UInt64, _ bytes: Int = 8) -> [UInt8] {
        (0..<bytes).map { UInt8(truncatingIfNeeded: value >> UInt64($0 * 8)) }
    }

    @Test func superAsTheKernelWritesIt() throws {
        let bytes = LogWritesSuper(entryCount: 0x0102, sectorBytes: 512).encode()
        let head = Array("rhswfsj\0".utf8) + little(1) + little(0x0102) + little(512, 4)
        #expect(bytes == head + [UInt8](repeating: 0, count: 512 - head.count))
        #expect(try decode(bytes) == LogWritesSuper(entryCount: 0x0102, sectorBytes: 512))
        #expect(try decode(Array(bytes[..<28])).entryCount == 0x0102)
    }

    @Test func superTable() {
        let good = LogWritesSuper(entryCount: 1).encode()
        func changed(_ offset: Int, _ value: [UInt8]) -> [UInt8] {
            var bytes = good
            bytes.replaceSubrange(offset..<offset + value.count, with: value)
            return bytes
        }
        #expect(throws: LogWritesError.notALog) { try decode([]) }
        #expect(throws: LogWritesError.notALog) { try decode(Array(good[..<27])) }
        #expect(throws: LogWritesError.notALog) { try decode(changed(0, [1])) }
        #expect(throws: LogWritesError.futureVersion(2)) { try decode(changed(8, [2])) }
        for size: UInt32 in [0, 256, 513, 3 << 9, 2 << 20, .max] {
            #expect(throws: LogWritesError.sectorBytes(size)) {
                try decode(changed(24, little(UInt64(size), 4)))
            }
        }
    }

    @Test func entriesAsTheKernelWritesThem() throws {
        let mark = LogWritesEntry(.mark, name: Array("mkfs".utf8))
        let head = little(0) + little(0) + little(8) + little(4) + Array("mkfs".utf8)
        #expect(mark.encode() == head + [UInt8](repeating: 0, count: 512 - head.count))
        for one in [
            mark, LogWritesEntry([], sector: 7, sectorCount: 9), LogWritesEntry(.flush),
            LogWritesEntry([.fua, .metadata], sector: 1 << 40, sectorCount: 1),
            LogWritesEntry(.discard, sector: 0, sectorCount: 1 << 30),
        ] {
            #expect(try entry(one.encode()) == one)
            #expect(try entry(one.encode(sectorBytes: 4096)) == one)
        }
        #expect(LogWritesEntry(.discard, sectorCount: 5).dataSectors == 0)
        #expect(LogWritesEntry(.fua, sectorCount: 5).dataSectors == 5)
    }

    @Test func entryTable() {
        func raw(_ words: UInt64...) -> [UInt8] {
            let head = words.flatMap { little($0) }
            return head + [UInt8](repeating: 0, count: 512 - head.count)
        }
        #expect(throws: LogWritesError.empty(entry: 3)) { try entry(raw(0, 0, 0, 0)) }
        #expect(throws: LogWritesError.unknownFlags(entry: 3, 32)) { try entry(raw(0, 1, 32, 0)) }
        let far = LogWritesError.outOfRange(entry: 3)
        #expect(throws: far) { try entry(raw(1 << 55, 1, 0, 0)) }
        #expect(throws: far) { try entry(raw(0, .max, 0, 0)) }
        #expect(throws: far) { try entry(raw(.max, 1, 0, 0)) }
        #expect(throws: far) { try entry(raw(0, 0, 8, 481)) }
        #expect(throws: far) { try entry(raw(0, 1, 0, 513)) }
    }

    @Test(arguments: 0..<300 as Range<UInt64>) func rubbishNeverTraps(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        let bytes = (0..<512).map { i in
            random.chance(0.7) ? 0 : UInt8(truncatingIfNeeded: random.next())
        }
        _ = try? decode(bytes)
        _ = try? entry(bytes)
    }
}
