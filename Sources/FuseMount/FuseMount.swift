// A block device as one file in a FUSE mount.
//
// Life:   init ── mounted, requests wait in the kernel ── run() ── unmounted by anyone ── run returns
// Anyone: `logdisk unmount`, umount(8), fusermount3 -u, requestUnmount. The kernel then ends the
//         connection, every worker's read fails with ENODEV, and run() returns.
//
// Threads: `options.threads` workers wait in read(2) on the connection and answer what they get
// themselves (Worker.swift); run() only waits for them.

import BlockModel
import CFuse
import Synchronization

#if canImport(Glibc)
    import Glibc
#endif

/// A mount that shows one device as a file. Reads, writes and flushes of the file become calls of
/// the device on the worker threads; the device must outlive the mount and stays the caller's.
public final class FuseMount: Sendable {
    /// Absolute, without symbolic links.
    public let mountPoint: String
    public let options: MountOptions
    private let file: ServedFile
    /// libfuse's session; freed in deinit. Its functions used here are safe from any thread.
    private let session: Session
    private let hasRun = Atomic<Bool>(false)

    /// Mounts `device` on the folder `mountPoint`, which must exist and be empty. From here on the
    /// file can be opened; its users wait until `run` serves them.
    public init(
        device: BlockDevice, mountPoint: String, options: MountOptions = MountOptions()
    ) throws(MountError) {
        self.mountPoint = try MountPoint.check(mountPoint)
        self.options = options
        var key = pthread_key_t()
        let code = pthread_key_create(&key, nil)
        guard code == 0 else { throw .failed("no thread storage (\(text(of: code)))") }
        let file = ServedFile(device: device, options: options, memoryKey: key)
        self.file = file
        do {
            session = try Session(file: file, mountPoint: self.mountPoint, options: options)
        } catch {
            pthread_key_delete(key)
            throw error
        }
    }

    deinit {
        // Only a mount that never ran is still there. The session goes first: it refers to `file`.
        session.close()
        pthread_key_delete(file.memoryKey)
    }

    /// Serves the file until it is unmounted, by whomever. Call once. Throws when the connection
    /// breaks otherwise; the mount is then gone too.
    public func run() throws(MountError) {
        precondition(!hasRun.exchange(true, ordering: .relaxed), "a mount runs once")
        defer { session.close() }
        let pool = WorkerPool(session: session, file: file)
        try pool.run(threads: options.threads)
    }

    /// Starts an unmount; `run` returns when it is done. For any thread, also one that waits for
    /// signals (sigwait), but not for a signal handler itself.
    public func requestUnmount(_ mode: UnmountMode = .whenFree) throws(MountError) {
        try Self.unmount(mountPoint, mode)
    }
}

/// A libfuse session with its mount.
final class Session: Sendable {
    /// libfuse guards it by its own lock.
    nonisolated(unsafe) let pointer: OpaquePointer
    private let isOpen = Atomic<Bool>(true)
    /// The connection to the kernel.
    let descriptor: Int32

    /// Mounts. `file` must outlive the session.
    init(file: ServedFile, mountPoint: String, options: MountOptions) throws(MountError) {
        var arguments = fuse_args()
        defer { fuse_opt_free_args(&arguments) }
        for argument in ["logdisk", "-o", Self.mountOptions(options, isReadOnly: file.isReadOnly)] {
            guard fuse_opt_add_arg(&arguments, argument) == 0 else { throw .failed("no memory") }
        }
        var table = Operations.table()
        var created: OpaquePointer?
        let complaint = StandardError.captured {
            created = cfuse_session_new(
                &arguments, &table, Unmanaged.passUnretained(file).toOpaque())
        }
        guard let created else { throw .failed("libfuse refuses the mount (\(complaint))") }
        var result: Int32 = 0
        let cause = StandardError.captured { result = fuse_session_mount(created, mountPoint) }
        guard result == 0 else {
            fuse_session_destroy(created)
            throw Self.error(from: cause)
        }
        pointer = created
        descriptor = fuse_session_fd(created)
    }

    /// Unmounts if still mounted, and frees the session. Idempotent; no worker may be left.
    func close() {
        guard isOpen.exchange(false, ordering: .acquiringAndReleasing) else { return }
        fuse_session_unmount(pointer)
        fuse_session_destroy(pointer)
    }

    private static func mountOptions(_ options: MountOptions, isReadOnly: Bool) -> String {
        // Commas and backslashes separate options; the kernel's list has no other syntax.
        let source = options.fileSystemName.replacing(["\\", ","])
        var list = "fsname=\(source),subtype=logdisk,default_permissions,nosuid,nodev"
        list += ",max_read=\(ServedFile.transferBytesMax)"
        if options.allowOther { list += ",allow_other" }
        if isReadOnly { list += ",ro" }
        return list
    }

    /// libfuse and fusermount3 only print; what they print decides.
    private static func error(from cause: String) -> MountError {
        if cause.contains("fusermount3: No such file") || cause.contains("exec fusermount3") {
            return .helperMissing
        }
        let refusals = ["Operation not permitted", "Permission denied", "allow_other", "not owner"]
        if refusals.contains(where: { cause.contains($0) }) { return .notPermitted(cause) }
        return .failed(cause.isEmpty ? "libfuse gives no reason" : cause)
    }
}

extension String {
    /// With a backslash before each of `characters`.
    fileprivate func replacing(_ characters: Set<Character>) -> String {
        var result = ""
        for character in self {
            if characters.contains(character) { result.append("\\") }
            result.append(character)
        }
        return result
    }
}
