// What a person says to name a point: a time, an LSN, a mark. Parsing is pure but for the system's
// time zone tables: `now` and the zone come in.

import BlockModel

#if canImport(Glibc)
    import Glibc
#endif

/// A point in time as it was asked for.
public enum Target: Hashable, Sendable {
    /// The last durable record.
    case now
    /// Every record with a wall time at or before this one; nanoseconds since 1970-01-01 UTC.
    case time(Int64)
    /// So many nanoseconds before now.
    case ago(Int64)
    case lsn(LSN)
    case mark(String)
}

/// Where local times are local.
public enum TimeZoneRule: Hashable, Sendable {
    /// The zone of the process (`TZ`, /etc/localtime).
    case system
    /// A fixed number of seconds east of UTC.
    case fixed(secondsEast: Int)
}

/// A text that names no point.
public struct TargetError: Error, Hashable, Sendable {
    public enum Reason: Hashable, Sendable {
        /// None of the forms that are understood.
        case syntax
        /// There is no such day or hour.
        case noSuchTime
        /// The clocks were put forward over it.
        case skippedLocalTime
        /// The clocks were put back over it: it was twice. A zone tells which one.
        case ambiguousLocalTime
        /// Not between 1970 and 2261, or a number that is too large.
        case outOfRange
    }
    public var text: String
    public var reason: Reason

    public init(text: String, reason: Reason) {
        self.text = text
        self.reason = reason
    }
}

extension TargetError: CustomStringConvertible {
    public var description: String {
        switch reason {
        case .syntax: "'\(text)' is not a time, lsn:NUMBER or mark:NAME"
        case .noSuchTime: "'\(text)' is not a day and hour of the calendar"
        case .skippedLocalTime: "'\(text)' did not exist: the clocks were put forward over it"
        case .ambiguousLocalTime: "'\(text)' was twice: the clocks were put back over it"
        case .outOfRange: "'\(text)' is out of range"
        }
    }
}

extension Target {
    /// Understands `now` · `2026-11-21T10:05:03.25Z`, `…+01:00` · local time `2026-11-21 10:05`
    /// (seconds, fraction and T as one likes), `2026-11-21`, `10:05[:03]` today · `-15m`,
    /// `-1h30m`, `-2d`, `-0.5s` (w d h m s ms) · `lsn:N` · `mark:NAME`.
    public static func parse(
        _ text: String, now: Int64, timeZone: TimeZoneRule = .system
    ) throws(TargetError) -> Target {
        do throws(Failure) {
            if text == "now" { return .now }
            if text.hasPrefix("lsn:") {
                let digits = text.dropFirst(4)
                guard !digits.isEmpty, digits.utf8.allSatisfy({ (48...57).contains($0) }) else {
                    throw Failure(.syntax)
                }
                guard let lsn = UInt64(digits) else { throw Failure(.outOfRange) }
                return .lsn(LSN(lsn))
            }
            if text.hasPrefix("mark:") {
                let name = text.dropFirst(5)
                guard !name.isEmpty else { throw Failure(.syntax) }
                return .mark(String(name))
            }
            if text.hasPrefix("-") { return .ago(try duration(text.dropFirst())) }
            return .time(try time(text, now: now, zone: timeZone))
        } catch {
            throw TargetError(text: text, reason: error.reason)
        }
    }

    private struct Failure: Error {
        var reason: TargetError.Reason
        init(_ reason: TargetError.Reason) { self.reason = reason }
    }

    // MARK: - Durations

    private static let units: [(String, Int64)] = [
        ("ms", 1_000_000), ("w", 604_800_000_000_000), ("d", 86_400_000_000_000),
        ("h", 3_600_000_000_000), ("m", 60_000_000_000), ("s", 1_000_000_000),
    ]

    private static func duration(_ text: Substring) throws(Failure) -> Int64 {
        var rest = Scanner(text)
        var total: Int64 = 0
        repeat {
            guard let whole = rest.digits(1...18) else { throw Failure(.syntax) }
            var fraction: Int64 = 0
            if rest.take(".") {
                guard let digits = rest.fraction() else { throw Failure(.syntax) }
                fraction = digits
            }
            guard let unit = units.first(where: { rest.take($0.0) })?.1 else {
                throw Failure(.syntax)
            }
            let (product, overflow) = whole.multipliedReportingOverflow(by: unit)
            // fraction is in units of 1e-9; unit / 1e6 is whole for every unit.
            let part = fraction / 1000 * (unit / 1_000_000)
            let (sum, overflow2) = total.addingReportingOverflow(product)
            let (sum2, overflow3) = sum.addingReportingOverflow(part)
            guard !overflow, !overflow2, !overflow3 else { throw Failure(.outOfRange) }
            total = sum2
        } while !rest.isAtEnd
        return total
    }

    // MARK: - Times

    private static func time(
        _ text: String, now: Int64, zone: TimeZoneRule
    ) throws(Failure) -> Int64 {
        var rest = Scanner(Substring(text))
        var fields = tm()
        var isToday = false
        if rest.looksLikeDate {
            try date(&rest, &fields)
        } else {
            isToday = true
            let day = localDay(now, zone)
            (fields.tm_year, fields.tm_mon, fields.tm_mday) = (day.tm_year, day.tm_mon, day.tm_mday)
        }
        var nanoseconds: Int64 = 0
        var offset: Int?
        if isToday || !rest.isAtEnd {
            if !isToday, !rest.take("T"), !rest.take("t"), !rest.take(" ") {
                throw Failure(.syntax)
            }
            nanoseconds = try clock(&rest, &fields)
            offset = try zoneOffset(&rest)
        }
        guard rest.isAtEnd else { throw Failure(.syntax) }
        let seconds =
            if let offset { Int64(timegm(&fields)) - Int64(offset) } else {
                try local(fields, zone)
            }
        // 2261-12-31: what nanoseconds in 64 bits can say.
        guard seconds >= 0, seconds < 9_214_646_400 else { throw Failure(.outOfRange) }
        return seconds * 1_000_000_000 + nanoseconds
    }

