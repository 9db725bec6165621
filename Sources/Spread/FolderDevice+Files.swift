// Small work on the files of a set on a folder: whole small files, folders, what a plain file gets
// besides its content, a header put in front of bytes that are there.

import DiskIO

extension FolderDevice {
    /// A small file, whole and durable.
    static func write(_ bytes: [UInt8], to name: [UInt8], in folder: Folder) throws(IOError) {
        let file = try folder.file(
            name, OpenOptions(.readWrite, creation: .ifMissing), permissions: 0o644)
        defer { file.close() }
        try file.truncate(to: 0)
        try Self.write(bytes, to: file, at: 0)
        try file.sync()
    }

    static func write(_ bytes: [UInt8], to file: StorageFile, at offset: UInt64) throws(IOError) {
        var failure: IOError?
        bytes.withUnsafeBytes { raw in
            do throws(IOError) { try file.write(raw, at: offset) } catch { failure = error }
        }
        if let failure { throw failure }
    }

    static func contents(_ folder: Folder, _ name: [UInt8]) throws(IOError) -> [UInt8] {
        let file = try folder.file(name, OpenOptions(.readOnly))
        defer { file.close() }
        let size = try file.size()
        guard size < 1 << 40 else { throw IOError(.read, file.path, 27) }
        var bytes = [UInt8](repeating: 0, count: Int(size))
        var failure: IOError?
        bytes.withUnsafeMutableBytes { target in
            do throws(IOError) {
                try file.readZeroExtended(into: target, at: 0)
            } catch { failure = error }
        }
        if let failure { throw failure }
        return bytes
    }

    /// Also of paths longer than a system call takes.
    static func createFolders(_ path: [UInt8], in folder: Folder) throws(IOError) {
        if path.count > 3000, let cut = path[..<3000].lastIndex(of: 0x2F) {
            let first = Array(path[..<cut])
            try createFolders(first, in: folder)
            try createFolders(Array(path[(cut + 1)...]), in: try folder.folder(first))
        } else {
            try folder.createFolders(path, permissions: 0o755)
        }
    }

    /// For `cp`: what this file system can keep. The manifest is what counts.
    static func decorate(
        _ work: Folder, _ row: TreeRow, _ attributes: [TreeExtra.Attribute]
    ) {
        try? work.setOwner(itemName, row.owner, row.group)
        for attribute in attributes {
            try? work.setAttribute(itemName, attribute.name, attribute.value)
        }
        try? work.setPermissions(itemName, row.mode)
        try? work.setTime(itemName, seconds: row.seconds, nanoseconds: row.nanoseconds)
    }

    /// Moves the bytes of a file back by the size of the header, from the end on.
    static func insertHeader(
        _ header: SegmentHeader, before file: DiskFile
    ) throws(IOError) {
        let shift = UInt64(header.encodedBytes)
        let buffer = AlignedBuffer(count: 1 << 20)
        var end = try file.size()
        while end > 0 {
            let count = min(end, UInt64(buffer.count))
            let piece = UnsafeMutableRawBufferPointer(rebasing: buffer.bytes[..<Int(count)])
            try file.readZeroExtended(into: piece, at: end - count)
            try file.write(UnsafeRawBufferPointer(piece), at: end - count + shift)
            end -= count
        }
    }
}
