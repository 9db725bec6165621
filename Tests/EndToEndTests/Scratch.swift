// A folder in which one test does everything, and which takes everything along when it ends: the
// processes, the mounts, the loop devices. What a killed test run left is cleared by the next one.

import Foundation
import Testing

/// The folder of one test. Not for several threads.
final class Scratch {
    static let prefix = "logdisk-e2e-"
    let folder: String
    private var endings: [() -> Void] = []
    private var names = 0

    init() throws {
        Scratch.sweep()
        // Told apart by the process: a folder whose process is dead is a leftover.
        var template = Array("/tmp/\(Scratch.prefix)\(getpid())-XXXXXX".utf8CString)
        try #require(mkdtemp(&template) != nil)
        folder = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        chmod(folder, 0o755)  // other users' programs work in file systems below it
    }

    /// Runs `body` in a new scratch folder and clears it, however `body` ends.
    static func with(_ body: (Scratch) throws -> Void) throws {
        signal(SIGPIPE, SIG_IGN)
        let scratch = try Scratch()
        defer { scratch.end() }
        try body(scratch)
    }

    /// Called before the folder is cleared; the last one first.
    func onEnd(_ ending: @escaping () -> Void) { endings.append(ending) }

    func path(_ name: String) -> String { "\(folder)/\(name)" }

    func newPath(_ kind: String) -> String {
        names += 1
        return path("\(kind)-\(names)")
    }

    func newFolder(_ name: String) throws -> String {
        let path = path(name)
        try #require(mkdir(path, 0o755) == 0, "mkdir \(path)")
        return path
    }

    private func end() {
        while let ending = endings.popLast() { ending() }
        Scratch.clear(folder)
        if access(folder, F_OK) == 0 { Issue.record("cannot be cleared: \(folder)") }
        let left = LoopDevice.backed(by: folder)
        if !left.isEmpty { Issue.record("loop devices left: \(left)") }
    }

    // MARK: - commands

    /// Runs a command to its end, which must be the one expected.
    @discardableResult
    func run(
        _ words: String..., expecting status: Int32 = 0, input: String? = nil,
        sourceLocation: SourceLocation = #_sourceLocation
    ) throws -> Outcome {
        let outcome = try start(words, input: input).wait()
        try #require(outcome.status == status, "\(outcome)", sourceLocation: sourceLocation)
        return outcome
    }

    /// Runs a command to its end, whatever that is.
    func attempt(_ words: String...) throws -> Outcome { try start(words, input: nil).wait() }

    func start(_ words: [String], input: String?) throws -> Child {
        let child = try Child(words, in: self)
        if let input { child.send(input) }
        child.endInput()
        return child
    }

    /// The program under test.
    @discardableResult
    func logdisk(
        _ words: String..., expecting status: Int32 = 0,
        sourceLocation: SourceLocation = #_sourceLocation
    ) throws -> Outcome {
        let outcome = try start([Machine.logdisk] + words, input: nil).wait()
        try #require(outcome.status == status, "\(outcome)", sourceLocation: sourceLocation)
        return outcome
    }

    // MARK: - clearing

