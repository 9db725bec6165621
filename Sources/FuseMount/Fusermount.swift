// fusermount3, the set-user-ID program by which users without privilege mount and unmount. Its
// protocol (fusermount3(1), `_FUSE_COMMFD`): it sends the connection over a socket that it
// inherits, and complains on standard error.

import CFuse

#if canImport(Glibc)
    import Glibc
#endif

enum Fusermount {
    /// Descriptor of the socket in the program.
    private static let socketNumber: Int32 = 3

    /// Mounts; returns the connection, owned by the caller.
    static func mount(on path: String, options: String) throws(MountError) -> Int32 {
        var ends: [Int32] = [-1, -1]
        let kind = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue)
        guard socketpair(AF_UNIX, kind, 0, &ends) == 0 else {
            throw .failed("socketpair: \(text(of: errno))")
        }
        defer { close(ends[0]) }
        let status: Int32
        let words: String
        do {
            defer { close(ends[1]) }
            (status, words) = try run(["-o", options, "--", path], socket: ends[1])
        }
        guard status == 0 else {
            let refusals = ["not permitted", "denied", "allow_other", "not owner", "write access"]
            throw refusals.contains { words.contains($0) } ? .notPermitted(words) : .failed(words)
        }
        let descriptor = cfuse_receive_descriptor(ends[0])
        guard descriptor >= 0 else {
            throw .failed("fusermount3 sends no connection (\(text(of: -descriptor)))")
        }
        return descriptor
    }

    /// Runs it and waits: its wait status, and what it said as one line.
    static func run(
        _ arguments: [String], socket: Int32? = nil
    ) throws(MountError) -> (Int32, String) {
        var ends: [Int32] = [-1, -1]
        guard pipe(&ends) == 0 else { throw .failed("pipe: \(text(of: errno))") }
        defer { close(ends[0]) }
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_adddup2(&actions, ends[1], STDERR_FILENO)
        var list = (["fusermount3"] + arguments).map { strdup($0) } + [nil]
        defer { for argument in list { free(argument) } }
        var variables = inherited()
        if let socket {
            posix_spawn_file_actions_adddup2(&actions, socket, socketNumber)
            variables.append("_FUSE_COMMFD=\(socketNumber)")
        }
        var environment = variables.map { strdup($0) } + [nil]
        defer { for variable in environment { free(variable) } }
        var process = pid_t()
        let code = posix_spawnp(&process, "fusermount3", &actions, nil, &list, &environment)
        close(ends[1])
        guard code != ENOENT else { throw .helperMissing }
        guard code == 0 else { throw .failed("fusermount3: \(text(of: code))") }
        let words = SystemText.line(SystemText.rest(of: ends[0]))
        var status: Int32 = 0
        while waitpid(process, &status, 0) < 0, errno == EINTR {}
        return (status, words)
    }

    /// An option's value with a backslash before what separates options.
    static func escaped(_ value: String) -> String {
        value.reduce(into: "") { result, character in
            if character == "," || character == "\\" { result.append("\\") }
            result.append(character)
        }
    }

    /// The environment, without what a process above may have left for another fusermount3.
    private static func inherited() -> [String] {
        var variables: [String] = []
        var next = environ
        while let variable = next.pointee {
            let text = String(cString: variable)
            if !text.hasPrefix("_FUSE_COMMFD=") { variables.append(text) }
            next += 1
        }
        return variables
    }
}
