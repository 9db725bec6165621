// What is backed up: a file tree, a single file, a block device, a stream that somebody else makes
// (a volume's past state), a file named by its content. A source is opened once; then it knows its
// rows (TreeTable) and opens the content of each for reading. Opened files are `StorageFile`s,
// whatever stands behind.

import Crypto
import DiskIO
import Foundation

/// What a source is; the raw values stand in manifests.
public enum SourceKind: UInt8, Sendable, CaseIterable {
    case tree = 1
    case file = 2
    /// A block device, restored as a file of its size.
    case device = 3
    /// Bytes that a program makes, such as a volume as it was.
    case stream = 4
    /// A file whose name is the SHA-256 of its content.
    case content = 5
}

/// Why a source cannot be used; texts are half a sentence.
public struct SourceFailure: Error, Hashable, Sendable {
    public var origin: String
    public var reason: String
    public var isMissing = false

    public init(_ origin: String, _ reason: String, isMissing: Bool = false) {
        self.origin = origin
        self.reason = reason
        self.isMissing = isMissing
    }
}

/// An opened source. Any thread may call.
public final class SpreadSource: Sendable {
    /// As on the command line.
    public let origin: String
    public let kind: SourceKind
    /// What it is called in a set before names are made unique: the last part of its path.
    public let baseName: [UInt8]
    /// Of a source of kind content.
    public let expectedDigest: [UInt8]?
    private let place: Place
    /// Kept alive as long as the source: a lease, a view.
    private let holding: (any Sendable)?

    private enum Place: Sendable {
        case folder(Folder)
        case file(Folder, name: [UInt8])
        case opened(@Sendable () throws(IOError) -> StorageFile)
    }

    /// Which names directly below the top of a tree belong to it; nil: all.
    private let topNames: Set<[UInt8]>?
    /// A file of a tree that lies nowhere.
    private let made: MadeFile?

    /// A file directly below the top of a tree, of bytes that were made.
    public struct MadeFile: Sendable {
        var name: [UInt8]
        var bytes: [UInt8]
        var seconds: Int64

        /// `seconds`: its time.
        public init(name: [UInt8], bytes: [UInt8], seconds: Int64) {
            (self.name, self.bytes, self.seconds) = (name, bytes, seconds)
        }
    }

    /// A folder as a tree of files; with `topNames` only what these name, and `made` besides.
    public init(
        tree path: String, origin: String, baseName: String? = nil,
        topNames: Set<[UInt8]>? = nil, made: MadeFile? = nil, holding: (any Sendable)? = nil
    ) throws(IOError) {
        self.origin = origin
        kind = .tree
        self.baseName = baseName.map { Array($0.utf8) } ?? Self.lastName(path)
        expectedDigest = nil
        place = .folder(try Folder(path))
        self.topNames = topNames
        self.made = made
        self.holding = holding
    }

    /// Bytes that somebody else makes. `open` is called for each read by each thread that needs
    /// it; what it gives must have the same content every time.
    public init(
        stream name: String, origin: String, holding: (any Sendable)? = nil,
        open: @escaping @Sendable () throws(IOError) -> StorageFile
    ) {
        self.origin = origin
        kind = .stream
        baseName = Array(name.utf8)
        expectedDigest = nil
        place = .opened(open)
        topNames = nil
        made = nil
        self.holding = holding
    }

    /// What lies at `path`: a folder, a file or a block device.
    public convenience init(path: String, origin: String) throws(SourceFailure) {
        var info = stat()
        guard stat(path, &info) == 0 else {
            throw SourceFailure(
                origin, String(cString: strerror(errno)), isMissing: errno == ENOENT)
        }
        let kind = info.st_mode & S_IFMT
        guard [S_IFDIR, S_IFREG, S_IFBLK].contains(kind) else {
            throw SourceFailure(origin, "neither a folder, a file nor a block device")
        }
        do throws(IOError) {
            if kind == S_IFDIR {
                try self.init(tree: path, origin: origin)
            } else {
                try self.init(
                    file: path, origin: origin, kind: kind == S_IFREG ? .file : .device,
                    digest: nil)
            }
        } catch {
            throw SourceFailure(origin, error.reason)
        }
    }

    private init(
        file path: String, origin: String, kind: SourceKind, digest: [UInt8]?
    ) throws(IOError) {
        self.origin = origin
        self.kind = kind
        expectedDigest = digest
        let resolved = realpath(path, nil)
        guard let resolved else { throw IOError(.open, path, errno) }
        defer { free(resolved) }
        let whole = String(cString: resolved)
        let slash = whole.lastIndex(of: "/") ?? whole.startIndex
        let name = Array(whole[whole.index(after: slash)...].utf8)
        baseName = kind == .content ? Array((digest ?? []).hexText.utf8) : Self.lastName(path)
        place = .file(
            try Folder(slash == whole.startIndex ? "/" : String(whole[..<slash])), name: name)
        topNames = nil
        made = nil
        holding = nil
    }

    /// `id:SHA256@FOLDER`: the file of `FOLDER` whose content has this digest. It is called
    /// SHA256, or SHA256 without its first two digits in a folder named by these.
    public convenience init(contentID text: String, origin: String) throws(SourceFailure) {
        guard let at = text.firstIndex(of: "@") else {
            throw SourceFailure(origin, "no folder: id:SHA256@FOLDER")
        }
        let id = text[..<at].lowercased()
        let folder = String(text[text.index(after: at)...])
        guard let digest = [UInt8](hexText: id), digest.count == 32 else {
            throw SourceFailure(origin, "'\(text[..<at])' is no SHA-256 (64 hexadecimal digits)")
        }
        let places = ["\(folder)/\(id)", "\(folder)/\(id.prefix(2))/\(id.dropFirst(2))"]
        let found = places.first { DiskStorage().exists($0) }
        guard let found else {
            throw SourceFailure(origin, "\(folder) holds no content of this name", isMissing: true)
        }
        do throws(IOError) {
            try self.init(file: found, origin: origin, kind: .content, digest: digest)
        } catch {
            throw SourceFailure(origin, error.reason)
        }
    }

