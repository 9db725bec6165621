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

    /// What was asked of a remote where each request may cost.
    public struct Usage: Codable, Hashable, Sendable {
        /// Since the mount, by the kind of request.
        public var requests: [String: UInt64] = [:]
        /// In the last hour.
        public var requestsLastHour: UInt64 = 0
        /// Of all these were sent because one before them failed.
        public var repeats: UInt64 = 0
        public var sentBytes: UInt64 = 0
        public var receivedBytes: UInt64 = 0

        public init() {}

        /// Of any kind.
        public var total: UInt64 { requests.values.reduce(0, +) }

        enum CodingKeys: String, CodingKey {
            case requests, repeats
            case requestsLastHour = "requests_last_hour"
            case sentBytes = "sent_bytes"
            case receivedBytes = "received_bytes"
        }
    }

    /// The last thinning of a remote that the mount thins.
    public struct Retention: Codable, Hashable, Sendable {
        /// RFC 3339.
        public var time = ""
        /// Segments that do not show any more, and that came in their place.
        public var pruned = 0
        public var written = 0
        /// Objects that were deleted for good.
        public var deletedObjects = 0
        /// Objects of pruned segments that are deleted later.
        public var waitingObjects = 0
        /// What may not be deleted there, with why: object lock, a key without the right.
        public var undeletable: [String] = []
        /// Why it failed; nil: it did not.
        public var failure: String?

        public init() {}

        enum CodingKeys: String, CodingKey {
            case time, pruned, written, undeletable, failure
            case deletedObjects = "deleted_objects"
            case waitingObjects = "waiting_objects"
        }
    }

    public var name = ""
    public var url = ""
    /// Whether the volume keeps its history there, and not here.
    public var isStore: Bool?
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
    /// What the user took on, and should not forget.
    public var warning: String?
    public var usage: Usage?
    public var retention: Retention?
    /// The newest last.
    public var decisions: [Decision] = []

    public init() {}

    enum CodingKeys: String, CodingKey {
        case name, url, interface, state, sending, failure, problem, drops, when, keep, decisions
        case warning, usage, retention
        case isStore = "store"
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
        return "\(lagText); \(state)" + (more ?? "") + (warning.map { "; \($0)" } ?? "")
    }

    /// For `remote show`.
    public var text: String {
        var table = TextTable([.left, .left])
        table.add(["remote", "\(name)  (\(url))"])
        table.add(["state", state])
        if let warning { table.add(["warning", warning]) }
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
        if let usage { table.add(["requests", text(of: usage)]) }
        if let retention { table.add(["thinned", text(of: retention)]) }
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

    private func text(of usage: Usage) -> String {
        let kinds = usage.requests.filter { $0.value > 0 }.sorted { $0.key < $1.key }
            .map { "\($0.value) \($0.key)" }
        let sent = "\(size(usage.sentBytes)) out, \(size(usage.receivedBytes)) in"
        return "\(usage.requestsLastHour) in the last hour; since the mount "
            + "\(usage.total)" + (kinds.isEmpty ? "" : " (\(kinds.joined(separator: ", ")))")
            + (usage.repeats > 0 ? ", \(usage.repeats) of them repeats" : "") + "; \(sent)"
    }

    private func text(of retention: Retention) -> String {
        var parts = [
            "\(retention.time)",
            "\(retention.pruned) segments pruned, \(retention.written) written, "
                + "\(retention.deletedObjects) objects deleted, \(retention.waitingObjects) wait",
        ]
        if !retention.undeletable.isEmpty {
            parts.append("\(retention.undeletable.count) objects may not be deleted")
        }
        if let failure = retention.failure { parts.append("failed: \(failure)") }
        return parts.joined(separator: "; ")
    }

    private func size(_ bytes: UInt64) -> String { ByteSize(bytes: bytes).description }
}
