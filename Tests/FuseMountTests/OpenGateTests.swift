// Changing what the file holds while nobody has it open: who is in is named, who comes is refused,
// and what the kernel had read before is forgotten.

import Foundation
import FuseMount
import Testing

@Suite(.enabled(if: canMount, "no FUSE here: /dev/fuse cannot be opened"), .onEveryTransport)
struct OpenGateTests {
    private struct Failure: Error {}

    private func change(_ device: MemoryDevice, to byte: UInt8) throws {
        let bytes = [UInt8](repeating: byte, count: device.bytes.count)
        try bytes.withUnsafeBytes { try device.write($0, at: 0) }
    }

    /// Reads through the page cache.
    private func read(_ test: TestMount) throws -> Set<UInt8> {
        let file = try test.open(O_RDONLY)
        defer { close(file) }
        var bytes = [UInt8](repeating: 0xEE, count: test.device.bytes.count)
        try #require(pread(file, &bytes, bytes.count, 0) == bytes.count)
        return Set(bytes)
    }

    @Test func theKernelForgetsWhatItHadRead() throws {
        let test = try TestMount()
        defer { test.end() }
        try change(test.device, to: 1)
        #expect(try read(test) == [1])
        // The control: pages stay over close and open, so the file shows what is no longer there.
        try change(test.device, to: 2)
        #expect(try read(test) == [1])
        try test.mount.withFileClosed { try change(test.device, to: 3) }
        #expect(try read(test) == [3])
        // Also when it fails half-way.
        #expect(throws: Failure.self) {
            try test.mount.withFileClosed {
                try change(test.device, to: 4)
                throw Failure()
            }
        }
        #expect(try read(test) == [4])
        let file = try test.open(O_RDWR)
        #expect(pwrite(file, [UInt8](repeating: 5, count: 4096), 4096, 0) == 4096)
        close(file)
        #expect(test.device.bytes[..<4096].allSatisfy { $0 == 5 })
    }

    @Test func nobodyComesIn() throws {
        let test = try TestMount()
        defer { test.end() }
        try test.mount.withFileClosed {
            for flags in [O_RDONLY, O_RDWR] {
                #expect(Glibc.open(test.path, flags | O_CLOEXEC) == -1 && errno == EBUSY)
            }
            var status = stat()
            #expect(stat(test.path, &status) == 0)
            // A second one at the same time is refused as well.
            #expect(throws: MountError.self) { try test.mount.withFileClosed {} }
        }
        #expect(try !read(test).isEmpty)
    }

    /// The mount ends meanwhile, and with it its session.
    @Test func unmountedMeanwhile() throws {
        let test = try TestMount()
        defer { test.end() }
        #expect(try !read(test).isEmpty)
        try test.mount.withFileClosed {
            #expect(test.mount.keepsFileClosed)
            try test.mount.requestUnmount()
            test.waitUntilEnded()
        }
        #expect(!test.mount.keepsFileClosed)
    }

    @Test func whoIsInStays() throws {
        let test = try TestMount()
        defer { test.end() }
        let other = try Shell("exec 3<'\(test.path)'; exec sleep 600")
        defer { other.kill() }
        var isIn = false
        for _ in 0..<500 where !isIn {
            isIn = FuseMount.holders(of: test.folder).contains {
                $0.kind == .process(pid: other.process)
            }
            usleep(10_000)
        }
        try #require(isIn)
        var wasCalled = false
        let error = #expect(throws: MountError.self) {
            try test.mount.withFileClosed { wasCalled = true }
        }
        #expect("\(error.map { "\($0)" } ?? "")".contains("pid \(other.process)"))
        #expect(!wasCalled)
    }

    /// Opened and closed by many at once, the count comes out even.
    @Test func theCountComesOutEven() throws {
        let test = try TestMount()
        defer { test.end() }
        let path = test.path
        DispatchQueue.concurrentPerform(iterations: 8) { _ in
            for _ in 0..<50 {
                let file = Glibc.open(path, O_RDONLY | O_CLOEXEC)
                if file >= 0 {
                    let copy = dup(file)
                    close(file)
                    close(copy)
                }
            }
        }
        try test.mount.withFileClosed { try change(test.device, to: 9) }
        #expect(try read(test) == [9])
    }
}