    private static func lastName(_ path: String) -> [UInt8] {
        let name = path.split(separator: "/").last.map { Array($0.utf8) } ?? Array("root".utf8)
        if name == [UInt8(ascii: ".")] || name == Array("..".utf8) {
            guard let whole = realpath(path, nil) else { return Array("root".utf8) }
            defer { free(whole) }
            return lastName(String(cString: whole))
        }
        return name
    }

    // MARK: - rows

    /// Reads names and status of everything in it.
    public func scan(
        _ scanner: TreeScanner = TreeScanner()
    ) throws(IOError) -> (table: TreeTable, unreadable: [Unreadable]) {
        switch place {
        case .folder(let folder):
            var scanner = scanner
            scanner.topNames = topNames
            try scanner.scan(folder)
            var table = scanner.table
            if let made {
                var status = FileStatus(size: UInt64(made.bytes.count))
                status.seconds = made.seconds
                table.add(TreeRow(status, parent: 0), name: made.name)
            }
            return (table, scanner.unreadable)
        case .file(let folder, let name):
            var status = try folder.status(name)
            if status.isBlockDevice {
                status.size = try folder.file(name, OpenOptions(.readOnly)).size()
                // Restored as a file; the node's number means nothing on another machine.
                status.mode = 0o100600
            }
            return (Self.table(of: status), [])
        case .opened(let open):
            var status = FileStatus(size: try open().size())
            status.seconds = Int64(Date().timeIntervalSince1970)
            return (Self.table(of: status), [])
        }
    }

    private static func table(of status: FileStatus) -> TreeTable {
        var table = TreeTable()
        table.add(TreeRow(status, parent: 0), name: [])
        return table
    }

    /// Opens the content of a row.
    func open(_ path: [UInt8]) throws(IOError) -> StorageFile {
        switch place {
        case .folder(let folder):
            if let made, made.name == path { return BytesFile(made.bytes) }
            return try folder.file(path, OpenOptions(.readOnly))
        case .file(let folder, let name): return try folder.file(name, OpenOptions(.readOnly))
        case .opened(let open): return try open()
        }
    }

    /// What the system says now of an opened row; nil where nothing can be known.
    static func status(_ file: StorageFile) throws(IOError) -> FileStatus? {
        guard let file = file as? DiskFile, !file.isBlockDevice else { return nil }
        return try file.status()
    }

    /// Extended attributes of an opened row; nil where nothing can be known.
    func attributes(_ file: StorageFile) throws(IOError) -> [TreeExtra.Attribute]? {
        guard kind != .stream, kind != .device, let file = file as? DiskFile else { return nil }
        return try file.attributes().map { .init(name: $0.name, value: $0.value) }
    }

    /// Reads what the scan left out of the rows wanted: where links point to, and extended
    /// attributes. Those of files come with their content.
    func readDetails(
        into table: inout TreeTable, isCancelled: () -> Bool = { false },
        where isWanted: (Int, TreeRow) -> Bool = { !$1.isFile }
    ) -> [Unreadable] {
        guard kind != .stream, kind != .device else { return [] }
        var unreadable: [Unreadable] = []
        var parent = -1
        var folder: Folder?
        for row in 0..<table.count {
            if row & 1023 == 0, isCancelled() { break }
            let entry = table.rows[row]
            guard isWanted(row, entry) else { continue }
            do throws(IOError) {
                let name: [UInt8]
                switch place {
                case .file(let top, let own): (folder, name) = (top, own)
                case .folder(let top):
                    if Int(entry.parent) != parent || folder == nil {
                        parent = Int(entry.parent)
                        let path = table.path(parent)
                        folder = path.isEmpty ? top : try top.folder(path)
                    }
                    name = Array(table.name(row))
                case .opened: return unreadable
                }
                guard let folder else { continue }
                if entry.isSymbolicLink {
                    let target = try folder.symbolicLink(name)
                    table.changeExtra(row) { $0.target = target }
                }
                guard table.extra(row).linkedTo == nil else { continue }
                let found = try folder.attributes(name)
                if !found.isEmpty {
                    table.changeExtra(row) {
                        $0.attributes = found.map { .init(name: $0.name, value: $0.value) }
                    }
                }
            } catch {
                if error.isMissing { continue }  // the content's reader tells what is gone
                unreadable.append(Unreadable(path: table.path(row), reason: error.reason))
            }
        }
        return unreadable
    }
}

/// Bytes as a file that is read.
private final class BytesFile: StorageFile, @unchecked Sendable {
    // @unchecked: the bytes do not change.
    private let bytes: [UInt8]

    init(_ bytes: [UInt8]) {
        self.bytes = bytes
        super.init(path: "made")
    }

    override func read(
        into target: UnsafeMutableRawBufferPointer, at offset: UInt64
    ) throws(IOError) -> Int {
        guard offset < bytes.count else { return 0 }
        let rest = bytes[Int(offset)...].prefix(target.count)
        target.copyBytes(from: rest)
        return rest.count
    }

    override func size() throws(IOError) -> UInt64 { UInt64(bytes.count) }
}
