// Child processes: run to the end, or talk to by lines. Each is its own process; none outlives the
// scratch folder that it was started in (Scratch.swift). No descriptor of the test leaks into one.

import Foundation
import Testing

/// How a command ended.
struct Outcome: CustomStringConvertible {
    var command: String
    /// Exit code; 128 + signal when killed.
    var status: Int32
    var output: String
    var errors: String

    var description: String { "\(command) -> \(status)\n\(output)\(errors)" }
}

/// Nothing here is timed; a wait that passes this is a hang, and a failure.
let patienceSeconds: Double = 90

/// Polls until `condition` holds; records an issue and returns false when it never does.
@discardableResult
func eventually(
    _ what: String, within seconds: Double = patienceSeconds,
    sourceLocation: SourceLocation = #_sourceLocation, _ condition: () throws -> Bool
) rethrows -> Bool {
    let end = ContinuousClock.now + .seconds(seconds)
    while try !condition() {
        if ContinuousClock.now > end {
            Issue.record("waited in vain: \(what)", sourceLocation: sourceLocation)
            return false
        }
        usleep(2000)
    }
    return true
}

/// A running child process.
final class Child {
    let process: pid_t
    private let command: String
    private var input: Int32
    private let output: Int32
    private let errorPath: String
    private var pending: [UInt8] = []
    private var status: Int32?

    /// Starts `words` (looked up in PATH) with pipes for input and output; errors go to a file in
    /// `scratch`, which also kills the process in the end.
    init(_ words: [String], in scratch: Scratch, environment extra: [String: String] = [:]) throws {
        command = words.joined(separator: " ")
        errorPath = scratch.newPath("stderr")
        var toChild: [Int32] = [-1, -1]
        var fromChild: [Int32] = [-1, -1]
        try #require(pipe(&toChild) == 0 && pipe(&fromChild) == 0)
        for end in toChild + fromChild { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_adddup2(&actions, toChild[0], 0)
        posix_spawn_file_actions_adddup2(&actions, fromChild[1], 1)
        posix_spawn_file_actions_addopen(&actions, 2, errorPath, O_WRONLY | O_CREAT, 0o600)
        // Whatever else this process has open, also without the flag.
        for descriptor in Int32(3)..<256 {
            posix_spawn_file_actions_addclose(&actions, descriptor)
        }
        var variables = ProcessInfo.processInfo.environment
        variables["LC_ALL"] = "C"
        variables.merge(extra) { $1 }
        var arguments = words.map { strdup($0) } + [nil]
        var environment = variables.map { strdup("\($0)=\($1)") } + [nil]
        defer { for word in arguments + environment { free(word) } }
        var process = pid_t()
        let code = posix_spawnp(&process, words[0], &actions, nil, &arguments, &environment)
        close(toChild[0])
        close(fromChild[1])
        input = toChild[1]
        output = fromChild[0]
        self.process = process
        guard code == 0 else {
            throw Missing(what: "\(words[0]): \(String(cString: strerror(code)))")
        }
        scratch.onEnd { [self] in kill() }
    }

    deinit {
        endInput()
        close(output)
    }

    struct Missing: Error { var what: String }

    func send(_ line: String) {
        var rest = Array((line + "\n").utf8)[...]
        while !rest.isEmpty {
            let n = rest.withUnsafeBytes { write(input, $0.baseAddress, $0.count) }
            guard n > 0 else { return }
            rest = rest.dropFirst(n)
        }
    }

    func endInput() {
        if input >= 0 { close(input) }
        input = -1
    }

    /// The next line; nil at the end of its output, or when it says nothing for too long.
    func line() -> String? {
        while true {
            if let end = pending.firstIndex(of: UInt8(ascii: "\n")) {
                let line = String(decoding: pending[..<end], as: UTF8.self)
                pending.removeSubrange(...end)
                return line
            }
            var waiting = pollfd(fd: output, events: Int16(POLLIN), revents: 0)
            guard poll(&waiting, 1, Int32(patienceSeconds * 1000)) > 0 else {
                Issue.record("says nothing: \(command)")
                return nil
            }
            var buffer = [UInt8](repeating: 0, count: 4096)
            let n = read(output, &buffer, buffer.count)
            guard n > 0 else { return nil }
            pending += buffer[..<n]
        }
    }

    var hasEnded: Bool {
        if status != nil { return true }
        var word: Int32 = 0
        guard waitpid(process, &word, WNOHANG) != 0 else { return false }
        status = word & 0x7f == 0 ? (word >> 8) & 0xff : 128 + (word & 0x7f)
        return true
    }

    /// Reads the rest of its output until it ends.
    func wait() -> Outcome {
        var text = ""
        while let line = line() { text += line + "\n" }
        text += String(decoding: pending, as: UTF8.self)
        if !eventually("the end of \(command)", { hasEnded }) { kill() }
        let errors = (try? String(contentsOfFile: errorPath, encoding: .utf8)) ?? ""
        return Outcome(command: command, status: status ?? -1, output: text, errors: errors)
    }

    /// SIGKILL, and waits for the end. Harmless when it has ended.
    func kill() {
        if hasEnded { return }
        Glibc.kill(process, SIGKILL)
        eventually("the death of \(command)") { hasEnded }
    }
}

/// Whether any thread of `process` still lives: a killed one keeps its locks and files until the
/// last of its threads has left the kernel, when the first is a zombie already.
func isAlive(_ process: pid_t) -> Bool {
    let threads =
        (try? FileManager.default.contentsOfDirectory(atPath: "/proc/\(process)/task")) ?? []
    return threads.contains { thread in
        let path = "/proc/\(process)/task/\(thread)/stat"
        guard let text = try? String(contentsOfFile: path, encoding: .utf8),
            let close = text.lastIndex(of: ")")
        else { return false }
        let state = text[close...].dropFirst(2).first
        return state != "Z" && state != "X"
    }
}

/// The living processes that `process` has started.
func children(of process: pid_t) -> [pid_t] {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []
    return names.compactMap { pid_t($0) }.filter { child in
        guard let text = try? String(contentsOfFile: "/proc/\(child)/stat", encoding: .utf8),
            let close = text.lastIndex(of: ")")
        else { return false }
        let fields = text[close...].split(separator: " ")
        return fields.count > 2 && pid_t(fields[2]) == process
    }
}
