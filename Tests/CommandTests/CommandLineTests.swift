// The program itself, run as a user runs it: every bad input gets its message, hint and exit
// code, and leaves nothing behind. No mount is needed here; MountCommandTests has those.

import CLinux
import Foundation
import Testing

/// A folder of its own for one test, and the program run in it.
final class Sandbox {
    let path: String

    init() throws {
        var template = Array("/tmp/logdisk-command.XXXXXX".utf8CString)
        let made = try #require(mkdtemp(&template))
        path = String(cString: made)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    struct Run {
        var code: Int32
        var output: String
        var error: String

        /// Each line of the standard error.
        var errorLines: [Substring] { error.split(separator: "\n") }
    }

    /// The program under test lies beside the tests.
    static var program: String {
        let own = (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe"))
        let folder = own.map { ($0 as NSString).deletingLastPathComponent } ?? "."
        return ProcessInfo.processInfo.environment["LOGDISK_BINARY"] ?? folder + "/logdisk"
    }

    /// Output goes to files: a mount in the background would keep a pipe open.
    func run(_ arguments: [String], environment more: [String: String] = [:]) throws -> Run {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: Self.program)
        process.arguments = arguments
        process.currentDirectoryURL = URL(fileURLWithPath: path)
        var environment = ProcessInfo.processInfo.environment
        environment["TZ"] = "UTC"
        environment.merge(more) { $1 }
        process.environment = environment
        process.standardInput = FileHandle.nullDevice
        let names = ["\(path)/.out", "\(path)/.err"]
        for name in names { _ = FileManager.default.createFile(atPath: name, contents: nil) }
        process.standardOutput = FileHandle(forWritingAtPath: names[0])
        process.standardError = FileHandle(forWritingAtPath: names[1])
        try process.run()
        process.waitUntilExit()
        let texts = try names.map { try String(contentsOfFile: $0, encoding: .utf8) }
        for name in names { try FileManager.default.removeItem(atPath: name) }
        return Run(code: process.terminationStatus, output: texts[0], error: texts[1])
    }

    /// A file of random bytes, or of zeros.
    func file(_ name: String, bytes: Int, random: Bool = false) throws {
        var data = Data(count: bytes)
        if random { for i in data.indices { data[i] = UInt8.random(in: 0...255) } }
        try data.write(to: URL(fileURLWithPath: "\(path)/\(name)"))
    }

    func folder(_ name: String) throws {
        try FileManager.default.createDirectory(
            atPath: "\(path)/\(name)", withIntermediateDirectories: true)
    }

    func remove(_ name: String) throws {
        try FileManager.default.removeItem(atPath: "\(path)/\(name)")
    }

    func bytes(_ name: String) throws -> Data {
        try Data(contentsOf: URL(fileURLWithPath: "\(path)/\(name)"))
    }

    func exists(_ name: String) -> Bool {
        FileManager.default.fileExists(atPath: "\(path)/\(name)")
    }

    /// Overwrites bytes of a file.
    func overwrite(_ name: String, at offset: UInt64, with data: Data) throws {
        let handle = try #require(FileHandle(forWritingAtPath: "\(path)/\(name)"))
        try handle.seek(toOffset: offset)
        try handle.write(contentsOf: data)
        try handle.close()
    }

    /// Everything in the folder, by name.
    var names: [String] {
        ((try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []).sorted()
    }
}

/// One row of a table of bad inputs.
struct BadInput: Sendable, CustomStringConvertible {
    var arguments: [String]
    var code: Int32
    /// Must all be in the first line.
    var words: [String]

    init(_ arguments: String, _ code: Int32, _ words: String...) {
        self.arguments = arguments.split(separator: " ").map { $0 == "''" ? "" : String($0) }
        self.code = code
        self.words = words
    }

    var description: String { arguments.joined(separator: " ") }
}

/// The row's message has the promised form and code.
func check(_ row: BadInput, _ run: Sandbox.Run) {
    #expect(run.code == row.code, "\(run.error)")
    let first =
        run.errorLines.first { $0.hasPrefix("logdisk: ") && !$0.hasPrefix("logdisk: warning: ") }
        ?? ""
    for word in row.words { #expect(first.contains(word), "\(run.error)") }
    #expect(run.errorLines.dropFirst().contains { $0.hasPrefix("hint: ") }, "\(run.error)")
}

@Suite struct CreateTableTests {
    @Test(arguments: [
        BadInput("create", 64, "create", "<VOL>"),
        BadInput("create v", 64, "create v", "--size, --from, --image"),
        BadInput("create v --size 1G --from f", 64, "exclude each other"),
        BadInput("create v --size 0", 64, "create v", "0 bytes"),
        BadInput("create v --size -5", 64, "negative"),
        BadInput("create v --size ten", 64, "ten", "not a number"),
        BadInput("create v --size ''", 64, "no size given"),
        BadInput("create v --size 10GB", 64, "ambiguous"),
        BadInput("create v --size 1000", 64, "not a multiple of 512"),
        BadInput("create v --size 9E", 64, "beyond 8 EiB"),
        BadInput("create v --size 16E", 64, "larger than 2^64"),
        BadInput("create v --size 1M --ring 1", 64, "--ring 1 is out of range"),
        BadInput("create v --size 1M --wal-size 1M", 64, "--wal-size 1M is out of range"),
        BadInput("create v --size 1M --log-dir missing", 10, "log folder is missing"),
        BadInput("create missing/v --size 1M", 64, "does not exist"),
        BadInput("create full --size 1M", 64, "full is not empty"),
        BadInput("create file --size 1M", 64, "is not a folder"),
        BadInput("create v --from missing", 64, "missing", "No such file"),
        BadInput("create v --image missing", 64, "missing", "No such file"),
        BadInput("create v --from empty", 64, "0 bytes"),
        BadInput("create v --image empty", 64, "0 bytes"),
        BadInput("create v --from odd", 64, "not a multiple of 512"),
        BadInput("create v --from full", 64, "neither a file nor a block device"),
        BadInput("create v --from /dev/null", 64, "neither a file nor a block device"),
        BadInput("create v --size 1M --nonsense", 64, "--nonsense"),
    ])
    func refuses(_ row: BadInput) throws {
        let sandbox = try Sandbox()
        try sandbox.folder("full")
        try sandbox.file("full/something", bytes: 1)
        try sandbox.file("file", bytes: 512)
        try sandbox.file("empty", bytes: 0)
        try sandbox.file("odd", bytes: 700)
        let before = sandbox.names
        check(row, try sandbox.run(row.arguments))
        #expect(sandbox.names == before, "something was left behind")
    }

    @Test func makesAnEmptyVolumeWithItsBaseSnapshot() throws {
        let sandbox = try Sandbox()
        let run = try sandbox.run(["create", "v", "--size", "64M", "--json"])
        #expect(run.code == 0, "\(run.error)")
        let object = try JSONSerialization.jsonObject(with: Data(run.output.utf8))
        #expect((object as? [String: Any])?["size_bytes"] as? Int == 64 << 20)
        let segments = try FileManager.default.contentsOfDirectory(
            atPath: sandbox.path + "/v/segments")
        #expect(segments.count == 1)
        #expect(segments.first?.hasSuffix(".snapshot.segment") == true)
        var info = stat()
        #expect(stat(sandbox.path + "/v/image.raw", &info) == 0)
        #expect(info.st_size == 64 << 20)
        #expect(info.st_blocks < 128, "the image is not sparse")
    }

    @Test func copiesAFile() throws {
        let sandbox = try Sandbox()
        try sandbox.file("source", bytes: 3 << 20, random: true)
        let run = try sandbox.run(["create", "v", "--from", "source"])
        #expect(run.code == 0, "\(run.error)")
        #expect(try sandbox.bytes("v/image.raw") == sandbox.bytes("source"))
        let replay = try sandbox.run(["replay", "v", "--at", "now", "--output", "out"])
        #expect(replay.code == 0, "\(replay.error)")
        #expect(try sandbox.bytes("out") == sandbox.bytes("source"))
    }

    @Test func anImageBelongsToOneVolume() throws {
        let sandbox = try Sandbox()
        try sandbox.file("disk", bytes: 1 << 20, random: true)
        let first = try sandbox.run(["create", "a", "--image", "disk"])
        #expect(first.code == 0, "\(first.error)")
        let second = try sandbox.run(["create", "b", "--image", "disk"])
        // Not every file system keeps the attribute that tells.
        var owner = [UInt8](repeating: 0, count: 4096)
        if clinux_attribute(sandbox.path + "/disk", "user.logdisk", &owner, owner.count) > 0 {
            check(BadInput("create b --image disk", 11, "protected by another volume"), second)
            #expect(!sandbox.exists("b"))
        }
    }

    @Test func interruptedLeavesNothing() throws {
        let sandbox = try Sandbox()
        try sandbox.file("source", bytes: 64 << 20)
        try sandbox.overwrite("source", at: 0, with: Data(repeating: 7, count: 64 << 20))
        let code = try sandbox.runInterrupted(["create", "v", "--from", "source"])
        #expect(code == 130)
        #expect(sandbox.names == ["source"])
    }
}

extension Sandbox {
    /// Runs the program with a SIGINT that waits for it from its first instruction on: it is taken
    /// when the program looks for interruptions. Returns the exit code, -1 for a death by signal.
    func runInterrupted(_ arguments: [String]) throws -> Int32 {
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var blocked = sigset_t()
        sigemptyset(&blocked)
        sigaddset(&blocked, SIGINT)
        posix_spawnattr_setsigmask(&attributes, &blocked)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK))
        let line = "cd '\(path)' && exec \"$0\" \"$@\" >/dev/null 2>&1"
        let words = ["sh", "-c", line, Self.program] + arguments
        var list = words.map { strdup($0) } + [nil]
        defer { for word in list { free(word) } }
        var child = pid_t()
        let result = posix_spawn(&child, "/bin/sh", nil, &attributes, &list, environ)
        try #require(result == 0)
        kill(child, SIGINT)
        var status: Int32 = 0
        while waitpid(child, &status, 0) < 0, errno == EINTR {}
        return status & 0x7F == 0 ? (status >> 8) & 0xFF : -1
    }
}
