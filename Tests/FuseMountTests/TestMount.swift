// A disk in memory, and a real mount of it that is gone when the test ends.

import BlockModel
import Foundation
import FuseMount
import Synchronization
import Testing

/// What reached the device, in order.
enum Event: Equatable {
    case write(offset: UInt64, count: Int)
    case flush
    case discard(offset: UInt64, count: UInt64)
    case zero(offset: UInt64, count: UInt64)
}

/// Bytes in memory; remembers the calls other than reads; can be told to fail.
final class MemoryDevice: BlockDevice, @unchecked Sendable {
    // @unchecked: everything mutable lies behind the lock.
    private struct State {
        var bytes: [UInt8]
        var events: [Event] = []
        var failure: DeviceError?
    }
    private let state: Mutex<State>
    private let size: UInt64
    private let locked: Bool
    /// Reads at or after this offset wait until `release`.
    private let holdFrom: UInt64?
    private let gate = DispatchSemaphore(value: 0)

    init(byteCount: Int = 4 << 20, isReadOnly: Bool = false, holdFrom: UInt64? = nil) {
        self.holdFrom = holdFrom
        state = Mutex(State(bytes: (0..<byteCount).map { UInt8(truncatingIfNeeded: $0 / 512) }))
        size = UInt64(byteCount)
        locked = isReadOnly
        super.init()
    }

    override var byteCount: UInt64 { size }
    override var isReadOnly: Bool { locked }
    var bytes: [UInt8] { state.withLock { $0.bytes } }
    var events: [Event] { state.withLock { $0.events } }
    func forgetEvents() { state.withLock { $0.events = [] } }
    /// Lets go what `holdFrom` holds, now and later.
    func release() { gate.signal() }
    /// Every call fails with it from now on; nil: none.
    func fail(_ error: DeviceError?) { state.withLock { $0.failure = error } }

    override func read(
        into target: UnsafeMutableRawBufferPointer, at offset: UInt64
    ) throws(DeviceError) {
        if let holdFrom, offset >= holdFrom {
            gate.wait()
            gate.signal()
        }
        // @unchecked: used under the lock, before the return.
        nonisolated(unsafe) let target = target
        try apply { state in
            target.copyBytes(from: state.bytes[Int(offset)..<Int(offset) + target.count])
        }
    }

    override func write(_ source: UnsafeRawBufferPointer, at offset: UInt64) throws(DeviceError) {
        let copy = [UInt8](source)
        try apply { state in
            state.bytes.replaceSubrange(Int(offset)..<Int(offset) + copy.count, with: copy)
            state.events.append(.write(offset: offset, count: copy.count))
        }
    }

    override func flush() throws(DeviceError) { try apply { $0.events.append(.flush) } }

    override func discard(offset: UInt64, count: UInt64) throws(DeviceError) {
        try clear(offset, count, .discard(offset: offset, count: count))
    }

    override func writeZeroes(offset: UInt64, count: UInt64) throws(DeviceError) {
        try clear(offset, count, .zero(offset: offset, count: count))
    }

    private func clear(_ offset: UInt64, _ count: UInt64, _ event: Event) throws(DeviceError) {
        try apply { state in
            for index in Int(offset)..<Int(offset + count) { state.bytes[index] = 0 }
            state.events.append(event)
        }
    }

    private func apply(_ change: (inout sending State) -> Void) throws(DeviceError) {
        let failure = state.withLock { state in
            if state.failure == nil { change(&state) }
            return state.failure
        }
        if let failure { throw failure }
    }
}

/// Whether the kernel offers FUSE over io_uring here.
let ringsAreOffered =
    (try? String(contentsOfFile: "/sys/module/fuse/parameters/enable_uring", encoding: .utf8))?
    .first == "Y"

/// Runs every test of a suite on each way that requests can come: the connection, and rings where
/// the kernel offers them (`RingTests` says when it does not).
struct OnEveryTransport: SuiteTrait, TestTrait, TestScoping {
    var isRecursive: Bool { true }

    func provideScope(
        for test: Test, testCase: Test.Case?,
        performing function: @Sendable () async throws -> Void
    ) async throws {
        guard testCase != nil else { return try await function() }
        for usesRings in ringsAreOffered ? [false, true] : [false] {
            try await TestMount.$usesRings.withValue(usesRings) { try await function() }
        }
    }
}

