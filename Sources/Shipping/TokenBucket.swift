// A bound on a rate. Pure: the time is handed in.

/// Gives out bytes at a rate, with bursts of at most a fifth of a second.
public struct TokenBucket: Sendable {
    public let bytesPerSecond: UInt64
    private var available: Double
    private var last: Int64?

    public init(bytesPerSecond: UInt64) {
        precondition(bytesPerSecond > 0)
        self.bytesPerSecond = bytesPerSecond
        available = 0
    }

    /// Takes `count` bytes at `now` (monotonic nanoseconds); nanoseconds to wait before they are
    /// sent. What is taken is owed: the next waits for it, too.
    public mutating func take(_ count: Int, now: Int64) -> Int64 {
        let burst = Double(bytesPerSecond) / 5
        if let last {
            let earned = Double(max(0, now - last)) * Double(bytesPerSecond) / 1e9
            available = min(burst, available + earned)
        } else {
            available = burst
        }
        last = now
        available -= Double(count)
        return available >= 0 ? 0 : Int64(-available * 1e9 / Double(bytesPerSecond))
    }
}
