// The folder of one engine and the processes in it. A watchdog, started before anything else,
// clears both when its pipe ends: at the end of the test process, also when that is killed. It
// finds the processes by a word in their environment, so none has to be told to it. Threads: any.

import Foundation
import Synchronization

#if canImport(Glibc)
    import Glibc
#endif

/// Why an engine could not be started or told something.
public struct EngineFailure: Error, CustomStringConvertible {
    public var description: String

    init(_ description: String) { self.description = description }
}

final class EngineHost: Sendable {
    let folder: String
    private let watchdog: pid_t
    private let isOpen = Mutex(true)
    private let pipeEnd: Int32

    private static let all = Mutex<[EngineHost]>([])
    private static let atEnd: Void = { atexit { EngineHost.endAll() } }()

    /// Kills whoever has the mark in its environment, waits for the last, removes what is left.
    private static let watchdogScript = """
        trap '' INT TERM HUP
        cat >/dev/null
        while pids=$(grep -lsF "$1" /proc/[0-9]*/environ | cut -d/ -f3) && [ -n "$pids" ]; do
            kill -9 $pids 2>/dev/null
            sleep 0.05
        done
        rm -f $(cat "$2/sockets" 2>/dev/null)
        rm -rf --one-file-system "$2"
        """

    init(_ name: String) throws(EngineFailure) {
        _ = Self.atEnd
        var template = Array("/tmp/logdisk-\(name)-\(getpid())-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw EngineFailure("mkdtemp: \(errno)") }
        folder = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        var ends: [Int32] = [-1, -1]
        guard pipe(&ends) == 0 else { throw EngineFailure("pipe: \(errno)") }
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        let words = [
            "env", "-C", "/", "sh", "-c", Self.watchdogScript, "watchdog",
            "LOGDISK_ENGINE=" + folder,
            folder,
        ]
        watchdog = try Self.spawn(words, input: ends[0], output: nil)
        Glibc.close(ends[0])
        pipeEnd = ends[1]
        Self.all.withLock { $0.append(self) }
    }

    /// Ends all processes and removes the folder. Harmless when done before.
    func end() {
        let wasOpen = isOpen.withLock { isOpen in
            defer { isOpen = false }
            return isOpen
        }
        guard wasOpen else { return }
        Glibc.close(pipeEnd)
        var status: Int32 = 0
        while waitpid(watchdog, &status, 0) < 0, errno == EINTR {}
        Self.all.withLock { $0.removeAll { $0 === self } }
    }

    static func endAll() { all.withLock { $0 }.forEach { $0.end() } }

    func path(_ name: String) -> String { folder + "/" + name }

    func write(_ text: String, to name: String) throws(EngineFailure) {
        let made = FileManager.default.createFile(
            atPath: path(name), contents: Data(text.utf8), attributes: [.posixPermissions: 0o600])
        if !made { throw EngineFailure("cannot write \(path(name))") }
    }

    func makeFolder(_ name: String) throws(EngineFailure) {
        if mkdir(path(name), 0o755) != 0 { throw EngineFailure("mkdir \(path(name)): \(errno)") }
    }

    // MARK: - processes

    /// Starts a process that stays; what it says goes to `NAME.out`.
    func start(
        _ name: String, _ words: [String], environment: [String: String] = [:]
    ) throws(EngineFailure) -> pid_t {
        try Self.spawn(marked(words, environment), input: nil, output: path(name + ".out"))
    }

    /// Runs a command to its end, which must be a good one; what it said.
    @discardableResult
    func run(
        _ words: [String], input: String = "", environment: [String: String] = [:]
    ) throws(EngineFailure) -> String {
        // Files, so that nothing waits for a pipe to be emptied.
        let number = counter.add(1, ordering: .relaxed).newValue
        try write(input, to: "run-\(number).in")
        let source = open(path("run-\(number).in"), O_RDONLY | O_CLOEXEC)
        defer { Glibc.close(source) }
        let output = path("run-\(number).out")
        let process = try Self.spawn(marked(words, environment), input: source, output: output)
        let status = Self.reap(process)
        let text = (try? String(contentsOfFile: output, encoding: .utf8)) ?? ""
        if status != 0 {
            throw EngineFailure("\(words.joined(separator: " ")): status \(status)\n\(text)")
        }
        return text
    }
    private let counter = Atomic<Int>(0)

    // MARK: - TLS

    /// Certificate and key of a server at 127.0.0.1, which is its own authority.
    var certificate: String { path("certificate.pem") }
    var certificateKey: String { path("certificate.key") }

    func makeCertificate() throws(EngineFailure) {
        try run([
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
            "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=object storage",
            "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", certificateKey, "-out",
            certificate,
        ])
    }

    /// Found by the watchdog.
    private func marked(_ words: [String], _ environment: [String: String]) -> [String] {
        ["env", "-C", folder, "LOGDISK_ENGINE=" + folder]
            + environment.map { "\($0)=\($1)" }.sorted() + words
    }

    /// SIGKILL, and its end.
    static func kill(_ process: pid_t) {
        Glibc.kill(process, SIGKILL)
        _ = reap(process)
    }

    static func hasEnded(_ process: pid_t) -> Bool {
        var info = siginfo_t()
        let flags = WEXITED | WNOHANG | WNOWAIT
        return waitid(P_PID, id_t(process), &info, Int32(flags)) != 0 || info.si_signo != 0
    }

    /// Waits for its end; exit code, or 128 + signal.
    static func reap(_ process: pid_t) -> Int32 {
        var word: Int32 = 0
        while waitpid(process, &word, 0) < 0 {
            if errno != EINTR { return -1 }
        }
        return word & 0x7f == 0 ? (word >> 8) & 0xff : 128 + (word & 0x7f)
    }

    /// Everything that the process says goes to the file `output`; nil: nowhere.
    private static func spawn(
        _ words: [String], input: Int32?, output: String?
    ) throws(EngineFailure) -> pid_t {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        if let input {
            posix_spawn_file_actions_adddup2(&actions, input, 0)
        } else {
            posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        }
        posix_spawn_file_actions_addopen(
            &actions, 1, output ?? "/dev/null", O_WRONLY | O_CREAT | O_APPEND, 0o600)
        posix_spawn_file_actions_adddup2(&actions, 1, 2)
        // Nothing of the test process, also what has no close-on-exec.
        for descriptor in Int32(3)..<256 {
            posix_spawn_file_actions_addclose(&actions, descriptor)
        }
        var arguments = words.map { strdup($0) } + [nil]
        defer { for word in arguments { free(word) } }
        var process = pid_t()
        let code = posix_spawnp(&process, words[0], &actions, nil, &arguments, environ)
        if code != 0 { throw EngineFailure("\(words[0]): \(String(cString: strerror(code)))") }
        return process
    }

    // MARK: - waiting

    /// Nothing here is timed; a wait that passes this is a hang.
    static let patienceSeconds: Double = 120

    static func wait(
        for what: String, _ condition: () -> Bool
    ) throws(EngineFailure) {
        let end = ContinuousClock.now + .seconds(patienceSeconds)
        while !condition() {
            if ContinuousClock.now > end { throw EngineFailure("waited in vain for \(what)") }
            usleep(20_000)
        }
    }

    /// Ports that nobody has at the moment, below those that the system gives to connections.
    static func freePorts(_ count: Int) throws(EngineFailure) -> [Int] {
        var found: [Int] = []
        for _ in 0..<10_000 where found.count < count {
            let port = Int.random(in: 15_000..<32_000)
            if !found.contains(port), isFree(port) { found.append(port) }
        }
        if found.count < count { throw EngineFailure("no free ports") }
        return found
    }

    private static func isFree(_ port: Int) -> Bool {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { Glibc.close(descriptor) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = in_port_t(port).bigEndian
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        return withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0
            }
        }
    }
}
