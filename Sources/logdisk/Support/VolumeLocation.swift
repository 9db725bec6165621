// Which volume the user means: its folder, or where it is mounted; for reading also a folder of a
// log server's store, or the URL of a volume at a remote (Reading/HistorySource.swift).

import BlockModel
import CommandText
import DiskIO
import Foundation
import FuseMount
import LogFormat
import ProtectedVolume

struct VolumeLocation: Sendable {
    /// What the user typed, for messages.
    let object: String
    /// The volume's folder: absolute, without symbolic links where it exists. Or a URL.
    let path: String
    let source: HistorySource
    /// Where it is mounted, if that is what the user named.
    let mountPoint: String?
    /// Which state is shown there, where the user named a past mount.
    let past: LSN?

    /// `files` open a URL or an encrypted store; they mean nothing to a volume.
    init(_ argument: String, _ files: RemoteAccessFiles = RemoteAccessFiles()) {
        object = argument
        if RemotePlace.isMeant(by: argument) {
            (path, past, mountPoint) = (argument, nil, nil)
        } else if let source = FuseMount.source(of: argument) {
            let place = PastPlace(source: source)
            path = place?.volume ?? source
            past = place?.lsn
            mountPoint = PathText.canonical(argument)
        } else {
            past = nil
            path = PathText.canonical(argument)
            mountPoint = nil
        }
        source = HistorySource(path, files)
    }

    /// What a command that only reads was given.
    static func toRead(
        _ argument: String, _ remote: RemoteOptions
    ) throws(CommandFailure) -> VolumeLocation {
        let location = VolumeLocation(argument, remote.access)
        try remote.check(location.source, argument)
        return location
    }

    /// Who has the volume open; nil when it is free. Throws when there is no volume.
    func holder() throws(CommandFailure) -> VolumeHolder? {
        _ = try superblock()
        return VolumeFolder.holder(path, on: DiskStorage())
    }

    /// Whether the folder looks like a volume, damaged or not.
    var isVolume: Bool { DiskStorage().exists(path + "/superblock") }

    /// Throws for what is no volume of this machine, too: a store or a URL can only be read.
    func superblock() throws(CommandFailure) -> Superblock {
        try mustBeVolume()
        return try translating(object) { try VolumeFolder.peek(path, on: DiskStorage()) }
    }

    /// Throws where the user named something that can only be read.
    func mustBeVolume() throws(CommandFailure) {
        let what: String
        switch source {
        case .volume: return
        case .storeFolder: what = "this is a folder of a log server's store, which is only read"
        case .remote(let volume):
            what = "this is a volume \(volume.place.kind.place), which is only read"
        }
        throw CommandFailure(
            .usage, object, what,
            hint: "points, replay, mount --at, diff, history, verify, export, bisect and drill "
                + "read it; logdisk adopt brings it to this machine")
    }

    /// The segments of a store's folder or a URL; nil for a volume.
    func archived() throws(CommandFailure) -> ArchivedVolume? {
        switch source {
        case .volume: nil
        case .storeFolder(let key): try StoreFolder.open(path, key: key, object: object)
        case .remote(let volume): try volume.open(object: object)
        }
    }

    /// What keeps this history from being pruned.
    func leaseTaker() throws(CommandFailure) -> any LeaseTaker {
        if let archived = try archived() { archived.leases } else { try leases() }
    }

    /// A client of the running mount; nil when the volume is not mounted.
    func client() throws(CommandFailure) -> ControlClient? { try client(superblock()) }

    /// A client of the past mount that the user named; nil when it is none.
    func pastClient() throws(CommandFailure) -> ControlClient? {
        guard past != nil, let mountPoint else { return nil }
        let name = PastPlace.socketName(mountPoint)
        return try ControlClient(
            volume: source.isVolume ? path : RuntimeFolder.holding(name) ?? path,
            socketName: name, object: object)
    }

    /// Throws where the user named a past mount, which the caller cannot change.
    func mustBeLive() throws(CommandFailure) {
        try mustBeVolume()
        if past != nil { throw .isPast(object) }
    }

    /// A client of the running mount of a volume whose superblock is known to be good.
    func client(_: Superblock) throws(CommandFailure) -> ControlClient? {
        guard let holder = VolumeFolder.holder(path, on: DiskStorage()) else { return nil }
        guard holder.isMount else {
            throw CommandFailure(VolumeError.inUse(path, holder: holder), object: object)
        }
        return try ControlClient(volume: path, object: object)
    }
}

extension VolumeHolder {
    /// How a mount names its purpose in the lock file; commands name themselves otherwise.
    static let mountPrefix = "mounted on "

    var isMount: Bool { purpose.hasPrefix(Self.mountPrefix) }
    var mountPoint: String? {
        isMount ? String(purpose.dropFirst(Self.mountPrefix.count)) : nil
    }
}

/// Paths as the user types them, made absolute.
enum PathText {
    /// Absolute, without symbolic links as far as the path exists.
    static func canonical(_ path: String) -> String {
        if let whole = resolved(path) { return whole }
        let absolute =
            path.hasPrefix("/") ? path : FileManager.default.currentDirectoryPath + "/" + path
        var trimmed = absolute[...]
        while trimmed.count > 1, trimmed.hasSuffix("/") { trimmed = trimmed.dropLast() }
        guard let slash = trimmed.lastIndex(of: "/"), slash != trimmed.startIndex else {
            return String(trimmed)
        }
        let name = trimmed[trimmed.index(after: slash)...]
        let parent = canonical(String(trimmed[..<slash]))
        return parent == "/" ? "/\(name)" : "\(parent)/\(name)"
    }

    /// The folder that a canonical path lies in.
    static func parent(of path: String) -> String {
        guard let slash = path.lastIndex(of: "/"), slash != path.startIndex else { return "/" }
        return String(path[..<slash])
    }

    /// Whether `path` is `folder` or lies below it; both canonical.
    static func lies(_ path: String, in folder: String) -> Bool {
        path == folder || path.hasPrefix(folder == "/" ? "/" : folder + "/")
    }

    private static func resolved(_ path: String) -> String? {
        guard let pointer = realpath(path, nil) else { return nil }
        defer { free(pointer) }
        return String(cString: pointer)
    }
}
