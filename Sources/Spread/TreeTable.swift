// Everything of a source that is not file content: the tree of its files with their metadata, as
// rows of numbers and one buffer of name bytes. A row costs 64 bytes and its name; what only few
// files have (link targets, attributes, holes) lies beside the rows.
//
// Row 0 is the source itself and has no name. Rows of a folder come after the folder. A value.

import DiskIO

/// A file, folder, link or node of a source.
public struct TreeRow: Sendable, Hashable {
    /// Row of the folder that it lies in; of row 0 itself.
    public internal(set) var parent: UInt32
    var nameStart: UInt32
    var nameCount: UInt8
    public var isIncomplete = false
    /// Kind and permissions, as in `st_mode`.
    public var mode: UInt32
    public var owner: UInt32
    public var group: UInt32
    public var nanoseconds: UInt32
    public var seconds: Int64
    public var size: UInt64
    /// Status change time, nanoseconds since 1970; not kept in manifests.
    public var changed: Int64

    static let kindMask: UInt32 = 0o170000
    public var kind: UInt32 { mode & Self.kindMask }
    public var isFile: Bool { kind == 0o100000 }
    public var isFolder: Bool { kind == 0o040000 }
    public var isSymbolicLink: Bool { kind == 0o120000 }
}

/// What few rows have.
public struct TreeExtra: Sendable, Hashable {
    /// Where a symbolic link points to.
    public var target: [UInt8]?
    /// The row that has the same content and comes first: this one is a further hard link to it.
    public var linkedTo: UInt32?
    /// Of a device node, what it stands for.
    public var node: UInt64?
    public var attributes: [Attribute] = []
    /// Of a sparse file, the ranges that hold data, in order; nil: all of it.
    public var dataRanges: [Range<UInt64>]?

    public struct Attribute: Sendable, Hashable {
        public var name: [UInt8]
        public var value: [UInt8]

        public init(name: [UInt8], value: [UInt8]) {
            self.name = name
            self.value = value
        }
    }

    public init() {}
    var isEmpty: Bool { self == TreeExtra() }
}

/// The rows of one source.
public struct TreeTable: Sendable, Hashable {
    public internal(set) var rows: [TreeRow] = []
    var names: [UInt8] = []
    public private(set) var extras: [UInt32: TreeExtra] = [:]

    public init() {}

    public var count: Int { rows.count }

    mutating func add(_ row: TreeRow, name: some Collection<UInt8>) {
        var row = row
        row.nameStart = UInt32(names.count)
        row.nameCount = UInt8(name.count)
        names.append(contentsOf: name)
        rows.append(row)
    }

    public func name(_ row: Int) -> ArraySlice<UInt8> {
        let start = Int(rows[row].nameStart)
        return names[start..<start + Int(rows[row].nameCount)]
    }

    /// Path within the source; empty for the source itself.
    public func path(_ row: Int) -> [UInt8] {
        var chain: [Int] = []
        var at = row
        while at != 0 {
            chain.append(at)
            at = Int(rows[at].parent)
        }
        var path: [UInt8] = []
        for step in chain.reversed() {
            if !path.isEmpty { path.append(UInt8(ascii: "/")) }
            path += name(step)
        }
        return path
    }

    public func extra(_ row: Int) -> TreeExtra { extras[UInt32(row)] ?? TreeExtra() }

    public mutating func setExtra(_ row: Int, _ extra: TreeExtra) {
        extras[UInt32(row)] = extra.isEmpty ? nil : extra
    }

    mutating func changeExtra(_ row: Int, _ body: (inout TreeExtra) -> Void) {
        var extra = extra(row)
        body(&extra)
        setExtra(row, extra)
    }

    /// Takes what the system says now of the row's file. Where that is what is there, other copies
    /// of the table stay the same memory.
    mutating func update(_ row: Int, _ status: FileStatus) {
        var new = rows[row]
        new.mode = status.mode
        new.owner = status.owner
        new.group = status.group
        new.seconds = status.seconds
        new.nanoseconds = status.nanoseconds
        new.changed = status.changed
        if new.isFile { new.size = status.size }
        if new != rows[row] { rows[row] = new }
    }
}

extension TreeRow {
    init(_ status: FileStatus, parent: Int) {
        self.init(
            parent: UInt32(parent), nameStart: 0, nameCount: 0, mode: status.mode,
            owner: status.owner, group: status.group, nanoseconds: status.nanoseconds,
            seconds: status.seconds, size: status.isFile ? status.size : 0,
            changed: status.changed)
    }
}

/// When a file had which content, as far as the system tells: two equal stamps, the same content.
public struct FileStamp: Sendable, Hashable {
    public var size: UInt64
    public var seconds: Int64
    public var nanoseconds: UInt32
    public var changed: Int64

    init(_ row: TreeRow) {
        (size, seconds, nanoseconds) = (row.size, row.seconds, row.nanoseconds)
        changed = row.changed
    }

    init(_ status: FileStatus) {
        (size, seconds, nanoseconds) = (status.size, status.seconds, status.nanoseconds)
        changed = status.changed
    }

    public init(size: UInt64, seconds: Int64, nanoseconds: UInt32, changed: Int64) {
        (self.size, self.seconds, self.nanoseconds) = (size, seconds, nanoseconds)
        self.changed = changed
    }
}
