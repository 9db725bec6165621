// Sets of backups at a log server, beside its volumes (`logdisk spread`, docs/spreading.md): names,
// headers and JSON bodies. The server knows files and when they are whole; what is in them is its
// clients' affair.
//
//   GET    /v1/backups/{b}                         BackupReply: the sets there, and the room
//   PUT    /v1/backups/{b}/{set}                   SetRequest -> SetReply; begins it or goes on
//   POST   /v1/backups/{b}/{set}                   SetReply: durable and visible
//   DELETE /v1/backups/{b}/{set}                   204; a visible one needs full access
//   DELETE /v1/backups/{b}/{set}/writer            204; somebody else may go on with the set now
//   GET    /v1/backups/{b}/{set}/files             SetFileListing
//   GET    /v1/backups/{b}/{set}/files/{name}      bytes; Range of one part; HEAD
//   PATCH  /v1/backups/{b}/{set}/files/{name}      bytes from Upload-Offset on -> UploadReply
//   POST   /v1/backups/{b}/{set}/files/{name}      head and last bytes -> SetFileReply; durable
//   DELETE /v1/backups/{b}/{set}/files/{name}      204; of a set that is not visible yet
//
// {b} is a backup device; names and tokens' patterns as for volumes. {set} is the set's id. While a
// set is not visible its files come and go by its writer (`Logdisk-Writer`: an id chosen at random
// by each run); a visible one never changes. A writer that was not heard of for
// `writerSeconds` may be followed by another one; until then that one is asked to wait (503).
//
// A file goes up as an upload of a volume does, under its own name: bytes may be sent again or in
// parts, and it goes on where the server says that it stands. The last request makes it whole: its
// body is first the file's head (so many bytes as `Logdisk-Head-Bytes` says: what is known only at
// the end and stands in front), then what is missing of the content. `Upload-Offset` never counts
// the head; every request of one file names the same head. `Logdisk-SHA256` is that of the content.
// With `Logdisk-Zeros` a PATCH has no body, and so many zeros are appended.

extension ServerAPI {
    /// Bytes of a file's head; 0 without it.
    public static let headBytesHeader = "Logdisk-Head-Bytes"
    /// Of a file's bytes behind its head, in hexadecimal.
    public static let digestHeader = "Logdisk-SHA256"
    /// Appends so many zeros.
    public static let zerosHeader = "Logdisk-Zeros"
    /// Bytes of a head, at the most.
    public static let headBytesMax = 1 << 20
    /// Zeros of one request, at the most.
    public static let zerosMax: UInt64 = 1 << 30
    /// So long after its last request a writer keeps others out.
    public static let writerSeconds: Int64 = 15
    /// What describes a set; without it none becomes visible.
    public static let manifestFile = "MANIFEST"
    private static let journalPrefix = "journal-"

    /// Whether `id` can be the id of a set: 32 digits 0-9 a-f.
    public static func isSetID(_ id: some StringProtocol) -> Bool {
        id.utf8.count == 32
            && id.utf8.allSatisfy { (0x30...0x39).contains($0) || (0x61...0x66).contains($0) }
    }

    /// Whether `name` can be the name of a set: 1 to 100 bytes without slashes, blanks and control
    /// characters that begin with neither a dot nor a dash.
    public static func isSetName(_ name: String) -> Bool {
        (1...100).contains(name.utf8.count) && !name.hasPrefix(".") && !name.hasPrefix("-")
            && name.unicodeScalars.allSatisfy { $0.value > 0x20 && $0 != "/" && $0.value != 0x7F }
    }

    /// `MANIFEST`, a journal, or an item.
    public static func isSetFile(_ name: some StringProtocol) -> Bool {
        name == manifestFile || itemNumber(name) != nil || journalNumber(name) != nil
    }

    /// At least eight digits.
    public static func itemFile(_ number: UInt64) -> String {
        let digits = String(number)
        return String(repeating: "0", count: max(0, 8 - digits.count)) + digits
    }

    /// nil where `name` is no item.
    public static func itemNumber(_ name: some StringProtocol) -> UInt64? {
        guard name.utf8.count >= 8, name.utf8.allSatisfy({ (0x30...0x39).contains($0) }),
            let number = UInt64(name), itemFile(number) == String(name)
        else { return nil }
        return number
    }

    public static func journalFile(_ number: UInt64) -> String { journalPrefix + itemFile(number) }

    /// nil where `name` is no journal.
    public static func journalNumber(_ name: some StringProtocol) -> UInt64? {
        name.hasPrefix(journalPrefix) ? itemNumber(name.dropFirst(journalPrefix.count)) : nil
    }
}

/// A backup device; one without sets need not be made.
public struct BackupReply: Codable, Hashable, Sendable {
    public var name: String
    /// What the token that asked may do: "read-only", "append-only" or "full".
    public var access: String
    /// Bytes that may still be sent.
    public var freeBytes: UInt64
    public var sets: [SetReply]

    public init(name: String, access: String, freeBytes: UInt64, sets: [SetReply]) {
        (self.name, self.access) = (name, access)
        (self.freeBytes, self.sets) = (freeBytes, sets)
    }

    enum CodingKeys: String, CodingKey {
        case name, access, sets
        case freeBytes = "free_bytes"
    }
}

public struct SetReply: Codable, Hashable, Sendable {
    public var id: String
    public var name: String
    /// What the set calls this device: 32 digits.
    public var deviceID: String
    /// Nanoseconds since 1970-01-01 UTC, by the client's clock.
    public var createdNanoseconds: Int64
    public var isComplete: Bool
    public var hasManifest: Bool
    /// Of a complete set.
    public var fileCount: Int?
    public var bytes: UInt64?

    public init(
        id: String, name: String, deviceID: String, createdNanoseconds: Int64, isComplete: Bool,
        hasManifest: Bool, fileCount: Int?, bytes: UInt64?
    ) {
        (self.id, self.name, self.deviceID) = (id, name, deviceID)
        self.createdNanoseconds = createdNanoseconds
        (self.isComplete, self.hasManifest) = (isComplete, hasManifest)
        (self.fileCount, self.bytes) = (fileCount, bytes)
    }

    enum CodingKeys: String, CodingKey {
        case id, name, bytes
        case deviceID = "device_id"
        case createdNanoseconds = "created_nanoseconds"
        case isComplete = "complete"
        case hasManifest = "manifest"
        case fileCount = "file_count"
    }
}

/// Begins a set, or goes on with it.
public struct SetRequest: Codable, Hashable, Sendable {
    public var name: String
    public var deviceID: String
    public var createdNanoseconds: Int64

    public init(name: String, deviceID: String, createdNanoseconds: Int64) {
        (self.name, self.deviceID) = (name, deviceID)
        self.createdNanoseconds = createdNanoseconds
    }

    enum CodingKeys: String, CodingKey {
        case name
        case deviceID = "device_id"
        case createdNanoseconds = "created_nanoseconds"
    }
}

/// The whole files of a set, sorted by name.
public struct SetFileListing: Codable, Hashable, Sendable {
    public struct Entry: Codable, Hashable, Sendable {
        public var name: String
        public var bytes: UInt64

        public init(name: String, bytes: UInt64) { (self.name, self.bytes) = (name, bytes) }
    }
    public var files: [Entry]

    public init(files: [Entry]) { self.files = files }
}

/// A file is whole.
public struct SetFileReply: Codable, Hashable, Sendable {
    /// Whether it was there already, the same byte for byte.
    public var wasThere: Bool

    public init(wasThere: Bool) { self.wasThere = wasThere }

    enum CodingKeys: String, CodingKey {
        case wasThere = "was_there"
    }
}
