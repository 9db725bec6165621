// VOL/mount.log: what the process of a mount in the background says. Each mount appends to it; so
// that it does not grow for ever, a mount that finds it large puts it away first.

import DiskIO
import Foundation
import ProtectedVolume

struct MountLog {
    static let bytesMax = 1 << 20

    let path: String
    private let volume: String

    init(volume: String) {
        self.volume = volume
        path = volume + "/mount.log"
    }

    /// Renames a log of more than `bytesMax` to `mount.log.1`, in place of an older one. Not while
    /// the volume is in use: its process would go on writing to the renamed file.
    func putAwayIfLarge() {
        var info = stat()
        let storage = DiskStorage()
        guard stat(path, &info) == 0, info.st_size > Self.bytesMax,
            VolumeFolder.holder(volume, on: storage) == nil
        else { return }
        // Best effort: a log that stays large must not keep a volume from its mount.
        try? storage.rename(path, to: path + ".1")
    }
}