extension Trait where Self == OnEveryTransport {
    static var onEveryTransport: Self { OnEveryTransport() }
}

/// A mount in a fresh folder, served on a thread of its own.
final class TestMount {
    /// What mounts of the running test use.
    @TaskLocal static var usesRings = true

    let device: MemoryDevice
    let mount: FuseMount
    let folder: String
    private let ended = DispatchSemaphore(value: 0)

    var path: String { folder + "/disk.img" }

    init(_ device: MemoryDevice = MemoryDevice(), options: MountOptions = MountOptions()) throws {
        self.device = device
        folder = try temporaryFolder()
        var options = options
        options.usesRings = Self.usesRings
        let mount = try FuseMount(device: device, mountPoint: folder, options: options)
        self.mount = mount
        let ended = ended
        Thread.detachNewThread {
            do throws(MountError) { try mount.run() } catch { Issue.record("run: \(error)") }
            ended.signal()
        }
    }

    /// For `defer`, right after the mount: unmounts and waits until nothing is served any more.
    func end() {
        do throws(MountError) {
            // A child that another test has just forked holds all our descriptors until its exec.
            var attempts = 0
            while FuseMount.isMountPoint(folder) {
                do throws(MountError) { try mount.requestUnmount() } catch {
                    attempts += 1
                    guard attempts < 1000, case .busy = error else { throw error }
                    usleep(1000)
                }
            }
        } catch {
            Issue.record("unmount: \(error)")
            try? mount.requestUnmount(.abort)
        }
        waitUntilEnded()
        rmdir(folder)
    }

    func waitUntilEnded() {
        ended.wait()
        ended.signal()
    }

    /// Opens the file; the caller closes it before `end`.
    func open(_ flags: Int32) throws -> Int32 {
        let descriptor = Glibc.open(path, flags | O_CLOEXEC)
        try #require(descriptor >= 0, "open: \(String(cString: strerror(errno)))")
        return descriptor
    }
}

/// A new empty folder with a blank and a comma in its name.
func temporaryFolder() throws -> String {
    var template = Array("/tmp/logdisk mount, XXXXXX".utf8CString)
    try #require(mkdtemp(&template) != nil)
    return String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
}

/// Whether mounts can be made here.
let canMount: Bool = {
    let descriptor = open("/dev/fuse", O_RDWR | O_CLOEXEC)
    if descriptor >= 0 { close(descriptor) }
    return descriptor >= 0
}()

/// A command of the shell as a child process.
struct Shell {
    let process: pid_t
    private let output: Int32

    init(_ command: String) throws {
        var ends: [Int32] = [-1, -1]
        try #require(pipe(&ends) == 0)
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO)
        posix_spawn_file_actions_adddup2(&actions, ends[1], STDERR_FILENO)
        var arguments: [UnsafeMutablePointer<CChar>?] = [
            strdup("sh"), strdup("-c"), strdup(command), nil,
        ]
        defer { for argument in arguments { free(argument) } }
        var process = pid_t()
        let code = posix_spawn(&process, "/bin/sh", &actions, nil, &arguments, environ)
        close(ends[1])
        try #require(code == 0)
        self.process = process
        output = ends[0]
    }

    func kill() {
        Glibc.kill(process, SIGKILL)
        _ = wait()
    }

    /// Wait status and output; call once.
    func wait() -> (status: Int32, output: String) {
        let words = FileHandle(fileDescriptor: output, closeOnDealloc: true).readDataToEndOfFile()
        var status: Int32 = 0
        while waitpid(process, &status, 0) < 0, errno == EINTR {}
        return (status, String(decoding: words, as: UTF8.self))
    }
}

/// Page-aligned memory, for O_DIRECT.
func withAlignedBytes(_ count: Int, _ body: (UnsafeMutableRawBufferPointer) throws -> Void) rethrows
{
    let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: count, alignment: 4096)
    defer { memory.deallocate() }
    try body(memory)
}

/// Reproducible (splitmix64); the seed is part of every failure message.
struct SeededGenerator: RandomNumberGenerator {
    var state: UInt64
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}
