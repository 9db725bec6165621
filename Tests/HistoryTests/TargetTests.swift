// What people type as a target, and what it means.

import BlockModel
import History
import HistoryModel
import Testing

#if canImport(Glibc)
    import Glibc
#endif

private let second: Int64 = 1_000_000_000
/// 2026-11-21T12:00:00Z
private let noon: Int64 = 1_795_262_400 * second

@Suite struct TargetTests {
    private static let zone = TimeZoneRule.fixed(secondsEast: 3600)

    /// Seconds and nanoseconds from noon.
    private static func at(_ seconds: Int64, _ nanoseconds: Int64 = 0) -> Target {
        .time(noon + seconds * second + nanoseconds)
    }
    private static func ago(_ seconds: Int64, _ nanoseconds: Int64 = 0) -> Target {
        .ago(seconds * second + nanoseconds)
    }
    private static let forms: [(String, Target)] = [
        ("now", Target.now),
        ("lsn:0", .lsn(.zero)),
        ("lsn:18446744073709551615", .lsn(.max)),
        ("mark:before-upgrade", .mark("before-upgrade")),
        ("mark: mit Leerzeichen ü", .mark(" mit Leerzeichen ü")),
        ("2026-11-21T12:00:00Z", at(0)),
        ("2026-11-21t12:00:00z", at(0)),
        ("2026-11-21 12:00Z", at(0)),
        ("2026-11-21T12:00:03.25Z", at(3, 250_000_000)),
        ("2026-11-21T12:00:00.123456789Z", at(0, 123_456_789)),
        ("2026-11-21T12:00:00.1234567899Z", at(0, 123_456_789)),
        ("2026-11-21T14:30:00+02:30", at(0)),
        ("2026-11-21T04:00:00-0800", at(0)),
        ("2026-11-21 13:00", at(0)),
        ("2026-11-21T13:00:03.25", at(3, 250_000_000)),
        ("2026-11-21", at(-46_800)),
        ("13:00", at(0)),
        ("13:00:07", at(7)),
        ("9:30", at(-12_600)),
        ("13:00Z", at(3600)),
        ("1970-01-01T00:00:00Z", .time(0)),
        ("2024-02-29T00:00:00Z", .time(1_709_164_800_000_000_000)),
        ("-15m", ago(900)),
        ("-1h30m", ago(5400)),
        ("-2d", ago(172_800)),
        ("-1w2d3h4m5s6ms", ago(788_645, 6_000_000)),
        ("-1.5h", ago(5400)),
        ("-0.25s", ago(0, 250_000_000)),
        ("-0s", .ago(0)),
    ]

    @Test(arguments: forms) func understood(_ text: String, _ target: Target) throws {
        #expect(try Target.parse(text, now: noon, timeZone: Self.zone) == target)
    }

    private static let refusals: [(String, TargetError.Reason)] = [
        ("", TargetError.Reason.syntax), ("yesterday", .syntax), ("Now", .syntax),
        ("lsn:", .syntax), ("lsn:-1", .syntax), ("lsn:1x", .syntax), ("lsn:+1", .syntax),
        ("lsn:18446744073709551616", .outOfRange), ("mark:", .syntax),
        ("2026-11-21T", .syntax), ("2026-11-21T12", .syntax), ("2026-11-21T12:0", .syntax),
        ("2026-11-21T12:00:", .syntax), ("2026-11-21T12:00:00.", .syntax),
        ("2026-11-21T12:00:00ZZ", .syntax), ("2026-11-21T12:00:00 Z", .syntax),
        ("2026-11-21T12:00:00+1", .syntax), ("2026-1-21", .syntax), ("26-11-21", .syntax),
        ("2026-13-01", .noSuchTime), ("2026-00-01", .noSuchTime), ("2026-02-29", .noSuchTime),
        ("2026-11-31", .noSuchTime), ("24:00", .noSuchTime), ("12:60", .noSuchTime),
        ("12:00:60", .noSuchTime), ("2026-11-21T12:00+24:00", .noSuchTime),
        ("1969-12-31", .outOfRange), ("2262-01-01", .outOfRange),
        ("1970-01-01T00:00:00+01:00", .outOfRange),
        ("-", .syntax), ("-5", .syntax), ("-5y", .syntax), ("-m", .syntax), ("-1.m", .syntax),
        ("--5m", .syntax), ("-5m ", .syntax), ("-999999999999999999w", .outOfRange),
        ("-99999999999999999999s", .syntax), ("12:00:00:00", .syntax), ("１２:00", .syntax),
    ]

    @Test(arguments: refusals) func refused(_ text: String, _ reason: TargetError.Reason) {
        #expect(throws: TargetError(text: text, reason: reason)) {
            try Target.parse(text, now: noon, timeZone: Self.zone)
        }
    }

    @Test func theLocalDayIsTheZonesDay() throws {
        // 23:30 UTC is 00:30 of the next day one hour east.
        let now = noon + (11 * 3600 + 1800) * second
        #expect(
            try Target.parse("00:10", now: now, timeZone: Self.zone)
                == .time(noon + (11 * 3600 + 600) * second))
        #expect(
            try Target.parse("00:10", now: now, timeZone: .fixed(secondsEast: 0))
                == .time(noon - (11 * 3600 + 3000) * second))
    }

    @Test func rubbishNeverTraps() {
        let alphabet = Array("0123456789-:.TZ+ nowlsmark:é")
        var state: UInt64 = 1
        for _ in 0..<20_000 {
            var text = ""
            for _ in 0..<Int(state >> 60) {
                state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                text.append(alphabet[Int(state >> 33) % alphabet.count])
            }
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            _ = try? Target.parse(text, now: noon, timeZone: Self.zone)
        }
    }

    @Test(arguments: [
        ("", "", 0), ("a", "", 1), ("", "abc", 3), ("kitten", "sitting", 3), ("flaw", "lawn", 2),
    ]) func editDistances(_ a: String, _ b: String, _ distance: Int) {
        #expect(editDistance(a, b) == distance)
    }
}
