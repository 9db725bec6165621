// Tables for what people type and read: sizes, durations, times.

import CommandText
import Testing

@Suite struct SizeTests {
    @Test(
        arguments: [
            ("0", 0), ("512", 512), ("1K", 1024), ("1k", 1024), ("1KiB", 1024), ("512M", 512 << 20),
            ("10G", 10 << 30), ("10GiB", 10 << 30), ("10gib", 10 << 30), ("1T", 1 << 40),
            ("1.5G", 3 << 29), ("0.5K", 512), ("7E", 7 << 60), ("10 G", 10 << 30), ("4096B", 4096),
            ("18446744073709551615", UInt64.max),
        ] as [(String, UInt64)])
    func reads(_ text: String, _ bytes: UInt64) throws {
        #expect(try ByteSize(parsing: text).bytes == bytes)
    }

    @Test(
        arguments: [
            ("", .empty), ("-1", .negative), ("-5G", .negative), ("ten", .notANumber),
            ("G", .notANumber), (".", .notANumber), ("1.", .notANumber), (".5G", .notANumber),
            ("1.2.3G", .notANumber), ("10GB", .ambiguousUnit("GB", instead: "G")),
            ("10X", .unknownUnit("X")), ("1G5", .unknownUnit("G5")), ("0.3", .notWholeBytes),
            ("1.1K", .notWholeBytes), ("16E", .tooLarge), ("18446744073709551616", .tooLarge),
            ("1e3", .unknownUnit("e3")), ("٣", .notANumber),
        ] as [(String, ByteSize.Failure)])
    func refuses(_ text: String, _ failure: ByteSize.Failure) {
        #expect(throws: failure) { try ByteSize(parsing: text) }
    }

    @Test(
        arguments: [
            (0, "0 B"), (1023, "1023 B"), (1024, "1 KiB"), (1536, "1.5 KiB"), (10 << 30, "10 GiB"),
            ((1 << 20) - 1, "1024 KiB"), (UInt64.max, "16 EiB"),
        ] as [(UInt64, String)])
    func prints(_ bytes: UInt64, _ text: String) {
        #expect(ByteSize(bytes: bytes).description == text)
    }
}

@Suite struct DurationTests {
    @Test(
        arguments: [
            ("90s", 90), ("15m", 900), ("1h", 3600), ("2d", 172_800), ("1h30m", 5400),
            ("1w", 604_800),
            ("0s", 0), ("1d2h3m4s", 93784),
        ] as [(String, Int64)])
    func reads(_ text: String, _ seconds: Int64) throws {
        #expect(try DurationText(parsing: text).seconds == seconds)
    }

    @Test(
        arguments: [
            ("", .empty), ("-15m", .negative), ("15", .missingUnit), ("h", .notANumber),
            ("1x", .unknownUnit("x")), ("30m1h", .unitsOutOfOrder), ("1m1m", .unitsOutOfOrder),
            ("99999999999999999999s", .tooLarge), ("999999999999999w", .tooLarge),
            ("1h30", .missingUnit),
        ] as [(String, DurationText.Failure)])
    func refuses(_ text: String, _ failure: DurationText.Failure) {
        #expect(throws: failure) { try DurationText(parsing: text) }
    }

    @Test(
        arguments: [
            (0, "0s"), (45, "45s"), (90, "1m 30s"), (5400, "1h 30m"), (183_600, "2d 3h"),
            (86_400, "1d"), (86_405, "1d 5s"),
        ] as [(Int64, String)])
    func prints(_ seconds: Int64, _ text: String) {
        #expect(DurationText(seconds: seconds).description == text)
    }
}

@Suite struct TimeTests {
    @Test(
        arguments: [
            (0, "1970-01-01T00:00:00Z"),
            (1_795_255_503_200_000_000, "2026-11-21T10:05:03.2Z"),
            (1_795_255_503_000_000_001, "2026-11-21T10:05:03.000000001Z"),
            (-1, "1969-12-31T23:59:59.999999999Z"),
        ] as [(Int64, String)])
    func rfc3339(_ wall: Int64, _ text: String) {
        #expect(TimeText.rfc3339(wall, inUTC: true) == text)
    }

    @Test func relative() {
        #expect(TimeText.relative(0, now: 0) == "now")
        #expect(TimeText.relative(0, now: 3_000_000_000) == "3s ago")
        #expect(TimeText.relative(90_000_000_000, now: 0) == "in 1m 30s")
    }
}
