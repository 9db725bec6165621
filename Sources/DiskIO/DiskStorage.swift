// The system's files behind the `Storage` joint. The only code of logdisk that calls pwrite,
// fdatasync and their kin.

import CLinux

#if canImport(Glibc)
    import Glibc
#endif

/// A file or block device of the system.
public final class DiskFile: StorageFile, @unchecked Sendable {
    // @unchecked: `descriptor` changes only in close, which callers order after all other calls,
    // `isCutUp` only in expectSmallAccess, which they order before.
    private var descriptor: Int32
    /// Each write ends at the next multiple of `pieceBytes` of the file.
    private var isCutUp = false
    private let isDevice: Bool
    private let deviceBytes: UInt64

    init(path: String, descriptor: Int32) throws(IOError) {
        self.descriptor = descriptor
        var info = stat()
        guard fstat(descriptor, &info) == 0 else {
            let code = errno
            Glibc.close(descriptor)
            throw IOError(.open, path, code)
        }
        isDevice = info.st_mode & S_IFMT == S_IFBLK
        if isDevice {
            let size = clinux_block_device_size(descriptor)
            guard size >= 0 else {
                Glibc.close(descriptor)
                throw IOError(.size, path, Int32(-size))
            }
            deviceBytes = UInt64(size)
        } else {
            deviceBytes = 0
        }
        super.init(path: path)
    }

    deinit { close() }

    /// The descriptor, for reads that bypass this class (the FUSE reply); owned by this object.
    public var rawDescriptor: Int32 { descriptor }

    public override var isBlockDevice: Bool { isDevice }

    public override func read(
        into target: UnsafeMutableRawBufferPointer, at offset: UInt64
    ) throws(IOError) -> Int {
        var done = 0
        while done < target.count {
            let n = pread(
                descriptor, target.baseAddress! + done, target.count - done,
                off_t(truncatingIfNeeded: offset + UInt64(done)))
            if n < 0 {
                if errno == EINTR { continue }
                throw IOError(.read, path, errno)
            }
            if n == 0 { break }
            done += n
        }
        return done
    }

    public override func writeSome(
        _ vectors: UnsafeBufferPointer<IOVector>, at offset: UInt64, _ durability: Durability
    ) throws(IOError) -> Int {
        while true {
            // IOVector has one stored property, an iovec: the same layout.
            let n = vectors.withMemoryRebound(to: iovec.self) {
                isCutUp
                    ? writePiece($0, at: offset, durability)
                    : writeOnce($0, at: offset, durability)
            }
            if n > 0 { return Int(n) }
            if n == -Int64(EINTR) { continue }
            throw IOError(.write, path, n == 0 ? ENOSPC : Int32(-n))
        }
    }

    /// The largest write that the cache keeps in small units.
    public static let pieceBytes = 16 << 10

    /// As `writeOnce`, but ends at the next multiple of `pieceBytes` of the file.
    private func writePiece(
        _ vectors: UnsafeBufferPointer<iovec>, at offset: UInt64, _ durability: Durability
    ) -> Int64 {
        // Enough for whole sectors; more and smaller vectors make the write shorter.
        withUnsafeTemporaryAllocation(of: iovec.self, capacity: Self.pieceBytes / 512) { piece in
            var room = Self.pieceBytes - Int(offset % UInt64(Self.pieceBytes))
            var count = 0
            while count < min(vectors.count, piece.count), room > 0 {
                var vector = vectors[count]
                vector.iov_len = min(vector.iov_len, room)
                piece.initializeElement(at: count, to: vector)
                room -= vector.iov_len
                count += 1
            }
            return writeOnce(
                UnsafeBufferPointer(rebasing: piece[..<count]), at: offset, durability)
        }
    }

    /// One system call: bytes written, or -errno.
    private func writeOnce(
        _ vectors: UnsafeBufferPointer<iovec>, at offset: UInt64, _ durability: Durability
    ) -> Int64 {
        clinux_pwritev(
            descriptor, vectors.baseAddress, Int32(min(vectors.count, 1024)), offset,
            durability == .immediate ? 1 : 0)
    }

    public override func sync() throws(IOError) {
        while fdatasync(descriptor) != 0 {
            if errno == EINTR { continue }
            throw IOError(.sync, path, errno)
        }
    }

    public override func size() throws(IOError) -> UInt64 {
        if isDevice { return deviceBytes }
        var info = stat()
        guard fstat(descriptor, &info) == 0 else { throw IOError(.size, path, errno) }
        return UInt64(info.st_size)
    }

    public override func truncate(to size: UInt64) throws(IOError) {
        if isDevice { return }
        while ftruncate(descriptor, off_t(truncatingIfNeeded: size)) != 0 {
            if errno == EINTR { continue }
            throw IOError(.truncate, path, errno)
        }
    }

    public override func allocate(offset: UInt64, count: UInt64) throws(IOError) {
        while true {
            let r = posix_fallocate(
                descriptor, off_t(truncatingIfNeeded: offset), off_t(truncatingIfNeeded: count))
            if r == 0 { return }
            if r == EINTR { continue }
            throw IOError(.allocate, path, r)
        }
    }

    public override func punchHole(offset: UInt64, count: UInt64) throws(IOError) {
        if count == 0 { return }
        let mode = clinux_falloc_punch_hole | clinux_falloc_keep_size
        let result = clinux_fallocate(descriptor, mode, offset, count)
        if result == 0 {
            return
        }
        guard [EOPNOTSUPP, ENODEV, EINVAL].contains(-result) else {
            throw IOError(.punch, path, -result)
        }
        try writeZeros(offset: offset, count: count)
    }

