// Making, naming and removing below an open folder, and setting what `FileStatus` tells.

import CLinux

#if canImport(Glibc)
    import Glibc
#endif

extension Folder {
    private func change(
        _ operation: IOError.Operation, _ name: [UInt8], _ body: (UnsafePointer<CChar>) -> Int32
    ) throws(IOError) {
        let place = path + "/" + String(decoding: name, as: UTF8.self)
        guard !name.contains(0) else { throw IOError(operation, place, EINVAL) }
        let code = (name + [0]).withUnsafeBytes {
            body($0.baseAddress!.assumingMemoryBound(to: CChar.self)) == 0 ? 0 : errno
        }
        if code != 0 { throw IOError(operation, place, code) }
    }

    // MARK: - making

    public func createFolder(_ name: [UInt8], permissions: UInt32 = 0o700) throws(IOError) {
        try change(.createDirectory, name) { mkdirat(descriptor, $0, permissions) }
    }

    /// Makes the folders of `name` that are missing.
    public func createFolders(_ name: [UInt8], permissions: UInt32 = 0o700) throws(IOError) {
        do throws(IOError) {
            try createFolder(name, permissions: permissions)
        } catch  where error.code == EEXIST {
            return
        } catch  where error.code == ENOENT {
            guard let slash = name.lastIndex(of: UInt8(ascii: "/")) else { throw error }
            try createFolders(Array(name[..<slash]), permissions: permissions)
            try createFolder(name, permissions: permissions)
        }
    }

    public func createSymbolicLink(_ name: [UInt8], to target: [UInt8]) throws(IOError) {
        try change(.create, name) { text in
            (target + [0]).withUnsafeBytes {
                symlinkat($0.baseAddress!.assumingMemoryBound(to: CChar.self), descriptor, text)
            }
        }
    }

    /// A further name for the file `target` of `folder`.
    public func createLink(
        _ name: [UInt8], to target: [UInt8], in folder: Folder
    ) throws(IOError) {
        try change(.create, name) { text in
            (target + [0]).withUnsafeBytes {
                linkat(
                    folder.descriptor, $0.baseAddress!.assumingMemoryBound(to: CChar.self),
                    descriptor, text, 0)
            }
        }
    }

    /// A device node, fifo or socket; `mode` with its kind.
    public func createNode(_ name: [UInt8], mode: UInt32, node: UInt64) throws(IOError) {
        try change(.create, name) { mknodat(descriptor, $0, mode, dev_t(node)) }
    }

    // MARK: - naming

    /// Renames, replacing what has the name `target` in `folder`.
    public func rename(
        _ name: [UInt8], to target: [UInt8], in folder: Folder
    ) throws(IOError) {
        try change(.rename, name) { text in
            (target + [0]).withUnsafeBytes {
                renameat(
                    descriptor, text, folder.descriptor,
                    $0.baseAddress!.assumingMemoryBound(to: CChar.self))
            }
        }
    }

    public func remove(_ name: [UInt8]) throws(IOError) {
        try change(.remove, name) { unlinkat(descriptor, $0, 0) }
    }

    public func removeFolder(_ name: [UInt8]) throws(IOError) {
        try change(.remove, name) { unlinkat(descriptor, $0, AT_REMOVEDIR) }
    }

    /// Removes the folder `name` with everything below it. A symbolic link goes, not its target.
    public func removeTree(_ name: [UInt8]) throws(IOError) {
        do throws(IOError) {
            try remove(name)
            return
        } catch  where error.code == ENOENT {
            return
        } catch  where error.code == EISDIR || error.code == EPERM || error.code == EBUSY {}
        let below = try folder(name)
        for child in try below.list() { try below.removeTree(child) }
        try removeFolder(name)
    }

    // MARK: - setting

    /// Owner and group, of a symbolic link itself.
    public func setOwner(_ name: [UInt8], _ owner: UInt32, _ group: UInt32) throws(IOError) {
        try change(.setStatus, name) {
            fchownat(descriptor, $0, owner, group, AT_SYMLINK_NOFOLLOW)
        }
    }

