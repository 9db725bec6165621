// The mount itself: attributes, what is refused, errors of mounting and unmounting, who holds it.

import Foundation
import FuseMount
import Testing

@Suite(.enabled(if: canMount, "no FUSE here: /dev/fuse cannot be opened"), .onEveryTransport)
struct MountTests {
    @Test func theFolderHoldsOneFile() throws {
        let test = try TestMount(MemoryDevice(byteCount: 1_234_944))
        defer { test.end() }
        #expect(try FileManager.default.contentsOfDirectory(atPath: test.folder) == ["disk.img"])
        var status = stat()
        #expect(stat(test.path, &status) == 0)
        #expect(status.st_size == 1_234_944)
        #expect(status.st_blocks == 1_234_944 / 512)
        #expect(status.st_blksize == 4096)
        #expect(status.st_mode == S_IFREG | 0o600)
        #expect(status.st_uid == geteuid())
        #expect(stat(test.folder, &status) == 0)
        #expect(status.st_mode == S_IFDIR | 0o700)
        var system = statvfs()
        #expect(statvfs(test.folder, &system) == 0)
        #expect(system.f_blocks == 302)
        #expect(system.f_bfree == 0)
        #expect(stat(test.folder + "/other", &status) == -1 && errno == ENOENT)
    }

    @Test func otherFilesAndSizesAreRefused() throws {
        let test = try TestMount()
        defer { test.end() }
        let other = test.folder + "/other"
        #expect(open(other, O_CREAT | O_RDWR, 0o600) == -1 && errno == EPERM)
        #expect(mkdir(other, 0o700) == -1 && errno == EPERM)
        #expect(unlink(test.path) == -1 && errno == EPERM)
        #expect(rename(test.path, other) == -1 && errno == EPERM)
        #expect(link(test.path, other) == -1 && errno == EPERM)
        #expect(symlink("x", other) == -1 && errno == EPERM)
        #expect(truncate(test.path, 4096) == -1 && errno == EPERM)
        #expect(truncate(test.path, 8 << 20) == -1 && errno == EPERM)
        #expect(open(test.path, O_RDWR | O_TRUNC) == -1 && errno == EPERM)
        #expect(truncate(test.path, 4 << 20) == 0)
        var status = stat()
        #expect(stat(test.path, &status) == 0)
        #expect(status.st_size == 4 << 20)
        #expect(test.device.events.isEmpty)
    }

    @Test func modeOwnerAndTimesCanBeSet() throws {
        let test = try TestMount()
        defer { test.end() }
        #expect(chmod(test.path, 0o640) == 0)
        let times = [timeval(tv_sec: 1000, tv_usec: 0), timeval(tv_sec: 2000, tv_usec: 0)]
        #expect(utimes(test.path, times) == 0)
        var status = stat()
        #expect(stat(test.path, &status) == 0)
        #expect(status.st_mode == S_IFREG | 0o640)
        #expect(status.st_atim.tv_sec == 1000)
        #expect(status.st_mtim.tv_sec == 2000)
        let file = try test.open(O_RDWR)
        defer { close(file) }
        #expect(pwrite(file, "x", 1, 0) == 1)
        #expect(fstat(file, &status) == 0)
        #expect(status.st_mtim.tv_sec > 1_000_000_000, "a write changes the modification time")
    }

    @Test func aReadOnlyDeviceGivesAReadOnlyMount() throws {
        let test = try TestMount(MemoryDevice(isReadOnly: true))
        defer { test.end() }
        #expect(open(test.path, O_RDWR) == -1 && errno == EROFS)
        #expect(unlink(test.path) == -1 && errno == EROFS)
        let file = try test.open(O_RDONLY)
        defer { close(file) }
        var byte: UInt8 = 0
        #expect(pread(file, &byte, 1, 512) == 1)
        #expect(byte == 1)
        var status = stat()
        #expect(fstat(file, &status) == 0)
        #expect(status.st_mode == S_IFREG | 0o400)
    }

    @Test func allowOtherOpensTheFileToAll() throws {
        try #require(geteuid() == 0)
        var options = MountOptions(allowOther: true, fileName: "other.raw")
        options.fileSystemName = "a,b\\c"
        let test = try TestMount(options: options)
        defer { test.end() }
        var status = stat()
        #expect(stat(test.folder + "/other.raw", &status) == 0)
        #expect(status.st_mode == S_IFREG | 0o666)
        let mounts = try String(contentsOfFile: "/proc/self/mounts", encoding: .utf8)
        #expect(mounts.contains("allow_other"))
    }

