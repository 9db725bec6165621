// Where sockets and logs of past mounts lie that have no volume folder of this machine: a folder of
// the user's alone, in $XDG_RUNTIME_DIR, or in /tmp where there is none.

import CommandText
import Foundation

enum RuntimeFolder {
    /// All places, the first one for what is new: who unmounts may have another environment.
    private static var candidates: [String] {
        let session = ProcessInfo.processInfo.environment["XDG_RUNTIME_DIR"] ?? ""
        let places = ["/run/user/\(getuid())/logdisk", "/tmp/logdisk-\(getuid())"]
        return (session.hasPrefix("/") ? ["\(session)/logdisk"] : []) + places
    }

    /// The folder, made where it is missing.
    static func make(_ object: String) throws(CommandFailure) -> String {
        for path in candidates {
            if mkdir(path, 0o700) != 0, errno != EEXIST { continue }
            if isOwn(path) { return path }
        }
        throw CommandFailure(
            .failed, object, "there is no place for a control socket",
            cause: "none of \(candidates.joined(separator: ", ")) can be used",
            hint: "set XDG_RUNTIME_DIR to a folder of your own")
    }

    /// The folder that has a file of that name; nil where none does.
    static func holding(_ name: String) -> String? {
        candidates.first { isOwn($0) && access("\($0)/\(name)", F_OK) == 0 }
    }

    /// A folder, no link, that nobody else can write to: others could take the socket's place.
    private static func isOwn(_ path: String) -> Bool {
        var info = stat()
        return lstat(path, &info) == 0 && info.st_mode & S_IFMT == S_IFDIR
            && info.st_uid == getuid() && info.st_mode & 0o022 == 0
    }
}
