// What was asked of a store: requests by kind and bytes, as they cost money there. For status and
// metrics. A value.

/// Numbers since the client was made.
public struct ObjectCounters: Hashable, Sendable, Codable {
    /// By kind: `put` (with all of an upload in parts), `get`, `head`, `list`, `delete`.
    public var requests: [String: UInt64] = [:]
    /// Of these so many were sent because one before them failed.
    public var repeats: UInt64 = 0
    /// Bytes of bodies.
    public var sentBytes: UInt64 = 0
    public var receivedBytes: UInt64 = 0

    public init() {}

    /// Of all kinds.
    public var requestCount: UInt64 { requests.values.reduce(0, +) }

    enum Kind: String, Sendable { case put, get, head, list, delete }

    mutating func count(_ kind: Kind) { requests[kind.rawValue, default: 0] += 1 }
}