    /// Not of a symbolic link, which has none.
    public func setPermissions(_ name: [UInt8], _ permissions: UInt32) throws(IOError) {
        try change(.setStatus, name) { fchmodat(descriptor, $0, permissions & 0o7777, 0) }
    }

    /// The modification time; the access time becomes the same.
    public func setTime(
        _ name: [UInt8], seconds: Int64, nanoseconds: UInt32
    ) throws(IOError) {
        let time = timespec(tv_sec: Int(seconds), tv_nsec: Int(nanoseconds))
        try change(.setStatus, name) { text in
            withUnsafeTemporaryAllocation(of: timespec.self, capacity: 2) { times in
                times.initialize(repeating: time)
                return utimensat(descriptor, text, times.baseAddress, AT_SYMLINK_NOFOLLOW)
            }
        }
    }

    public func setAttribute(
        _ name: [UInt8], _ attribute: [UInt8], _ value: [UInt8]
    ) throws(IOError) {
        try change(.setStatus, name) { text in
            (attribute + [0]).withUnsafeBytes { key in
                let code = value.withUnsafeBytes {
                    clinux_set_attribute_at(
                        descriptor, text, key.baseAddress!.assumingMemoryBound(to: CChar.self),
                        $0.baseAddress, $0.count)
                }
                if code == 0 { return 0 }
                errno = -code
                return -1
            }
        }
    }

    // MARK: - durability

    /// Names in this folder are durable.
    public func sync() throws(IOError) {
        guard fsync(descriptor) == 0 else { throw IOError(.syncDirectory, path, errno) }
    }

    /// Everything written to the file system of this folder is durable (syncfs).
    public func syncFileSystem() throws(IOError) {
        let code = clinux_sync_file_system(descriptor)
        guard code == 0 else { throw IOError(.sync, path, -code) }
    }

    /// Bytes that a caller without privilege may still write here.
    public func freeBytes() throws(IOError) -> UInt64 {
        var info = statvfs()
        guard fstatvfs(descriptor, &info) == 0 else { throw IOError(.size, path, errno) }
        return UInt64(info.f_bavail) * UInt64(info.f_frsize)
    }

    /// Exclusive advisory lock on the folder, as long as it is open; false when another has it.
    public func tryLock() throws(IOError) -> Bool {
        let code = clinux_lock_exclusive(descriptor)
        if code == 0 { return true }
        if code == -EWOULDBLOCK { return false }
        throw IOError(.lock, path, -code)
    }
}

// The same of an open file.
extension DiskFile {
    public func status() throws(IOError) -> FileStatus {
        var info = stat()
        guard fstat(rawDescriptor, &info) == 0 else { throw IOError(.size, path, errno) }
        return FileStatus(info)
    }

    private func change(_ code: Int32) throws(IOError) {
        if code != 0 { throw IOError(.setStatus, path, errno) }
    }

    public func setOwner(_ owner: UInt32, _ group: UInt32) throws(IOError) {
        try change(fchown(rawDescriptor, owner, group))
    }

    public func setPermissions(_ permissions: UInt32) throws(IOError) {
        try change(fchmod(rawDescriptor, permissions & 0o7777))
    }

    /// The modification time; the access time becomes the same.
    public func setTime(seconds: Int64, nanoseconds: UInt32) throws(IOError) {
        let time = timespec(tv_sec: Int(seconds), tv_nsec: Int(nanoseconds))
        try change(
            withUnsafeTemporaryAllocation(of: timespec.self, capacity: 2) { times in
                times.initialize(repeating: time)
                return futimens(rawDescriptor, times.baseAddress)
            })
    }

    public func setAttribute(_ name: [UInt8], _ value: [UInt8]) throws(IOError) {
        let code = (name + [0]).withUnsafeBytes { name in
            value.withUnsafeBytes {
                clinux_set_attribute_of(
                    rawDescriptor, name.baseAddress!.assumingMemoryBound(to: CChar.self),
                    $0.baseAddress, $0.count)
            }
        }
        if code != 0 { throw IOError(.setStatus, path, -code) }
    }
}
