// How a device is shown.

/// Options of a mount.
public struct MountOptions: Sendable {
    /// Other users may open the file too; else only the user who mounts (not even root). Users
    /// without privilege need `user_allow_other` in /etc/fuse.conf.
    public var allowOther: Bool
    /// Name of the one file in the mount.
    public var fileName: String
    /// What `mount` and `df` show as the source.
    public var fileSystemName: String
    /// Shown in the folder `at` beside the file; nil: there is none.
    public var pasts: (any PastStates)?
    /// Requests through io_uring where the kernel offers that (Rings.swift).
    public var usesRings: Bool
    /// Threads at most that read the connection. One or two serve what does not block; each
    /// request that the device holds up (a flush, a read from a disk, a full ring) keeps one more.
    public var threads: Int

    /// More than the kernel has requests outstanding in the background (`Operations.negotiate`), so
    /// that held-up writes do not stop reads.
    public static let defaultThreads = 80

    public init(
        allowOther: Bool = false, fileName: String = "disk.img",
        fileSystemName: String = "logdisk", threads: Int = MountOptions.defaultThreads,
        usesRings: Bool = true
    ) {
        precondition(threads > 0 && !fileName.isEmpty && !fileName.contains("/"))
        self.allowOther = allowOther
        self.fileName = fileName
        self.fileSystemName = fileSystemName
        self.threads = threads
        self.usesRings = usesRings
    }
}

/// How requests of a mount come from the kernel.
public enum FuseTransport: String, Sendable {
    /// Read from the connection, a descriptor of /dev/fuse.
    case connection = "dev-fuse"
    /// Through io_uring, a queue for each processor.
    case rings = "io-uring"
}
