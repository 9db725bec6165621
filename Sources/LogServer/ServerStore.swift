// A log server's folder: where volumes, their segments and what is under way lie.
//
//   STORE/.logdisk/store            text: "logdisk store 1" and an id
//   STORE/.logdisk/access/NAME      who may do what (Access.swift)
//   STORE/VOLUME/volume.json        whose segments these are, and who writes
//   STORE/VOLUME/segments/          as in a volume's own folder: every read command works on it
//   STORE/VOLUME/uploads/           bytes that are no segment yet
//   STORE/VOLUME/leases/            what is being read (History/Leases.swift)

import ServerAPI

/// Paths below a store's folder.
public struct ServerPaths: Sendable {
    public let store: String

    public init(store: String) { self.store = store }

    /// `name` is a volume's name by `ServerAPI.isVolumeName`.
    public func volume(_ name: String) -> String { "\(store)/\(name)" }
}
