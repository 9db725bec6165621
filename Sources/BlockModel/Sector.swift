// Sector arithmetic. A sector is 512 bytes; an LBA is the index of one, never a byte offset.

/// Constants of the block model.
public enum Sector {
    /// Bytes in a sector.
    public static let bytes = 512
    /// log2 of `bytes`.
    public static let shift: UInt64 = 9
}

/// A half-open run of sectors: `start ..< start + count`.
public struct Extent: Hashable, Sendable, Codable {
    /// LBA of the first sector.
    public var start: UInt64
    /// Number of sectors.
    public var count: UInt64

    public init(start: UInt64, count: UInt64) {
        self.start = start
        self.count = count
    }

    /// LBA after the last sector. Traps when start + count passes 2^64: parsers check before.
    public var end: UInt64 { start + count }
    public var isEmpty: Bool { count == 0 }
    public var byteOffset: UInt64 { start << Sector.shift }
    public var byteCount: UInt64 { count << Sector.shift }

    public func overlaps(_ other: Extent) -> Bool { start < other.end && other.start < end }

    /// The sectors that both have; nil where none.
    public func intersection(_ other: Extent) -> Extent? {
        let low = max(start, other.start)
        let high = min(end, other.end)
        return low < high ? Extent(start: low, count: high - low) : nil
    }

    /// The smallest extent that holds `count` bytes at byte `offset`.
    public init(coveringBytesAt offset: UInt64, count byteCount: UInt64) {
        let first = offset >> Sector.shift
        let last = (offset + byteCount + UInt64(Sector.bytes) - 1) >> Sector.shift
        self.init(start: first, count: byteCount == 0 ? 0 : last - first)
    }
}

/// 128-bit identity of a volume.
public struct VolumeID: Hashable, Sendable, Codable {
    public var high: UInt64
    public var low: UInt64

    public init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }

    /// A new random identity (version 4 UUID).
    public static func random() -> VolumeID {
        var source = SystemRandomNumberGenerator()
        return random(using: &source)
    }

    public static func random<R: RandomNumberGenerator>(using source: inout R) -> VolumeID {
        let high = source.next() as UInt64
        let low = source.next() as UInt64
        return VolumeID(
            high: (high & ~0xF000) | 0x4000, low: (low & ~(0b11 << 62)) | (0b10 << 62))
    }
}

extension VolumeID: CustomStringConvertible {
    /// Canonical form: 8-4-4-4-12 lower-case hexadecimal digits.
    public var description: String {
        func hex(_ value: UInt64, _ digits: Int) -> String {
            let text = String(value, radix: 16)
            return String(repeating: "0", count: max(0, digits - text.count)) + text
        }
        let h = hex(high, 16)
        let l = hex(low, 16)
        return "\(h.prefix(8))-\(h.dropFirst(8).prefix(4))-\(h.suffix(4))"
            + "-\(l.prefix(4))-\(l.suffix(12))"
    }

    /// Parses the canonical form; nil for anything else.
    public init?(_ text: String) {
        let parts = text.split(separator: "-", omittingEmptySubsequences: false)
        guard parts.map(\.count) == [8, 4, 4, 4, 12] else { return nil }
        let digits = parts.joined()
        // UInt64(_:radix:) takes a sign too.
        guard digits.allSatisfy({ $0.isASCII && $0.isHexDigit }),
            let high = UInt64(digits.prefix(16), radix: 16),
            let low = UInt64(digits.suffix(16), radix: 16)
        else { return nil }
        self.init(high: high, low: low)
    }
}
