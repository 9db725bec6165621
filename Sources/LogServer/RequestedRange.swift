// The bytes of a segment or file that a request asks for. Pure.

import ServerAPI

/// A range of something of `size` bytes.
struct RequestedRange: Hashable, Sendable {
    var bytes: Range<UInt64>
    /// Of the whole.
    var size: UInt64
    var isWhole: Bool

    /// `field`: `Range`, or nil for all. What is not understood asks for all, as RFC 9110 has it;
    /// several parts, and what lies outside, throw `.range`.
    init(size: UInt64, field: String?) throws(ErrorReply) {
        self.size = size
        bytes = 0..<size
        isWhole = true
        guard let field, field.hasPrefix("bytes=") else { return }
        let text = field.dropFirst("bytes=".count)
        guard !text.contains(",") else {
            throw ErrorReply(.range, "one range at a time", bytes: size)
        }
        let ends = text.split(separator: "-", omittingEmptySubsequences: false)
        guard ends.count == 2 else { return }
        func number(_ text: Substring) -> UInt64? {
            text.utf8.allSatisfy { (0x30...0x39).contains($0) } ? UInt64(text) : nil
        }
        switch (number(ends[0]), number(ends[1])) {
        case (let first?, let last?):
            guard first <= last else { return }
            guard first < size else { throw Self.outside(size) }
            bytes = first..<min(last, size - 1) + 1
        case (let first?, nil):
            guard ends[1].isEmpty else { return }
            guard first < size else { throw Self.outside(size) }
            bytes = first..<size
        case (nil, let count?):
            guard ends[0].isEmpty else { return }
            guard count > 0, size > 0 else { throw Self.outside(size) }
            bytes = (size - min(count, size))..<size
        case (nil, nil): return
        }
        isWhole = false
    }

    private static func outside(_ size: UInt64) -> ErrorReply {
        ErrorReply(.range, "there are \(size) bytes", bytes: size)
    }

    /// Value of `Content-Range`.
    var contentRange: String { "bytes \(bytes.lowerBound)-\(bytes.upperBound - 1)/\(size)" }
}
