// Opening what `create` copies or protects, with the checks that make its errors clear, and the
// copy itself.

import CommandText
import DiskIO
import Foundation

enum SourceFile {
    /// Opens a regular file or block device that nobody else uses.
    static func open(
        _ path: String, forWriting: Bool, _ storage: Storage, _ object: String
    ) throws(CommandFailure) -> StorageFile {
        var info = stat()
        guard stat(path, &info) == 0 else {
            throw CommandFailure(
                errno == ENOENT ? .usage : .failed, object, "\(path) cannot be used",
                cause: String(cString: strerror(errno)), hint: "name an existing file or disk")
        }
        let kind = info.st_mode & S_IFMT
        guard kind == S_IFREG || kind == S_IFBLK else {
            throw CommandFailure(
                .usage, object, "\(path) is neither a file nor a block device",
                hint: "name a disk image or a disk")
        }
        if kind == S_IFBLK { try checkDeviceIsFree(path, object) }
        let file: StorageFile
        do throws(IOError) {
            file = try storage.open(path, OpenOptions(forWriting ? .readWrite : .readOnly))
        } catch {
            throw CommandFailure(
                error.code == EACCES || error.code == EPERM ? .refused : .failed, object,
                "\(path) cannot be opened", cause: error.reason, hint: "check its permissions")
        }
        if forWriting, let owner = ImageOwner.folder(of: path) {
            throw CommandFailure(
                .inUse, object, "\(path) is protected by another volume", cause: owner,
                hint: "use that volume, or remove it first")
        }
        guard (try? file.tryLock()) != false else {
            throw CommandFailure(
                .inUse, object, "\(path) is the image of a volume in use",
                hint: "copy the mounted disk.img instead, or unmount that volume")
        }
        // Who opens it next (the volume) takes the lock for itself.
        if forWriting {
            file.close()
            return try translating(object) { try storage.open(path, OpenOptions(.readOnly)) }
        }
        return file
    }

    /// A mounted or otherwise claimed disk refuses an exclusive opening.
    static func checkDeviceIsFree(_ path: String, _ object: String) throws(CommandFailure) {
        let descriptor = Foundation.open(path, O_RDONLY | O_EXCL | O_CLOEXEC)
        if descriptor >= 0 {
            close(descriptor)
        } else if errno == EBUSY {
            throw CommandFailure(
                .inUse, object, "\(path) is in use", cause: "mounted, or part of another device",
                hint: "unmount it first; lsblk \(path) shows where")
        }
    }
}

enum FileCopy {
    /// Makes `target`, an empty sparse file of `bytes`, the same as `source`: by sharing blocks
    /// where the file system can, else by copying what is not a hole and not zero.
    static func copy(
        _ source: StorageFile, to target: StorageFile, on storage: Storage, _ bytes: UInt64,
        _ progress: ProgressReporter, _ object: String
    ) throws(CommandFailure) {
        if storage.clone(source, to: target) { return }
        let buffer = AlignedBuffer(count: 1 << 20)
        var position: UInt64 = 0
        while position < bytes {
            let from = position
            let range = try translating(object) { try source.nextData(from: from) }
            guard let range, range.lowerBound < bytes else { break }
            position = range.lowerBound
            let end = min(range.upperBound, bytes)
            while position < end {
                let piece = UnsafeMutableRawBufferPointer(
                    rebasing: buffer.bytes[..<Int(min(UInt64(buffer.count), end - position))])
                let offset = position
                try translating(object) {
                    try source.readZeroExtended(into: piece, at: offset)
                    try writeData(UnsafeRawBufferPointer(piece), to: target, at: offset)
                }
                position += UInt64(piece.count)
                try progress.update(position)
            }
        }
        try translating(object) { try target.sync() }
    }

    /// Writes the 4 KiB blocks that are not zero, so that holes of a device stay holes, too.
    private static func writeData(
        _ bytes: UnsafeRawBufferPointer, to target: StorageFile, at offset: UInt64
    ) throws(IOError) {
        let block = 4096
        var start = 0
        while start < bytes.count {
            var end = start
            while end < bytes.count, !isZero(bytes, end, min(block, bytes.count - end)) {
                end = min(end + block, bytes.count)
            }
            if end > start {
                try target.write(
                    UnsafeRawBufferPointer(rebasing: bytes[start..<end]), at: offset + UInt64(start)
                )
            }
            start = end + block
        }
    }

    private static func isZero(_ bytes: UnsafeRawBufferPointer, _ start: Int, _ count: Int) -> Bool
    {
        let base = bytes.baseAddress! + start
        return base.load(as: UInt8.self) == 0 && memcmp(base, base + 1, count - 1) == 0
    }
}
