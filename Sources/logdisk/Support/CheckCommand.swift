// A command that the user gave to judge something: run in a process group of its own, so that an
// interruption reaches all that it started. Its output goes to standard error; standard output is
// for our results.

import CLinux
import CommandText
import Foundation

struct CheckCommand {
    enum Ending: Equatable {
        case exited(Int32)
        case killed(signal: Int32)
    }

    let words: [String]
    private let object: String

    private static let pollMicroseconds: UInt32 = 2000
    /// Polls from SIGTERM to SIGKILL: three seconds.
    private static let patience = 1500

    /// Throws a failure of usage when there is no such program.
    init(_ words: [String], object: String) throws(CommandFailure) {
        self.words = words
        self.object = object
        guard let program = words.first, !program.isEmpty else {
            throw CommandFailure(
                .usage, object, "there is no command to run", hint: "give it after --")
        }
        guard Self.exists(program) else {
            throw CommandFailure(
                .usage, object, "there is no program '\(program)'",
                cause: program.contains("/") ? "no such executable file" : "it is not in the PATH",
                hint: "a line for the shell is: -- sh -c '...'")
        }
    }

    private static func exists(_ program: String) -> Bool {
        func isProgram(_ path: String) -> Bool {
            var info = stat()
            return stat(path, &info) == 0 && info.st_mode & S_IFMT == S_IFREG
                && access(path, X_OK) == 0
        }
        if program.contains("/") { return isProgram(program) }
        let path = ProcessInfo.processInfo.environment["PATH"] ?? "/usr/bin:/bin"
        return path.split(separator: ":", omittingEmptySubsequences: false).contains {
            isProgram(($0.isEmpty ? "." : String($0)) + "/" + program)
        }
    }

    /// Runs it to its end with `extra` in the environment. When our command is interrupted it is
    /// ended, and `.interrupted` thrown.
    func run(_ extra: [String: String]) throws(CommandFailure) -> Ending {
        let child = try spawn(extra)
        var polls = 0
        var status: Int32 = 0
        while true {
            let ended = waitpid(child, &status, WNOHANG)
            if ended == child { break }
            guard ended == 0 || errno == EINTR else {
                throw CommandFailure(
                    .failed, object, "it cannot be known how '\(words[0])' ended",
                    cause: String(cString: strerror(errno)))
            }
            usleep(Self.pollMicroseconds)
            guard Interruption.isRequested else { continue }
            if polls == 0 { kill(-child, SIGTERM) }
            if polls == Self.patience { kill(-child, SIGKILL) }
            polls += 1
        }
        if Interruption.isRequested {
            kill(-child, SIGKILL)  // what the program itself has left behind
            throw .interrupted
        }
        let signal = status & 0x7f
        return signal == 0 ? .exited(status >> 8 & 0xff) : .killed(signal: signal)
    }

    private func spawn(_ extra: [String: String]) throws(CommandFailure) -> pid_t {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_adddup2(&actions, 2, 1)
        clinux_spawn_close_from(&actions, 3)

        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var noSignals = SignalMask.set(of: [])
        posix_spawnattr_setsigmask(&attributes, &noSignals)
        posix_spawnattr_setpgroup(&attributes, 0)
        posix_spawnattr_setflags(
            &attributes, Int16(POSIX_SPAWN_SETPGROUP) | Int16(POSIX_SPAWN_SETSIGMASK))

        let variables = ProcessInfo.processInfo.environment.merging(extra) { $1 }
        var list = words.map { strdup($0) } + [nil]
        var environment = variables.map { strdup("\($0)=\($1)") } + [nil]
        defer { for word in list + environment { free(word) } }
        var child = pid_t()
        let code = posix_spawnp(&child, words[0], &actions, &attributes, &list, &environment)
        guard code == 0 else {
            throw CommandFailure(
                .usage, object, "'\(words[0])' cannot be run",
                cause: String(cString: strerror(code)))
        }
        return child
    }
}
