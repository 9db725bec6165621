// How a file gets its place in a set: under its own name, where this file system can, or behind the
// header of a segment.

import DiskIO

extension FolderDevice {
    /// Gives the item its own name; false where this file system cannot, or has that name already
    /// (names that differ only in case are one there).
    func becomesPlain(_ item: ItemToStore, _ work: Folder) throws(IOError) -> Bool {
        let target = Self.filePath(item.header.source, item.header.path)
        do throws(IOError) {
            let slash = target.lastIndex(of: 0x2F) ?? 0
            let parentPath = Array(target[..<slash])
            if lastParent?.path != parentPath {
                try Self.createFolders(parentPath, in: work)
                lastParent = (parentPath, try work.folder(parentPath))
            }
            guard let parent = lastParent?.folder else { return false }
            let name = Array(target[(slash + 1)...])
            if parent.exists(name) { return false }
            if let row = item.metadata { Self.decorate(work, row, item.attributes) }
            try work.rename(Self.itemName, to: name, in: parent)
            return true
        } catch {
            if case .item = DeviceFailure(error) { return false }
            throw error
        }
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
    private static func decorate(
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
