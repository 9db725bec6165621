// A log server's folder: where volumes, their segments and what is under way lie.
//
//   STORE/.logdisk/store            text: "logdisk store 1" and an id; locked by the server
//   STORE/.logdisk/access/NAME      who may do what (Access.swift)
//   STORE/VOLUME/volume.json        whose segments these are, and who writes
//   STORE/VOLUME/segments/          as in a volume's own folder: every read command works on it
//   STORE/VOLUME/uploads/           bytes that are no segment yet (Upload.swift)
//   STORE/VOLUME/leases/            what is being read (History/Leases.swift)
//   STORE/.backups/DEVICE/SET/      sets of backups (ServedBackups.swift)

import BlockModel
import DiskIO
import ServerAPI

/// Paths below a store's folder.
public struct ServerPaths: Sendable {
    public let store: String

    public init(store: String) { self.store = store }

    var settings: String { "\(store)/.logdisk" }
    var marker: String { "\(settings)/store" }
    public var access: String { "\(settings)/access" }
    /// `name` is a volume's name by `ServerAPI.isVolumeName`.
    public func volume(_ name: String) -> String { "\(store)/\(name)" }
    var backups: String { "\(store)/.backups" }
    /// `device` is a name as that of a volume.
    public func backup(_ device: String) -> String { "\(backups)/\(device)" }
}

/// Why a store cannot be used.
public enum ServerStoreError: Error, Sendable {
    /// The folder is none, and not empty either.
    case notAStore(String)
    /// Made by a newer logdisk.
    case futureVersion(String)
    /// A server serves it already.
    case inUse(String)
    case io(IOError)
}

/// A store's folder. A value; any thread may call; calls block.
public struct ServerStore: Sendable {
    public let paths: ServerPaths
    let storage: Storage
    private static let magic = "logdisk store "
    private static let version = "1"

    /// A store that is there. Throws `.notAStore` for anything else.
    public init(opening path: String, in storage: Storage) throws(ServerStoreError) {
        paths = ServerPaths(store: path)
        self.storage = storage
        guard storage.exists(paths.marker) else { throw .notAStore(path) }
        let bytes: [UInt8]
        do throws(IOError) {
            bytes = try storage.contents(of: paths.marker, limit: 4096)
        } catch { throw .io(error) }
        let words = String(decoding: bytes, as: UTF8.self).prefix { $0 != "\n" }
        guard words.hasPrefix(Self.magic) else { throw .notAStore(path) }
        let version = words.dropFirst(Self.magic.count).prefix { $0 != " " }
        guard version == Self.version else { throw .futureVersion(path) }
    }

    /// The store in `path`, made when the folder is empty or missing.
    public init(openingOrMaking path: String, in storage: Storage) throws(ServerStoreError) {
        do throws(IOError) {
            try Self.makeIfEmpty(ServerPaths(store: path), storage)
        } catch { throw .io(error) }
        try self.init(opening: path, in: storage)
    }

    private static func makeIfEmpty(_ paths: ServerPaths, _ storage: Storage) throws(IOError) {
        guard !storage.exists(paths.marker) else { return }
        if !storage.isDirectory(paths.store) {
            try storage.createDirectory(paths.store)
            try storage.syncDirectory(parent(of: paths.store))
        }
        // What a creation that was cut short has left is no reason to stop.
        guard try storage.list(paths.store).allSatisfy({ $0 == ".logdisk" }) else { return }
        for folder in [paths.settings, paths.access] where !storage.isDirectory(folder) {
            try storage.createDirectory(folder)
        }
        try storage.syncDirectory(paths.store)
        try storage.syncDirectory(paths.settings)
        try storage.replace(
            "store", in: paths.settings, with: "\(magic)\(version) \(VolumeID.random())\n")
    }

    private static func parent(of path: String) -> String {
        guard let slash = path.lastIndex(of: "/") else { return "." }
        return slash == path.startIndex ? "/" : String(path[..<slash])
    }

    /// Locked until the file that is given back is closed.
    func lock() throws(ServerStoreError) -> StorageFile {
        do throws(IOError) {
            let file = try storage.open(paths.marker, OpenOptions(.readWrite))
            if try file.tryLock() { return file }
            file.close()
        } catch { throw .io(error) }
        throw .inUse(paths.store)
    }
}

extension Storage {
    /// As `replace` with bytes.
    func replace(_ name: String, in directory: String, with text: String) throws(IOError) {
        try replace(name, in: directory, bytes: Array(text.utf8))
    }

    func replace(_ name: String, in directory: String, bytes: [UInt8]) throws(IOError) {
        var failure: IOError?
        bytes.withUnsafeBytes { bytes in
            do throws(IOError) {
                try replace(name, in: directory, with: bytes)
            } catch { failure = error }
        }
        if let failure { throw failure }
    }
}
