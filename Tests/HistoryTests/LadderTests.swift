// Ladders as people type them, and the grid.

import History
import Testing

@Suite struct LadderTests {
    @Test(arguments: [
        ("every 24h, 1m 7d, 1h 30d, 1d 1y", "every 1d, 1m 1w, 1h 4w2d, 1d 1y"),
        ("newest 1y", "newest 1y"), ("every 1s", "every 1s"),
        (" 1h30m   2d ,3h 1w ", "1h30m 2d, 3h 1w"), ("every 1h,newest 2h", "every 1h, newest 2h"),
    ]) func understands(text: String, canonical: String) throws {
        let ladder = try Ladder(parsing: text)
        #expect(ladder.description == canonical)
        #expect(try Ladder(parsing: canonical) == ladder)
    }

    private static let bad: [(String, LadderError)] = [
        ("", .empty), ("   ", .empty), (",", .notARung("")), ("every", .notARung("every")),
        ("every 1h 2h", .notARung("every 1h 2h")), ("every 1h,", .notARung("")),
        ("often 1h", .notADuration("often")), ("every soon", .notADuration("soon")),
        ("every 5", .notADuration("5")), ("every 1m1h", .notADuration("1m1h")),
        ("every -1h", .negative("-1h")), ("-1m 1h", .negative("-1m")),
        ("every 0s", .zero("0s")), ("0m 1h", .zero("0m")),
        ("every 201y", .tooLong("201y")),
        ("every 99999999999999999999s", .tooLong("99999999999999999999s")),
        ("every 2h, 1m 1h", .spanNotRising("1h", after: "2h")),
        ("every 2h, 1m 2h", .spanNotRising("2h", after: "2h")),
        ("1h 1d, 1m 2d", .spacingNotRising("1m", after: "1h")),
        ("1h 1d, 1h 2d", .spacingNotRising("1h", after: "1h")),
        ("7m 1d, 1h 2d", .noMultiple("1h", of: "7m")),
        ("1m 1h, every 2h", .everyNotFirst), ("every 1h, every 2h", .everyNotFirst),
        ("newest 1h, 1m 2h", .behindNewest), ("newest 1h, newest 2h", .behindNewest),
    ]

    @Test(arguments: bad) func refuses(text: String, why: LadderError) {
        #expect(throws: why) { try Ladder(parsing: text) }
        #expect(!why.description.isEmpty)
    }
}