    public override func nextData(from offset: UInt64) throws(IOError) -> Range<UInt64>? {
        let end = try size()
        guard offset < end else { return nil }
        if isDevice { return offset..<end }
        let data = lseek(descriptor, off_t(truncatingIfNeeded: offset), clinux_seek_data)
        if data < 0 {
            if errno == ENXIO { return nil }
            return offset..<end
        }
        let hole = lseek(descriptor, data, clinux_seek_hole)
        return UInt64(data)..<(hole < 0 ? end : UInt64(hole))
    }

    public override func writeBack(offset: UInt64, count: UInt64) throws(IOError) {
        switch -clinux_write_back(descriptor, offset, count) {
        case 0, EINVAL, ESPIPE, ENOSYS: return  // done, or not to be had here
        case let code: throw IOError(.sync, path, code)
        }
    }

    public override func startWriteBack(offset: UInt64, count: UInt64) {
        clinux_start_write_back(descriptor, offset, count)
    }

    public override func expectSmallAccess() {
        isCutUp = true
        posix_fadvise(descriptor, 0, 0, POSIX_FADV_RANDOM)
    }

    public override func forgetCached() { posix_fadvise(descriptor, 0, 0, POSIX_FADV_DONTNEED) }

    public override func tryLock() throws(IOError) -> Bool {
        let r = clinux_lock_exclusive(descriptor)
        if r == 0 { return true }
        if r == -EWOULDBLOCK { return false }
        throw IOError(.lock, path, -r)
    }

    public override func close() {
        guard descriptor >= 0 else { return }
        Glibc.close(descriptor)
        descriptor = -1
    }

    private func writeZeros(offset: UInt64, count: UInt64) throws(IOError) {
        let zeros = AlignedBuffer(count: Int(min(count, 1 << 20)))
        var position = offset
        while position < offset + count {
            let piece = Int(min(UInt64(zeros.count), offset + count - position))
            try write(UnsafeRawBufferPointer(rebasing: zeros.bytes[..<piece]), at: position)
            position += UInt64(piece)
        }
    }
}

/// The system's file tree. Open, so that single files of a volume can be something else (the image
/// of a branch).
open class DiskStorage: Storage, @unchecked Sendable {
    // @unchecked: no state.
    public override init() {}

    open override func open(
        _ path: String, _ options: OpenOptions
    ) throws(IOError) -> StorageFile {
        var flags = O_CLOEXEC | (options.access == .readOnly ? O_RDONLY : O_RDWR)
        switch options.creation {
        case .never: break
        case .ifMissing: flags |= O_CREAT
        case .exclusively: flags |= O_CREAT | O_EXCL
        }
        let operation: IOError.Operation = options.creation == .exclusively ? .create : .open
        if options.isDirect {
            let descriptor = Glibc.open(path, flags | clinux_o_direct, 0o600)
            if descriptor >= 0 { return try DiskFile(path: path, descriptor: descriptor) }
            // tmpfs before Linux 6.6 and some network file systems refuse O_DIRECT. The failed
            // try may have made the file: it must not exist for O_EXCL a second time.
            guard errno == EINVAL else { throw IOError(operation, path, errno) }
            if options.creation == .exclusively { flags &= ~O_EXCL }
        }
        let descriptor = Glibc.open(path, flags, 0o600)
        guard descriptor >= 0 else { throw IOError(operation, path, errno) }
        return try DiskFile(path: path, descriptor: descriptor)
    }

    public override func rename(_ source: String, to target: String) throws(IOError) {
        guard Glibc.rename(source, target) == 0 else { throw IOError(.rename, source, errno) }
    }

    public override func remove(_ path: String) throws(IOError) {
        guard Glibc.remove(path) == 0 else { throw IOError(.remove, path, errno) }
    }

    public override func createDirectory(_ path: String) throws(IOError) {
        guard mkdir(path, 0o700) == 0 else { throw IOError(.createDirectory, path, errno) }
    }

    public override func list(_ path: String) throws(IOError) -> [String] {
        guard let stream = opendir(path) else { throw IOError(.list, path, errno) }
        defer { closedir(stream) }
        var names: [String] = []
        while true {
            errno = 0
            guard let entry = readdir(stream) else { break }
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name != ".", name != ".." { names.append(name) }
        }
        guard errno == 0 else { throw IOError(.list, path, errno) }
        return names.sorted()
    }

    public override func syncDirectory(_ path: String) throws(IOError) {
        let descriptor = Glibc.open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else { throw IOError(.syncDirectory, path, errno) }
        defer { Glibc.close(descriptor) }
        guard fsync(descriptor) == 0 else { throw IOError(.syncDirectory, path, errno) }
    }

    public override func exists(_ path: String) -> Bool {
        var info = stat()
        return lstat(path, &info) == 0
    }

    public override func isDirectory(_ path: String) -> Bool {
        var info = stat()
        return stat(path, &info) == 0 && info.st_mode & S_IFMT == S_IFDIR
    }

    public override func freeBytes(_ path: String) throws(IOError) -> UInt64 {
        var info = statvfs()
        guard statvfs(path, &info) == 0 else { throw IOError(.size, path, errno) }
        return UInt64(info.f_bavail) * UInt64(info.f_frsize)
    }

    public override func allocatedBytes(_ path: String) throws(IOError) -> UInt64 {
        var info = stat()
        guard stat(path, &info) == 0 else { throw IOError(.size, path, errno) }
        return UInt64(info.st_blocks) * 512
    }

    public override func clone(_ source: StorageFile, to target: StorageFile) -> Bool {
        guard let source = source as? DiskFile, let target = target as? DiskFile else {
            return false
        }
        return clinux_clone_file(target.rawDescriptor, source.rawDescriptor) == 0
    }
}
