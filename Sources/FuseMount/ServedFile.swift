// What requests work on: the device and the attributes of the one file that shows it. libfuse hands
// it back with every request (fuse_req_userdata), so there are no globals.
//
// Threads: every member may be used by all workers at once. The data path touches only `let`
// members and one relaxed flag; attributes lie behind a lock that only rare requests take.

import BlockModel
import CFuse
import Synchronization

#if canImport(Glibc)
    import Glibc
#endif

/// Inode numbers of the mount.
enum Inode {
    static let root = fuse_ino_t(FUSE_ROOT_ID)
    static let file: fuse_ino_t = 2
    static let past: fuse_ino_t = 3
    /// The folder of past states (PastStates.swift).
    static let pastName = "at"
}

/// The file of a mount, as libfuse's user data.
final class ServedFile: Sendable {
    /// Longest read or write of one request; also what a worker's memory holds.
    static let transferBytesMax = 1 << 20
    /// Only this mount changes the file, so what the kernel has cached stays true.
    static let cacheSeconds = 1_000_000.0

    let device: BlockDevice
    let byteCount: UInt64
    let isReadOnly: Bool
    let name: String
    let pool: WorkerPool
    /// Past states, where the mount shows them.
    let pasts: (any PastStates)?
    let openPasts = PastFiles()
    let gate = OpenGate()
    /// Set by writes, taken by the next request for attributes: the modification time costs the
    /// data path no clock. Relaxed: it orders nothing.
    private let wasWritten = Atomic<Bool>(false)
    private let attributes: Mutex<Attributes>
    private let directoryMode: mode_t

    /// What chmod, chown and touch change; lives as long as the mount.
    private struct Attributes {
        var mode: mode_t
        var user: uid_t
        var group: gid_t
        var accessed: timespec
        var modified: timespec
        var changed: timespec
    }

    init(device: BlockDevice, options: MountOptions) {
        self.device = device
        byteCount = device.byteCount
        isReadOnly = device.isReadOnly
        name = options.fileName
        pasts = options.pasts
        pool = WorkerPool(threadsMax: options.threads)
        let access: mode_t = options.allowOther ? 0o666 : 0o600
        directoryMode = options.allowOther ? 0o755 : 0o700
        let now = Self.now()
        attributes = Mutex(
            Attributes(
                mode: isReadOnly ? access & 0o444 : access, user: geteuid(), group: getegid(),
                accessed: now, modified: now, changed: now))
    }

    func noteWritten() {
        if !wasWritten.load(ordering: .relaxed) { wasWritten.store(true, ordering: .relaxed) }
    }

    /// Attributes of a folder or a file; nil for an inode that cannot be.
    func status(of inode: fuse_ino_t) -> stat? {
        let isPastFile = PastFiles.isFile(inode)
        let isFile = inode == Inode.file || isPastFile
        guard
            isFile || inode == Inode.root || inode == Inode.past || PastFiles.isDirectory(inode)
        else { return nil }
        return attributes.withLock { attributes in
            if wasWritten.exchange(false, ordering: .relaxed) {
                attributes.modified = Self.now()
                attributes.changed = attributes.modified
            }
            var status = stat()
            status.st_ino = ino_t(inode)
            status.st_nlink = isFile ? 1 : 2
            let mode = isPastFile ? attributes.mode & 0o444 : attributes.mode
            status.st_mode = isFile ? S_IFREG | mode : S_IFDIR | directoryMode
            status.st_uid = isFile ? attributes.user : geteuid()
            status.st_gid = isFile ? attributes.group : getegid()
            status.st_size = isFile ? off_t(byteCount) : 4096
            status.st_blocks = blkcnt_t(isFile ? (byteCount + 511) / 512 : 8)
            status.st_blksize = 4096
            status.st_atim = attributes.accessed
            status.st_mtim = attributes.modified
            status.st_ctim = attributes.changed
            return status
        }
    }

    /// Takes over what `wanted` (FUSE_SET_ATTR_ bits) names of `new`. 0 or an errno.
    func change(_ wanted: Int32, to new: stat) -> Int32 {
        if wanted & FUSE_SET_ATTR_SIZE != 0, new.st_size != off_t(byteCount) { return EPERM }
        attributes.withLock { attributes in
            let now = Self.now()
            if wanted & FUSE_SET_ATTR_MODE != 0 { attributes.mode = new.st_mode & 0o777 }
            if wanted & FUSE_SET_ATTR_UID != 0 { attributes.user = new.st_uid }
            if wanted & FUSE_SET_ATTR_GID != 0 { attributes.group = new.st_gid }
            if wanted & FUSE_SET_ATTR_ATIME_NOW != 0 {
                attributes.accessed = now
            } else if wanted & FUSE_SET_ATTR_ATIME != 0 {
                attributes.accessed = new.st_atim
            }
            if wanted & FUSE_SET_ATTR_MTIME_NOW != 0 {
                attributes.modified = now
            } else if wanted & FUSE_SET_ATTR_MTIME != 0 {
                attributes.modified = new.st_mtim
            }
            attributes.changed = now
        }
        return 0
    }

    private static func now() -> timespec {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return time
    }
}
