// What the user set for one remote about when and how fast to ship. Values and their text forms;
// they are kept in the remote's JSON as they are typed.

/// When to ship, as far as the user decides it.
public struct ShipSettings: Hashable, Sendable {
    public enum When: Hashable, Sendable {
        /// While there is little other traffic on the interface.
        case quiet
        case always
        /// Between two times of the day, in minutes since midnight, local time; the end may lie on
        /// the next day.
        case hours(from: Int, until: Int)
    }

    /// What counts as quiet.
    public enum QuietBelow: Hashable, Sendable {
        /// Of the link's speed.
        case percent(Int)
        case bytesPerSecond(UInt64)
    }

    /// What happens when more than `backlogBytesMax` waits.
    public enum OnBacklog: String, Hashable, Sendable, Codable, CaseIterable {
        /// Writers wait as when the log is full.
        case holdWrites = "hold-writes"
        /// What waits goes as one interval; the points in it are given up at the remote.
        case dropToGap = "drop-to-gap"
    }

    public var when = When.quiet
    public var quietBelow = QuietBelow.percent(20)
    /// Bytes a second, at the most; nil: no bound.
    public var rateBytesPerSecond: UInt64?
    /// No record waits longer than this for traffic, hours or the server's load; nil: no bound.
    public var lagSecondsMax: Int64?
    public var backlogBytesMax: UInt64?
    public var onBacklog = OnBacklog.holdWrites
    /// Records are collected for so long, so that not each becomes a segment.
    public var batchSeconds: Int64 = 15
    /// Over so long the traffic is smoothed.
    public var windowSeconds: Int64 = 10

    public init() {}

    /// So long after the oldest record a shipment is due: never later than half of the lag allowed.
    var collectSeconds: Int64 { min(batchSeconds, lagSecondsMax.map { $0 / 2 } ?? .max) }
}

/// Why a text of an option is not understood.
public struct ShipSettingError: Error, Hashable, Sendable, CustomStringConvertible {
    public var description: String
}

extension ShipSettings.When: CustomStringConvertible {
    /// Reads `quiet`, `always` or `22:00-06:00`.
    public init(parsing text: String) throws(ShipSettingError) {
        switch text {
        case "quiet": self = .quiet
        case "always": self = .always
        default:
            let parts = text.split(separator: "-", omittingEmptySubsequences: false)
            guard parts.count == 2, let from = Self.minutes(parts[0]),
                let until = Self.minutes(parts[1])
            else {
                throw ShipSettingError(
                    description: "it is neither quiet, always nor hours such as 22:00-06:00")
            }
            guard from != until else {
                throw ShipSettingError(description: "the hours begin and end at the same time")
            }
            self = .hours(from: from, until: until)
        }
    }

    private static func minutes(_ text: Substring) -> Int? {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        guard parts.count == 2, parts.allSatisfy({ (1...2).contains($0.utf8.count) }),
            parts.allSatisfy({ $0.utf8.allSatisfy { (0x30...0x39).contains($0) } }),
            parts[1].utf8.count == 2, let hour = Int(parts[0]), let minute = Int(parts[1]),
            minute < 60, hour < 24 || (hour == 24 && minute == 0)
        else { return nil }
        return (hour * 60 + minute) % 1440
    }

    static func clock(_ minutes: Int) -> String {
        func two(_ number: Int) -> String { number < 10 ? "0\(number)" : "\(number)" }
        return "\(two(minutes / 60)):\(two(minutes % 60))"
    }

    public var description: String {
        switch self {
        case .quiet: "quiet"
        case .always: "always"
        case .hours(let from, let until): "\(Self.clock(from))-\(Self.clock(until))"
        }
    }

    /// Whether it may ship at that minute of the day, as far as hours decide.
    func allows(minute: Int) -> Bool {
        guard case .hours(let from, let until) = self else { return true }
        return from < until
            ? minute >= from && minute < until : minute >= from || minute < until
    }
}

extension ShipSettings.QuietBelow: CustomStringConvertible {
    /// Reads `20%` or a rate such as `5MB/s`, `500K/s`; `bytes` reads the size before `/s`.
    public init(
        parsing text: String, rate: (String) throws(ShipSettingError) -> UInt64
    ) throws(ShipSettingError) {
        if text.hasSuffix("%") {
            guard let percent = Int(text.dropLast()), (1...100).contains(percent) else {
                throw ShipSettingError(description: "a share lies between 1% and 100%")
            }
            self = .percent(percent)
        } else {
            self = .bytesPerSecond(try rate(text))
        }
    }

    public var description: String {
        switch self {
        case .percent(let percent): "\(percent)%"
        case .bytesPerSecond(let rate): "\(rate)/s"
        }
    }

    /// In bytes a second, on a link of that speed.
    func threshold(linkBytesPerSecond: UInt64) -> UInt64 {
        switch self {
        case .percent(let percent):
            linkBytesPerSecond / 100 * UInt64(percent)
                + linkBytesPerSecond % 100 * UInt64(percent) / 100
        case .bytesPerSecond(let rate): rate
        }
    }
}

/// Rates as they are typed: `50MB/s` and `6MB/s` mean powers of ten, as networks count; `50M/s`
/// and `50MiB/s` powers of two, as disks do.
public enum RateText {
    public static func bytesPerSecond(_ text: String) throws(ShipSettingError) -> UInt64 {
        guard text.hasSuffix("/s") else {
            throw ShipSettingError(description: "a rate ends with /s: 5MB/s")
        }
        let digits = text.prefix { $0.isASCII && ($0.isNumber || $0 == ".") }
        let unit = text.dropFirst(digits.count).dropLast(2).filter { $0 != " " }
        guard let number = Double(digits), number.isFinite else {
            throw ShipSettingError(description: "it does not begin with a number")
        }
        let letters = ["": 0, "K": 1, "M": 2, "G": 3, "T": 4]
        var word = unit.uppercased()
        var base = 1024.0
        if word.hasSuffix("IB") {
            word.removeLast(2)
        } else if word.hasSuffix("B") {
            word.removeLast()
            base = 1000
        }
        guard let power = letters[word] else {
            throw ShipSettingError(description: "unknown unit '\(unit)'; use KB, MB or GB")
        }
        var rate = number
        for _ in 0..<power { rate *= base }
        guard rate >= 1, rate < 1e18 else {
            throw ShipSettingError(description: "it is no possible rate")
        }
        return UInt64(rate)
    }

    /// `5 MB/s`, in powers of ten.
    public static func text(_ bytesPerSecond: UInt64) -> String {
        let units = ["B", "KB", "MB", "GB", "TB"]
        var value = Double(bytesPerSecond)
        var unit = 0
        while value >= 999.5, unit + 1 < units.count {
            value /= 1000
            unit += 1
        }
        let tenths = Int(value * 10 + 0.5)
        let number =
            tenths >= 100 || tenths % 10 == 0
            ? "\((tenths + 5) / 10)" : "\(tenths / 10).\(tenths % 10)"
        return "\(number) \(units[unit])/s"
    }
}
