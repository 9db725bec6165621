// Past states of the device as files of the same mount:
//
//     disk.img                       the device                          inode 2
//     at/                            what can be named                   inode 3
//     at/NAME/                       the state that NAME means now       directoryBit | id
//     at/NAME/disk.img               it, read-only                       fileBit | id
//
// A name is looked up each time it is walked, so one that is relative to now follows it; what is
// open stays what it was. Inodes are made of the state's id, so nothing has to be remembered for
// those that the kernel knows; a device is there as long as its file is open.

import BlockModel
import CFuse
import Synchronization

#if canImport(Glibc)
    import Glibc
#endif

/// Where a mount's past states come from; the mount itself knows no history. Any thread may call,
/// and calls may block.
public protocol PastStates: AnyObject, Sendable {
    /// What `ls` shows; other names may be understood, too.
    func names() -> [String]

    /// The state that `name` means at this moment, a number below 2^61; nil when there is none.
    func find(_ name: String) -> UInt64?

    /// The read-only disk of a state that `find` gave, of the same size as the live one. Dropped
    /// when its file is closed.
    func device(_ state: UInt64) throws(DeviceError) -> BlockDevice
}

/// The open files of past states.
final class PastFiles: Sendable {
    static let directoryBit: fuse_ino_t = 1 << 62
    static let fileBit: fuse_ino_t = 1 << 63
    private static let idMask: fuse_ino_t = (1 << 61) - 1

    private struct State {
        var devices: [UInt64: BlockDevice] = [:]
        var last: UInt64 = 0
    }
    private let state = Mutex(State())

    static func isDirectory(_ inode: fuse_ino_t) -> Bool {
        inode & (fileBit | directoryBit) == directoryBit
    }
    static func isFile(_ inode: fuse_ino_t) -> Bool { inode & fileBit != 0 }
    static func id(_ inode: fuse_ino_t) -> UInt64 { UInt64(inode & idMask) }

    /// Returns the handle.
    func add(_ device: BlockDevice) -> UInt64 {
        state.withLock { state in
            state.last += 1
            state.devices[state.last] = device
            return state.last
        }
    }

    func remove(_ handle: UInt64) {
        // Outside of the lock: with the device may go a view and a lease.
        let device = state.withLock { $0.devices.removeValue(forKey: handle) }
        withExtendedLifetime(device) {}
    }

    func device(_ handle: UInt64) -> BlockDevice? { state.withLock { $0.devices[handle] } }
}

extension Operations {
    /// An entry of the root, of `at` or of a state's folder; nil where there is none.
    static func inode(_ name: String, in parent: fuse_ino_t, of file: ServedFile) -> fuse_ino_t? {
        switch parent {
        case Inode.root:
            if name == file.name { return Inode.file }
            return name == Inode.pastName && file.pasts != nil ? Inode.past : nil
        case Inode.past:
            return file.pasts?.find(name).map { PastFiles.directoryBit | fuse_ino_t($0) }
        default:
            guard PastFiles.isDirectory(parent), name == file.name else { return nil }
            return PastFiles.fileBit | fuse_ino_t(PastFiles.id(parent))
        }
    }

    /// What a folder lists; nil where the inode is none.
    static func entries(
        of inode: fuse_ino_t, in file: ServedFile
    ) -> [(name: String, inode: fuse_ino_t)]? {
        switch inode {
        case Inode.root:
            let past = file.pasts == nil ? [] : [(Inode.pastName, Inode.past)]
            return [(".", Inode.root), ("..", Inode.root), (file.name, Inode.file)] + past
        case Inode.past:
            // Of a listing the kernel only takes the type; what each name means is looked up.
            let names = file.pasts?.names() ?? []
            return [(".", Inode.past), ("..", Inode.root)]
                + names.map { ($0, PastFiles.directoryBit) }
        default:
            guard PastFiles.isDirectory(inode) else { return nil }
            let image = PastFiles.fileBit | fuse_ino_t(PastFiles.id(inode))
            return [(".", inode), ("..", Inode.past), (file.name, image)]
        }
    }

    static func openPast(
        _ request: fuse_req_t?, _ inode: fuse_ino_t,
        _ info: UnsafeMutablePointer<fuse_file_info>, _ file: ServedFile
    ) {
        guard info.pointee.flags & O_ACCMODE == O_RDONLY else {
            fuse_reply_err(request, EROFS)
            return
        }
        do throws(DeviceError) {
            guard let pasts = file.pasts else { throw DeviceError(rawValue: ENOENT) }
            let device = try pasts.device(PastFiles.id(inode))
            info.pointee.fh = file.openPasts.add(device)
        } catch {
            fuse_reply_err(request, error.rawValue)
            return
        }
        info.pointee.keep_cache = 1  // a past state does not change
        // Interrupted meanwhile: the kernel sends no release for what it does not know.
        if fuse_reply_open(request, info) == -ENOENT { file.openPasts.remove(info.pointee.fh) }
    }

    static func release(
        _ request: fuse_req_t?, _ inode: fuse_ino_t, _ info: UnsafeMutablePointer<fuse_file_info>?
    ) {
        withFile(request) { file in
            if inode == Inode.file {
                file.gate.leave()
            } else if PastFiles.isFile(inode), let info {
                file.openPasts.remove(info.pointee.fh)
            }
        }
        fuse_reply_err(request, 0)
    }
}
