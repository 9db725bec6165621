// Who keeps a mount from being unmounted: processes with an open file, a mapping or a working
// folder inside, and loop devices, which hold their file without any process.

#if canImport(Glibc)
    import Glibc
#endif

/// One user of a mount.
public struct MountHolder: Sendable, Hashable {
    public enum Kind: Sendable, Hashable {
        case process(pid: Int32)
        /// `device` is the path, such as /dev/loop0; `mounts` where its file system is mounted.
        case loopDevice(device: String, mounts: [String])
        /// A process, one of perhaps many, whose mount namespace has a copy of the mount that does
        /// not follow ours. The mount ends with the last copy.
        case mountNamespace(pid: Int32, path: String)
    }
    public var kind: Kind
    /// Name of the program; empty for a loop device.
    public var command: String

    public init(kind: Kind, command: String = "") {
        self.kind = kind
        self.command = command
    }

    /// How to let go, where that is one command.
    public var releaseCommand: String? {
        switch kind {
        case .process: nil
        case .loopDevice(let device, let mounts):
            mounts.first.map { "umount \($0)" } ?? "losetup -d \(device)"
        case .mountNamespace(let pid, let path):
            "nsenter --mount --target \(pid) umount \(path)"
        }
    }
}

extension MountHolder: CustomStringConvertible {
    public var description: String {
        switch kind {
        case .process(let pid): "\(command) (pid \(pid))"
        case .loopDevice(let device, let mounts):
            mounts.isEmpty ? device : "\(device) (mounted on \(mounts.joined(separator: ", ")))"
        case .mountNamespace(let pid, _):
            "a copy of the mount in the mount namespace of \(command) (pid \(pid))"
        }
    }
}

extension FuseMount {
    /// Who uses the mount, as far as the caller may see (root sees all). Works by names, so that
    /// it never touches the mount, which may be stale.
    public static func holders(of mountPoint: String) -> [MountHolder] {
        let path = MountPoint.canonical(mountPoint)
        return processHolders(of: path) + loopHolders(of: path)
    }

    private static func processHolders(of path: String) -> [MountHolder] {
        let numbers = (SystemText.names(in: "/proc") ?? []).compactMap { Int32($0) }
        return numbers.sorted().compactMap { pid in
            guard pid != getpid(), isHeld(path, by: "/proc/\(pid)") else { return nil }
            return MountHolder(kind: .process(pid: pid), command: command(of: pid))
        }
    }

    /// Other mount namespaces with the mount `device` (major:minor); one holder for each.
    static func namespaceHolders(of device: String) -> [MountHolder] {
        var seen: Set<String?> = [SystemText.link("/proc/self/ns/mnt"), nil]
        let numbers = (SystemText.names(in: "/proc") ?? []).compactMap { Int32($0) }
        return numbers.sorted().compactMap { pid in
            guard seen.insert(SystemText.link("/proc/\(pid)/ns/mnt")).inserted,
                let table = SystemText.contents(of: "/proc/\(pid)/mountinfo"),
                let copy = MountPoint.parse(table).last(where: { $0.device == device })
            else { return nil }
            return MountHolder(
                kind: .mountNamespace(pid: pid, path: copy.path), command: command(of: pid))
        }
    }

    private static func command(of pid: Int32) -> String {
        let name = SystemText.contents(of: "/proc/\(pid)/comm")?.split(separator: "\n").first
        return name.map(String.init) ?? "?"
    }

    /// Whether the process at `process` (a folder of /proc) uses something at or below `path`.
    private static func isHeld(_ path: String, by process: String) -> Bool {
        let descriptors = (SystemText.names(in: "\(process)/fd") ?? []).map { "fd/\($0)" }
        for link in ["cwd", "root"] + descriptors {
            if let target = SystemText.link("\(process)/\(link)"), lies(target[...], in: path) {
                return true
            }
        }
        // address permissions offset device inode path
        let maps = SystemText.contents(of: "\(process)/maps") ?? ""
        return maps.split(separator: "\n").contains { line in
            let fields = line.split(separator: " ", maxSplits: 5)
            return fields.count == 6 && lies(fields[5].drop { $0 == " " }, in: path)
        }
    }

    private static func loopHolders(of path: String) -> [MountHolder] {
        let mounts = MountPoint.parse(SystemText.contents(of: "/proc/self/mountinfo") ?? "")
        let names = (SystemText.names(in: "/sys/block") ?? []).filter { $0.hasPrefix("loop") }
        return names.sorted().compactMap { name in
            let backing = SystemText.contents(of: "/sys/block/\(name)/loop/backing_file")
            guard let file = backing?.split(separator: "\n").first, lies(file, in: path) else {
                return nil
            }
            let device = "/dev/\(name)"
            // Partitions are named after the disk: /dev/loop0p1.
            let places = mounts.filter {
                $0.source == device || $0.source.hasPrefix("\(device)p")
            }
            return MountHolder(
                kind: .loopDevice(device: device, mounts: places.map(\.path)))
        }
    }

    private static func lies(_ file: Substring, in path: String) -> Bool {
        file == path || file.hasPrefix(path.hasSuffix("/") ? path : path + "/")
    }
}
