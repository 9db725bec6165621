// What the schedule decides, with the reason in words: the same for status, `remote show`, the log
// and the tests.

/// What to do now.
public enum ShipDecision: Hashable, Sendable {
    /// Ship, at most so many bytes a second where a rate is set.
    case ship(rateBytesPerSecond: UInt64?, ShipReason)
    /// Wait. Look again after so many nanoseconds, or, where there are none, when something new
    /// comes (records, a command).
    case hold(HoldReason, lookAgainNanoseconds: Int64?)

    public var isShip: Bool { if case .ship = self { true } else { false } }
    /// Whether neither traffic nor load may slow it down.
    public var isForced: Bool {
        switch self {
        case .ship(_, .maxLag), .ship(_, .backlogBound), .ship(_, .asked): true
        default: false
        }
    }
    /// What the decision log tells apart; numbers in the reason do not count.
    public var kind: String {
        switch self {
        case .ship(_, let reason): "ship:\(reason.kind)"
        case .hold(let reason, _): "hold:\(reason.kind)"
        }
    }
}

extension ShipDecision: CustomStringConvertible {
    public var description: String {
        switch self {
        case .ship(_, let reason): "shipping: \(reason)"
        case .hold(let reason, _): "\(reason)"
        }
    }
}

/// Why it ships.
public enum ShipReason: Hashable, Sendable {
    case always
    case inHours
    /// Others send and receive `foreign` bytes a second, below `threshold`.
    case quiet(foreign: UInt64, threshold: UInt64)
    /// The interface cannot be watched, so nothing speaks against it.
    case unmeasured
    /// The oldest record has waited for the longest time allowed.
    case maxLag(ageSeconds: Int64)
    /// As much waits as may.
    case backlogBound(bytes: UInt64)
    /// A command asked for it.
    case asked

    var kind: String {
        switch self {
        case .always: "always"
        case .inHours: "hours"
        case .quiet: "quiet"
        case .unmeasured: "unmeasured"
        case .maxLag: "max-lag"
        case .backlogBound: "max-backlog"
        case .asked: "asked"
        }
    }
}

extension ShipReason: CustomStringConvertible {
    public var description: String {
        switch self {
        case .always: "always"
        case .inHours: "it is the time of the day for it"
        case .quiet(let foreign, let threshold):
            "the network is quiet (\(RateText.text(foreign)) of others, "
                + "below \(RateText.text(threshold)))"
        case .unmeasured: "the traffic of the interface is not known"
        case .maxLag(let age): "the oldest record has waited for \(age) s, as long as it may"
        case .backlogBound(let bytes): "\(bytes) bytes wait, as many as may"
        case .asked: "asked to"
        }
    }
}

/// Why it waits.
public enum HoldReason: Hashable, Sendable {
    /// The remote has everything.
    case upToDate
    /// Records are collected for a while.
    case collecting(ageSeconds: Int64)
    case paused
    /// The traffic is being measured: the window is not full yet.
    case measuring
    case traffic(foreign: UInt64, threshold: UInt64)
    /// Minutes since midnight.
    case outsideHours(until: Int)
    case serverBusy(load: Double)
    /// The server asked to wait.
    case askedToWait(seconds: Int64)
    /// The volume is written to: its writes come first.
    case volumeBusy
    /// The last try failed.
    case failed(String, retrySeconds: Int64)
    /// Nothing helps but the user.
    case standing(String)

    var kind: String {
        switch self {
        case .upToDate: "up-to-date"
        case .collecting: "collecting"
        case .paused: "paused"
        case .measuring: "measuring"
        case .traffic: "traffic"
        case .outsideHours: "hours"
        case .serverBusy: "server-busy"
        case .askedToWait: "asked-to-wait"
        case .volumeBusy: "volume-busy"
        case .failed: "failed"
        case .standing: "standing"
        }
    }
}

extension HoldReason: CustomStringConvertible {
    public var description: String {
        switch self {
        case .upToDate: "everything is shipped"
        case .collecting: "collecting records"
        case .paused: "paused"
        case .measuring: "measuring the traffic"
        case .traffic(let foreign, let threshold):
            "waiting: the network is in use (\(RateText.text(foreign)) of others, "
                + "\(RateText.text(threshold)) count as quiet)"
        case .outsideHours(let until):
            "waiting for \(ShipSettings.When.clock(until))"
        case .serverBusy(let load): "waiting: the server is busy (\(Int(load * 100))%)"
        case .askedToWait: "waiting: the server asked to"
        case .volumeBusy: "waiting: the volume is written to"
        case .failed(let text, let seconds): "trying again in \(seconds) s: \(text)"
        case .standing(let text): "stopped: \(text)"
        }
    }
}

/// A change of mind, with its time.
public struct ShipDecisionRecord: Hashable, Sendable, Codable {
    /// Nanoseconds since 1970-01-01 UTC.
    public var wallNanoseconds: Int64
    /// `ship:quiet`, `hold:traffic`, …: for programs.
    public var kind: String
    /// The decision in words.
    public var text: String

    public init(wallNanoseconds: Int64, kind: String, text: String) {
        self.wallNanoseconds = wallNanoseconds
        self.kind = kind
        self.text = text
    }

    enum CodingKeys: String, CodingKey {
        case kind, text
        case wallNanoseconds = "wall_nanoseconds"
    }
}
