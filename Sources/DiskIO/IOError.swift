// The one error of the disk: which operation on which path failed, and why. Text is made at the
// rim.

#if canImport(Glibc)
    import Glibc
#endif

/// A failed disk operation.
public struct IOError: Error, Sendable, Hashable {
    public enum Operation: String, Sendable {
        case open, create, read, write, sync, truncate, allocate, punch = "punch hole", close
        case rename, remove, list, createDirectory = "create folder", syncDirectory = "sync folder"
        case lock, clone, size, setStatus = "set owner, mode, time or attributes of"
    }

    public var operation: Operation
    public var path: String
    /// A positive errno value.
    public var code: Int32

    public init(_ operation: Operation, _ path: String, _ code: Int32) {
        self.operation = operation
        self.path = path
        self.code = code
    }

    public var isNoSpace: Bool { code == ENOSPC || code == EDQUOT }
    public var isMissing: Bool { code == ENOENT }
    /// The system's word for `code`.
    public var reason: String { String(cString: strerror(code)) }
}

extension IOError: CustomStringConvertible {
    public var description: String { "cannot \(operation.rawValue) \(path) (\(reason))" }
}
