// Reads a manifest; layout and rules at the head of ManifestEncoder. Pure and total: any bytes give
// a manifest or nil, and no more memory than a small multiple of their length.

import Crypto

public struct ManifestDecoder {
    private let bytes: UnsafeRawBufferPointer
    private var position = 0
    private let end: Int

    private struct Invalid: Error {}

    /// nil where the bytes are no valid manifest.
    public static func decode(_ bytes: UnsafeRawBufferPointer) -> Manifest? {
        guard bytes.count > 64, bytes.starts(with: ManifestEncoder.magic) else { return nil }
        let end = bytes.count - 32
        var hasher = SHA256()
        hasher.update(bufferPointer: UnsafeRawBufferPointer(rebasing: bytes[..<end]))
        guard hasher.finalize().elementsEqual(bytes[end...]) else { return nil }
        var decoder = ManifestDecoder(bytes, end: end)
        return try? decoder.manifest()
    }

    public static func decode(_ bytes: [UInt8]) -> Manifest? {
        bytes.withUnsafeBytes { decode($0) }
    }

    private init(_ bytes: UnsafeRawBufferPointer, end: Int) {
        (self.bytes, self.end) = (bytes, end)
    }

    // MARK: - fields

    private mutating func number() throws -> UInt64 {
        var value: UInt64 = 0
        var shift: UInt64 = 0
        while true {
            guard position < end, shift < 64 else { throw Invalid() }
            let byte = bytes[position]
            position += 1
            let part = UInt64(byte & 0x7F)
            guard shift < 63 || part <= 1, part != 0 || byte & 0x80 != 0 || shift == 0 else {
                throw Invalid()
            }
            value |= part << shift
            if byte & 0x80 == 0 { return value }
            shift += 7
        }
    }

    /// A number up to `limit`.
    private mutating func number(upTo limit: Int) throws -> Int {
        let value = try number()
        guard limit >= 0, value <= UInt64(limit) else { throw Invalid() }
        return Int(value)
    }

    /// How many follow, each of at least `least` bytes.
    private mutating func count(least: Int) throws -> Int {
        try number(upTo: (end - position) / least)
    }

    private mutating func signed() throws -> Int64 {
        let value = try number()
        return Int64(bitPattern: value >> 1) ^ -Int64(bitPattern: value & 1)
    }

    private mutating func raw(_ count: Int) throws -> [UInt8] {
        guard end - position >= count else { throw Invalid() }
        defer { position += count }
        return Array(bytes[position..<position + count])
    }

    private mutating func string() throws -> [UInt8] { try raw(try count(least: 1)) }

    private mutating func text() throws -> String {
        guard let text = String(validating: try string(), as: UTF8.self) else { throw Invalid() }
        return text
    }

    // MARK: - parts

    private mutating func manifest() throws -> Manifest {
        position = ManifestEncoder.magic.count
        let id = try raw(16)
        let identity = SetIdentity(name: try text(), id: id, created: try signed())
        let completed = try signed()
        guard SetIdentity.fault(ofName: identity.name) == nil else { throw Invalid() }
        var devices: [ManifestDevice] = []
        let deviceCount = try count(least: 19)
        guard deviceCount <= UInt16.max else { throw Invalid() }
        for _ in 0..<deviceCount {
            let name = try text()
            let id = try raw(16)
            let site = try text()
            let hasFailed = try number(upTo: 1) == 1
            devices.append(
                ManifestDevice(
                    name: name, id: id, site: site.isEmpty ? nil : site, hasFailed: hasFailed))
        }
        var sources: [ManifestSource] = []
        let sourceCount = try count(least: 4)
        guard sourceCount <= UInt16.max else { throw Invalid() }
        for _ in 0..<sourceCount { sources.append(try source()) }
        var items: [StoredItem] = []
        let itemCount = try count(least: 38)
        items.reserveCapacity(itemCount)
        for _ in 0..<itemCount { items.append(try item(sources, devices.count)) }
        guard position == end else { throw Invalid() }
        return Manifest(
            identity: identity, completed: completed, devices: devices, sources: sources,
            items: items)
    }

