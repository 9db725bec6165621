// FUSE over io_uring itself. What both ways have in common, the other suites test on both.

import FuseMount
import Foundation
import Testing

@Suite struct RingTests {
    @Suite(.enabled(if: canMount, "no FUSE here: /dev/fuse cannot be opened"))
    struct Mounted {
        @Test(
            .enabled(
                if: ringsAreOffered,
                "the kernel offers no FUSE over io_uring (parameter enable_uring of fuse)"))
        func requestsComeThroughRings() throws {
            let test = try TestMount()
            defer { test.end() }
            close(try test.open(O_RDWR))
            #expect(test.mount.transport == .rings)
        }

        @Test func theConnectionIsTheOtherWay() throws {
            try TestMount.$usesRings.withValue(false) {
                let test = try TestMount()
                defer { test.end() }
                close(try test.open(O_RDWR))
                #expect(test.mount.transport == .connection)
            }
        }

        /// A program that is killed while its request waits; its entry must come back.
        @Test func killedProgramsLeaveNothingBehind() throws {
            let test = try TestMount(MemoryDevice(holdFrom: 2 << 20))
            defer { test.end() }
            let command = "exec dd if='\(test.path)' of=/dev/null bs=4096 skip=512 count=1 "
            let readers = try (0..<8).map { _ in try Shell(command + "iflag=direct status=none") }
            for reader in readers {
                while !isWaitingForADisk(reader.process) { usleep(1000) }
                Glibc.kill(reader.process, SIGKILL)
            }
            test.device.release()  // the kernel lets them end only with their requests
            for reader in readers { #expect(reader.wait().status & 0x7f == SIGKILL) }
            let file = try test.open(O_RDWR)
            defer { close(file) }
            #expect(pwrite(file, "on", 2, 0) == 2)
        }

        /// More reads than a queue has entries are held up, all on one processor, and none of them
        /// comes back: another one that comes up there is answered all the same.
        @Test func heldUpRequestsStopNoOthers() throws {
            let test = try TestMount(MemoryDevice(holdFrom: 2 << 20))
            defer { test.end() }
            let command = "exec taskset -c 0 dd if='\(test.path)' of=/dev/null bs=4096 count=1 "
            let readers = try (0..<20).map { index in
                try Shell(command + "skip=\(512 + index) iflag=direct status=none")
            }
            defer { for reader in readers { _ = reader.wait() } }
            defer { test.device.release() }
            for reader in readers {
                while !isWaitingForADisk(reader.process) { usleep(1000) }
            }
            let other = try Shell(command + "skip=1 iflag=direct status=none")
            #expect(other.wait().status == 0)
        }

        /// Asleep in a request to a file system, by what /proc tells.
        private func isWaitingForADisk(_ process: pid_t) -> Bool {
            let call = try? String(contentsOfFile: "/proc/\(process)/syscall", encoding: .utf8)
            let name = try? String(contentsOfFile: "/proc/\(process)/comm", encoding: .utf8)
            // read(2) is call 0 on x86-64 and 63 on ARM.
            let number = call?.split(separator: " ").first
            return name == "dd\n" && (number == "0" || number == "63")
        }
    }

    @Test(arguments: [
        ("0\n", 1), ("0-1\n", 2), ("0-3,8-11", 8), ("0,2", 2), ("", nil), ("x", nil), ("3-1", nil),
        ("1-2-3", nil), ("-1", nil),
    ])
    func processorsAreCounted(list: String, count: Int?) {
        #expect(PossibleProcessors.count(of: list) == count)
    }
}