    private static func date(_ rest: inout Scanner, _ fields: inout tm) throws(Failure) {
        guard let year = rest.digits(4...4), rest.take("-"), let month = rest.digits(2...2),
            rest.take("-"), let day = rest.digits(2...2)
        else { throw Failure(.syntax) }
        let isLeap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
        let lengths: [Int64] = [31, isLeap ? 29 : 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
        guard (1...12).contains(month), day >= 1, day <= lengths[Int(month) - 1] else {
            throw Failure(.noSuchTime)
        }
        guard (1970...2261).contains(year) else { throw Failure(.outOfRange) }
        (fields.tm_year, fields.tm_mon, fields.tm_mday) = (
            Int32(year) - 1900, Int32(month) - 1, Int32(day)
        )
    }

    /// Hours, minutes, seconds into `fields`; returns the nanoseconds.
    private static func clock(_ rest: inout Scanner, _ fields: inout tm) throws(Failure) -> Int64 {
        guard let hour = rest.digits(1...2), rest.take(":"), let minute = rest.digits(2...2) else {
            throw Failure(.syntax)
        }
        var (second, nanoseconds): (Int64, Int64) = (0, 0)
        if rest.take(":") {
            guard let digits = rest.digits(2...2) else { throw Failure(.syntax) }
            second = digits
            if rest.take(".") {
                guard let digits = rest.fraction() else { throw Failure(.syntax) }
                nanoseconds = digits
            }
        }
        guard hour < 24, minute < 60, second < 60 else { throw Failure(.noSuchTime) }
        (fields.tm_hour, fields.tm_min, fields.tm_sec) = (
            Int32(hour), Int32(minute), Int32(second)
        )
        return nanoseconds
    }

    /// Seconds east of UTC; nil where the text names no zone.
    private static func zoneOffset(_ rest: inout Scanner) throws(Failure) -> Int? {
        if rest.take("Z") || rest.take("z") { return 0 }
        let isWest = rest.take("-")
        guard isWest || rest.take("+") else { return nil }
        let (hours, minutes): (Int64, Int64)
        if let both = rest.digits(4...4) {  // -0800
            (hours, minutes) = (both / 100, both % 100)
        } else {
            guard let first = rest.digits(2...2), rest.take(":"), let second = rest.digits(2...2)
            else { throw Failure(.syntax) }
            (hours, minutes) = (first, second)
        }
        guard hours < 24, minutes < 60 else { throw Failure(.noSuchTime) }
        return Int(hours * 3600 + minutes * 60) * (isWest ? -1 : 1)
    }

    private static func localDay(_ now: Int64, _ zone: TimeZoneRule) -> tm {
        var result = tm()
        var seconds = time_t(now / 1_000_000_000)
        switch zone {
        case .system: localtime_r(&seconds, &result)
        case .fixed(let east):
            seconds += east
            gmtime_r(&seconds, &result)
        }
        return result
    }

    /// Seconds since 1970-01-01 UTC of a local time that existed exactly once.
    private static func local(_ fields: tm, _ zone: TimeZoneRule) throws(Failure) -> Int64 {
        if case .fixed(let east) = zone {
            var fields = fields
            return Int64(timegm(&fields)) - Int64(east)
        }
        // Both readings, summer and winter; one that does not give the same clock back is none.
        var found: Set<Int64> = []
        for summer: Int32 in [0, 1] {
            var copy = fields
            copy.tm_isdst = summer
            let seconds = mktime(&copy)
            var back = tm()
            var again = seconds
            localtime_r(&again, &back)
            if back.tm_hour == fields.tm_hour, back.tm_min == fields.tm_min,
                back.tm_mday == fields.tm_mday, back.tm_sec == fields.tm_sec
            {
                found.insert(Int64(seconds))
            }
        }
        guard let seconds = found.first else { throw Failure(.skippedLocalTime) }
        guard found.count == 1 else { throw Failure(.ambiguousLocalTime) }
        return seconds
    }
}

/// Reads ASCII front to back.
private struct Scanner {
    private var rest: Substring.UTF8View

    init(_ text: Substring) { rest = text.utf8 }

    var isAtEnd: Bool { rest.isEmpty }
    var looksLikeDate: Bool { rest.prefix(5).last == UInt8(ascii: "-") }

    mutating func take(_ word: String) -> Bool {
        guard rest.starts(with: word.utf8) else { return false }
        rest = rest.dropFirst(word.utf8.count)
        return true
    }

    /// As many digits as there are, if their number is in `count`.
    mutating func digits(_ count: ClosedRange<Int>) -> Int64? {
        let run = rest.prefix { (48...57).contains($0) }
        guard count.contains(run.count) else { return nil }
        rest = rest.dropFirst(run.count)
        return run.reduce(0) { $0 * 10 + Int64($1 - 48) }
    }

    /// The digits behind a decimal point, in units of 1e-9; more than nine are cut off.
    mutating func fraction() -> Int64? {
        let run = rest.prefix { (48...57).contains($0) }
        guard !run.isEmpty else { return nil }
        rest = rest.dropFirst(run.count)
        let nine = run.prefix(9).reduce(Int64(0)) { $0 * 10 + Int64($1 - 48) }
        return (run.count..<max(9, run.count)).reduce(nine) { value, _ in value * 10 }
    }
}
