// Small texts that the kernel and other programs give: files of /proc, links, folders, messages.

#if canImport(Glibc)
    import Glibc
#endif

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

    /// Lines joined by semicolons.
    static func line(_ text: String) -> String {
        text.split(separator: "\n").joined(separator: "; ")
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
