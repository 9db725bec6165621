// Who may do what: one file per token in STORE/.logdisk/access. A token is the name of its file, a
// dot and 32 random bytes in base64url. Only HKDF-SHA256 of those bytes under a salt of the token's
// own is kept. A fast hash is enough here: the bytes are random, so there is no list of likely
// secrets that a slow hash would make dear to try.
//
// A file is read again for each request, so a token that is revoked is refused from the next
// request on; only decoding and hashing are saved while the file and the token are the same.

import Crypto
import DiskIO
import Foundation
import ServerAPI
import Synchronization

/// What a token allows.
public enum AccessLevel: String, Codable, Sendable, CaseIterable, Comparable {
    /// Reads, and leases what it reads.
    case readOnly = "read-only"
    /// Reads, makes volumes, sends segments, takes over; never deletes or overwrites history.
    case appendOnly = "append-only"
    /// All of that, deletes segments and changes ladders.
    case full

    public static func < (a: AccessLevel, b: AccessLevel) -> Bool { a.rank < b.rank }

    private var rank: Int { Self.allCases.firstIndex(of: self) ?? 0 }
}

/// A token as it is kept. Keys are stable.
public struct AccessRecord: Codable, Hashable, Sendable {
    public var name: String
    public var level: AccessLevel
    /// Patterns of volumes: `*` any characters, `?` one.
    public var volumes: [String]
    /// Nanoseconds since 1970-01-01 UTC.
    public var createdNanoseconds: Int64
    var salt: Data
    var hash: Data

    enum CodingKeys: String, CodingKey {
        case name, level, volumes, salt, hash
        case createdNanoseconds = "created_nanoseconds"
    }
}

/// What is known of who asks.
struct Access: Sendable {
    var name: String
    var level: AccessLevel
    var volumes: [String]

    func mayUse(_ volume: String) -> Bool {
        volumes.contains { Glob.matches(volume, pattern: $0) }
    }
}

/// Why a token cannot be made or revoked.
public enum AccessError: Error, Sendable {
    case badName(String)
    case badPattern(String)
    case exists(String)
    case missing(String)
    /// The file of a token is not understood.
    case unreadable(String)
    case io(IOError)
}

/// The tokens of a store. Any thread may call; calls block.
public final class AccessFolder: Sendable {
    private let storage: Storage
    private let paths: ServerPaths
    private let known = Mutex<[String: Known]>([:])

    /// The last file of a name, decoded, and the secret that was found to fit, hashed once more.
    private struct Known {
        var bytes: [UInt8]
        var record: AccessRecord
        var goodSecret: SHA256.Digest?
    }
    private static let secretBytes = 32
    private static let fileBytesMax = 1 << 16

    public init(_ store: ServerStore) {
        storage = store.storage
        paths = store.paths
    }

    // MARK: tokens

    /// Makes a token; what it gives back is shown once and kept nowhere.
    public func create(
        name: String, level: AccessLevel, volumes: [String], now: Int64
    ) throws(AccessError) -> String {
        guard ServerAPI.isVolumeName(name) else { throw .badName(name) }
        for pattern in volumes where !Glob.isPattern(pattern) { throw .badPattern(pattern) }
        guard !storage.exists("\(paths.access)/\(name)") else { throw .exists(name) }
        let secret = Self.random(Self.secretBytes)
        let salt = Self.random(16)
        let record = AccessRecord(
            name: name, level: level, volumes: volumes, createdNanoseconds: now, salt: salt,
            hash: Self.hash(secret, salt: salt))
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
        guard let bytes = try? encoder.encode(record) else { throw .unreadable(name) }
        do throws(IOError) {
            if !storage.isDirectory(paths.access) {
                try storage.createDirectory(paths.access)
                try storage.syncDirectory(paths.settings)
            }
            try storage.replace(name, in: paths.access, bytes: Array(bytes) + [0x0A])
        } catch { throw .io(error) }
        return "\(name).\(Self.base64url(secret))"
    }

    /// All tokens, by name; a file that is not understood is told by its name alone.
    public func list() throws(AccessError) -> (records: [AccessRecord], unreadable: [String]) {
        var records: [AccessRecord] = []
        var unreadable: [String] = []
        do throws(IOError) {
            guard storage.isDirectory(paths.access) else { return ([], []) }
            for name in try storage.list(paths.access) where ServerAPI.isVolumeName(name) {
                if name.hasSuffix(".tmp") { continue }
                let bytes = try storage.contents(
                    of: "\(paths.access)/\(name)", limit: Self.fileBytesMax)
                if let record = Self.decode(bytes, name) {
                    records.append(record)
                } else {
                    unreadable.append(name)
                }
            }
        } catch { throw .io(error) }
        return (records, unreadable)
    }