    private mutating func source() throws -> ManifestSource {
        let name = try string()
        guard Self.isName(name) else { throw Invalid() }
        let origin = try text()
        guard let kind = SourceKind(rawValue: UInt8(try number(upTo: 255))) else { throw Invalid() }
        var table = TreeTable()
        let rows = try count(least: 9)
        guard rows > 0 else { throw Invalid() }
        table.rows.reserveCapacity(rows)
        for row in 0..<rows { try self.row(row, into: &table) }
        return ManifestSource(name: name, origin: origin, kind: kind, table: table)
    }

    /// A name that is safe to make below a folder.
    private static func isName(_ name: [UInt8]) -> Bool {
        !name.isEmpty && name.count < 256 && !name.contains(0) && !name.contains(UInt8(ascii: "/"))
            && name != [0x2E] && name != [0x2E, 0x2E]
    }

    private mutating func row(_ row: Int, into table: inout TreeTable) throws {
        let distance = try number(upTo: row)
        let name = try string()
        guard row == 0 ? distance == 0 && name.isEmpty : distance > 0 && Self.isName(name) else {
            throw Invalid()
        }
        guard row == 0 || table.rows[row - distance].isFolder else { throw Invalid() }
        var entry = TreeRow(
            parent: UInt32(row - distance), nameStart: 0, nameCount: 0,
            mode: UInt32(try number(upTo: 0o177777)), owner: UInt32(try number(upTo: 0xFFFF_FFFF)),
            group: UInt32(try number(upTo: 0xFFFF_FFFF)), nanoseconds: 0, seconds: 0,
            size: try number(), changed: 0)
        entry.seconds = try signed()
        entry.nanoseconds = UInt32(try number(upTo: 999_999_999))
        guard entry.size < 1 << 63 else { throw Invalid() }
        let flags = try number()
        guard flags <= ManifestEncoder.Flags.all else { throw Invalid() }
        entry.isIncomplete = flags & ManifestEncoder.Flags.incomplete != 0
        table.add(entry, name: name)
        var extra = TreeExtra()
        if flags & ManifestEncoder.Flags.target != 0 { extra.target = try string() }
        if flags & ManifestEncoder.Flags.linked != 0 {
            let leader = row - (try number(upTo: row))
            guard leader < row, !table.rows[leader].isFolder else { throw Invalid() }
            extra.linkedTo = UInt32(leader)
        }
        if flags & ManifestEncoder.Flags.node != 0 { extra.node = try number() }
        if flags & ManifestEncoder.Flags.attributes != 0 {
            let attributes = try count(least: 2)
            guard attributes > 0 else { throw Invalid() }
            for _ in 0..<attributes {
                extra.attributes.append(.init(name: try string(), value: try string()))
            }
        }
        if flags & ManifestEncoder.Flags.holes != 0 {
            extra.dataRanges = try ranges(inside: entry.size)
        }
        table.setExtra(row, extra)
    }

    private mutating func ranges(inside size: UInt64) throws -> [Range<UInt64>] {
        var ranges: [Range<UInt64>] = []
        var last: UInt64 = 0
        for _ in 0..<(try count(least: 2)) {
            let (start, startOverflows) = last.addingReportingOverflow(try number())
            let (stop, stopOverflows) = start.addingReportingOverflow(try number())
            guard !startOverflows, !stopOverflows, stop <= size, stop > start else {
                throw Invalid()
            }
            ranges.append(start..<stop)
            last = stop
        }
        return ranges
    }

    private mutating func item(
        _ sources: [ManifestSource], _ devices: Int
    ) throws -> StoredItem {
        let source = try number(upTo: sources.count - 1)
        let row = try number(upTo: sources[source].table.count - 1)
        let offset = try number()
        let size = try number()
        let entry = sources[source].table.rows[row]
        let (stop, overflow) = offset.addingReportingOverflow(size)
        guard entry.isFile, !overflow, stop <= entry.size else { throw Invalid() }
        guard let digest = ContentDigest(try raw(32)) else { throw Invalid() }
        let device = try number(upTo: devices - 1)
        return StoredItem(
            source: source, row: row, offset: offset, size: size, digest: digest, device: device,
            place: try number())
    }
}
