// What a log record can say.

/// Kind of a record in the log. Raw values are on disk: never renumber.
public enum RecordKind: UInt8, Sendable, Codable, CaseIterable {
    /// Bytes for an extent.
    case write = 1
    /// An extent reads as zeros from here on (FALLOC_FL_ZERO_RANGE).
    case zero = 2
    /// An extent is no longer needed and reads as zeros (FALLOC_FL_PUNCH_HOLE).
    case discard = 3
    /// All records before this one are durable: a barrier.
    case flush = 4
    /// A named point; the payload is the name in UTF-8.
    case mark = 5
    /// Fills space to the end of the ring or a file; carries no LSN of its own.
    case pad = 6

    /// Whether records of this kind change sectors.
    public var changesSectors: Bool { self == .write || self == .zero || self == .discard }
}
