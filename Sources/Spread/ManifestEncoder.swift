// Writes a manifest.
//
// Layout. `n` is an unsigned number in groups of 7 bits, lowest first, the top bit of each byte set
// where another follows, no needless last group (LEB128). `z` is a signed number as `n` of
// (v << 1) ^ (v >> 63). `b` is a byte string: n, then so many bytes.
//
//   offset 0   8 bytes  "LDSPRD\x00\x01" (the last byte is the version)
//          8  16 bytes  the set's id
//   then       b name of the set · z created · z completed (nanoseconds since 1970)
//              n devices, each: b name · 16 bytes id · b site · n failed (1) or not (0)
//              n sources, each: b name · b origin · n kind · n rows, each row:
//                 n distance to the row of its folder (0 for row 0 only) · b name
//                 n mode · n owner · n group · n size · z seconds · n nanoseconds
//                 n flags: 1 link target, 2 further hard link, 4 node, 8 attributes, 16 holes,
//                          32 incomplete (named, without content)
//                 then what the flags say: b target · n distance to the row linked to · n node ·
//                 n attributes each b name, b value · n ranges each n gap after the one before,
//                 n length
//              n items, each: n source · n row · n offset · n size · 32 bytes SHA-256 ·
//                 n device · n place (0: a plain file, k + 1: segment k)
//   last       32 bytes SHA-256 of all before
//
// Valid if and only if the first 8 bytes are right, the digest is right, each field decodes within
// the bytes before the digest and nothing is left over, numbers that name rows, sources and devices
// name existing ones, ranges rise and lie inside their file, and items inside theirs.

import Crypto

public struct ManifestEncoder {
    static let magic = Array("LDSPRD".utf8) + [0, 1]
    enum Flags {
        static let target: UInt64 = 1
        static let linked: UInt64 = 2
        static let node: UInt64 = 4
        static let attributes: UInt64 = 8
        static let holes: UInt64 = 16
        static let incomplete: UInt64 = 32
        static let all: UInt64 = 63
    }

    private var buffer: [UInt8] = []
    private var hasher = SHA256()
    private let sink: (UnsafeRawBufferPointer) throws -> Void
    private static let pieceBytes = 256 << 10

    /// Writes the manifest in pieces: the memory used does not depend on its size.
    static func encode(
        _ manifest: Manifest, into sink: (UnsafeRawBufferPointer) throws -> Void
    ) throws {
        try withoutActuallyEscaping(sink) { sink in
            var encoder = ManifestEncoder(sink: sink)
            try encoder.write(manifest)
            try encoder.end()
        }
    }

    /// All of it at once.
    public static func bytes(_ manifest: Manifest) -> [UInt8] {
        var all: [UInt8] = []
        // The sink throws nothing.
        try? encode(manifest) { all.append(contentsOf: $0) }
        return all
    }

    private init(sink: @escaping (UnsafeRawBufferPointer) throws -> Void) { self.sink = sink }

    private mutating func flush() throws {
        try buffer.withUnsafeBytes {
            hasher.update(bufferPointer: $0)
            try sink($0)
        }
        buffer.removeAll(keepingCapacity: true)
    }

    private mutating func end() throws {
        try flush()
        try Array(hasher.finalize()).withUnsafeBytes { try sink($0) }
    }

    private mutating func number(_ value: some UnsignedInteger) {
        var rest = UInt64(value)
        while rest >= 0x80 {
            buffer.append(UInt8(rest & 0x7F) | 0x80)
            rest >>= 7
        }
        buffer.append(UInt8(rest))
    }

    private mutating func number(_ value: Int) { number(UInt64(value)) }

    private mutating func signed(_ value: Int64) {
        number(UInt64(bitPattern: (value << 1) ^ (value >> 63)))
    }

    private mutating func bytes(_ value: some Collection<UInt8>) {
        number(value.count)
        buffer.append(contentsOf: value)
    }

    private mutating func write(_ manifest: Manifest) throws {
        buffer += Self.magic + manifest.identity.id
        bytes(manifest.identity.name.utf8)
        signed(manifest.identity.created)
        signed(manifest.completed)
        number(manifest.devices.count)
        for device in manifest.devices {
            bytes(device.name.utf8)
            buffer += device.id
            bytes((device.site ?? "").utf8)
            number(device.hasFailed ? 1 : 0)
        }
        number(manifest.sources.count)
        for source in manifest.sources {
            bytes(source.name)
            bytes(source.origin.utf8)
            number(UInt64(source.kind.rawValue))
            number(source.table.count)
            for row in 0..<source.table.count {
                write(row, of: source.table)
                if buffer.count >= Self.pieceBytes { try flush() }
            }
        }
        number(manifest.items.count)
        for item in manifest.items {
            number(item.source)
            number(item.row)
            number(item.offset)
            number(item.size)
            buffer += item.digest.bytes
            number(item.device)
            number(item.place)
            if buffer.count >= Self.pieceBytes { try flush() }
        }
    }

    private mutating func write(_ row: Int, of table: TreeTable) {
        let entry = table.rows[row]
        number(row - Int(entry.parent))
        bytes(table.name(row))
        number(entry.mode)
        number(entry.owner)
        number(entry.group)
        number(entry.size)
        signed(entry.seconds)
        number(entry.nanoseconds)
        let extra = table.extra(row)
        var flags: UInt64 = entry.isIncomplete ? Flags.incomplete : 0
        if extra.target != nil { flags |= Flags.target }
        if extra.linkedTo != nil { flags |= Flags.linked }
        if extra.node != nil { flags |= Flags.node }
        if !extra.attributes.isEmpty { flags |= Flags.attributes }
        if extra.dataRanges != nil { flags |= Flags.holes }
        number(flags)
        if let target = extra.target { bytes(target) }
        if let leader = extra.linkedTo { number(row - Int(leader)) }
        if let node = extra.node { number(node) }
        if !extra.attributes.isEmpty {
            number(extra.attributes.count)
            for attribute in extra.attributes {
                bytes(attribute.name)
                bytes(attribute.value)
            }
        }
        if let ranges = extra.dataRanges {
            number(ranges.count)
            var end: UInt64 = 0
            for range in ranges {
                number(range.lowerBound - end)
                number(range.upperBound - range.lowerBound)
                end = range.upperBound
            }
        }
    }
}
