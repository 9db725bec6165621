// A remote of a volume as `status`, `remote show`, the control socket and the metrics tell it.

/// State of one remote. The keys of the JSON are stable.
public struct RemoteReport: Codable, Hashable, Sendable {
    /// A change of mind about shipping.
    public struct Decision: Codable, Hashable, Sendable {
        /// RFC 3339.
        public var time: String
        /// `ship:REASON` or `hold:REASON`.
        public var kind: String
        public var text: String

        public init(time: String, kind: String, text: String) {
            self.time = time
            self.kind = kind
            self.text = text
        }
    }

    public var name = ""
    public var url = ""
    public var interface: String?
    public var isPaused = false
    /// What it does right now, and why; of an unmounted volume what it will do.
    public var state = ""
    public var stateKind = ""
    /// Newest record that is durable at the remote; nil: none.
    public var ackedLSN: UInt64?
    public var ackedTime: String?
    /// Newest durable minus newest acknowledged.
    public var lagRecords: UInt64 = 0
    public var lagBytes: UInt64 = 0
    public var lagSeconds: Int64 = 0
    /// The segment under way.
    public var sending: String?
    public var sendingBytes: UInt64 = 0
    public var sendingTotalBytes: UInt64 = 0
    public var shippedBytes: UInt64 = 0
    public var shippedSegments: UInt64 = 0
    /// What failed at last; nil when it went well.
    public var failure: String?
    /// What needs the user; nil: nothing.
    public var problem: String?
    public var isHoldingWriters = false
    /// How often points were given up because too much waited.
    public var drops: UInt64 = 0
    public var lastDropTime: String?
    public var when = ""
    public var quietBelow = ""
    public var rateBytesPerSecond: UInt64?
    public var lagSecondsMax: Int64?
    public var backlogBytesMax: UInt64?
    public var onBacklog = ""
    public var keep: String?
    public var isSealed = false
    /// The newest last.
    public var decisions: [Decision] = []

    public init() {}

    enum CodingKeys: String, CodingKey {
        case name, url, interface, state, sending, failure, problem, drops, when, keep, decisions
        case isPaused = "paused"
        case stateKind = "state_kind"
        case ackedLSN = "acked_lsn"
        case ackedTime = "acked_time"
        case lagRecords = "lag_records"
        case lagBytes = "lag_bytes"
        case lagSeconds = "lag_seconds"
        case sendingBytes = "sending_bytes"
        case sendingTotalBytes = "sending_total_bytes"
        case shippedBytes = "shipped_bytes"
        case shippedSegments = "shipped_segments"
        case isHoldingWriters = "holding_writers"
        case lastDropTime = "last_drop_time"
        case quietBelow = "quiet_below"
        case rateBytesPerSecond = "rate_bytes_per_second"
        case lagSecondsMax = "max_lag_seconds"
        case backlogBytesMax = "max_backlog_bytes"
        case onBacklog = "on_backlog"
        case isSealed = "sealed"
    }

    /// `12 records, 3.0 MiB, 40 s behind`, or that it has everything.
    public var lagText: String {
        guard ackedLSN != nil else { return "nothing is there yet, \(size(lagBytes)) to go" }
        guard lagRecords > 0 else { return "up to date" }
        let time = DurationText(seconds: lagSeconds)
        return "\(lagRecords) records, \(size(lagBytes)), \(time) behind"
    }

    /// One line for `status`.
    public var line: String {
        let more = problem.flatMap { state.contains($0) ? nil : " (\($0))" }
        return "\(lagText); \(state)" + (more ?? "")
    }

    /// For `remote show`.
    public var text: String {
        var table = TextTable([.left, .left])
        table.add(["remote", "\(name)  (\(url))"])
        table.add(["state", state])
        if let problem { table.add(["problem", problem]) }
        if let failure, failure != problem { table.add(["last failure", failure]) }
        table.add(["lag", lagText])
        table.add([
            "acknowledged",
            ackedLSN.map { "lsn \($0)" + (ackedTime.map { " at \($0)" } ?? "") } ?? "nothing yet",
        ])
        if let sending {
            table.add([
                "sending", "\(sending), \(size(sendingBytes)) of \(size(sendingTotalBytes))",
            ])
        }
        table.add(["shipped", "\(shippedSegments) segments, \(size(shippedBytes)) since the mount"])
        var rules = [when == "quiet" ? "when quiet (below \(quietBelow))" : "when \(when)"]
        if let rateBytesPerSecond { rules.append("at most \(size(rateBytesPerSecond))/s") }
        if let lagSecondsMax { rules.append("max-lag \(DurationText(seconds: lagSecondsMax))") }
        if let backlogBytesMax {
            rules.append("max-backlog \(size(backlogBytesMax)), \(onBacklog)")
        }
        table.add(["settings", rules.joined(separator: ", ")])
        table.add(["interface", interface ?? "not known"])
        table.add(["sealed", isSealed ? "yes" : "no"])
        table.add(["keep", keep ?? "everything"])
        if drops > 0 {
            let time = lastDropTime.map { ", the last time at \($0)" } ?? ""
            table.add(["gaps", "points were given up \(drops) times: too much waited\(time)"])
        }
        for decision in decisions.suffix(20) {
            table.add(["", "\(decision.time)  \(decision.text)"])
        }
        return table.text
    }

    private func size(_ bytes: UInt64) -> String { ByteSize(bytes: bytes).description }
}
