// What a store was found to do. A value, for tables and programs.

/// Whether something that was asked for is done.
public enum ProbeVerdict: String, Codable, Sendable, CaseIterable {
    case honoured
    /// The request succeeds as if it had not been asked for.
    case ignored
    /// The store says that it does not know it.
    case refused
    /// Not looked at, as something before it failed.
    case unknown
}

/// The findings of ObjectProbe.
public struct ProbeReport: Codable, Hashable, Sendable {
    /// Create-only puts (`If-None-Match: *`), one after the other and in races.
    public var createOnly = ProbeVerdict.unknown
    /// Rounds of parallel puts to one key, and the most of them that succeeded in a round.
    public var raceRounds = 0
    public var raceWinnersMax = 0
    /// The same condition at the end of an upload in parts.
    public var createOnlyParts = ProbeVerdict.unknown
    /// A part of an object is read, not all of it.
    public var rangedReads = ProbeVerdict.unknown
    /// What was put is listed at once, in the order of keys.
    public var listAfterWrite = ProbeVerdict.unknown
    /// What was deleted is gone at once.
    public var readAfterDelete = ProbeVerdict.unknown
    /// Uploads in parts.
    public var multipart = ProbeVerdict.unknown
    /// Names and values beside an object come back.
    public var metadata = ProbeVerdict.unknown
    /// A body that is not what its digest says is refused.
    public var checksums = ProbeVerdict.unknown
    /// The keys may delete.
    public var deletes = ProbeVerdict.unknown
    /// Their clock minus ours, seconds; nil: it does not tell.
    public var clockDifferenceSeconds: Int64?

    public init() {}

    /// Whether several writers are kept apart by the store.
    public var isGuarded: Bool { createOnly == .honoured }
    /// Whether history can be kept there at all, with one writer.
    public var isUsable: Bool {
        createOnly != .unknown && rangedReads == .honoured && multipart == .honoured
    }

    enum CodingKeys: String, CodingKey {
        case multipart, metadata, checksums, deletes
        case createOnly = "create_only"
        case raceRounds = "race_rounds"
        case raceWinnersMax = "race_winners_max"
        case createOnlyParts = "create_only_parts"
        case rangedReads = "ranged_reads"
        case listAfterWrite = "list_after_write"
        case readAfterDelete = "read_after_delete"
        case clockDifferenceSeconds = "clock_difference_seconds"
    }
}
