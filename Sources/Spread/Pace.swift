// A bound on a device's rate. Pure: the time is handed in.

/// Gives out bytes at a rate. What a busy machine or disk held up is made up for, half a second of
/// it at most.
struct Pace {
    private let bytesPerSecond: Double
    /// When what was taken so far is paid for, monotonic nanoseconds.
    private var paidAt: Int64?

    init(bytesPerSecond: UInt64) {
        precondition(bytesPerSecond > 0)
        self.bytesPerSecond = Double(bytesPerSecond)
    }

    /// Takes `count` bytes at `now`; nanoseconds to wait before going on.
    mutating func take(_ count: Int, now: Int64) -> Int64 {
        let start = max(paidAt ?? now, now - 500_000_000)
        let end = start + Int64(Double(count) / bytesPerSecond * 1e9)
        paidAt = end
        return max(0, end - now)
    }
}
