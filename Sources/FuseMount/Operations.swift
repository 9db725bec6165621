// The table of FUSE operations that libfuse handles. Read, write and sync do not come here: the
// workers answer them (DataRequests.swift).
//
// What is left out of the table libfuse answers with ENOSYS, and the kernel then does the right
// thing by itself and asks no more: flush (a close syncs nothing), lseek (the whole file is data),
// access (the mount has default_permissions), getxattr (so writes need no look-up of
// security.capability), locks (kept by the kernel, for this machine), copy_file_range.

import BlockModel
import CFuse

#if canImport(Glibc)
    import Glibc
#endif

enum Operations {
    /// The callbacks; user data is a `ServedFile`.
    static func table() -> fuse_lowlevel_ops {
        var table = fuse_lowlevel_ops()
        table.`init` = { _, connection in if let connection { Operations.negotiate(connection) } }
        table.lookup = { request, parent, name in Operations.lookup(request, parent, name) }
        table.getattr = { request, inode, _ in Operations.getAttributes(request, inode) }
        table.setattr = { request, inode, new, wanted, _ in
            Operations.setAttributes(request, inode, new, wanted)
        }
        table.open = { request, inode, info in Operations.open(request, inode, info) }
        table.release = { request, inode, info in Operations.release(request, inode, info) }
        table.readdir = { request, inode, size, offset, _ in
            Operations.list(request, inode, size, offset)
        }
        table.statfs = { request, _ in Operations.describeFileSystem(request) }
        table.fallocate = { request, _, mode, offset, length, _ in
            Operations.allocate(request, mode, offset, length)
        }
        refuseChangesOfTheFolder(&table)
        return table
    }

    /// The mount holds one file for ever.
    private static func refuseChangesOfTheFolder(_ table: inout fuse_lowlevel_ops) {
        table.create = { request, _, _, _, _ in Operations.refuse(request) }
        table.mknod = { request, _, _, _, _ in Operations.refuse(request) }
        table.mkdir = { request, _, _, _ in Operations.refuse(request) }
        table.symlink = { request, _, _, _ in Operations.refuse(request) }
        table.link = { request, _, _, _ in Operations.refuse(request) }
        table.unlink = { request, _, _ in Operations.refuse(request) }
        table.rmdir = { request, _, _ in Operations.refuse(request) }
        table.rename = { request, _, _, _, _, _ in Operations.refuse(request) }
    }

    /// The file behind a request, borrowed: the mount keeps it alive while requests run.
    @discardableResult
    static func withFile<R>(_ request: fuse_req_t?, _ body: (ServedFile) -> R) -> R {
        guard let userdata = fuse_req_userdata(request) else {
            preconditionFailure("a FUSE request without the session's user data")
        }
        return Unmanaged<ServedFile>.fromOpaque(userdata)._withUnsafeGuaranteedRef(body)
    }

    private static func refuse(_ request: fuse_req_t?) {
        fuse_reply_err(request, withFile(request) { $0.isReadOnly } ? EROFS : EPERM)
    }

    /// Limits and abilities of the connection.
    private static func negotiate(_ connection: UnsafeMutablePointer<fuse_conn_info>) {
        connection.pointee.max_write = UInt32(ServedFile.transferBytesMax)
        connection.pointee.max_read = UInt32(ServedFile.transferBytesMax)
        // Asynchronous direct I/O counts as background; the kernel's default of 12 would cap it.
        connection.pointee.max_background = 64
        connection.pointee.congestion_threshold = 48
        let wanted = UInt32(FUSE_CAP_ASYNC_READ | FUSE_CAP_ASYNC_DIO | FUSE_CAP_PARALLEL_DIROPS)
        // Write-back caching would reorder writes. Splicing costs more than the copy it saves
        // for the sizes of a disk. A change of the modification time must not drop cached pages.
        // Truncation as part of open would let the kernel take the size for 0 for a while; without
        // it, open with O_TRUNC asks setattr, which refuses.
        let unwanted = UInt32(
            FUSE_CAP_WRITEBACK_CACHE | FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE
                | FUSE_CAP_SPLICE_MOVE | FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_ATOMIC_O_TRUNC)
        connection.pointee.want |= connection.pointee.capable & wanted
        connection.pointee.want &= ~unwanted
    }

