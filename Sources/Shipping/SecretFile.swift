// Files with secrets: a token, keys. Nobody else may read them, and what they hold is never in a
// message.

#if canImport(Glibc)
    import Glibc
#endif

/// Reads small files of secrets.
package enum SecretFile {
    /// The bytes of a plain file of mode 0600 or narrower, the first `countMax` at the most. `what`
    /// names the secret in messages: "the token". Throws where it cannot be read or others may
    /// read it.
    package static func bytes(
        _ what: String, in path: String, countMax: Int
    ) throws(RemoteSetupError) -> [UInt8] {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else { throw unreadable(what, path) }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
            throw RemoteSetupError("\(path) is not a file with \(what)")
        }
        guard status.st_mode & 0o077 == 0 else {
            throw RemoteSetupError(
                "others may read \(what) in \(path)", hint: "chmod 600 \(path)")
        }
        var bytes = [UInt8](repeating: 0, count: countMax)
        var count = 0
        while count < bytes.count {
            let done = bytes.withUnsafeMutableBytes {
                read(descriptor, $0.baseAddress?.advanced(by: count), $0.count - count)
            }
            if done < 0, errno == EINTR { continue }
            guard done >= 0 else { throw unreadable(what, path) }
            guard done > 0 else { break }
            count += done
        }
        return Array(bytes[..<count])
    }

    private static func unreadable(_ what: String, _ path: String) -> RemoteSetupError {
        RemoteSetupError("cannot read \(what) in \(path) (\(String(cString: strerror(errno))))")
    }
}
