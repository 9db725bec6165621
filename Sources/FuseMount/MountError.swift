// Why a mount or an unmount did not work, with what to do about it.

#if canImport(Glibc)
    import Glibc
#endif

/// A mount or unmount that failed. `description` is the cause without the mount point's path;
/// `hint` the next thing to try.
public enum MountError: Error, Sendable, Equatable {
    case mountPointMissing
    case mountPointNotDirectory
    case mountPointNotEmpty
    /// Something is mounted there; `source` and `type` as in /proc/mounts.
    case alreadyMounted(source: String, type: String)
    /// A FUSE mount whose process has died ("Transport endpoint is not connected").
    case staleMount
    /// The mount point cannot be looked at.
    case mountPointUnusable(errno: Int32)
    /// /dev/fuse is missing: the kernel has no FUSE, or the container hides it.
    case noDevice
    /// /dev/fuse may not be opened, or mounting is not allowed here.
    case notPermitted(String)
    /// Users without privilege mount by this program, and it is not installed.
    case helperMissing
    /// Unmount: somebody still uses the mount.
    case busy([MountHolder])
    /// Unmount: nothing is mounted there.
    case notMounted
    /// Anything else, in the words of the system or of libfuse.
    case failed(String)
}

extension MountError: CustomStringConvertible {
    public var description: String {
        switch self {
        case .mountPointMissing: "the mount point does not exist"
        case .mountPointNotDirectory: "the mount point is not a folder"
        case .mountPointNotEmpty: "the mount point is not empty"
        case .alreadyMounted(let source, let type): "\(source) (\(type)) is mounted there already"
        case .staleMount: "a mount whose process has died is still there"
        case .mountPointUnusable(let code): "the mount point cannot be used (\(text(of: code)))"
        case .noDevice: "this system offers no FUSE: /dev/fuse is missing"
        case .notPermitted(let cause): "mounting is not permitted (\(cause))"
        case .helperMissing: "fusermount3 is not installed"
        case .busy(let holders):
            holders.isEmpty
                ? "still in use"
                : "still in use by \(holders.map(\.description).joined(separator: ", "))"
        case .notMounted: "nothing is mounted there"
        case .failed(let cause): cause
        }
    }

    /// What to try next; nil where nothing general helps.
    public var hint: String? {
        switch self {
        case .mountPointMissing: "create the folder first: mkdir -p MOUNTPOINT"
        case .mountPointNotDirectory, .mountPointNotEmpty: "choose an empty folder"
        case .alreadyMounted: "unmount it first: umount MOUNTPOINT"
        case .staleMount: "remove it first: logdisk unmount MOUNTPOINT"
        case .mountPointUnusable: "choose a folder that you may enter and list"
        case .noDevice: "load the module (modprobe fuse), or give the container /dev/fuse"
        case .notPermitted(let cause):
            cause.contains("allow_other")
                ? "put user_allow_other into /etc/fuse.conf, or mount as root"
                : "mount as root, or get access to /dev/fuse"
        case .helperMissing: "install it: apt install fuse3"
        case .busy(let holders): holders.lazy.compactMap(\.releaseCommand).first
        case .notMounted, .failed: nil
        }
    }
}

/// The system's word for an errno value.
func text(of code: Int32) -> String { String(cString: strerror(code)) }
