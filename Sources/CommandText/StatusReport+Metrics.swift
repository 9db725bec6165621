// The status as Prometheus text (exposition format 0.0.4). Names and meanings: docs/operations.md.

extension StatusReport {
    /// The body of `GET /metrics`.
    public var metrics: String {
        var page = MetricsPage(labels: "volume=\"\(MetricsPage.escape(volume))\"")
        page.gauge("logdisk_up", "1 while the volume accepts writes", health == .failed ? 0 : 1)
        page.gauge("logdisk_problems", "Number of problems that status lists", problems.count)
        page.gauge("logdisk_size_bytes", "Size of the volume", sizeBytes)
        page.gauge("logdisk_uptime_seconds", "Seconds since the mount", uptimeSeconds)
        page.gauge("logdisk_epoch", "Epoch of the log", epoch)
        page.gauge("logdisk_published_lsn", "Newest ordered record", publishedLSN)
        page.gauge("logdisk_durable_lsn", "Newest record that survives a crash", durableLSN)
        page.gauge("logdisk_applied_lsn", "Newest record written to the image", appliedLSN)
        page.gauge(
            "logdisk_checkpoint_lsn", "Record up to which the image is synced", checkpointLSN)
        page.gauge("logdisk_archived_lsn", "Newest record held in a segment", archivedLSN)
        page.gauge("logdisk_ring_bytes", "Size of the ring", ringBytes)
        page.gauge("logdisk_ring_used_bytes", "Bytes of the ring in use", ringUsedBytes)
        page.gauge("logdisk_wal_bytes", "Bytes of WAL files", walBytes)
        page.gauge("logdisk_wal_max_bytes", "Bound of the WAL files", walBytesMax)
        page.gauge(
            "logdisk_unarchived_bytes", "Bytes of log that no segment holds yet", unarchivedBytes)
        page.gauge("logdisk_segments", "Number of segments", segmentCount)
        page.gauge("logdisk_segment_bytes", "Bytes of all segments", segmentBytes)
        page.gauge(
            "logdisk_image_allocated_bytes", "Bytes on disk of the image", imageAllocatedBytes)
        page.gauge("logdisk_log_free_bytes", "Free bytes where the log lies", logFreeBytes)
        page.gauge("logdisk_writers_held", "Writers held by back-pressure now", writersHeldNow)
        if let lastDrill {
            page.gauge(
                "logdisk_drill_passed", "1 when the newest restore drill passed",
                lastDrill.result == .passed ? 1 : 0)
            page.gauge(
                "logdisk_drill_timestamp_seconds", "When the newest restore drill began",
                lastDrill.unixTime)
            page.gauge(
                "logdisk_drill_seconds", "How long the newest restore drill took",
                lastDrill.seconds)
        }
        page.counter("logdisk_writes_total", "Completed writes", writes)
        page.counter("logdisk_written_bytes_total", "Bytes of completed writes", writtenBytes)
        page.counter("logdisk_reads_total", "Completed reads", reads)
        page.counter("logdisk_read_bytes_total", "Bytes of completed reads", readBytes)
        page.counter("logdisk_flushes_total", "Completed flushes", flushes)
        page.counter("logdisk_write_holds_total", "Writes held by back-pressure", writersHeld)
        page.counter(
            "logdisk_write_hold_seconds_total", "Seconds that writers were held", writersHeldSeconds
        )
        for remote in remotes ?? [] { page.add(remote) }
        return page.text
    }
}

/// Builds one page of metrics; each has HELP and TYPE.
struct MetricsPage {
    private var labels: String
    private var known: Set<String> = []
    private(set) var text = ""

    init(labels: String) { self.labels = labels }

    mutating func gauge<N: Numeric>(_ name: String, _ help: String, _ value: N) {
        add(name, help, "gauge", "\(value)")
    }

    mutating func counter<N: Numeric>(_ name: String, _ help: String, _ value: N) {
        add(name, help, "counter", "\(value)")
    }

    /// A remote's, with its name as a label. HELP and TYPE stand before the first of each only.
    mutating func add(_ remote: RemoteReport) {
        let all = labels
        labels += ",remote=\"\(Self.escape(remote.name))\""
        defer { labels = all }
        gauge("logdisk_remote_acked_lsn", "Newest record at the remote", remote.ackedLSN ?? 0)
        gauge(
            "logdisk_remote_lag_records", "Durable records the remote lacks", remote.lagRecords)
        gauge("logdisk_remote_lag_bytes", "Bytes that wait for the remote", remote.lagBytes)
        gauge(
            "logdisk_remote_lag_seconds", "Age of the oldest record it lacks", remote.lagSeconds)
        gauge(
            "logdisk_remote_shipping", "1 while the schedule lets it ship",
            remote.stateKind.hasPrefix("ship:") ? 1 : 0)
        gauge(
            "logdisk_remote_problem", "1 while it needs the user", remote.problem == nil ? 0 : 1)
        gauge(
            "logdisk_remote_holding_writers", "1 while writers are held for it",
            remote.isHoldingWriters ? 1 : 0)
        counter(
            "logdisk_remote_shipped_bytes_total", "Bytes handed to the network",
            remote.shippedBytes)
        counter("logdisk_remote_segments_total", "Segments acknowledged", remote.shippedSegments)
        counter("logdisk_remote_drops_total", "Times that points were given up", remote.drops)
        if let usage = remote.usage { add(usage) }
    }

    private mutating func add(_ usage: RemoteReport.Usage) {
        let all = labels
        for (kind, count) in usage.requests.sorted(by: { $0.key < $1.key }) {
            labels = all + ",kind=\"\(Self.escape(kind))\""
            counter("logdisk_remote_requests_total", "Requests, by kind", count)
        }
        labels = all
        gauge(
            "logdisk_remote_requests_last_hour", "Requests in the last hour",
            usage.requestsLastHour)
        counter("logdisk_remote_repeats_total", "Requests sent again", usage.repeats)
        counter("logdisk_remote_sent_bytes_total", "Bytes of requests", usage.sentBytes)
        counter("logdisk_remote_received_bytes_total", "Bytes of answers", usage.receivedBytes)
    }

    private mutating func add(_ name: String, _ help: String, _ type: String, _ value: String) {
        if known.insert(name).inserted {
            text += "# HELP \(name) \(help)\n# TYPE \(name) \(type)\n"
        }
        text += "\(name){\(labels)} \(value)\n"
    }

    /// A label value: backslash, quote and newline escaped.
    static func escape(_ value: String) -> String {
        var result = ""
        for character in value {
            switch character {
            case "\\": result += "\\\\"
            case "\"": result += "\\\""
            case "\n": result += "\\n"
            default: result.append(character)
            }
        }
        return result
    }
}
