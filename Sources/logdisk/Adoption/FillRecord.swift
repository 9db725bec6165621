// What says that a part of a volume still lies at a log server: the file `filling.json` in its
// folder, from `adopt --mount-first` until everything is here. docs/format.md lists its keys.
//
//   stage remote   the image is thin over the state at the server; history up to that state is
//                  that of the server
//   stage here     a base snapshot with that state lies in the volume's own segments, and the image
//                  is thin over it
//   file gone      the image is whole

import BlockModel
import CommandText
import DiskIO
import Foundation
import LogFormat

struct FillRecord: Codable, Equatable, Sendable {
    enum Stage: String, Codable { case remote, here }

    static let fileName = "filling.json"
    private static let format = 1

    var format = FillRecord.format
    var stage: Stage
    var url: String
    var volume: String
    /// The state that the image stands on.
    var lsn: UInt64
    var wallNanoseconds: Int64
    /// What the first log behind it names as its predecessor, in hexadecimal; nil: not known.
    var digest: String?
    var tokenFile: String?
    var ca: String?
    var keyFile: String?
    var object: ObjectSettings?

    enum CodingKeys: String, CodingKey {
        case format, stage, url, volume, lsn, digest, ca
        case wallNanoseconds = "wall_nanoseconds"
        case tokenFile = "token_file"
        case keyFile = "key_file"
        case object = "object_storage"
    }

    init(_ remote: RemoteVolume, volume: VolumeID, at stamp: Stamp, digest: SegmentDigest) {
        stage = .remote
        url = remote.url
        self.volume = volume.description
        lsn = stamp.lsn.rawValue
        wallNanoseconds = stamp.wallNanoseconds
        self.digest = digest == .none ? nil : digest.description
        (tokenFile, ca, keyFile) = (remote.files.token, remote.files.ca, remote.files.key)
        if remote.place.kind == .objectStorage { object = remote.files.object }
    }

    var stamp: Stamp { Stamp(lsn: LSN(lsn), wallNanoseconds: wallNanoseconds) }
    var files: RemoteAccessFiles {
        var files = RemoteAccessFiles(token: tokenFile, ca: ca, key: keyFile)
        if let object { files.object = object }
        return files
    }

    /// The digest as the encoder takes it; nil where it is not understood.
    var predecessor: SegmentDigest? {
        guard let digest else { return SegmentDigest.none }
        let bytes = stride(from: 0, to: digest.count, by: 2).map { start in
            UInt8(digest.dropFirst(start).prefix(2), radix: 16)
        }
        guard bytes.count == 32, !bytes.contains(nil) else { return nil }
        return bytes.compactMap { $0 }.withUnsafeBytes { SegmentDigest($0.baseAddress!) }
    }

    /// Whether a part of the volume in `folder` may still lie elsewhere.
    static func isThere(_ folder: String) -> Bool {
        DiskStorage().exists("\(folder)/\(fileName)")
    }

    /// Of the volume in `folder`; nil when all of it is here.
    static func read(_ folder: String, object: String) throws(CommandFailure) -> FillRecord? {
        let (path, storage) = ("\(folder)/\(fileName)", DiskStorage())
        guard storage.exists(path) else { return nil }
        let bytes = try translating(object) { try storage.contents(of: path, limit: 64 << 10) }
        guard let record = try? JSONDecoder().decode(FillRecord.self, from: Data(bytes)),
            record.format == Self.format, record.predecessor != nil
        else {
            throw CommandFailure(
                .damaged, object, "it cannot be read where the rest of this volume lies",
                cause: path, hint: "docs/format.md says what is in the file")
        }
        return record
    }

    /// Puts it into `folder`, durably.
    func write(to folder: String) throws(IOError) {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        // Plain values of our own: they always encode.
        let bytes = Array((try? encoder.encode(self)) ?? Data()) + [0x0A]
        var failure: IOError?
        bytes.withUnsafeBytes { bytes in
            do throws(IOError) {
                try DiskStorage().replace(Self.fileName, in: folder, with: bytes)
            } catch { failure = error }
        }
        if let failure { throw failure }
    }

    /// Removes it from `folder`, durably.
    static func remove(from folder: String) throws(IOError) {
        try DiskStorage().remove("\(folder)/\(fileName)")
        try DiskStorage().syncDirectory(folder)
    }
}