    /// Clears what test runs that no longer live have left.
    private static func sweep() {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: "/tmp")) ?? []
        for name in names where name.hasPrefix(prefix) {
            let owner = name.dropFirst(prefix.count).prefix { $0.isNumber }
            if let owner = pid_t(owner), !isAlive(owner) { clear("/tmp/" + name) }
        }
    }

    /// Kills who uses something below `folder`, unmounts, detaches, removes.
    private static func clear(_ folder: String) {
        for _ in 0..<200 {
            for user in users(of: folder) { kill(user, SIGKILL) }
            let mounts = mountPoints(below: folder)
            for mount in mounts.reversed() { umount2(mount, 2) }  // MNT_DETACH
            for device in LoopDevice.backed(by: folder) { LoopDevice.detach(device) }
            if mounts.isEmpty, LoopDevice.backed(by: folder).isEmpty {
                try? FileManager.default.removeItem(atPath: folder)
                if access(folder, F_OK) != 0 { return }
            }
            usleep(10_000)
        }
    }

    /// Topmost last, as the kernel lists them.
    static func mountPoints(below folder: String) -> [String] {
        let table = (try? String(contentsOfFile: "/proc/self/mountinfo", encoding: .utf8)) ?? ""
        return table.split(separator: "\n").compactMap { line in
            let fields = line.split(separator: " ")
            return fields.count > 4 && fields[4].hasPrefix(folder + "/") ? String(fields[4]) : nil
        }
    }

    /// What tests start that may outlive them; nobody else's shell that stands in the folder.
    private static let programs = ["logdisk", "postgres", "fio", "python3", "qemu-io", "dd"]

    /// Processes of these programs with a file or their place below `folder`. Found by path, so to
    /// be asked before a mount is detached.
    private static func users(of folder: String) -> [pid_t] {
        let files = FileManager.default
        func target(_ path: String) -> String? {
            try? files.destinationOfSymbolicLink(atPath: path)
        }
        let all = ((try? files.contentsOfDirectory(atPath: "/proc")) ?? []).compactMap { pid_t($0) }
        return all.filter { process in
            guard process != getpid(), let program = target("/proc/\(process)/exe"),
                let name = program.split(separator: "/").last,
                programs.contains(where: { name.hasPrefix($0) }), !name.hasSuffix(".xctest")
            else { return false }
            let open = (try? files.contentsOfDirectory(atPath: "/proc/\(process)/fd")) ?? []
            let links = open.map { "/proc/\(process)/fd/\($0)" } + ["/proc/\(process)/cwd"]
            return links.contains { target($0)?.hasPrefix(folder + "/") ?? false }
        }
    }
}

/// A loop device of the kernel.
enum LoopDevice {
    /// Attaches `file`; direct, so that what the file system asks to be durable reaches the file.
    static func attach(_ file: String, in scratch: Scratch, _ options: String...) throws -> String {
        let words = ["losetup", "--find", "--show", "--direct-io=on"] + options + [file]
        var outcome = try scratch.start(words, input: nil).wait()
        // Another process may have taken the free device in between.
        for _ in 0..<20 where outcome.errors.contains("busy") {
            outcome = try scratch.start(words, input: nil).wait()
        }
        try #require(outcome.status == 0, "\(outcome)")
        let device = outcome.output.trimmingCharacters(in: .whitespacesAndNewlines)
        // Also when the kernel can no longer tell its file's path.
        scratch.onEnd { if isAttached(device, belongingTo: scratch) { detach(device) } }
        return device
    }

    /// Detaches and waits until it is free: a user that is just going away delays it.
    static func release(_ device: String) {
        detach(device)
        eventually("\(device) is free") { backingFile(device) == nil }
    }

    /// Asks the kernel; a device in use goes with its last user.
    static func detach(_ device: String) {
        let descriptor = open(device, O_RDWR | O_CLOEXEC)
        guard descriptor >= 0 else { return }
        _ = ioctl(descriptor, 0x4C01)  // LOOP_CLR_FD
        close(descriptor)
    }

    static func backed(by folder: String) -> [String] {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: "/sys/block")) ?? []
        return names.filter { $0.hasPrefix("loop") }.map { "/dev/" + $0 }
            .filter { backingFile($0)?.hasPrefix(folder + "/") ?? false }
    }

    private static func backingFile(_ device: String) -> String? {
        let path = "/sys/block/\(device.dropFirst("/dev/".count))/loop/backing_file"
        return try? String(contentsOfFile: path, encoding: .utf8)
    }

    private static func isAttached(_ device: String, belongingTo scratch: Scratch) -> Bool {
        guard let file = backingFile(device) else { return false }
        return file.hasPrefix(scratch.folder + "/") || file.hasPrefix("/disk.img")
    }
}
