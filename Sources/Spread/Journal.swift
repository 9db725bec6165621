// The journal of an unfinished set on one device: which items are durable there, so that a run that
// was interrupted goes on behind them. Appended to, synced after the items it tells of.
//
// Layout: records, each
//
//   offset 0  4 bytes  length of the payload, little-endian, 1 to 1 MiB
//          4  4 bytes  CRC-32C of the payload
//          8           payload: a kind byte, then fields
//
//   kind 1, first and once: 16 bytes set id · 16 bytes device id · 8 bytes created · the set's name
//   kind 2, an item: 8 bytes each place, offset, size, stamp's size, stamp's seconds, stamp's
//           status change · 4 bytes stamp's nanoseconds · 32 bytes SHA-256 · 2 bytes length of the
//           source's name · the name · the path
//   kind 3, an item taken back: as kind 2
//
// Integers are little-endian. What counts is the longest run of whole valid records from the start.

import CLinux

public enum Journal {
    static let payloadBytesMax = 1 << 20

    public static func head(_ identity: SetIdentity, deviceID: [UInt8]) -> [UInt8] {
        record(
            [1] + identity.id + deviceID + little(UInt64(bitPattern: identity.created))
                + Array(identity.name.utf8))
    }

    public static func item(_ item: RememberedItem, isTakenBack: Bool = false) -> [UInt8] {
        var payload: [UInt8] = [isTakenBack ? 3 : 2]
        for value in [
            item.place, item.offset, item.size, item.stamp.size,
            UInt64(bitPattern: item.stamp.seconds), UInt64(bitPattern: item.stamp.changed),
        ] { payload += little(value) }
        payload += little(item.stamp.nanoseconds) + item.digest.bytes
        payload += little(UInt16(item.source.count)) + item.source + item.path
        return record(payload)
    }

    private static func little(_ value: some FixedWidthInteger) -> [UInt8] {
        withUnsafeBytes(of: value.littleEndian) { Array($0) }
    }

    private static func record(_ payload: [UInt8]) -> [UInt8] {
        let checksum = payload.withUnsafeBytes { clinux_crc32c(0, $0.baseAddress, $0.count) }
        return little(UInt32(payload.count)) + little(checksum) + payload
    }

    /// What a journal tells; nil where its head is not valid.
    public static func decode(_ bytes: [UInt8]) -> UnfinishedSet? {
        decodePrefix(bytes)?.found
    }

    /// Bytes of the records that count.
    public static func validBytes(_ bytes: [UInt8]) -> Int { decodePrefix(bytes)?.bytes ?? 0 }

    private static func decodePrefix(
        _ bytes: [UInt8]
    ) -> (found: UnfinishedSet, bytes: Int)? {
        var reader = Reader(bytes)
        guard let head = reader.record(), let first = Self.head(head) else { return nil }
        var found = first
        var end = reader.position
        while let payload = reader.record() {
            guard let (item, isTakenBack) = Self.item(payload) else { break }
            end = reader.position
            if isTakenBack {
                found.items.removeAll { $0.place == item.place && $0.path == item.path }
            } else {
                found.items.append(item)
            }
        }
        return (found, end)
    }

    private static func head(_ payload: ArraySlice<UInt8>) -> UnfinishedSet? {
        var fields = Fields(payload)
        guard fields.byte() == 1, let id = fields.take(16), let device = fields.take(16),
            let created = fields.number(UInt64.self),
            let name = String(validating: fields.rest, as: UTF8.self)
        else { return nil }
        return UnfinishedSet(
            identity: SetIdentity(name: name, id: id, created: Int64(bitPattern: created)),
            deviceID: device, items: [], hasManifest: false)
    }

    private static func item(_ payload: ArraySlice<UInt8>) -> (RememberedItem, Bool)? {
        var fields = Fields(payload)
        guard let kind = fields.byte(), kind == 2 || kind == 3,
            let place = fields.number(UInt64.self), let offset = fields.number(UInt64.self),
            let size = fields.number(UInt64.self), let stampSize = fields.number(UInt64.self),
            let seconds = fields.number(UInt64.self), let changed = fields.number(UInt64.self),
            let nanoseconds = fields.number(UInt32.self), let bytes = fields.take(32),
            let digest = ContentDigest(bytes), let length = fields.number(UInt16.self),
            let source = fields.take(Int(length)), !offset.addingReportingOverflow(size).overflow
        else { return nil }
        let stamp = FileStamp(
            size: stampSize, seconds: Int64(bitPattern: seconds), nanoseconds: nanoseconds,
            changed: Int64(bitPattern: changed))
        return (
            RememberedItem(
                source: source, path: Array(fields.rest), offset: offset, size: size,
                stamp: stamp, digest: digest, place: place), kind == 3
        )
    }

    private struct Reader {
        private let bytes: [UInt8]
        private(set) var position = 0

        init(_ bytes: [UInt8]) { self.bytes = bytes }

        mutating func record() -> ArraySlice<UInt8>? {
            var fields = Fields(bytes[position...])
            guard let length = fields.number(UInt32.self), length > 0, length <= payloadBytesMax,
                let checksum = fields.number(UInt32.self), fields.rest.count >= Int(length)
            else { return nil }
            let payload = fields.rest.prefix(Int(length))
            let actual = payload.withUnsafeBytes { clinux_crc32c(0, $0.baseAddress, $0.count) }
            guard actual == checksum else { return nil }
            position += 8 + Int(length)
            return payload
        }
    }

    private struct Fields {
        private(set) var rest: ArraySlice<UInt8>

        init(_ bytes: ArraySlice<UInt8>) { rest = bytes }

        mutating func byte() -> UInt8? { rest.popFirst() }

        mutating func take(_ count: Int) -> [UInt8]? {
            guard rest.count >= count else { return nil }
            defer { rest = rest.dropFirst(count) }
            return Array(rest.prefix(count))
        }

        mutating func number<T: FixedWidthInteger & BitwiseCopyable>(_: T.Type) -> T? {
            guard let bytes = take(T.bitWidth / 8) else { return nil }
            return bytes.withUnsafeBytes { T(littleEndian: $0.loadUnaligned(as: T.self)) }
        }
    }
}