    @Test func badMountPointsAreNamed() throws {
        let folder = try temporaryFolder()
        defer { try? FileManager.default.removeItem(atPath: folder) }
        func failure(_ path: String) -> MountError? {
            do throws(MountError) {
                _ = try FuseMount(device: MemoryDevice(), mountPoint: path)
                return nil
            } catch { return error }
        }
        #expect(failure(folder + "/missing") == .mountPointMissing)
        #expect(failure(folder + "/missing/deeper") == .mountPointMissing)
        #expect(FileManager.default.createFile(atPath: folder + "/file", contents: nil))
        #expect(failure(folder + "/file") == .mountPointNotDirectory)
        #expect(failure(folder) == .mountPointNotEmpty)
        #expect(FuseMount.isMountPoint(folder) == false)
        #expect(throws: MountError.notMounted) { try FuseMount.unmount(folder) }
        let test = try TestMount()
        defer { test.end() }
        #expect(
            failure(test.folder + "/") == .alreadyMounted(source: "logdisk", type: "fuse.logdisk"))
        #expect(FuseMount.isMountPoint(test.folder + "/"))
        #expect(FuseMount.isStale(test.folder) == false)
    }

    @Test func aMountThatNeverRanIsTakenAway() throws {
        let folder = try temporaryFolder()
        defer { rmdir(folder) }
        do {
            let mount = try FuseMount(device: MemoryDevice(), mountPoint: folder)
            #expect(FuseMount.isMountPoint(folder))
            _ = mount
        }
        #expect(FuseMount.isMountPoint(folder) == false)
    }

    @Test func aStaleMountIsToldAndCanBeRemoved() throws {
        try #require(geteuid() == 0, "needs mount(2)")
        let folder = try temporaryFolder()
        defer { rmdir(folder) }
        // A connection whose server is gone: what kill -9 leaves.
        let server = open("/dev/fuse", O_RDWR | O_CLOEXEC)
        let options = "fd=\(server),rootmode=40000,user_id=0,group_id=0"
        try #require(mount("test", folder, "fuse.logdisk", 0, options) == 0)
        defer { umount2(folder, 2) }
        close(server)
        #expect(FuseMount.isStale(folder))
        #expect(throws: MountError.staleMount) {
            _ = try FuseMount(device: MemoryDevice(), mountPoint: folder)
        }
        #expect(MountError.staleMount.hint?.contains("unmount") == true)
        try FuseMount.unmount(folder)
        #expect(FuseMount.isMountPoint(folder) == false)
    }

    @Test func aBusyMountNamesItsHolders() throws {
        let test = try TestMount()
        defer { test.end() }
        let shell = try Shell("exec sleep 600 < '\(test.path)'")
        defer { shell.kill() }
        let expected = MountHolder(kind: .process(pid: shell.process), command: "sleep")
        while FuseMount.holders(of: test.folder) != [expected] { sched_yield() }
        #expect(throws: MountError.busy([expected])) { try test.mount.requestUnmount() }
        #expect(MountError.busy([expected]).description.contains("sleep (pid"))
    }

    @Test func aLoopDeviceIsAHolder() throws {
        let test = try TestMount()
        defer { test.end() }
        let attach = try Shell("losetup --find --show '\(test.path)'")
        let (status, words) = attach.wait()
        guard status == 0, let device = words.split(separator: "\n").first else {
            withKnownIssue("no loop device here: \(words)") { Issue.record("skipped") }
            return
        }
        defer { _ = try? Shell("losetup -d \(device)").wait() }
        let holder = MountHolder(kind: .loopDevice(device: String(device), mounts: []))
        #expect(FuseMount.holders(of: test.folder) == [holder])
        #expect(MountError.busy([holder]).hint == "losetup -d \(device)")
    }

    @Test func aCopyInAnotherMountNamespaceIsAHolder() throws {
        let test = try TestMount()
        defer { test.end() }
        let shell = try Shell("exec unshare --mount --propagation private sleep 600")
        defer { shell.kill() }
        // Its namespace is its own when it sleeps.
        let comm = "/proc/\(shell.process)/comm"
        while try String(contentsOfFile: comm, encoding: .utf8) != "sleep\n" { sched_yield() }
        let expected = MountHolder(
            kind: .mountNamespace(pid: shell.process, path: test.folder), command: "sleep")
        #expect(throws: MountError.busy([expected])) { try test.mount.requestUnmount() }
        #expect(FuseMount.isMountPoint(test.folder) == false)
    }

    @Test func aLazyUnmountServesUntilTheLastUserCloses() throws {
        let test = try TestMount()
        defer { test.end() }
        let file = try test.open(O_RDWR)
        try test.mount.requestUnmount(.lazy)
        #expect(FuseMount.isMountPoint(test.folder) == false)
        #expect(pwrite(file, "late", 4, 0) == 4)
        close(file)
        test.waitUntilEnded()
        #expect(test.device.bytes.prefix(4) == [108, 97, 116, 101])
    }

    @Test func anAbortEndsAtOnce() throws {
        try #require(geteuid() == 0, "needs root")
        let test = try TestMount()
        defer { test.end() }
        let file = try test.open(O_RDWR)
        defer { close(file) }
        try test.mount.requestUnmount(.abort)
        test.waitUntilEnded()
        #expect(pwrite(file, "late", 4, 0) == -1)
    }

    /// The release of the file may still be on its way to a worker when the connection ends.
    @Test func anUnmountRightAfterTheLastCloseIsAnUnmount() throws {
        for _ in 0..<200 {
            let test = try TestMount()
            defer { test.end() }  // records an issue when `run` throws
            let file = try test.open(O_RDWR)
            #expect(pwrite(file, "last", 4, 0) == 4)
            close(file)
            test.end()
        }
    }
}
