// What lies at a mount point, and how to take it away again. A mount whose process died answers
// every look at it with ENOTCONN, so nothing here needs to look inside one: the kernel's table of
// mounts is the source.

#if canImport(Glibc)
    import Glibc
#endif

/// How hard to try.
public enum UnmountMode: Sendable {
    /// Only when nobody uses the mount.
    case whenFree
    /// It vanishes from the tree of files at once, and ends when its last user closes.
    case lazy
    /// Like `lazy`, and its users get errors from now on. Needs root.
    case abort
}

extension FuseMount {
    /// Whether something is mounted on exactly this path, be it alive or stale.
    public static func isMountPoint(_ path: String) -> Bool {
        MountPoint.mount(at: MountPoint.canonical(path)) != nil
    }

    /// What `MountOptions.fileSystemName` named when logdisk mounted on exactly this path, alive or
    /// stale; nil where no mount of logdisk is.
    public static func source(of path: String) -> String? {
        guard let mount = MountPoint.mount(at: MountPoint.canonical(path)),
            mount.type == "fuse.logdisk"
        else { return nil }
        return mount.source
    }

    /// Where logdisk has mounted `source`, alive or stale.
    public static func mountPoints(of source: String) -> [String] {
        MountPoint.parse(SystemText.contents(of: "/proc/self/mountinfo") ?? "")
            .filter { $0.type == "fuse.logdisk" && $0.source == source }.map(\.path)
    }

    /// Throws unless a mount can be made on the folder `path`.
    public static func check(_ path: String) throws(MountError) { _ = try MountPoint.check(path) }

    /// Whether the mount there has lost its process.
    public static func isStale(_ path: String) -> Bool {
        isMountPoint(path) && MountPoint.isDisconnected(path)
    }

    /// Unmounts, as root directly, else by fusermount3. Stale mounts too. `busy` names who still
    /// uses the mount; when these are other mount namespaces only, it is unmounted here, but goes
    /// on until they are gone.
    public static func unmount(
        _ path: String, _ mode: UnmountMode = .whenFree
    ) throws(MountError) {
        let path = MountPoint.canonical(path)
        guard let mount = MountPoint.mount(at: path) else { throw .notMounted }
        try detach(path, mode)
        guard mode == .whenFree else { return }
        let copies = namespaceHolders(of: mount.device)
        guard copies.isEmpty else { throw .busy(copies) }
    }

    private static func detach(_ path: String, _ mode: UnmountMode) throws(MountError) {
        var flags = Int32(MountPoint.noFollow)
        if mode != .whenFree { flags |= Int32(MountPoint.detach) }
        if mode == .abort { flags |= Int32(MountPoint.force) }
        if umount2(path, flags) == 0 { return }
        switch errno {
        case EBUSY: throw .busy(holders(of: path))
        // It was there a moment ago. An abort wakes its server first, which may unmount before us.
        case EINVAL where mode == .abort: return
        case EINVAL: throw .notMounted
        case EPERM: break
        default: throw .failed(text(of: errno))
        }
        guard mode != .abort else { throw .notPermitted("aborting a mount needs root") }
        let (status, words) = try Fusermount.run(
            mode == .lazy ? ["-u", "-z", "--", path] : ["-u", "--", path])
        if status == 0 { return }
        if words.contains("busy") { throw .busy(holders(of: path)) }
        throw words.contains("not permitted") ? .notPermitted(words) : .failed(words)
    }
}

enum MountPoint {
    // <sys/mount.h>, umount2.
    static let force = 1
    static let detach = 2
    static let noFollow = 8

    /// A line of the table of mounts.
    struct Mount: Equatable {
        /// major:minor; another one for every mount of a FUSE file system.
        var device: String
        var path: String
        var type: String
        var source: String
    }

    /// Throws unless a FUSE mount can be made at `path`; returns it absolute.
    static func check(_ path: String) throws(MountError) -> String {
        let canonical = canonical(path)
        var status = stat()
        if stat(canonical, &status) != 0 {
            switch errno {
            case ENOTCONN: throw .staleMount
            case ENOENT: throw .mountPointMissing
            case ENOTDIR: throw .mountPointNotDirectory
            default: throw .mountPointUnusable(errno: errno)
            }
        }
        guard status.st_mode & S_IFMT == S_IFDIR else { throw .mountPointNotDirectory }
        if let mount = mount(at: canonical) {
            if isDisconnected(canonical) { throw .staleMount }
            throw .alreadyMounted(source: mount.source, type: mount.type)
        }
        guard let names = SystemText.names(in: canonical) else {
            throw .mountPointUnusable(errno: errno)
        }
        guard names.isEmpty else { throw .mountPointNotEmpty }
        return canonical
    }

    /// Whether the process behind the file system there is gone. By statvfs, which always asks it:
    /// stat would be answered from the kernel's cache for a while.
    static func isDisconnected(_ path: String) -> Bool {
        var status = statvfs()
        return statvfs(path, &status) != 0 && errno == ENOTCONN
    }

    /// Absolute, without symbolic links, also when the path itself is a stale mount.
    static func canonical(_ path: String) -> String {
        func resolved(_ path: String) -> String? {
            guard let pointer = realpath(path, nil) else { return nil }
            defer { free(pointer) }
            return String(cString: pointer)
        }
        if let whole = resolved(path) { return whole }
        var trimmed = path[...]
        while trimmed.count > 1, trimmed.hasSuffix("/") { trimmed = trimmed.dropLast() }
        let slash = trimmed.lastIndex(of: "/")
        let parent = slash.map { $0 == trimmed.startIndex ? "/" : String(trimmed[..<$0]) } ?? "."
        let name = slash.map { trimmed[trimmed.index(after: $0)...] } ?? trimmed
        guard let folder = resolved(parent) else { return path }
        return folder == "/" ? "/\(name)" : "\(folder)/\(name)"
    }

    /// The topmost mount on exactly `path` (canonical).
    static func mount(at path: String) -> Mount? {
        parse(SystemText.contents(of: "/proc/self/mountinfo") ?? "").last { $0.path == path }
    }

    /// Lines as proc(5) describes them: `id parent major:minor root PATH options [tags] - TYPE
    /// SOURCE options`, with blanks and the like as octal escapes.
    static func parse(_ table: String) -> [Mount] {
        table.split(separator: "\n").compactMap { line in
            let fields = line.split(separator: " ", omittingEmptySubsequences: false)
            guard fields.count > 6, let dash = fields[6...].firstIndex(of: "-"),
                fields.count > dash + 2
            else { return nil }
            return Mount(
                device: String(fields[2]), path: unescaped(fields[4]),
                type: String(fields[dash + 1]),
                source: unescaped(fields[dash + 2]))
        }
    }

    /// `\040` is a blank.
    private static func unescaped(_ field: Substring) -> String {
        var bytes: [UInt8] = []
        var rest = field.utf8
        while let byte = rest.popFirst() {
            let digits = rest.prefix(3)
            if byte == UInt8(ascii: "\\"), digits.count == 3,
                let code = UInt8(String(Substring(digits)), radix: 8)
            {
                bytes.append(code)
                rest = rest.dropFirst(3)
            } else {
                bytes.append(byte)
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}
