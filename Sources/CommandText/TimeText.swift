// Wall times for people and programs: RFC 3339 with zone, as precise as the stamp, so that a time
// that was printed can be typed back as a target and means the same record.

#if canImport(Glibc)
    import Glibc
#endif

/// Text forms of wall times in nanoseconds since 1970-01-01 UTC.
public enum TimeText {
    /// `2026-11-21T10:05:03.2Z`, in the local zone or UTC; the fraction without trailing zeros.
    public static func rfc3339(_ wallNanoseconds: Int64, inUTC: Bool = false) -> String {
        let billion: Int64 = 1_000_000_000
        var fraction = wallNanoseconds % billion
        var second = time_t(wallNanoseconds / billion)
        if fraction < 0 {
            fraction += billion
            second -= 1
        }
        var parts = tm()
        if inUTC { gmtime_r(&second, &parts) } else { localtime_r(&second, &parts) }
        let date =
            "\(pad(Int(parts.tm_year) + 1900, 4))-\(pad(Int(parts.tm_mon) + 1, 2))"
            + "-\(pad(Int(parts.tm_mday), 2))"
        let clock =
            "\(pad(Int(parts.tm_hour), 2)):\(pad(Int(parts.tm_min), 2))"
            + ":\(pad(Int(parts.tm_sec), 2))"
        var digits = fraction == 0 ? "" : "." + pad(Int(fraction), 9)
        while digits.hasSuffix("0") { digits.removeLast() }
        return date + "T" + clock + digits + zone(offsetSeconds: Int(parts.tm_gmtoff))
    }

    /// `Z` or `+01:00`.
    static func zone(offsetSeconds: Int) -> String {
        if offsetSeconds == 0 { return "Z" }
        let minutes = abs(offsetSeconds) / 60
        return (offsetSeconds < 0 ? "-" : "+") + pad(minutes / 60, 2) + ":" + pad(minutes % 60, 2)
    }

    /// `3s ago`, `2d 4h ago`, `now`; `in 5s` for what lies ahead.
    public static func relative(_ wallNanoseconds: Int64, now: Int64) -> String {
        let seconds = (now - wallNanoseconds) / 1_000_000_000
        if seconds == 0 { return "now" }
        let length = DurationText(seconds: abs(seconds)).description
        return seconds < 0 ? "in \(length)" : "\(length) ago"
    }

    private static func pad(_ value: Int, _ digits: Int) -> String {
        let text = String(value)
        return String(repeating: "0", count: max(0, digits - text.count)) + text
    }
}
