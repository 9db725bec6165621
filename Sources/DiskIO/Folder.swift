// An open folder of the system, for trees of files whose names are any bytes. Names are byte arrays
// without a zero, relative to the folder: one name, or several with slashes between. No symbolic
// link is followed at the end of one.
//
// Not part of the `Storage` joint: what a tree of files has (owners, links, attributes) no volume
// needs, and the simulated disk does not have.

import CLinux

#if canImport(Glibc)
    import Glibc
#endif

/// What the system knows of a file, without its name and content.
public struct FileStatus: Sendable, Hashable {
    /// Kind and permissions, as in `st_mode`.
    public var mode: UInt32
    public var owner: UInt32
    public var group: UInt32
    public var size: UInt64
    /// Bytes on disk; fewer than the size where there are holes.
    public var allocated: UInt64
    /// Modification time: seconds since 1970, and nanoseconds of the second.
    public var seconds: Int64
    public var nanoseconds: UInt32
    /// Status change time in nanoseconds since 1970.
    public var changed: Int64
    public var links: UInt64
    public var device: UInt64
    public var inode: UInt64
    /// Of a device node, what it stands for.
    public var node: UInt64

    /// Of something that is no file of the system: only a size.
    public init(size: UInt64) {
        mode = S_IFREG | 0o600
        (owner, group) = (getuid(), getgid())
        (self.size, allocated) = (size, size)
        (seconds, nanoseconds, changed) = (0, 0, 0)
        (links, device, inode, node) = (1, 0, 0, 0)
    }

    init(_ info: stat) {
        mode = info.st_mode
        owner = info.st_uid
        group = info.st_gid
        size = UInt64(max(info.st_size, 0))
        allocated = UInt64(max(info.st_blocks, 0)) &* 512
        seconds = Int64(info.st_mtim.tv_sec)
        nanoseconds = UInt32(info.st_mtim.tv_nsec)
        changed = Int64(info.st_ctim.tv_sec) &* 1_000_000_000 &+ Int64(info.st_ctim.tv_nsec)
        links = UInt64(info.st_nlink)
        device = UInt64(info.st_dev)
        inode = UInt64(info.st_ino)
        node = UInt64(info.st_rdev)
    }

    public var isFile: Bool { mode & S_IFMT == S_IFREG }
    public var isFolder: Bool { mode & S_IFMT == S_IFDIR }
    public var isSymbolicLink: Bool { mode & S_IFMT == S_IFLNK }
    public var isBlockDevice: Bool { mode & S_IFMT == S_IFBLK }
    public var isCharacterDevice: Bool { mode & S_IFMT == S_IFCHR }
}

/// An open folder. Any thread may call; closed with the last reference.
public final class Folder: Sendable {
    /// For messages.
    public let path: String
    public let descriptor: Int32

    public init(_ path: String) throws(IOError) {
        let descriptor = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else { throw IOError(.open, path, errno) }
        self.path = path
        self.descriptor = descriptor
    }

    private init(path: String, descriptor: Int32) {
        self.path = path
        self.descriptor = descriptor
    }

    deinit { close(descriptor) }

    private func error(_ operation: IOError.Operation, _ name: [UInt8], _ code: Int32) -> IOError {
        IOError(operation, name.isEmpty ? path : path + "/" + text(name), code)
    }

    private func text(_ name: [UInt8]) -> String { String(decoding: name, as: UTF8.self) }

    /// `name` as the system takes it. A zero inside is nobody's file.
    private func with<R>(
        _ name: [UInt8], _ body: (UnsafePointer<CChar>) -> R
    ) -> R {
        withUnsafeTemporaryAllocation(of: CChar.self, capacity: name.count + 1) { buffer in
            for i in name.indices { buffer[i] = CChar(bitPattern: name[i]) }
            buffer[name.count] = 0
            return body(UnsafePointer(buffer.baseAddress!))
        }
    }

    /// 0 or -1 with errno becomes nothing or an error.
    private func call(
        _ operation: IOError.Operation, _ name: [UInt8], _ body: (UnsafePointer<CChar>) -> Int32
    ) throws(IOError) {
        guard !name.contains(0) else { throw error(operation, name, EINVAL) }
        let code = with(name) { body($0) == 0 ? 0 : errno }
        if code != 0 { throw error(operation, name, code) }
    }

