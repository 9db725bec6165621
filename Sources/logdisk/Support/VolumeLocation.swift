// Which volume the user means: its folder, or where it is mounted.

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
    /// The volume's folder: absolute, without symbolic links where it exists.
    let path: String
    /// Where it is mounted, if that is what the user named.
    let mountPoint: String?
    /// Which state is shown there, where the user named a past mount.
    let past: LSN?

    init(_ argument: String) {
        object = argument
        if let source = FuseMount.source(of: argument) {
            let place = PastPlace(source: source)
            path = place?.volume ?? source
            past = place?.lsn
            mountPoint = PathText.canonical(argument)
        } else {
            past = nil
            path = PathText.canonical(argument)
            mountPoint = nil
        }
    }

    /// Who has the volume open; nil when it is free. Throws when there is no volume.
    func holder() throws(CommandFailure) -> VolumeHolder? {
        _ = try superblock()
        return VolumeFolder.holder(path, on: DiskStorage())
    }

    /// Whether the folder looks like a volume, damaged or not.
    var isVolume: Bool { DiskStorage().exists(path + "/superblock") }

    func superblock() throws(CommandFailure) -> Superblock {
        try translating(object) { try VolumeFolder.peek(path, on: DiskStorage()) }
    }

    /// A client of the running mount; nil when the volume is not mounted.
    func client() throws(CommandFailure) -> ControlClient? { try client(superblock()) }

    /// A client of the past mount that the user named; nil when it is none.
    func pastClient() throws(CommandFailure) -> ControlClient? {
        guard past != nil, let mountPoint else { return nil }
        return try ControlClient(
            volume: path, socketName: PastPlace.socketName(mountPoint), object: object)
    }

    /// Throws where the user named a past mount, which the caller cannot change.
    func mustBeLive() throws(CommandFailure) {
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
