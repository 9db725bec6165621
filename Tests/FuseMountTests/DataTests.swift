// Every way to read, write and sync the file, on a real mount.

import BlockModel
import CLinux
import Foundation
import FuseMount
import Testing

@Suite(.enabled(if: canMount, "no FUSE here: /dev/fuse cannot be opened"), .onEveryTransport)
struct DataTests {
    @Test(arguments: [UInt64(1), 2, 3])
    func randomReadsAndWritesMatchAPlainArray(seed: UInt64) throws {
        let test = try TestMount()
        defer { test.end() }
        let file = try test.open(O_RDWR)
        defer { close(file) }
        var random = SeededGenerator(state: seed)
        var model = test.device.bytes
        var buffer = [UInt8](repeating: 0, count: 1 << 20)
        for step in 0..<400 {
            let longest = [1, 511, 512, 4096, 70_000, 1 << 20].randomElement(using: &random)!
            let count = Int.random(in: 1...longest, using: &random)
            let offset = Int.random(in: 0..<model.count, using: &random)
            let inside = min(count, model.count - offset)
            if Bool.random(using: &random) {
                for index in 0..<count { buffer[index] = UInt8.random(in: 0...255, using: &random) }
                try #require(pwrite(file, buffer, count, offset) == inside, "seed \(seed) \(step)")
                model.replaceSubrange(offset..<offset + inside, with: buffer[..<inside])
            } else {
                try #require(pread(file, &buffer, count, offset) == inside, "seed \(seed) \(step)")
                try #require(
                    buffer[..<inside] == model[offset..<offset + inside], "seed \(seed) \(step)")
            }
        }
        #expect(test.device.bytes == model, "seed \(seed)")
    }

    @Test func theEndIsTheEndOfADisk() throws {
        let test = try TestMount(MemoryDevice(byteCount: 1 << 20))
        defer { test.end() }
        let end = 1 << 20
        for flags in [O_RDWR, O_RDWR | clinux_o_direct] {
            let file = try test.open(flags)
            defer { close(file) }
            withAlignedBytes(8192) { bytes in
                bytes.initializeMemory(as: UInt8.self, repeating: 7)
                #expect(pwrite(file, bytes.baseAddress!, 4096, end) == -1)
                #expect(errno == ENOSPC)
                let across = pwrite(file, bytes.baseAddress!, 8192, end - 4096)
                // The kernel turns a short direct write into EIO, so that one is refused whole.
                if flags & clinux_o_direct == 0 {
                    #expect(across == 4096)
                } else {
                    #expect(across == -1 && errno == ENOSPC)
                }
                #expect(pread(file, bytes.baseAddress!, 8192, end - 4096) == 4096)
                #expect(pread(file, bytes.baseAddress!, 4096, end) == 0)
                #expect(pread(file, bytes.baseAddress!, 4096, end + 4096) == 0)
            }
            var status = stat()
            #expect(fstat(file, &status) == 0)
            #expect(status.st_size == end)
        }
        #expect(test.device.bytes[(end - 4096)...].allSatisfy { $0 == 7 })
    }

    @Test func directTransfersOfEverySize() throws {
        let test = try TestMount(MemoryDevice(byteCount: 8 << 20))
        defer { test.end() }
        let file = try test.open(O_RDWR | clinux_o_direct)
        defer { close(file) }
        for count in [512, 4096, 65_536, 1 << 20, 3 << 20] {
            withAlignedBytes(count) { bytes in
                for index in 0..<count { bytes[index] = UInt8(truncatingIfNeeded: index / 7) }
                #expect(pwrite(file, bytes.baseAddress!, count, 4096) == count)
                #expect(test.device.bytes[4096..<4096 + count].elementsEqual(bytes))
                bytes.initializeMemory(as: UInt8.self, repeating: 0)
                #expect(pread(file, bytes.baseAddress!, count, 4096) == count)
                #expect(test.device.bytes[4096..<4096 + count].elementsEqual(bytes))
            }
        }
    }

    @Test func aSharedMappingWritesToTheDevice() throws {
        let test = try TestMount()
        defer { test.end() }
        let file = try test.open(O_RDWR)
        defer { close(file) }
        let length = 1 << 20
        let map = mmap(nil, length, PROT_READ | PROT_WRITE, MAP_SHARED, file, 8192)
        let bytes = try #require(map != MAP_FAILED ? map : nil)
        #expect(memcmp(bytes, Array(test.device.bytes[8192..<8192 + length]), length) == 0)
        memset(bytes + 5000, 0xAB, 10_000)
        #expect(msync(bytes, length, Int32(MS_SYNC)) == 0)
        #expect(test.device.bytes[13_192..<23_192].allSatisfy { $0 == 0xAB })
        #expect(test.device.bytes[13_191] != 0xAB)
        #expect(test.device.events.last == .flush)
        var byte: UInt8 = 0x33
        #expect(pwrite(file, &byte, 1, 8192) == 1)
        #expect(bytes.load(as: UInt8.self) == 0x33, "a write is seen in the mapping")
        memset(bytes + 100, 0x44, 1)
        #expect(munmap(bytes, length) == 0)
        #expect(test.device.bytes[8292] == 0x44, "unmapping writes back")
    }

    @Test(arguments: [O_SYNC, O_DSYNC, O_SYNC | clinux_o_direct, O_DSYNC | clinux_o_direct])
    func aSynchronousWriteIsFlushedBeforeItReturns(flags: Int32) throws {
        let test = try TestMount()
        defer { test.end() }
        let file = try test.open(O_RDWR | flags)
        defer { close(file) }
        withAlignedBytes(4096) { bytes in
            bytes.initializeMemory(as: UInt8.self, repeating: 1)
            for block in 0..<4 {
                test.device.forgetEvents()
                #expect(pwrite(file, bytes.baseAddress!, 4096, block * 4096) == 4096)
                #expect(
                    test.device.events
                        == [.write(offset: UInt64(block) * 4096, count: 4096), .flush])
            }
        }
    }

    @Test func onlySyncFlushes() throws {
        let test = try TestMount()
        defer { test.end() }
        let file = try test.open(O_RDWR)
        #expect(pwrite(file, "abc", 3, 10) == 3)
        #expect(test.device.events == [.write(offset: 10, count: 3)], "written through, in order")
        #expect(fsync(file) == 0)
        #expect(fdatasync(file) == 0)
        #expect(test.device.events.dropFirst() == [.flush, .flush])
        #expect(close(file) == 0)
        #expect(test.device.events.count == 3)
    }

    /// mode, offset, length, errno (0: done), what the device sees.
    static let allocations: [(Int32, Int, Int, Int32, Event?)] = [
        (0, 0, 4096, 0, nil),
        (1, 0, 1 << 20, 0, nil),
        (0, 4096, 1 << 20, ENOSPC, nil),
        (1, 1 << 20, 4096, ENOSPC, nil),
        (3, 4096, 8192, 0, .discard(offset: 4096, count: 8192)),
        (3, 100, 300, 0, .discard(offset: 100, count: 300)),
        (3, 0, 2 << 20, 0, .discard(offset: 0, count: 1 << 20)),
        (3, 1 << 20, 4096, EINVAL, nil),
        (16, 4096, 512, 0, .zero(offset: 4096, count: 512)),
        (17, 8192, 4096, 0, .zero(offset: 8192, count: 4096)),
        (17, 4096, 1 << 20, 0, .zero(offset: 4096, count: (1 << 20) - 4096)),
        (16, 4096, 1 << 20, ENOSPC, nil),
        (8, 0, 4096, EOPNOTSUPP, nil),  // collapse range
        (32, 0, 4096, EOPNOTSUPP, nil),  // insert range
    ]

    @Test(arguments: allocations.indices)
    func fallocate(row: Int) throws {
        let (mode, offset, length, code, event) = Self.allocations[row]
        let test = try TestMount(MemoryDevice(byteCount: 1 << 20))
        defer { test.end() }
        let file = try test.open(O_RDWR)
        defer { close(file) }
        var byte: UInt8 = 9
        #expect(pread(file, &byte, 1, 4096 + 1024) == 1)  // fills the kernel's cache
        #expect(clinux_fallocate(file, mode, UInt64(offset), UInt64(length)) == -code)
        #expect(test.device.events == (event.map { [$0] } ?? []))
        let expected = test.device.bytes
        var found = [UInt8](repeating: 0, count: 1 << 20)
        #expect(pread(file, &found, 1 << 20, 0) == 1 << 20)
        #expect(found == expected, "the cache shows what the device has")
    }

    @Test func allOfTheFileIsData() throws {
        let test = try TestMount(MemoryDevice(byteCount: 1 << 20))
        defer { test.end() }
        let file = try test.open(O_RDONLY)
        defer { close(file) }
        #expect(lseek(file, 5000, clinux_seek_data) == 5000)
        #expect(lseek(file, 5000, clinux_seek_hole) == 1 << 20)
        #expect(lseek(file, 1 << 20, clinux_seek_data) == -1)
        #expect(errno == ENXIO)
        #expect(lseek(file, 0, SEEK_END) == 1 << 20)
    }

    @Test func writersAtOnceDoNotMix() async throws {
        let test = try TestMount()
        defer { test.end() }
        let share = test.device.bytes.count / 8
        let path = test.path
        await withTaskGroup(of: Void.self) { group in
            for writer in 0..<8 {
                group.addTask {
                    let file = open(path, writer % 2 == 0 ? O_RDWR : O_RDWR | clinux_o_direct)
                    defer { close(file) }
                    withAlignedBytes(4096) { bytes in
                        bytes.initializeMemory(as: UInt8.self, repeating: UInt8(writer + 1))
                        for block in 0..<share / 4096 {
                            let offset = writer * share + block * 4096
                            #expect(pwrite(file, bytes.baseAddress!, 4096, offset) == 4096)
                        }
                    }
                }
            }
        }
        let bytes = test.device.bytes
        for writer in 0..<8 {
            #expect(
                bytes[writer * share..<(writer + 1) * share].allSatisfy { $0 == writer + 1 })
        }
    }

    @Test func heldUpRequestsDoNotStopOthers() throws {
        let test = try TestMount(MemoryDevice(holdFrom: 2 << 20))
        defer { test.end() }
        let file = try test.open(O_RDWR | clinux_o_direct)
        defer { close(file) }
        let ended = DispatchSemaphore(value: 0)
        for reader in 0..<12 {
            Thread.detachNewThread {
                withAlignedBytes(4096) { bytes in
                    let offset = (2 << 20) + reader * 4096
                    #expect(pread(file, bytes.baseAddress!, 4096, offset) == 4096)
                }
                ended.signal()
            }
        }
        withAlignedBytes(4096) { bytes in
            for _ in 0..<100 { #expect(pread(file, bytes.baseAddress!, 4096, 0) == 4096) }
            #expect(pwrite(file, bytes.baseAddress!, 4096, 0) == 4096)
            #expect(fsync(file) == 0)
        }
        test.device.release()
        for _ in 0..<12 { ended.wait() }
    }

    @Test func errorsOfTheDeviceReachTheCaller() throws {
        let test = try TestMount()
        defer { test.end() }
        let file = try test.open(O_RDWR | clinux_o_direct)
        defer { close(file) }
        for error in [DeviceError.io, .noSpace, .readOnly, .shuttingDown] {
            test.device.fail(error)
            withAlignedBytes(4096) { bytes in
                #expect(pread(file, bytes.baseAddress!, 4096, 0) == -1 && errno == error.rawValue)
                #expect(pwrite(file, bytes.baseAddress!, 4096, 0) == -1 && errno == error.rawValue)
            }
            #expect(fsync(file) == -1 && errno == error.rawValue)
            #expect(clinux_fallocate(file, 3, 0, 4096) == -error.rawValue)
            test.device.fail(nil)
            #expect(fsync(file) == 0)
        }
    }
}
