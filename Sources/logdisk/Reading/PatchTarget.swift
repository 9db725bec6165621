// The image that a patch is put on: a file or disk that nobody else uses, and never the image that
// a volume's log explains, which only the volume may write.

import BlockModel
import CommandText
import DiskIO
import Foundation
import ProtectedVolume

enum PatchTarget {
    /// Opens and locks it for reading and writing.
    static func open(_ name: String, _ storage: Storage) throws(CommandFailure) -> StorageFile {
        var info = stat()
        guard stat(name, &info) == 0 else {
            throw CommandFailure(
                errno == ENOENT ? .usage : .failed, name, "the image cannot be used",
                cause: String(cString: strerror(errno)), hint: "name an existing image or disk")
        }
        let kind = info.st_mode & S_IFMT
        guard kind == S_IFREG || kind == S_IFBLK else {
            throw CommandFailure(
                .usage, name, "it is neither a file nor a block device",
                hint: "name a disk image or a disk")
        }
        if kind == S_IFBLK { try SourceFile.checkDeviceIsFree(name, name) }
        if let owner = owner(of: name) {
            throw CommandFailure(
                .inUse, name, "it is the image of a volume, which only the volume may write",
                cause: owner,
                hint: "logdisk mount \(owner) MNT, then put the patch on MNT/disk.img")
        }
        let file = try translating(name) { try storage.open(name, OpenOptions(.readWrite)) }
        guard (try? file.tryLock()) != false else {
            throw CommandFailure(
                .inUse, name, "another process has locked it", hint: "fuser -v \(name) shows which")
        }
        return file
    }

    /// The folder of the volume whose image it is.
    private static func owner(of name: String) -> String? {
        let path = PathText.canonical(name)
        if let folder = ImageOwner.folder(of: path) { return folder }
        let folder = PathText.parent(of: path)
        guard let superblock = try? VolumeFolder.peek(folder, on: DiskStorage()),
            PathText.canonical(VolumeFolder.imagePath(folder, superblock)) == path
        else { return nil }
        return folder
    }
}
