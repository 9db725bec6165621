// Bytes as hexadecimal digits: ids and digests in texts. Pure.

extension Array where Element == UInt8 {
    /// Two lower-case digits a byte.
    public var hexText: String {
        let digits = Array("0123456789abcdef".utf8)
        var text: [UInt8] = []
        text.reserveCapacity(count * 2)
        for byte in self { text += [digits[Int(byte >> 4)], digits[Int(byte & 15)]] }
        return String(decoding: text, as: UTF8.self)
    }

    /// nil where it is not an even number of hexadecimal digits.
    public init?(hexText: some StringProtocol) {
        let digits = Array(hexText.utf8)
        guard digits.count % 2 == 0 else { return nil }
        self = []
        for i in stride(from: 0, to: digits.count, by: 2) {
            guard let high = Self.digit(digits[i]), let low = Self.digit(digits[i + 1]) else {
                return nil
            }
            append(high << 4 | low)
        }
    }

    private static func digit(_ byte: UInt8) -> UInt8? {
        switch byte {
        case 0x30...0x39: byte - 0x30
        case 0x41...0x46: byte - 0x41 + 10
        case 0x61...0x66: byte - 0x61 + 10
        default: nil
        }
    }
}
