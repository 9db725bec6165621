// VOL/drills.jsonl: the drills of a volume, the newest last.

import CommandText
import DiskIO
import Foundation

struct DrillLog {
    static let fileName = "drills.jsonl"
    private static let recordsMax = 1000

    private let folder: String

    init(volume: String) { folder = volume }

    /// Adds a record, durably; of a long list the oldest go.
    func append(_ record: DrillRecord) throws(IOError) {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        // A plain value of our own: it always encodes.
        guard let line = try? encoder.encode(record) else { return }
        let text = (lines.suffix(Self.recordsMax - 1) + [String(decoding: line, as: UTF8.self)])
            .joined(separator: "\n")
        var failure: IOError?
        Array((text + "\n").utf8).withUnsafeBytes { bytes in
            do throws(IOError) {
                try DiskStorage().replace(Self.fileName, in: folder, with: bytes)
            } catch { failure = error }
        }
        if let failure { throw failure }
    }

    /// The newest drill; nil when there was none, or the file cannot be read.
    var last: DrillRecord? {
        lines.last.flatMap { try? JSONDecoder().decode(DrillRecord.self, from: Data($0.utf8)) }
    }

    private var lines: [String] {
        let path = "\(folder)/\(Self.fileName)"
        guard let bytes = try? DiskStorage().contents(of: path) else { return [] }
        return String(decoding: bytes, as: UTF8.self).split(separator: "\n").map(String.init)
    }
}
