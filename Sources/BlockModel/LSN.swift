// Log sequence numbers and stamps: the names that records carry for ever. Values only; no clock
// here.

/// Log sequence number. Names one record of a volume for ever; the first record is 1. 0 stands for
/// "before any record", which is the state that the base snapshot holds.
public struct LSN: RawRepresentable, Hashable, Comparable, Sendable, Codable {
    public let rawValue: UInt64

    public init(rawValue: UInt64) { self.rawValue = rawValue }
    public init(_ value: UInt64) { rawValue = value }

    public static let zero = LSN(0)
    public static let max = LSN(UInt64.max)

    /// The LSN of the record that follows. 2^64 records are beyond any volume's life.
    public var next: LSN { LSN(rawValue + 1) }
    /// The LSN of the record before; `zero` has none.
    public var previous: LSN { LSN(rawValue - 1) }

    public static func < (a: LSN, b: LSN) -> Bool { a.rawValue < b.rawValue }
}

extension LSN: CustomStringConvertible {
    public var description: String { String(rawValue) }
}

/// What ordering gives a record: its LSN and the wall time, in nanoseconds since 1970-01-01 UTC.
/// Within a volume both only rise (wall times may be equal; then the LSN decides).
public struct Stamp: Hashable, Comparable, Sendable, Codable {
    public var lsn: LSN
    public var wallNanoseconds: Int64

    public init(lsn: LSN, wallNanoseconds: Int64) {
        self.lsn = lsn
        self.wallNanoseconds = wallNanoseconds
    }

    public static let zero = Stamp(lsn: .zero, wallNanoseconds: 0)

    public static func < (a: Stamp, b: Stamp) -> Bool { a.lsn < b.lsn }
}
