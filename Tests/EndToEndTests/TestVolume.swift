// A volume in a scratch folder, driven only by the commands that a user has.

import CommandText
import Foundation
import Testing

struct TestVolume {
    /// The answer to `logdisk mark --json`.
    struct Mark: Decodable {
        var lsn: UInt64
        var time: String
    }

    let scratch: Scratch
    let path: String
    let mountPoint: String
    var disk: String { mountPoint + "/disk.img" }

    init(in scratch: Scratch, name: String = "vol", _ options: [String]) throws {
        self.scratch = scratch
        path = scratch.path(name)
        mountPoint = try scratch.newFolder(name + "-mnt")
        _ = try logdisk(["create", path] + options)
    }

    init(in scratch: Scratch, name: String = "vol", size: String) throws {
        try self.init(in: scratch, name: name, ["--size", size])
    }

    /// A volume that something else makes.
    init(adopted path: String, in scratch: Scratch, mountPoint: String) {
        (self.path, self.scratch, self.mountPoint) = (path, scratch, mountPoint)
    }

    /// Runs the program; fails unless it ends with `status`.
    @discardableResult
    func logdisk(
        _ words: [String], expecting status: Int32 = 0,
        sourceLocation: SourceLocation = #_sourceLocation
    ) throws -> Outcome {
        let outcome = try attempt(words)
        try #require(outcome.status == status, "\(outcome)", sourceLocation: sourceLocation)
        return outcome
    }

    /// The same, whatever its end.
    func attempt(_ words: [String]) throws -> Outcome {
        try scratch.start([Machine.logdisk] + words, input: nil).wait()
    }

    // MARK: - life

    func mount(_ options: String...) throws {
        try logdisk(["mount", path, mountPoint] + options)
    }

    func unmount() throws { try logdisk(["unmount", mountPoint]) }

    /// The process that holds the volume at `path`, by its lock file.
    static func lockHolder(_ path: String) -> pid_t? {
        let text = (try? String(contentsOfFile: path + "/lock", encoding: .utf8)) ?? ""
        return text.split(separator: "\n").first.flatMap { pid_t($0) }
    }

    /// SIGKILL, and nothing after it: the mount stays behind, dead.
    func kill() throws {
        let process = try #require(TestVolume.lockHolder(path))
        try #require(Glibc.kill(process, SIGKILL) == 0)
        eventually("the death of the daemon") { !isAlive(process) }
    }

    /// Takes the dead mount away, if one was left, and mounts again.
    func revive(_ options: String...) throws {
        try clearDeadMount()
        try logdisk(["mount", path, mountPoint] + options)
    }

    func clearDeadMount() throws {
        guard Scratch.mountPoints(below: scratch.folder).contains(mountPoint) else { return }
        try logdisk(["unmount", mountPoint])
    }

    // MARK: - commands

    func status() throws -> StatusReport {
        let words = try logdisk(["status", path, "--json"]).output
        return try JSONDecoder().decode(StatusReport.self, from: Data(words.utf8))
    }

    func mark(_ name: String) throws -> Mark {
        let words = try logdisk(["mark", path, name, "--json"]).output
        return try JSONDecoder().decode(Mark.self, from: Data(words.utf8))
    }

    /// Writes the volume as it was at `target` into a new file.
    func replay(_ target: String, _ options: String...) throws -> String {
        let file = scratch.newPath("replayed")
        try logdisk(["replay", path, "--at", target, "--output", file] + options)
        return file
    }

    func verify() throws { try logdisk(["verify", path]) }
}

/// Fills `count` bytes from 64 KiB on with noise that follows from `words`, and syncs.
func fill(_ path: String, with words: String, count: Int) throws {
    let descriptor = open(path, O_WRONLY | O_CLOEXEC)
    try #require(descriptor >= 0)
    defer { close(descriptor) }
    var noise = SeededGenerator(seed: UInt64(words.utf8.reduce(5) { $0 * 31 + Int($1) }))
    let block = (0..<count / 8).map { _ in noise.next() }
    let n = block.withUnsafeBytes { pwrite(descriptor, $0.baseAddress, $0.count, 65536) }
    try #require(n == count && fsync(descriptor) == 0)
}

/// SHA-256 of a file.
func digest(_ scratch: Scratch, _ path: String) throws -> String {
    String(try scratch.run("sha256sum", path).output.prefix(64))
}

/// The present moment as a target for replay.
func presentTime() -> String {
    var now = timespec()
    clock_gettime(CLOCK_REALTIME, &now)
    var seconds = now.tv_sec
    var parts = tm()
    gmtime_r(&seconds, &parts)
    var text = [CChar](repeating: 0, count: 32)
    strftime(&text, text.count, "%Y-%m-%dT%H:%M:%S", &parts)
    let digits = String(now.tv_nsec + 1_000_000_000).dropFirst()
    return String(decoding: text.prefix { $0 != 0 }.map { UInt8($0) }, as: UTF8.self)
        + ".\(digits)Z"
}

/// Reproducible (splitmix64); its seed is part of every failure message.
struct SeededGenerator: RandomNumberGenerator {
    var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }

    mutating func below(_ bound: Int) -> Int { Int.random(in: 0..<bound, using: &self) }
}

/// A seed that no run had before, unless the environment gives one (LOGDISK_SEED).
func freshSeed() -> UInt64 {
    let given = ProcessInfo.processInfo.environment["LOGDISK_SEED"].flatMap { UInt64($0) }
    return given ?? UInt64.random(in: 0..<1 << 32)
}
