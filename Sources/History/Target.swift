// What a person says to name a point: a time, an LSN, a mark. Parsing is pure: `now` and the zone
// come in.

import BlockModel

#if canImport(Glibc)
    import Glibc
#endif

/// A point in time as it was asked for.
public enum Target: Hashable, Sendable {
    /// The last durable record.
    case now
    /// Every record with a wall time at or before this one; nanoseconds since 1970-01-01 UTC.
    case time(Int64)
    case lsn(LSN)
    case mark(String)
}
