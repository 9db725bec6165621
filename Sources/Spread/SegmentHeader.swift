// The header in front of a segment: a part of a file that speaks for itself on its device.
//
// Layout: text, so that `head` shows it, then zeros up to the next multiple of 4096 bytes; behind
// it come the bytes of the part, as they are in the file. Lines end with a newline (0x0A), fields
// come in this order, numbers are decimal:
//
//   logdisk-spread segment 1
//   set NAME                  the set's name, percent-encoded
//   set-id HEX                16 bytes that tell sets of one name apart
//   source NAME               the source's name in the set, percent-encoded
//   path PATH                 within the source, percent-encoded; empty: the source is one file
//   offset N                  where the part begins in the file, in bytes
//   size N                    bytes of the part
//   total N                   bytes of the whole file
//   position N of M           number of the part in the set, of so many that were planned
//   sha256 HEX                of the part's bytes; a single - while it is not known yet
//   header-bytes N            where the bytes of the part begin: a multiple of 4096
//   crc32c HEX                of all bytes before this line
//
// Percent-encoded: bytes up to 0x20, 0x25 (%) and from 0x7F on are %XX, upper-case.
//
// A header is valid if and only if
//   1. the first line is as above,
//   2. the fields are there, in this order, each once, and there is no other,
//   3. the CRC-32C is right,
//   4. offset + size <= total < 2^63, position < count,
//   5. header-bytes is the least multiple of 4096 that holds the text (with a digest of 64 digits,
//      known or not), at most 1 MiB,
//   6. all bytes behind the text are zero.
//
// On a tape the digest is known only behind the bytes: there the header in front says `-`, and the
// same header with the digest follows the bytes.

import CLinux

/// What a segment says of itself.
public struct SegmentHeader: Sendable, Hashable {
    public var setName: [UInt8]
    /// 16 bytes.
    public var setID: [UInt8]
    public var source: [UInt8]
    public var path: [UInt8]
    public var offset: UInt64
    public var size: UInt64
    public var total: UInt64
    public var position: UInt64
    public var count: UInt64
    /// 32 bytes; nil while it is not known.
    public var digest: [UInt8]?

    public static let unit = 4096
    public static let bytesMax = 1 << 20
    private static let firstLine = "logdisk-spread segment 1\n"
    private static let checksumBytes = "crc32c 01234567\n".utf8.count

    // MARK: - encoding

    /// A multiple of `unit` bytes.
    public func encoded() -> [UInt8] {
        var text = Array(Self.firstLine.utf8)
        func line(_ key: String, _ value: [UInt8]) { text += Array("\(key) ".utf8) + value + [10] }
        func line(_ key: String, _ value: String) { line(key, Array(value.utf8)) }
        line("set", PercentText.encoded(setName))
        line("set-id", setID.hexText)
        line("source", PercentText.encoded(source))
        line("path", PercentText.encoded(path))
        line("offset", "\(offset)")
        line("size", "\(size)")
        line("total", "\(total)")
        line("position", "\(position) of \(count)")
        line("sha256", digest?.hexText ?? "-")
        // The number's own length decides; one more digit at a border changes nothing else.
        var bytes = Self.unit
        let missing = digest == nil ? 63 : 0
        while text.count + missing + "header-bytes \(bytes)\n".utf8.count + Self.checksumBytes
            > bytes
        {
            bytes += Self.unit
        }
        line("header-bytes", "\(bytes)")
        let checksum = text.withUnsafeBytes { clinux_crc32c(0, $0.baseAddress, $0.count) }
        line("crc32c", Self.hex(checksum))
        return text + [UInt8](repeating: 0, count: bytes - text.count)
    }

    /// What `encoded` takes, whether the digest is known or not.
    public var encodedBytes: Int { encoded().count }

    private static func hex(_ value: UInt32) -> String {
        let text = String(value, radix: 16)
        return String(repeating: "0", count: 8 - text.count) + text
    }

    // MARK: - decoding

    /// The length that the header at the start of `bytes` claims; nil where none begins. `bytes`
    /// are the first `unit` bytes or more; the claim is not checked yet.
    public static func claimedBytes(_ bytes: some Collection<UInt8>) -> Int? {
        guard bytes.starts(with: firstLine.utf8) else { return nil }
        // A header of one unit holds its own length; else the length is behind the first unit.
        let key = Array("\nheader-bytes ".utf8)
        let all = Array(bytes.prefix(bytesMax))
        guard let start = all.firstRange(of: key)?.upperBound else {
            return all.count < bytesMax ? all.count + unit : nil
        }
        let digits = all[start...].prefix { $0 != 10 }
        guard digits.count < 8, let count = Int(String(decoding: digits, as: UTF8.self)),
            count > 0, count % unit == 0, count <= bytesMax
        else { return nil }
        return count
    }

