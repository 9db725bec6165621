// Time as the shipper sees it, so that tests can make hours pass at once; and the bell that wakes
// its thread.

import CLinux
import Foundation

/// Clocks. Any thread may call.
public struct ShipClock: Sendable {
    /// Monotonic nanoseconds.
    public var now: @Sendable () -> Int64
    /// Nanoseconds since 1970-01-01 UTC.
    public var wall: @Sendable () -> Int64
    /// Minute of the day in local time, of a wall time.
    public var minuteOfDay: @Sendable (Int64) -> Int
    /// nil: sleeps really.
    public var sleep: (@Sendable (Int64) -> Void)?

    /// The machine's.
    public init() {
        now = { clinux_monotonic_ns() }
        wall = { clinux_wall_ns() }
        minuteOfDay = { wall in
            var second = time_t(wall / 1_000_000_000)
            var parts = tm()
            localtime_r(&second, &parts)
            return Int(parts.tm_hour) * 60 + Int(parts.tm_min)
        }
    }
}

/// Wakes a thread, from any other.
final class ShipBell: @unchecked Sendable {
    // @unchecked: `rings` is read and changed under the condition's lock.
    private let condition = NSCondition()
    private var rings: UInt64 = 0

    var count: UInt64 {
        condition.lock()
        defer { condition.unlock() }
        return rings
    }

    func ring() {
        condition.lock()
        rings += 1
        condition.broadcast()
        condition.unlock()
    }

    /// Sleeps until it rang after `count`, or the time is over; nil: however long.
    func sleep(_ nanoseconds: Int64?, since count: UInt64) {
        let seconds = nanoseconds.map { Double($0) / 1e9 } ?? .infinity
        let end = Date(timeIntervalSinceNow: min(seconds, 86_400))
        condition.lock()
        defer { condition.unlock() }
        while rings == count {
            if !condition.wait(until: end) { return }
        }
    }
}