    /// From now on the token is refused, also by a server that runs.
    public func revoke(name: String) throws(AccessError) {
        guard ServerAPI.isVolumeName(name), storage.exists("\(paths.access)/\(name)") else {
            throw .missing(name)
        }
        do throws(IOError) {
            try storage.remove("\(paths.access)/\(name)")
            try storage.syncDirectory(paths.access)
        } catch { throw .io(error) }
    }

    // MARK: requests

    /// Who `token` is; nil: nobody.
    func access(token: some StringProtocol) -> Access? {
        guard let (name, secret) = Self.parse(token) else { return nil }
        guard let record = record(name, secret) else { return nil }
        return Access(name: name, level: record.level, volumes: record.volumes)
    }

    private func record(_ name: String, _ secret: Data) -> AccessRecord? {
        let path = "\(paths.access)/\(name)"
        let bytes: [UInt8]
        do throws(IOError) {
            bytes = try storage.contents(of: path, limit: Self.fileBytesMax)
        } catch {
            known.withLock { _ = $0.removeValue(forKey: name) }
            // As long as for a token that is there.
            _ = Self.hash(secret, salt: Data(name.utf8))
            return nil
        }
        let digest = SHA256.hash(data: secret)
        let before = known.withLock { $0[name] }
        if let before, before.bytes == bytes {
            // Digests compare in constant time.
            if let good = before.goodSecret, good == digest { return before.record }
        }
        guard let record = Self.decode(bytes, name) else { return nil }
        let isGood = Self.areEqual(Self.hash(secret, salt: record.salt), record.hash)
        if isGood {
            known.withLock {
                $0[name] = Known(bytes: bytes, record: record, goodSecret: digest)
            }
        }
        return isGood ? record : nil
    }

    private static func decode(_ bytes: [UInt8], _ name: String) -> AccessRecord? {
        guard let record = try? JSONDecoder().decode(AccessRecord.self, from: Data(bytes)),
            record.name == name, record.hash.count == 32
        else { return nil }
        return record
    }

    private static func parse(_ token: some StringProtocol) -> (name: String, secret: Data)? {
        guard token.utf8.count <= 200, let dot = token.lastIndex(of: "."),
            ServerAPI.isVolumeName(token[..<dot])
        else { return nil }
        let text = token[token.index(after: dot)...]
        guard text.utf8.count == 43 else { return nil }
        let standard = String(
            text.map { $0 == "-" ? "+" : $0 == "_" ? "/" : $0 })
        guard let secret = Data(base64Encoded: standard + "="), secret.count == secretBytes else {
            return nil
        }
        return (String(token[..<dot]), secret)
    }

    // MARK: secrets

    private static func random(_ count: Int) -> Data {
        // The system's generator: getrandom(2).
        var source = SystemRandomNumberGenerator()
        return Data((0..<count).map { _ in UInt8.random(in: .min ... .max, using: &source) })
    }

    private static func hash(_ secret: Data, salt: Data) -> Data {
        let key = HKDF<SHA256>.deriveKey(
            inputKeyMaterial: SymmetricKey(data: secret), salt: salt,
            info: Data("logdisk access 1".utf8), outputByteCount: 32)
        return key.withUnsafeBytes { Data($0) }
    }

    /// Takes as long wherever they differ.
    private static func areEqual(_ a: Data, _ b: Data) -> Bool {
        guard a.count == b.count else { return false }
        return zip(a, b).reduce(UInt8(0)) { $0 | ($1.0 ^ $1.1) } == 0
    }

    private static func base64url(_ bytes: Data) -> String {
        String(
            bytes.base64EncodedString().compactMap {
                $0 == "+" ? "-" : $0 == "/" ? "_" : $0 == "=" ? nil : $0
            })
    }
}

/// Patterns of volume names.
public enum Glob {
    /// Whether `text` is one: letters, digits, `.`, `_`, `-`, and `*` and `?`.
    public static func isPattern(_ text: String) -> Bool {
        guard (1...100).contains(text.utf8.count) else { return false }
        let filled = text.map { $0 == "*" || $0 == "?" ? "x" : $0 }
        return ServerAPI.isVolumeName(String(filled))
    }

    /// Whether the whole of `name` fits. Takes at most name times pattern steps.
    public static func matches(_ name: String, pattern: String) -> Bool {
        let (name, pattern) = (Array(name.utf8), Array(pattern.utf8))
        var (n, p) = (0, 0)
        var star: (p: Int, n: Int)?
        while n < name.count {
            if p < pattern.count, pattern[p] == 0x2A {
                star = (p, n)
                p += 1
            } else if p < pattern.count, pattern[p] == 0x3F || pattern[p] == name[n] {
                (n, p) = (n + 1, p + 1)
            } else if let last = star {
                star = (last.p, last.n + 1)
                (n, p) = (last.n + 1, last.p + 1)
            } else {
                return false
            }
        }
        return pattern[p...].allSatisfy { $0 == 0x2A }
    }
}