    /// Reads a whole header; nil where it is not valid.
    public init?(decoding bytes: [UInt8]) {
        guard bytes.count % Self.unit == 0, bytes.count <= Self.bytesMax else { return nil }
        var fields = HeaderFields(bytes)
        guard fields.take(Self.firstLine), let setName = fields.percent("set"),
            let setID = fields.hex("set-id", 16), let source = fields.percent("source"),
            let path = fields.percent("path"), let offset = fields.number("offset"),
            let size = fields.number("size"), let total = fields.number("total"),
            let position = fields.value("position"), let digest = fields.value("sha256"),
            let length = fields.number("header-bytes")
        else { return nil }
        let checksum = bytes[..<fields.position].withUnsafeBytes {
            clinux_crc32c(0, $0.baseAddress, $0.count)
        }
        guard let claimed = fields.value("crc32c"), claimed.elementsEqual(Self.hex(checksum).utf8),
            length == UInt64(bytes.count), bytes[fields.position...].allSatisfy({ $0 == 0 })
        else { return nil }
        let (end, overflow) = offset.addingReportingOverflow(size)
        guard !overflow, end <= total, total < 1 << 63 else { return nil }
        let numbers = String(decoding: position, as: UTF8.self).split(separator: " ")
        guard numbers.count == 3, numbers[1] == "of", let number = UInt64(numbers[0]),
            let count = UInt64(numbers[2]), number < count
        else { return nil }
        if digest.elementsEqual("-".utf8) {
            self.digest = nil
        } else {
            let text = String(decoding: digest, as: UTF8.self)
            guard let bytes = [UInt8](hexText: text), bytes.count == 32 else { return nil }
            self.digest = bytes
        }
        (self.setName, self.setID, self.source, self.path) = (setName, setID, source, path)
        (self.offset, self.size, self.total) = (offset, size, total)
        (self.position, self.count) = (number, count)
        // One text for one header: no leading zeros, no other case.
        guard encoded() == bytes else { return nil }
    }

    public init(
        setName: [UInt8], setID: [UInt8], source: [UInt8], path: [UInt8], offset: UInt64,
        size: UInt64, total: UInt64, position: UInt64, count: UInt64, digest: [UInt8]? = nil
    ) {
        (self.setName, self.setID, self.source, self.path) = (setName, setID, source, path)
        (self.offset, self.size, self.total) = (offset, size, total)
        (self.position, self.count, self.digest) = (position, count, digest)
    }
}

/// Lines of a header, one after the other.
private struct HeaderFields {
    private let bytes: [UInt8]
    private(set) var position = 0

    init(_ bytes: [UInt8]) { self.bytes = bytes }

    mutating func take(_ text: String) -> Bool {
        guard bytes[position...].starts(with: text.utf8) else { return false }
        position += text.utf8.count
        return true
    }

    mutating func value(_ key: String) -> ArraySlice<UInt8>? {
        guard take(key + " "), let end = bytes[position...].firstIndex(of: 10) else { return nil }
        defer { position = end + 1 }
        return bytes[position..<end]
    }

    mutating func number(_ key: String) -> UInt64? {
        value(key).flatMap { UInt64(String(decoding: $0, as: UTF8.self)) }
    }

    mutating func hex(_ key: String, _ count: Int) -> [UInt8]? {
        value(key).flatMap { [UInt8](hexText: String(decoding: $0, as: UTF8.self)) }
            .flatMap { $0.count == count ? $0 : nil }
    }

    mutating func percent(_ key: String) -> [UInt8]? { value(key).flatMap(PercentText.decoded) }
}

/// Bytes as one word of printable ASCII.
public enum PercentText {
    private static let digits = Array("0123456789ABCDEF".utf8)

    public static func encoded(_ bytes: some Sequence<UInt8>) -> [UInt8] {
        var text: [UInt8] = []
        for byte in bytes {
            if byte > 0x20, byte < 0x7F, byte != UInt8(ascii: "%") {
                text.append(byte)
            } else {
                text += [UInt8(ascii: "%"), digits[Int(byte >> 4)], digits[Int(byte & 15)]]
            }
        }
        return text
    }

    /// nil where a % is not followed by two digits.
    public static func decoded(_ text: some Collection<UInt8>) -> [UInt8]? {
        var bytes: [UInt8] = []
        var rest = text[...]
        while let byte = rest.popFirst() {
            guard byte == UInt8(ascii: "%") else {
                bytes.append(byte)
                continue
            }
            guard let high = rest.popFirst().flatMap({ digits.firstIndex(of: $0) }),
                let low = rest.popFirst().flatMap({ digits.firstIndex(of: $0) })
            else { return nil }
            bytes.append(UInt8(high) << 4 | UInt8(low))
        }
        return bytes
    }
}
