// Marks an image that a volume protects in place, so that no second volume takes it: the extended
// attribute `user.logdisk` holds the volume's UUID and folder. Devices and some file systems have
// no such attributes; there the lock that an open volume holds on its image is the only guard.

import BlockModel
import CLinux
import DiskIO
import Foundation
import ProtectedVolume

enum ImageOwner {
    private static let attribute = "user.logdisk"

    static func mark(_ image: String, volume: VolumeID, folder: String) {
        let text = "\(volume) \(folder)"
        // Best effort, see above.
        _ = clinux_set_attribute(image, attribute, text, text.utf8.count)
    }

    static func unmark(_ image: String) {
        _ = clinux_remove_attribute(image, attribute)
    }

    /// The folder of the volume that still exists and owns the image; nil where there is none.
    static func folder(of image: String) -> String? {
        var bytes = [UInt8](repeating: 0, count: 8192)
        let count = clinux_attribute(image, attribute, &bytes, bytes.count)
        guard count > 0 else { return nil }
        let words = String(decoding: bytes[..<Int(count)], as: UTF8.self)
            .split(separator: " ", maxSplits: 1)
        guard words.count == 2, let owner = VolumeID(String(words[0])),
            let superblock = try? VolumeFolder.peek(String(words[1]), on: DiskStorage()),
            superblock.volume == owner
        else { return nil }
        return String(words[1])
    }
}