    // MARK: - opening

    /// Opens below this folder without following a symbolic link anywhere on the way. Made files
    /// get `permissions`.
    public func file(
        _ name: [UInt8], _ options: OpenOptions, permissions: UInt32 = 0o600
    ) throws(IOError) -> DiskFile {
        var flags = options.access == .readOnly ? O_RDONLY | O_NONBLOCK | O_NOCTTY : O_RDWR
        switch options.creation {
        case .never: break
        case .ifMissing: flags |= O_CREAT
        case .exclusively: flags |= O_CREAT | O_EXCL
        }
        let descriptor = try descriptor(name, flags, permissions)
        return try DiskFile(path: path + "/" + text(name), descriptor: descriptor)
    }

    public func folder(_ name: [UInt8]) throws(IOError) -> Folder {
        let descriptor = try descriptor(name, O_RDONLY | O_DIRECTORY, 0)
        return Folder(path: path + "/" + text(name), descriptor: descriptor)
    }

    /// The longest path that a system call takes.
    private static let pathBytesMax = 4000

    /// A path longer than the system takes is walked in pieces.
    private func descriptor(
        _ name: [UInt8], _ flags: Int32, _ permissions: UInt32
    ) throws(IOError) -> Int32 {
        guard !name.contains(0) else { throw error(.open, name, EINVAL) }
        if name.count > Self.pathBytesMax,
            let cut = name[..<Self.pathBytesMax].lastIndex(of: UInt8(ascii: "/"))
        {
            return try folder(Array(name[..<cut])).descriptor(
                Array(name[(cut + 1)...]), flags, permissions)
        }
        let result = with(name.isEmpty ? [UInt8(ascii: ".")] : name) {
            clinux_open_beneath(self.descriptor, $0, flags, permissions)
        }
        guard result >= 0 else {
            throw error(flags & O_EXCL != 0 ? .create : .open, name, -result)
        }
        return result
    }

    // MARK: - looking

    public func status(_ name: [UInt8]) throws(IOError) -> FileStatus {
        var info = stat()
        try call(.open, name) { fstatat(descriptor, $0, &info, AT_SYMLINK_NOFOLLOW) }
        return FileStatus(info)
    }

    /// Of this folder itself.
    public func status() throws(IOError) -> FileStatus {
        var info = stat()
        guard fstat(descriptor, &info) == 0 else { throw error(.open, [], errno) }
        return FileStatus(info)
    }

    public func exists(_ name: [UInt8]) -> Bool { (try? status(name)) != nil }

    /// All names, unsorted, without `.` and `..`; `buffer` is scratch of at least 32 KiB. One
    /// reader at a time.
    public func names(
        buffer: AlignedBuffer, _ body: (UnsafeRawBufferPointer) throws -> Void
    ) throws {
        while true {
            let count = clinux_directory_entries(descriptor, buffer.base, buffer.count)
            guard count >= 0 else { throw error(.list, [], Int32(-count)) }
            if count == 0 { return }
            // struct linux_dirent64: inode 8, offset 8, record length 2, kind 1, name.
            var position = 0
            while position < Int(count) {
                let record = buffer.base + position
                let length = Int(record.loadUnaligned(fromByteOffset: 16, as: UInt16.self))
                let start = record + 19
                let name = UnsafeRawBufferPointer(
                    start: start, count: strlen(start.assumingMemoryBound(to: CChar.self)))
                position += length
                let dot = UInt8(ascii: ".")
                if name.count == 1, name[0] == dot { continue }
                if name.count == 2, name[0] == dot, name[1] == dot { continue }
                try body(name)
            }
        }
    }

    /// `status(name)` of one name as `names` gives it, which ends with a zero; nil when it is gone.
    public func status(listed name: UnsafeRawBufferPointer) throws(IOError) -> FileStatus? {
        var info = stat()
        let text = name.baseAddress!.assumingMemoryBound(to: CChar.self)
        if fstatat(descriptor, text, &info, AT_SYMLINK_NOFOLLOW) == 0 { return FileStatus(info) }
        if errno == ENOENT { return nil }
        throw error(.open, Array(name), errno)
    }

