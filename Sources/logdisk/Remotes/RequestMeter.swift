// Requests to a remote, over the clients that one shipper has used up, and how many there were in
// the last hour. Nobody is woken for it: what is counted is noted when something is asked, and when
// somebody looks.

import CLinux
import CommandText

/// A value; times are monotonic.
struct RequestMeter {
    /// What clients that are gone have counted.
    private var before = RemoteReport.Usage()
    /// Totals at times, the oldest first, a minute apart or more.
    private var samples: [(at: Int64, total: UInt64)] = []

    private static let minute: Int64 = 60_000_000_000
    private static let hour = 60 * minute

    /// Adds what a client has counted to its end.
    mutating func end(_ usage: RemoteReport.Usage?) {
        guard let usage else { return }
        before = Self.sum(before, usage)
    }

    /// All that was counted, of which `usage` is what the present client did.
    mutating func look(
        _ usage: RemoteReport.Usage?, now: Int64 = clinux_monotonic_ns()
    ) -> RemoteReport.Usage? {
        guard let usage else { return nil }
        var all = Self.sum(before, usage)
        let total = all.total
        // The last one before the hour began tells what had been counted by then.
        while samples.count > 1, samples[1].at <= now - Self.hour { samples.removeFirst() }
        if samples.isEmpty { samples.append((now, 0)) }
        let isOld = samples[0].at <= now - Self.hour
        all.requestsLastHour = total - min(total, isOld ? samples[0].total : 0)
        if let last = samples.last, now - last.at >= Self.minute { samples.append((now, total)) }
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