    private static func lookup(
        _ request: fuse_req_t?, _ parent: fuse_ino_t, _ name: UnsafePointer<CChar>?
    ) {
        withFile(request) { file in
            // Inode 0: there is no such name; and, but for past states, there never will be.
            var entry = fuse_entry_param()
            entry.attr_timeout = ServedFile.cacheSeconds
            entry.entry_timeout = ServedFile.cacheSeconds
            if let name, let inode = inode(String(cString: name), in: parent, of: file),
                let status = file.status(of: inode)
            {
                entry.ino = inode
                entry.attr = status
            }
            // What a name means changes as time goes on.
            if parent == Inode.past { entry.entry_timeout = 0 }
            fuse_reply_entry(request, &entry)
        }
    }

    private static func getAttributes(_ request: fuse_req_t?, _ inode: fuse_ino_t) {
        withFile(request) { file in
            guard var status = file.status(of: inode) else {
                fuse_reply_err(request, ENOENT)
                return
            }
            fuse_reply_attr(request, &status, ServedFile.cacheSeconds)
        }
    }

    private static func setAttributes(
        _ request: fuse_req_t?, _ inode: fuse_ino_t, _ new: UnsafeMutablePointer<stat>?,
        _ wanted: Int32
    ) {
        let code = withFile(request) { file in
            guard inode == Inode.file, let new else { return EPERM }
            return file.isReadOnly ? EROFS : file.change(wanted, to: new.pointee)
        }
        if code == 0 { getAttributes(request, inode) } else { fuse_reply_err(request, code) }
    }

    private static func open(
        _ request: fuse_req_t?, _ inode: fuse_ino_t, _ info: UnsafeMutablePointer<fuse_file_info>?
    ) {
        withFile(request) { file in
            guard let info, inode == Inode.file || PastFiles.isFile(inode) else {
                fuse_reply_err(request, file.status(of: inode) != nil ? EISDIR : ENOENT)
                return
            }
            if inode != Inode.file { return openPast(request, inode, info, file) }
            guard info.pointee.flags & O_ACCMODE == O_RDONLY || !file.isReadOnly else {
                fuse_reply_err(request, EROFS)
                return
            }
            guard file.gate.enter() else {
                fuse_reply_err(request, EBUSY)
                return
            }
            info.pointee.keep_cache = 1
            // Whoever asked may be gone: then no release follows.
            if fuse_reply_open(request, info) != 0 { file.gate.leave() }
        }
    }

    private static func list(
        _ request: fuse_req_t?, _ inode: fuse_ino_t, _ size: Int, _ offset: off_t
    ) {
        withFile(request) { file in
            guard let names = entries(of: inode, in: file) else {
                fuse_reply_err(request, ENOTDIR)
                return
            }
            withUnsafeTemporaryAllocation(byteCount: min(size, 4096), alignment: 8) { target in
                var used = 0
                for (index, (name, inode)) in names.enumerated() where index >= offset {
                    guard var status = file.status(of: inode) else { continue }
                    let entry = target.baseAddress?.advanced(by: used).assumingMemoryBound(
                        to: CChar.self)
                    let need = fuse_add_direntry(
                        request, entry, target.count - used, name, &status, off_t(index + 1))
                    if need > target.count - used { break }
                    used += need
                }
                fuse_reply_buf(
                    request, target.baseAddress?.assumingMemoryBound(to: CChar.self), used)
            }
        }
    }

    private static func describeFileSystem(_ request: fuse_req_t?) {
        withFile(request) { file in
            var info = statvfs()
            info.f_bsize = 4096
            info.f_frsize = 4096
            info.f_blocks = fsblkcnt_t((file.byteCount + 4095) / 4096)
            info.f_files = 1
            info.f_namemax = 255
            fuse_reply_statfs(request, &info)
        }
    }
}
