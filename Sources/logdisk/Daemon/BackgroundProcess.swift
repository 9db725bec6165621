// Starts this program again as a process of its own session, without fork: a process with threads
// must not fork, and Swift's runtime has threads from the start.

import CLinux
import CommandText
import Foundation

enum BackgroundProcess {
    /// POSIX_SPAWN_SETSID, which Swift does not see.
    private static let newSession: Int16 = 0x80

    /// Starts `/proc/self/exe` with `arguments`, standard output and error appended to `logPath`,
    /// and waits for its report. Interrupted meanwhile, it ends the child again.
    static func start(
        _ arguments: [String], logPath: String
    ) throws(CommandFailure) -> StartReport {
        var ends: [Int32] = [-1, -1]
        guard pipe(&ends) == 0 else { throw failure("no pipe", errno) }
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        defer { close(ends[0]) }
        let log = open(logPath, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
        let output = log >= 0 ? log : open("/dev/null", O_WRONLY | O_CLOEXEC)
        let child: pid_t
        do {
            defer {
                close(output)
                close(ends[1])
            }
            child = try spawn(arguments, pipe: ends[1], output: output)
        }
        let report = StartReport(text: try readAll(ends[0], from: child))
        if case .ready = report {} else { waitpid(child, nil, 0) }
        return report
    }

    /// Everything from the pipe until the child closes it.
    private static func readAll(_ pipe: Int32, from child: pid_t) throws(CommandFailure) -> String {
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 4096)
        while true {
            var waiting = pollfd(fd: pipe, events: Int16(POLLIN), revents: 0)
            let ready = poll(&waiting, 1, 100)
            if Interruption.isRequested {
                kill(child, SIGTERM)
                waitpid(child, nil, 0)
                throw .interrupted
            }
            if ready <= 0 { continue }
            let n = read(pipe, &buffer, buffer.count)
            if n < 0 && errno == EINTR { continue }
            if n <= 0 { return String(decoding: bytes, as: UTF8.self) }
            bytes += buffer[..<n]
        }
    }

    private static func spawn(
        _ arguments: [String], pipe: Int32, output: Int32
    ) throws(CommandFailure) -> pid_t {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        // Both may be 3 or less already: move them out of the way of the targets first.
        posix_spawn_file_actions_adddup2(&actions, pipe, 100)
        posix_spawn_file_actions_adddup2(&actions, output, 101)
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_adddup2(&actions, 101, 1)
        posix_spawn_file_actions_adddup2(&actions, 101, 2)
        posix_spawn_file_actions_adddup2(&actions, 100, StartReport.descriptor)
        // Nothing else that the caller had open: whoever waits for its end would wait for ours.
        clinux_spawn_close_from(&actions, StartReport.descriptor + 1)

        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var noSignals = SignalMask.set(of: [])
        posix_spawnattr_setsigmask(&attributes, &noSignals)
        posix_spawnattr_setflags(&attributes, newSession | Int16(POSIX_SPAWN_SETSIGMASK))

        let words = [CommandLine.arguments[0]] + arguments
        var list = words.map { strdup($0) } + [nil]
        defer { for word in list { free(word) } }
        var child = pid_t()
        let code = posix_spawn(&child, "/proc/self/exe", &actions, &attributes, &list, environ)
        guard code == 0 else { throw failure("cannot start the mount's process", code) }
        return child
    }

    private static func failure(_ what: String, _ code: Int32) -> CommandFailure {
        CommandFailure(.failed, "", what, cause: String(cString: strerror(code)))
    }
}
