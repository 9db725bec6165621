// Small work on the files of a set on a folder: what they are called, whole small files, folders,
// what a plain file gets besides its content.

import DiskIO

extension FolderDevice {
    static func workName(_ set: String) -> [UInt8] { Array(".\(set).unfinished".utf8) }

    static func segmentPath(_ number: UInt64) -> [UInt8] {
        let digits = String(number)
        let zeros = String(repeating: "0", count: max(0, 8 - digits.count))
        return segmentsName + Array("/\(zeros)\(digits)".utf8)
    }

    static func filePath(_ source: [UInt8], _ path: [UInt8]) -> [UInt8] {
        filesName + [0x2F] + source + (path.isEmpty ? [] : [0x2F] + path)
    }

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

    /// For `cp`: what this file system can keep, where a new file does not have it. The manifest is
    /// what counts.
    static func decorate(
        _ file: DiskFile, _ row: TreeRow, _ attributes: [TreeExtra.Attribute]
    ) {
        let status = try? file.status()
        let isOwned = status?.owner == row.owner && status?.group == row.group
        if !isOwned { try? file.setOwner(row.owner, row.group) }
        for attribute in attributes { try? file.setAttribute(attribute.name, attribute.value) }
        // A new owner takes bits away, an access list changes them.
        if !isOwned || !attributes.isEmpty || status?.mode != row.mode {
            try? file.setPermissions(row.mode)
        }
        try? file.setTime(seconds: row.seconds, nanoseconds: row.nanoseconds)
    }
}
