// A block device as one file in a FUSE mount.
//
// Life:   init ── mounted, requests wait in the kernel ── run() ── unmounted by anyone ── returns
// Anyone: `logdisk unmount`, umount(8), fusermount3 -u, requestUnmount. The kernel then ends the
//         connection, every worker's read fails with ENODEV, and run() returns.
//
// Threads: workers take requests from the connection and answer them (Worker.swift); the thread of
// run() sees to it that there are neither too few nor too many of them (WorkerPool.swift). Where
// the kernel offers it, nearly all requests come through io_uring instead, to threads of its own
// (Rings.swift).

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
    let file: ServedFile
    /// libfuse's session; freed in deinit. Its functions used here are safe from any thread.
    let session: Session
    private let rings: Rings
    private let hasRun = Atomic<Bool>(false)

    /// Mounts `device` on the folder `mountPoint`, which must exist and be empty. From here on the
    /// file can be opened; its users wait until `run` serves them.
    public init(
        device: BlockDevice, mountPoint: String, options: MountOptions = MountOptions()
    ) throws(MountError) {
        self.mountPoint = try MountPoint.check(mountPoint)
        self.options = options
        file = ServedFile(device: device, options: options)
        session = try Session(file: file, mountPoint: self.mountPoint, options: options)
        rings = Rings(file: file, session: session, isWanted: options.usesRings)
    }

    deinit {
        // Only a mount that never ran is still there.
        session.close()
    }

    /// The way on which requests come. Known once the kernel has asked its first question, which
    /// it does as soon as `run` serves; `connection` until then.
    public var transport: FuseTransport { rings.areInUse ? .rings : .connection }

    /// Serves the file until it is unmounted, by whomever. Call once. Throws when the connection
    /// breaks otherwise; the mount is then gone too. `begins` is called once, by a thread that
    /// serves, when it is known on which way requests come.
    public func run(
        begins: @escaping @Sendable (FuseTransport) -> Void = { _ in }
    ) throws(MountError) {
        precondition(!hasRun.exchange(true, ordering: .relaxed), "a mount runs once")
        defer { session.close() }
        defer { rings.end() }
        rings.tell(begins)
        var supervisor = Supervisor(Worker(file: file, session: session, rings: rings))
        try supervisor.run()
    }

    /// Starts an unmount; `run` returns when it is done. For any thread, also one that waits for
    /// signals (sigwait), but not for a signal handler itself.
    public func requestUnmount(_ mode: UnmountMode = .whenFree) throws(MountError) {
        try Self.unmount(mountPoint, mode)
    }
}
