// The manifest: what a set holds, and where. The same bytes lie on every device of the set.

import Crypto
import DiskIO

/// What tells a set from all others.
public struct SetIdentity: Sendable, Hashable {
    public var name: String
    /// 16 random bytes.
    public var id: [UInt8]
    /// When the run began, nanoseconds since 1970.
    public var created: Int64

    public init(name: String, id: [UInt8], created: Int64) {
        (self.name, self.id, self.created) = (name, id, created)
    }

    /// Why `name` is no name for a set, as half a sentence; nil when it is one.
    public static func fault(ofName name: String) -> String? {
        if name.isEmpty { return "it is empty" }
        if name.utf8.count > 100 { return "it has more than 100 bytes" }
        if name.hasPrefix(".") { return "it begins with a dot" }
        if name.hasPrefix("-") { return "it begins with a dash" }
        if name.unicodeScalars.contains(where: { $0.value < 0x21 || $0 == "/" || $0.value == 0x7F })
        {
            return "it holds a slash, a blank or a control character"
        }
        return nil
    }
}

/// A SHA-256, without an object of its own.
public struct ContentDigest: Sendable, Hashable {
    private var words: SIMD4<UInt64>

    public init() { words = .zero }

    /// nil where it is not 32 bytes.
    public init?(_ bytes: some Collection<UInt8>) {
        guard bytes.count == 32 else { return nil }
        words = .zero
        withUnsafeMutableBytes(of: &words) { $0.copyBytes(from: bytes) }
    }

    init(_ digest: SHA256.Digest) {
        words = digest.withUnsafeBytes { $0.loadUnaligned(as: SIMD4<UInt64>.self) }
    }

    public var bytes: [UInt8] { withUnsafeBytes(of: words) { Array($0) } }
}

/// A file, or a part of one, and where it is. A copy is an item of its own; 72 bytes each.
public struct StoredItem: Sendable, Hashable {
    private var sourceNumber: UInt16
    private var deviceNumber: UInt16
    private var rowNumber: UInt32
    /// Where it begins in its file, in bytes.
    public var offset: UInt64
    /// In bytes.
    public var size: UInt64
    /// 0: a plain file under its own name; n + 1: segment number n.
    public var place: UInt64
    public var digest: ContentDigest

    public init(
        source: Int, row: Int, offset: UInt64, size: UInt64, digest: ContentDigest, device: Int,
        place: UInt64
    ) {
        (sourceNumber, deviceNumber) = (UInt16(source), UInt16(device))
        rowNumber = UInt32(row)
        (self.offset, self.size, self.place) = (offset, size, place)
        self.digest = digest
    }

    /// Index in the manifest's sources.
    public var source: Int { Int(sourceNumber) }
    /// Index in the manifest's devices.
    public var device: Int { Int(deviceNumber) }
    public var row: Int { Int(rowNumber) }
    public var range: Range<UInt64> { offset..<offset + size }
}

/// A device as the set remembers it.
public struct ManifestDevice: Sendable, Hashable {
    /// As on the command line when the set was made.
    public var name: String
    /// 16 random bytes, new for each set; the device itself says them, too.
    public var id: [UInt8]
    public var site: String?
    /// Failed before the set was complete: what it holds does not count.
    public var hasFailed: Bool

    public init(name: String, id: [UInt8], site: String? = nil, hasFailed: Bool = false) {
        (self.name, self.id, self.site, self.hasFailed) = (name, id, site, hasFailed)
    }
}

/// A source as the set remembers it.
public struct ManifestSource: Sendable, Hashable {
    /// Unique in the set: the folder or file that it is restored as.
    public var name: [UInt8]
    public var origin: String
    public var kind: SourceKind
    public var table: TreeTable

    public init(name: [UInt8], origin: String, kind: SourceKind, table: TreeTable) {
        (self.name, self.origin, self.kind, self.table) = (name, origin, kind, table)
    }
}

public struct Manifest: Sendable, Hashable {
    public var identity: SetIdentity
    /// When the set became complete, nanoseconds since 1970.
    public var completed: Int64
    public var devices: [ManifestDevice]
    public var sources: [ManifestSource]
    public var items: [StoredItem]

    public init(
        identity: SetIdentity, completed: Int64, devices: [ManifestDevice],
        sources: [ManifestSource], items: [StoredItem]
    ) {
        (self.identity, self.completed) = (identity, completed)
        (self.devices, self.sources, self.items) = (devices, sources, items)
    }

    /// Bytes of all files, each counted once.
    public var totalBytes: UInt64 {
        sources.reduce(0) { sum, source in
            source.table.rows.indices.reduce(sum) { sum, row in
                let entry = source.table.rows[row]
                let isCounted = entry.isFile && source.table.extra(row).linkedTo == nil
                return isCounted ? sum &+ entry.size : sum
            }
        }
    }
    public var fileCount: Int {
        sources.reduce(0) { $0 + $1.table.rows.count { $0.isFile } }
    }
    /// Files that are named and have no content in the set.
    public var incompleteCount: Int {
        sources.reduce(0) { $0 + $1.table.rows.count { $0.isIncomplete } }
    }
}
