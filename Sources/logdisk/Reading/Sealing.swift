// Encrypted volumes: the one place where a command opens what was sealed before it left a machine.

import BlockModel
import CommandText
import History

enum Sealing {
    /// The segments of `store` as plain ones. `key` is the key file that the user gave.
    static func opened(
        _ store: any SegmentStore, isSealed: Bool, _ volume: VolumeID, key: String?, object: String
    ) throws(CommandFailure) -> any SegmentStore {
        guard isSealed else { return store }
        guard key != nil else {
            throw CommandFailure(
                .refused, object, "the volume is encrypted", cause: "no key was given",
                hint: "--key-file FILE, the file that logdisk key create made")
        }
        throw CommandFailure(.refused, object, "the volume is encrypted")
    }
}
