// Requests to a remote, over the clients that one shipper has used up, and how many there were in
// the last hour. Nobody is woken for it: what is counted is noted when something is asked, and when
// somebody looks, a minute apart at least.

/// A value; times are monotonic, in nanoseconds.
public struct RequestMeter: Sendable {
    /// What clients that are gone have counted.
    private var before = RemoteReport.Usage()
    /// Totals at times, the oldest first.
    private var samples: [(at: Int64, total: UInt64)] = []

    private static let minute: Int64 = 60_000_000_000
    private static let hour = 60 * minute

    public init() {}

    /// Adds what a client has counted to its end.
    public mutating func end(_ usage: RemoteReport.Usage?) {
        if let usage { before = Self.sum(before, usage) }
    }

    /// All that was counted, of which `usage` is what the present client did; nil where none
    /// counts.
    public mutating func look(_ usage: RemoteReport.Usage?, now: Int64) -> RemoteReport.Usage? {
        guard let usage else { return nil }
        var all = Self.sum(before, usage)
        let total = all.total
        // The newest one from before the hour tells what had been counted by then.
        while samples.count > 1, samples[1].at <= now - Self.hour { samples.removeFirst() }
        let isOld = samples.first.map { $0.at <= now - Self.hour } ?? false
        all.requestsLastHour = total - min(total, isOld ? samples[0].total : 0)
        if samples.last.map({ now - $0.at >= Self.minute }) ?? true { samples.append((now, total)) }
        return all
    }

    private static func sum(
        _ one: RemoteReport.Usage, _ other: RemoteReport.Usage
    ) -> RemoteReport.Usage {
        var sum = one
        sum.requests.merge(other.requests, uniquingKeysWith: +)
        sum.repeats += other.repeats
        sum.sentBytes += other.sentBytes
        sum.receivedBytes += other.receivedBytes
        return sum
    }
}
