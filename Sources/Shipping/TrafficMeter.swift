// How much others send and receive over the interface: the kernel's counters less our own bytes,
// smoothed over a window. Pure: counters and time are handed in.

/// The traffic of others. One thread.
public struct TrafficMeter: Sendable {
    private struct Sample {
        var time: Int64
        /// Bytes of others since the first sample.
        var foreign: UInt64
    }
    private let windowNanoseconds: Int64
    private var samples: [Sample] = []
    private var counter: UInt64 = 0
    private var own: UInt64 = 0
    /// Bytes of ours that the counters have not shown yet.
    private var owed: UInt64 = 0
    /// The highest rate seen over a window, ours included, in bytes a second.
    public private(set) var rateMax: UInt64 = 0
    private var totals: [Sample] = []

    public init(windowSeconds: Int64) {
        windowNanoseconds = max(1, windowSeconds) * 1_000_000_000
    }

    /// Takes the counters at `now` (monotonic nanoseconds): all bytes of the interface, and how
    /// many of them were ours. Counters that fell (the interface came anew) begin a new window.
    public mutating func take(interfaceBytes: UInt64, ownBytes: UInt64, now: Int64) {
        let isNew =
            samples.isEmpty || interfaceBytes < counter || ownBytes < own
            || now - samples[samples.count - 1].time > 3 * windowNanoseconds
        if isNew {
            samples = [Sample(time: now, foreign: 0)]
            totals = samples
            owed = 0
        } else if let last = samples.last, let total = totals.last, now > last.time {
            let all = interfaceBytes - counter
            // What we have handed to the kernel may pass the interface a moment later; what never
            // shows (it went another way, or was less than we think) must not hide others.
            let sent = ownBytes - own
            let ours = min(owed + sent, all)
            owed = min(owed + sent - ours, sent)
            samples.append(Sample(time: now, foreign: last.foreign + (all - ours)))
            totals.append(Sample(time: now, foreign: total.foreign + all))
            Self.trim(&samples, window: windowNanoseconds, now: now)
            Self.trim(&totals, window: windowNanoseconds, now: now)
            if let rate = Self.rate(totals, window: windowNanoseconds) {
                rateMax = max(rateMax, rate)
            }
        } else {
            return
        }
        counter = interfaceBytes
        own = ownBytes
    }

    /// Bytes a second of others over the window; nil while the window is not full yet.
    public var rate: UInt64? { Self.rate(samples, window: windowNanoseconds) }

    /// When the window is full, counted from the newest sample, in nanoseconds.
    public var nanosecondsUntilKnown: Int64 {
        guard let first = samples.first, let last = samples.last else { return windowNanoseconds }
        return max(0, windowNanoseconds - (last.time - first.time))
    }

    /// Keeps one sample at or before the beginning of the window.
    private static func trim(_ samples: inout [Sample], window: Int64, now: Int64) {
        while samples.count > 2, now - samples[1].time >= window { samples.removeFirst() }
    }

    private static func rate(_ samples: [Sample], window: Int64) -> UInt64? {
        guard let first = samples.first, let last = samples.last, last.time - first.time >= window
        else { return nil }
        let bytes = Double(last.foreign - first.foreign)
        return UInt64(bytes * 1e9 / Double(last.time - first.time))
    }
}
