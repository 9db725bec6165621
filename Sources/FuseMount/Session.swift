// A mount with its libfuse session. libfuse negotiates and takes requests apart; the mount itself
// is made here rather than by libfuse, which tells the reason of a failure only on standard error.

import CFuse
import Synchronization

#if canImport(Glibc)
    import Glibc
#endif

/// A mounted file system and the connection to it. Any thread may use it at once; `close` comes
/// after all others but `forgetPages`, which may come at any time.
final class Session: Sendable {
    /// @unchecked: libfuse guards what is behind it by a lock of its own.
    nonisolated(unsafe) let pointer: OpaquePointer
    /// The connection to the kernel; owned by the session.
    let descriptor: Int32
    private let mountPoint: String
    /// major:minor of the mount; nil when the kernel's table does not tell.
    private let device: String?
    /// Held while the session is freed, or used by who does not know whether it is.
    private let isOpen = Mutex(true)

    /// Mounts on `mountPoint` (checked before). `file` must outlive the session.
    init(file: ServedFile, mountPoint: String, options: MountOptions) throws(MountError) {
        var arguments = fuse_args()
        defer { fuse_opt_free_args(&arguments) }
        for argument in ["logdisk", "-o", "max_read=\(ServedFile.transferBytesMax)"] {
            guard fuse_opt_add_arg(&arguments, argument) == 0 else { throw .failed("no memory") }
        }
        var table = Operations.table()
        let userdata = Unmanaged.passUnretained(file).toOpaque()
        guard let created = cfuse_session_new(&arguments, &table, userdata) else {
            throw .failed("libfuse makes no session")
        }
        do {
            descriptor = try Self.mount(on: mountPoint, options, isReadOnly: file.isReadOnly)
        } catch {
            fuse_session_destroy(created)
            throw error
        }
        var io = ReplyRoute.customIO()
        guard fuse_session_custom_io(created, &io, descriptor) == 0 else {
            Glibc.close(descriptor)
            fuse_session_destroy(created)
            umount2(mountPoint, Int32(MountPoint.detach))
            throw .failed("libfuse does not take the connection")
        }
        pointer = created
        self.mountPoint = mountPoint
        device = MountPoint.mount(at: mountPoint)?.device
    }

    /// Unmounts if still mounted, and frees the session. Idempotent; no worker may be left.
    func close() {
        isOpen.withLock { isOpen in
            guard isOpen else { return }
            isOpen = false
            if let device, MountPoint.mount(at: mountPoint)?.device == device {
                // Nobody serves it any more; who still holds it gets errors from the next line on.
                try? FuseMount.unmount(mountPoint, .lazy)
            }
            fuse_session_destroy(pointer)  // closes the connection
        }
    }

    /// Makes the kernel drop what it keeps of an inode's content and attributes. 0 or an errno. Not
    /// for a worker: the kernel may wait for reads that only workers answer.
    func forgetPages(of inode: fuse_ino_t) -> Int32 {
        isOpen.withLock { isOpen in
            guard isOpen else { return 0 }  // unmounted: nothing is kept
            let code = -fuse_lowlevel_notify_inval_inode(pointer, inode, 0, 0)
            // The kernel does not know the inode, or not the mount any more: nothing is kept.
            return code == ENOENT || code == ENODEV ? 0 : code
        }
    }

    /// Makes the kernel send a request that asks for nothing, on this processor. Does not wait.
    func askForNothing() {
        isOpen.withLock { isOpen in
            guard isOpen else { return }
            _ = fuse_lowlevel_notify_retrieve(pointer, Inode.file, 0, 0, nil)
        }
    }

    /// Root mounts by the system call, others by fusermount3. Returns the connection.
    private static func mount(
        on mountPoint: String, _ options: MountOptions, isReadOnly: Bool
    ) throws(MountError) -> Int32 {
        var list = "default_permissions,max_read=\(ServedFile.transferBytesMax)"
        if options.allowOther { list += ",allow_other" }
        let descriptor = open("/dev/fuse", O_RDWR | O_CLOEXEC)
        guard descriptor >= 0 else {
            if errno == ENOENT || errno == ENODEV || errno == ENXIO { throw .noDevice }
            throw .notPermitted("/dev/fuse: \(text(of: errno))")
        }
        var flags = UInt(MS_NOSUID | MS_NODEV)
        if isReadOnly { flags |= UInt(MS_RDONLY) }
        let own = "fd=\(descriptor),rootmode=40000,user_id=\(geteuid()),group_id=\(getegid())"
        let result = Glibc.mount(
            options.fileSystemName, mountPoint, "fuse.logdisk", flags, "\(own),\(list)")
        if result == 0 { return descriptor }
        let code = errno
        Glibc.close(descriptor)
        switch code {
        case EPERM: break
        case ENODEV: throw .noDevice
        default: throw .failed("mount: \(text(of: code))")
        }
        let source = Fusermount.escaped(options.fileSystemName)
        list += ",fsname=\(source),subtype=logdisk,nosuid,nodev" + (isReadOnly ? ",ro" : "")
        return try Fusermount.mount(on: mountPoint, options: list)
    }
}
