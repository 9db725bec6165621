// libfuse's log and its helper fusermount3 (a child process) tell the reason of a failure only on
// standard error. For the length of a mount their text goes into a pipe instead, so that it can
// be part of the error that the user sees.

#if canImport(Glibc)
    import Glibc
#endif

enum StandardError {
    /// Runs `body`, and returns what was written to standard error meanwhile, as one line. Affects
    /// the whole process: a line that another thread writes at that time is caught too.
    static func captured(_ body: () -> Void) -> String {
        var ends: [Int32] = [-1, -1]
        guard pipe(&ends) == 0 else {
            body()
            return ""
        }
        for end in ends {
            _ = fcntl(end, F_SETFD, FD_CLOEXEC)
            // More than fits the pipe is dropped rather than waited for.
            _ = fcntl(end, F_SETFL, O_NONBLOCK)
        }
        let saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3)
        dup2(ends[1], STDERR_FILENO)
        close(ends[1])
        body()
        if saved >= 0 {
            dup2(saved, STDERR_FILENO)
            close(saved)
        } else {
            close(STDERR_FILENO)  // it was not open before
        }
        defer { close(ends[0]) }
        return SystemText.line(SystemText.rest(of: ends[0]))
    }
}

/// Text from the system.
enum SystemText {
    /// What can be read from a descriptor until its end or until it would block.
    static func rest(of descriptor: Int32) -> String {
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 16384)
        while true {
            let n = read(descriptor, &chunk, chunk.count)
            if n < 0, errno == EINTR { continue }
            if n <= 0 { break }
            bytes += chunk[..<n]
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// A whole small file, such as one of /proc; nil when it cannot be read.
    static func contents(of path: String) -> String? {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        return rest(of: descriptor)
    }

    /// Lines joined by semicolons, without the program names that libfuse puts before them.
    static func line(_ text: String) -> String {
        text.split(separator: "\n").map { line in
            line.hasPrefix("fuse: ") ? line.dropFirst(6) : line
        }.joined(separator: "; ")
    }

    /// Names in a folder without `.` and `..`; nil when it cannot be listed.
    static func names(in path: String) -> [String]? {
        guard let stream = opendir(path) else { return nil }
        defer { closedir(stream) }
        var names: [String] = []
        while let entry = readdir(stream) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name != ".", name != ".." { names.append(name) }
        }
        return names
    }

    /// Where a symbolic link points; nil when it is none or may not be read.
    static func link(_ path: String) -> String? {
        withUnsafeTemporaryAllocation(of: CChar.self, capacity: Int(PATH_MAX)) { target in
            guard let base = target.baseAddress else { return nil }
            let n = readlink(path, base, target.count)
            guard n >= 0 else { return nil }
            let bytes = UnsafeRawBufferPointer(UnsafeMutableBufferPointer(rebasing: target[..<n]))
            return String(decoding: bytes, as: UTF8.self)
        }
    }
}
