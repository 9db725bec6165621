// Where the control socket lies, and how to name it to the kernel, which takes 107 bytes at most.

import CommandText
import Foundation

/// The path of a volume's control socket, valid while this object lives.
final class ControlSocket: Sendable {
    /// What to bind or connect to.
    let path: String
    /// The open folder behind `path` where the plain path is too long; else -1.
    private let folder: Int32

    static let fileName = "control.sock"
    private static let pathBytesMax = 107

    init(volume: String) throws(CommandFailure) {
        let plain = "\(volume)/\(Self.fileName)"
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
        path = "/proc/self/fd/\(folder)/\(Self.fileName)"
    }

    deinit {
        if folder >= 0 { close(folder) }
    }
}
