// volume.json: what the server keeps of a volume beside its segments. The head can be found again
// from the segments; it is kept, so that it is known when retention has merged them.

import BlockModel
import DiskIO
import Foundation
import ServerAPI

/// The content of volume.json. Keys are stable.
struct VolumeRecord: Codable, Hashable, Sendable {
    var format = 1
    var uuid: String
    var sizeBytes: UInt64
    var isSealed: Bool
    var keep: String?
    var writer: String
    var generation: UInt64
    var host: String
    var head: VolumeReply.Head?

    enum CodingKeys: String, CodingKey {
        case format, uuid, keep, writer, generation, host, head
        case sizeBytes = "size_bytes"
        case isSealed = "sealed"
    }

    static let fileName = "volume.json"

    /// nil: not understood.
    static func decode(_ bytes: [UInt8]) -> VolumeRecord? {
        guard let record = try? JSONDecoder().decode(VolumeRecord.self, from: Data(bytes)),
            record.format == 1, VolumeID(record.uuid) != nil
        else { return nil }
        return record
    }

    func encoded() -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        // Plain values of our own: they always encode.
        return Array((try? encoder.encode(self)) ?? Data()) + [0x0A]
    }

    func reply(name: String, _ segments: SegmentSummary) -> VolumeReply {
        VolumeReply(
            name: name, uuid: uuid, sizeBytes: sizeBytes, isSealed: isSealed, keep: keep,
            writer: writer, generation: generation, host: host, head: head,
            snapshotCount: segments.snapshotCount, segmentCount: segments.count,
            segmentBytes: segments.byteCount)
    }
}

/// Numbers of a volume's segments.
struct SegmentSummary: Hashable, Sendable {
    var count = 0
    var snapshotCount = 0
    var byteCount: UInt64 = 0
}
