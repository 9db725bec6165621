// Where stamps get their time. A class so that tests can step it; the call is one indirect jump.

import CLinux

/// The system's wall clock. Any thread may call.
open class WallClock: @unchecked Sendable {
    // @unchecked: no state here; subclasses synchronise their own.
    public init() {}

    /// Nanoseconds since 1970-01-01 UTC. May step; who stamps clamps.
    open func nanoseconds() -> Int64 { clinux_wall_ns() }
}
