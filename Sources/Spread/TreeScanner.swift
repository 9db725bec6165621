// Walks a file tree: names and status of everything below a folder, without following symbolic
// links. One folder is open at a time; a folder that changes meanwhile shows one of its states for
// each name. Extended attributes and link targets are read later, by `TreeDetails`.

import DiskIO

#if canImport(Glibc)
    import Glibc
#endif

/// A file or folder that cannot be read.
public struct Unreadable: Sendable, Hashable {
    /// Path within the source.
    public var path: [UInt8]
    public var reason: String

    public init(path: [UInt8], reason: String) {
        self.path = path
        self.reason = reason
    }
}

public struct TreeScanner {
    /// Stay on the file system of the source's top.
    public var staysOnFileSystem = false
    /// Folders that are not entered: their device and inode.
    public var excluded: [FileStatus] = []
    /// Which names directly below the top count; nil: all.
    var topNames: Set<[UInt8]>?
    public var isCancelled: @Sendable () -> Bool = { false }
    private(set) public var table = TreeTable()
    private(set) public var unreadable: [Unreadable] = []
    private let scratch = AlignedBuffer(count: 128 << 10)
    /// First row of each file with several names, by device and inode.
    private var linked: [Identity: UInt32] = [:]

    private struct Identity: Hashable {
        var device: UInt64
        var inode: UInt64
    }

    public init() {}

    /// Scans the folder `root`; throws only where not even that can be read.
    public mutating func scan(_ root: Folder) throws(IOError) {
        let top = try root.status()
        table.add(TreeRow(top, parent: 0), name: [])
        var open = [0]
        while let row = open.popLast() {
            if isCancelled() { return }
            let path = table.path(row)
            do throws(IOError) {
                let folder = try root.folder(path)  // with a place in the listing of its own
                let children = try read(folder, row, device: top.device, isTop: row == 0)
                open += children.reversed()
            } catch {
                if row == 0 { throw error }
                unreadable.append(Unreadable(path: path, reason: error.reason))
                table.rows[row].isIncomplete = true
            }
        }
    }

    /// Adds the names of one folder in byte order; the rows to be entered.
    private mutating func read(
        _ folder: Folder, _ parent: Int, device: UInt64, isTop: Bool
    ) throws(IOError) -> [Int] {
        let first = table.count
        var several: [UInt32: Identity] = [:]
        var nodes: [UInt32: UInt64] = [:]
        var closed: Set<UInt32> = []
        do {
            try folder.names(buffer: scratch) { name in
                if isTop, let topNames, !topNames.contains(Array(name)) { return }
                guard let status = try folder.status(listed: name) else { return }
                let start = UInt32(table.names.count)
                table.add(TreeRow(status, parent: parent), name: name)
                if status.isFolder {
                    let isElsewhere = staysOnFileSystem && status.device != device
                    if isElsewhere || isExcluded(status) { closed.insert(start) }
                } else if status.links > 1 {
                    several[start] = Identity(device: status.device, inode: status.inode)
                }
                if status.isBlockDevice || status.isCharacterDevice { nodes[start] = status.node }
            }
        } catch let error as IOError {
            throw error
        } catch {
            throw IOError(.list, folder.path, EIO)
        }
        sort(from: first)
        var children: [Int] = []
        for row in first..<table.count {
            let entry = table.rows[row]
            if let node = nodes[entry.nameStart] { table.changeExtra(row) { $0.node = node } }
            if let identity = several[entry.nameStart] {
                if let leader = linked[identity] {
                    table.changeExtra(row) { $0.linkedTo = leader }
                } else {
                    linked[identity] = UInt32(row)
                }
            }
            if entry.isFolder, !closed.contains(entry.nameStart) { children.append(row) }
        }
        return children
    }

    private func isExcluded(_ status: FileStatus) -> Bool {
        excluded.contains { $0.device == status.device && $0.inode == status.inode }
    }

    private mutating func sort(from first: Int) {
        table.names.withUnsafeBufferPointer { names in
            table.rows[first...].sort { a, b in
                let count = Int(min(a.nameCount, b.nameCount))
                let base = names.baseAddress!
                let order = memcmp(base + Int(a.nameStart), base + Int(b.nameStart), count)
                return order == 0 ? a.nameCount < b.nameCount : order < 0
            }
        }
    }
}
