// What a restore drill came to: one line of JSON in VOL/drills.jsonl, and a part of the status.

/// One drill. The keys are stable.
public struct DrillRecord: Codable, Hashable, Sendable {
    public enum Result: String, Codable, Sendable { case passed, failed }

    /// When it began, RFC 3339.
    public var time: String
    /// The same in seconds since 1970.
    public var unixTime: Int64
    /// What was asked for, and the point that it was.
    public var target: String
    public var lsn: UInt64
    public var pointTime: String
    public var check: String
    public var result: Result
    /// Of the check; nil when a signal ended it.
    public var exitCode: Int32?
    public var seconds: Double
    /// Who had it run: user and host.
    public var by: String

    public init(
        time: String, unixTime: Int64, target: String, lsn: UInt64, pointTime: String,
        check: String, result: Result, exitCode: Int32?, seconds: Double, by: String
    ) {
        self.time = time
        self.unixTime = unixTime
        self.target = target
        self.lsn = lsn
        self.pointTime = pointTime
        self.check = check
        self.result = result
        self.exitCode = exitCode
        self.seconds = seconds
        self.by = by
    }

    enum CodingKeys: String, CodingKey {
        case time, target, lsn, check, result, seconds, by
        case unixTime = "unix_time"
        case pointTime = "point_time"
        case exitCode = "exit_code"
    }

    /// For people.
    public var words: String {
        let length = DurationText(seconds: Int64(seconds.rounded(.up)))
        return "\(result.rawValue) at \(time), in \(length): lsn \(lsn) of \(pointTime)"
    }
}
