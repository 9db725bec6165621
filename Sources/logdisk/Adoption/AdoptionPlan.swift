// Where an adopted volume goes: the folder that it is made in, the one that it gets, its log, and
// what it calls the remote that it came from.

import CommandText
import DiskIO
import Foundation
import LogFormat
import ProtectedVolume
import Shipping

/// A value; the work is Adoption's.
struct AdoptionPlan {
    /// The volume's folder, absolute.
    let path: String
    let logDirectory: String?
    /// The remote as the new volume knows it; who the volume is there is made up anew.
    private let config: RemoteConfig
    /// Whether it is used before all of it is here.
    let mountsFirst: Bool
    var writer: String { config.writer }

    private static let suffix = ".adopting"
    private var working: String { path + Self.suffix }

    /// Checks the places before anything is asked or made.
    init(
        _ volume: String, logDirectory: String?, _ remote: RemoteVolume, remoteName: String?,
        mountsFirst: Bool = false
    ) throws(CommandFailure) {
        path = PathText.canonical(volume)
        self.logDirectory = logDirectory.map { PathText.canonical($0) }
        self.mountsFirst = mountsFirst
        let url: String
        let usualName: String
        do throws(RemoteSetupError) {
            (url, usualName) = (try remote.place.canonicalURL(), try remote.place.usualName())
        } catch { throw CommandFailure(error, object: remote.url) }
        let name = remoteName ?? Self.name(of: usualName)
        guard RemoteFolder.isName(name) else {
            throw CommandFailure(
                .usage, remote.url, "'\(name)' cannot be the name of a remote",
                hint: "up to 40 letters, digits and - . _")
        }
        config = RemoteConfig(name: name, url: url, remote.files)
        let storage = DiskStorage()
        try NewVolume.checkPlace(path, volume)
        if storage.isDirectory(path) {
            guard try translating(volume, { [path] in try storage.list(path) }).isEmpty else {
                throw CommandFailure(VolumeError.folderNotEmpty(path), object: volume)
            }
        }
        if let holder = VolumeFolder.holder(working, on: storage) {
            throw CommandFailure(
                .inUse, volume, "it is being adopted already", cause: "process \(holder.processID)",
                hint: "wait for the end of that")
        }
    }

    /// Makes the folder that the volume grows in; what a killed adoption left of it goes.
    func makeFolder(
        _ creation: VolumeCreation, object: String
    ) throws(CommandFailure) -> VolumeFolder {
        let storage = DiskStorage()
        if storage.exists(working) {
            removeFolder()
            // It may have died before it had a superblock that names them; only empty ones go.
            for name in ["wal", "segments"] { rmdir("\(logDirectory ?? working)/\(name)") }
        }
        return try translating(object) {
            try VolumeFolder.create(working, creation, on: storage)
        }
    }

    /// Takes away all that was made, also in the folder of the log.
    func removeFolder() {
        let (storage, files) = (DiskStorage(), FileManager.default)
        if let superblock = try? VolumeFolder.peek(working, on: storage) {
            let logs = VolumeFolder.logDirectory(working, superblock)
            for name in ["wal", "segments"] { try? files.removeItem(atPath: "\(logs)/\(name)") }
        }
        try? files.removeItem(atPath: working)
    }

    /// Gives the volume its name: it is whole. Closes the folder.
    func nameFolder(_ folder: VolumeFolder, object: String) throws(CommandFailure) {
        try translating(object) {
            try folder.storage.rename(working, to: path)
            try folder.storage.syncDirectory(PathText.parent(of: path))
        }
        folder.close()
    }

    /// Puts the remote into the volume's settings, so that a mount ships there. `keep` is the
    /// ladder that the server has.
    func writeRemote(in folder: String, keep: String?) throws(CommandFailure) {
        var config = config
        config.keep = keep
        try RemoteFolder(folder, object: config.url).write(config)
    }

    /// A name like the host's.
    private static func name(of host: String) -> String {
        let letters = host.map { $0 == ":" ? "-" : $0 }.drop { !$0.isLetter && !$0.isNumber }
        let name = String(letters.prefix(40))
        return RemoteFolder.isName(name) ? name : "server"
    }
}
