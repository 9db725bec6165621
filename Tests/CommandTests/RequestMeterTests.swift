// Requests to a remote, counted over an hour that goes on, and over clients that come and go.

import CommandText
import Testing

@Suite struct RequestMeterTests {
    private static let minute: Int64 = 60_000_000_000

    private static func usage(_ puts: UInt64) -> RemoteReport.Usage {
        var usage = RemoteReport.Usage()
        usage.requests = ["put": puts]
        usage.sentBytes = puts * 10
        return usage
    }

    @Test func theLastHour() {
        var meter = RequestMeter()
        // One request a minute, from the first minute on.
        for minute in 0..<200 {
            let seen = meter.look(Self.usage(UInt64(minute)), now: Int64(minute) * Self.minute)
            #expect(seen?.total == UInt64(minute))
            #expect(seen?.requestsLastHour == UInt64(min(minute, 60)), "minute \(minute)")
        }
        // Nothing for an hour.
        let quiet = meter.look(Self.usage(199), now: 259 * Self.minute)
        #expect(quiet?.requestsLastHour == 0 && quiet?.total == 199)
    }

    @Test func clientsComeAndGo() {
        var meter = RequestMeter()
        #expect(meter.look(nil, now: 0) == nil)
        _ = meter.look(Self.usage(5), now: 0)
        meter.end(Self.usage(7))
        meter.end(nil)
        let seen = meter.look(Self.usage(2), now: Self.minute)
        #expect(seen?.requests == ["put": 9] && seen?.sentBytes == 90)
        #expect(seen?.requestsLastHour == 9)
    }

    /// Of a remote that costs requests `remote show` and the metrics tell how many.
    @Test func usageIsShown() {
        var report = RemoteReport()
        report.name = "far"
        report.warning = "careful"
        report.usage = Self.usage(3)
        report.usage?.requests["get"] = 2
        report.usage?.repeats = 1
        report.usage?.requestsLastHour = 4
        var retention = RemoteReport.Retention()
        retention.time = "2026-11-21T10:05:03Z"
        retention.undeletable = ["segments/x: object lock"]
        report.retention = retention
        for text in [
            "careful", "4 in the last hour; since the mount 5 (2 get, 3 put), 1 of them repeats",
            "1 objects may not be deleted",
        ] {
            #expect(report.text.contains(text), "\(report.text)")
        }
        #expect(report.line.hasSuffix("; careful"))
        var status = StatusReport()
        status.remotes = [report]
        for text in [
            "logdisk_remote_requests_total{", "kind=\"get\"} 2", "kind=\"put\"} 3",
            "logdisk_remote_requests_last_hour{", "logdisk_remote_sent_bytes_total{",
        ] {
            #expect(status.metrics.contains(text), "\(text)")
        }
    }
}
