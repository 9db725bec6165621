// Where control sockets lie, and how to name it to the kernel, which takes 107 bytes at most.

import CommandText
import Foundation

/// The path of a control socket in a volume's folder, valid while this object lives.
final class ControlSocket: Sendable {
    /// What to bind or connect to.
    let path: String
    /// The open folder behind `path` where the plain path is too long; else -1.
    private let folder: Int32

    /// Of the volume's mount.
    static let fileName = "control.sock"
    private static let pathBytesMax = 107

    init(volume: String, name: String = ControlSocket.fileName) throws(CommandFailure) {
        let plain = "\(volume)/\(name)"
        if plain.utf8.count <= Self.pathBytesMax {
            path = plain
            folder = -1
            return
        }
        // The kernel follows this link to the folder that the descriptor stands for.
        folder = open(volume, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard folder >= 0 else {
            throw CommandFailure(
                .unreachable, volume, "cannot open the folder",
                cause: String(cString: strerror(errno)))
        }
        path = "/proc/self/fd/\(folder)/\(name)"
    }

    deinit {
        if folder >= 0 { close(folder) }
    }
}