    /// Sorted names.
    public func list() throws(IOError) -> [[UInt8]] {
        let again = try folder([])  // a place in the listing of its own
        var found: [[UInt8]] = []
        do {
            try again.names(buffer: AlignedBuffer(count: 64 << 10)) { found.append(Array($0)) }
        } catch let failure as IOError {
            throw failure
        } catch {
            throw self.error(.list, [], EIO)
        }
        return found.sorted { $0.lexicographicallyPrecedes($1) }
    }

    public func symbolicLink(_ name: [UInt8]) throws(IOError) -> [UInt8] {
        var target = [UInt8](repeating: 0, count: 4096)
        var count = 0
        try call(.read, name) { text in
            count = target.withUnsafeMutableBytes {
                readlinkat(
                    descriptor, text, $0.baseAddress!.assumingMemoryBound(to: CChar.self), $0.count)
            }
            return count < 0 ? -1 : 0
        }
        return Array(target[..<count])
    }

    /// Extended attributes, sorted by name; [] where the file system has none.
    public func attributes(_ name: [UInt8]) throws(IOError) -> [ExtendedAttribute] {
        var found: [ExtendedAttribute] = []
        let code = with(name) { text in
            ExtendedAttribute.read(
                into: &found,
                names: { clinux_list_attributes_at(descriptor, text, $0.baseAddress, $0.count) },
                value: {
                    clinux_attribute_at(descriptor, text, $0, $1.baseAddress, $1.count)
                })
        }
        if code != 0 { throw error(.read, name, code) }
        return found
    }
}

public struct ExtendedAttribute: Sendable, Hashable {
    public var name: [UInt8]
    public var value: [UInt8]

    /// The most that Linux lets either be.
    private static let bytesMax = 64 << 10

    /// Reads all by the two system calls, sorted by name; 0 or an errno.
    fileprivate static func read(
        into found: inout [ExtendedAttribute],
        names: (UnsafeMutableRawBufferPointer) -> Int64,
        value: (UnsafePointer<CChar>, UnsafeMutableRawBufferPointer) -> Int64
    ) -> Int32 {
        // Most files have none: a few bytes tell that.
        let few = withUnsafeTemporaryAllocation(byteCount: 256, alignment: 8) { names($0) }
        if few == 0 || few == -Int64(EOPNOTSUPP) { return 0 }
        guard few > 0 || few == -Int64(ERANGE) else { return Int32(-few) }
        return withUnsafeTemporaryAllocation(byteCount: 2 * bytesMax, alignment: 8) { memory in
            let list = UnsafeMutableRawBufferPointer(rebasing: memory[..<bytesMax])
            let target = UnsafeMutableRawBufferPointer(rebasing: memory[bytesMax...])
            let count = names(list)
            guard count >= 0 else { return Int32(-count) }
            var start = 0
            while start < Int(count) {
                let text = (list.baseAddress! + start).assumingMemoryBound(to: CChar.self)
                let length = strlen(text)
                start += length + 1
                let size = value(text, target)
                // One that went meanwhile, or that this user may not read (trusted.*).
                if size == -Int64(ENODATA) || size == -Int64(EPERM) { continue }
                guard size >= 0 else { return Int32(-size) }
                let name = UnsafeRawBufferPointer(start: text, count: length)
                found.append(
                    ExtendedAttribute(name: Array(name), value: Array(target[..<Int(size)])))
            }
            found.sort { $0.name.lexicographicallyPrecedes($1.name) }
            return 0
        }
    }
}

extension DiskFile {
    /// Extended attributes, sorted by name; [] where the file system has none.
    public func attributes() throws(IOError) -> [ExtendedAttribute] {
        var found: [ExtendedAttribute] = []
        let code = ExtendedAttribute.read(
            into: &found,
            names: { clinux_list_attributes_of(rawDescriptor, $0.baseAddress, $0.count) },
            value: { clinux_attribute_of(rawDescriptor, $0, $1.baseAddress, $1.count) })
        if code != 0 { throw IOError(.read, path, code) }
        return found
    }
}
