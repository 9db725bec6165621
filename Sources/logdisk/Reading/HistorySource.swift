// Where the history lies that a read command looks at: in a volume of this machine, in a folder of
// a log server's store (or a copy of one), or at a remote. The one place that decides which,
// and what each of them can give:
//
//                    segments     newest records           leases
//   volume           its folder   asked of a mount, or     its folder
//                                 read from its WAL
//   store folder     its folder   those in segments        its folder, where one can be written
//   URL              at a remote  those that are shipped   at the remote, renewed while held
//
// The last two can only be read: nothing but a shipment changes them.

import BlockModel
import CommandText
import DiskIO
import Foundation
import History
import LogFormat
import ServerAPI

/// What the user named.
enum HistorySource: Sendable {
    /// A volume of this machine, or what should be one.
    case volume
    /// `STORE/VOLUME` of a log server, or a copy of it. nil: no key was given.
    case storeFolder(key: String?)
    case remote(RemoteVolume)

    /// Of `path`, canonical, or a URL.
    init(_ path: String, _ files: RemoteAccessFiles) {
        if RemotePlace.isMeant(by: path) {
            self = .remote(RemoteVolume(url: path, files))
        } else if StoreFolder.isOne(path) {
            self = .storeFolder(key: files.key)
        } else {
            self = .volume
        }
    }

    var isVolume: Bool { if case .volume = self { true } else { false } }
}

/// A volume as a remote keeps it: segments, and what is known of it, without a superblock.
struct ArchivedVolume: Sendable {
    let store: any SegmentStore
    let volume: VolumeID?
    let sizeBytes: UInt64
    /// The end of the records, by who keeps them; nil where there are none.
    let head: Stamp?
    let leases: any LeaseTaker
}

/// Whatever keeps segments from being pruned while they are read. Any thread may call.
protocol LeaseTaker: Sendable {
    /// nil where the history can be read without: a segment that goes away meanwhile is then an
    /// error, never a wrong byte.
    func hold(_ lease: Lease) throws -> (any ReadingLease)?
}

/// A lease in force, until `release` or until it is dropped.
protocol ReadingLease: AnyObject, Sendable {
    /// Idempotent.
    func release()
}

extension HeldLease: ReadingLease {}

extension LeaseFolder: LeaseTaker {
    func hold(_ lease: Lease) throws -> (any ReadingLease)? { try take(lease) }
}

/// The leases of a store's folder, of which a copy may be read-only, or somebody else's.
private struct StoreLeases: LeaseTaker {
    let folder: LeaseFolder

    func hold(_ lease: Lease) -> (any ReadingLease)? { try? folder.take(lease) }
}

/// A volume's folder in the store of a log server.
struct StoreFolder {
    private static let infoName = "volume.json"
    private static let infoBytesMax = 1 << 20

    /// Has segments and the server's notes, but no superblock.
    static func isOne(_ path: String) -> Bool {
        let storage = DiskStorage()
        return storage.exists("\(path)/\(infoName)") && storage.isDirectory("\(path)/segments")
            && !storage.exists("\(path)/superblock")
    }

    /// What is read of the server's notes; they may say more.
    private struct Info: Decodable {
        struct Head: Decodable {
            var lsn: UInt64
            var wallNanoseconds: Int64

            enum CodingKeys: String, CodingKey {
                case lsn
                case wallNanoseconds = "wall_nanoseconds"
            }
        }
        var uuid: String
        var sizeBytes: UInt64
        var isSealed: Bool?
        var head: Head?

        enum CodingKeys: String, CodingKey {
            case uuid, head
            case sizeBytes = "size_bytes"
            case isSealed = "sealed"
        }
    }

    static func open(
        _ path: String, key: String?, object: String
    ) throws(CommandFailure) -> ArchivedVolume {
        let storage = DiskStorage()
        let name = "\(path)/\(infoName)"
        let bytes = try translating(object) {
            try storage.contents(of: name, limit: infoBytesMax)
        }
        guard let info = try? JSONDecoder().decode(Info.self, from: Data(bytes)),
            let volume = VolumeID(canonical: info.uuid)
        else {
            throw CommandFailure(
                .damaged, object, "it cannot be read whose segments these are", cause: name,
                hint: "put the file back, or make it: docs/format.md says what is in it")
        }
        let plain = DirectoryStore(storage: storage, directory: path + "/segments")
        return ArchivedVolume(
            store: try Sealing.opened(
                plain, isSealed: info.isSealed ?? false, volume, key: key, object: object),
            volume: volume, sizeBytes: info.sizeBytes,
            head: info.head.map {
                Stamp(lsn: LSN($0.lsn), wallNanoseconds: $0.wallNanoseconds)
            },
            leases: StoreLeases(folder: LeaseFolder(storage: storage, logDirectory: path)))
    }
}

extension VolumeID {
    /// Of what `description` gives: 32 hexadecimal digits in groups of 8, 4, 4, 4 and 12.
    init?(canonical text: String) {
        let groups = text.split(separator: "-", omittingEmptySubsequences: false)
        let digits = groups.joined()
        guard groups.map(\.count) == [8, 4, 4, 4, 12],
            digits.allSatisfy({ $0.isASCII && $0.isHexDigit }),
            let high = UInt64(digits.prefix(16), radix: 16),
            let low = UInt64(digits.suffix(16), radix: 16)
        else { return nil }
        self.init(high: high, low: low)
    }
}
