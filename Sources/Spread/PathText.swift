// Paths of any bytes as text. Valid UTF-8 stays as it is. Each byte that is no part of valid UTF-8
// becomes U+0000 and two lower-case hexadecimal digits: a path cannot hold a NUL, so nothing is
// ambiguous, every path comes back byte for byte, and JSON parsers of any strictness take it.

public enum PathText {
    private static let digits = Array("0123456789abcdef".utf8)

    /// The text of a path.
    public static func text(_ path: some Collection<UInt8>) -> String {
        String(decoding: utf8(path), as: UTF8.self)
    }

    /// The same as bytes of UTF-8.
    static func utf8(_ path: some Collection<UInt8>) -> [UInt8] {
        var result: [UInt8] = []
        result.reserveCapacity(path.count)
        var rest = path[...]
        while let byte = rest.first {
            let length = sequenceLength(rest)
            if length > 0 {
                result.append(contentsOf: rest.prefix(length))
                rest = rest.dropFirst(length)
            } else {
                result += [0, digits[Int(byte >> 4)], digits[Int(byte & 15)]]
                rest = rest.dropFirst()
            }
        }
        return result
    }

    /// The bytes of a path; nil when `text` is no path's text.
    public static func bytes(_ text: some Collection<UInt8>) -> [UInt8]? {
        var result: [UInt8] = []
        result.reserveCapacity(text.count)
        var rest = text[...]
        while let byte = rest.popFirst() {
            if byte != 0 {
                result.append(byte)
                continue
            }
            guard let high = rest.popFirst().flatMap(value),
                let low = rest.popFirst().flatMap(value)
            else { return nil }
            let escaped = high << 4 | low
            if escaped < 0x80 { return nil }  // such a byte is valid by itself
            result.append(escaped)
        }
        return result
    }

    public static func bytes(_ text: String) -> [UInt8]? { bytes(Array(text.utf8)) }

    private static func value(_ digit: UInt8) -> UInt8? {
        digits.firstIndex(of: digit).map { UInt8($0) }
    }

    /// Length of the well-formed sequence at the start (Unicode 16, table 3-7); 0 where there is
    /// none.
    static func sequenceLength(_ bytes: some Collection<UInt8>) -> Int {
        var iterator = bytes.makeIterator()
        guard let first = iterator.next() else { return 0 }
        let length: Int
        var second: ClosedRange<UInt8> = 0x80...0xBF
        switch first {
        case 0...0x7F: return 1
        case 0xC2...0xDF: length = 2
        case 0xE0: (length, second) = (3, 0xA0...0xBF)
        case 0xED: (length, second) = (3, 0x80...0x9F)
        case 0xE1...0xEF: length = 3
        case 0xF0: (length, second) = (4, 0x90...0xBF)
        case 0xF4: (length, second) = (4, 0x80...0x8F)
        case 0xF1...0xF3: length = 4
        default: return 0
        }
        for position in 1..<length {
            guard let byte = iterator.next() else { return 0 }
            if !(position == 1 ? second : 0x80...0xBF).contains(byte) { return 0 }
        }
        return length
    }
}
