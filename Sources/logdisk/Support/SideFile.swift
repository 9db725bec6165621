// Files that a command writes besides what it prints, such as pictures: never over something that
// exists without being told to, never into the volume itself, whole or not at all.

import CommandText
import DiskIO
import Foundation
import History

/// Where such a file goes.
struct SideFile {
    let path: String
    private let object: String
    private let force: Bool

    /// Checks the place before any work is done.
    init(_ name: String, force: Bool, _ location: VolumeLocation) throws(CommandFailure) {
        let output = try ReplayOutput(name, force: force, location)
        guard !output.isDevice else {
            throw CommandFailure(
                .usage, location.object, "\(name) is a block device", hint: "name a file")
        }
        path = output.path
        object = location.object
        self.force = force
    }

    /// Writes it whole or not at all.
    func write(_ text: String) throws(CommandFailure) {
        try translating(object) {
            let file = try UnfinishedFile(path, in: DiskStorage(), replacing: force)
            try file.append(Array(text.utf8))
            try file.commit()
        }
    }
}
