// The decisions as tables: inputs in, decisions out. Hours over midnight, traffic with hysteresis,
// what overrules what, back-off; and properties over random days.

import DiskIO
import Shipping
import Testing

@Suite struct ShipScheduleTests {
    private static let second: Int64 = 1_000_000_000

    private static func settings(_ change: (inout ShipSettings) -> Void) -> ShipSettings {
        var settings = ShipSettings()
        settings.batchSeconds = 0
        change(&settings)
        return settings
    }

    /// At `seconds`, with records that have waited for `age` seconds.
    private static func inputs(
        _ seconds: Int64, age: Int64 = 30, minute: Int = 0
    ) -> ShipSchedule.Inputs {
        var inputs = ShipSchedule.Inputs(
            now: seconds * second, wall: (1000 + seconds) * second, minuteOfDay: minute)
        inputs.backlogRecords = 5
        inputs.backlogBytes = 1000
        inputs.oldestWall = (1000 + seconds - age) * second
        return inputs
    }

    @Test(
        arguments: [
            ("22:00-06:00", 21 * 60 + 59, false), ("22:00-06:00", 22 * 60, true),
            ("22:00-06:00", 0, true), ("22:00-06:00", 359, true), ("22:00-06:00", 360, false),
            ("08:30-09:00", 509, false), ("08:30-09:00", 510, true), ("08:30-09:00", 540, false),
            ("0:00-24:00", 1, nil), ("1:00-24:00", 1439, true), ("1:00-24:00", 30, false),
        ] as [(String, Int, Bool?)])
    func hours(text: String, minute: Int, ships: Bool?) throws {
        guard let ships else {
            #expect(throws: ShipSettingError.self) { try ShipSettings.When(parsing: text) }
            return
        }
        let when = try ShipSettings.When(parsing: text)
        var schedule = ShipSchedule(Self.settings { $0.when = when }, seed: 1)
        let decision = schedule.decide(Self.inputs(0, minute: minute))
        #expect(decision.isShip == ships)
        if case .hold(_, let wait) = decision { #expect((wait ?? 0) > 0) }
    }

    @Test(arguments: ["", "quite", "22-6", "25:00-06:00", "22:60-06:00", "22:00-06:00-08:00"])
    func notTimes(text: String) {
        #expect(throws: ShipSettingError.self) { try ShipSettings.When(parsing: text) }
    }

    @Test(
        arguments: [
            ("5MB/s", 5_000_000), ("5MiB/s", 5 << 20), ("500K/s", 512_000),
            ("1.5GB/s", 1_500_000_000),
            ("7/s", 7), ("5MB", nil), ("MB/s", nil), ("0/s", nil), ("5 XB/s", nil), ("-5MB/s", nil),
        ] as [(String, UInt64?)])
    func rates(text: String, expected: UInt64?) {
        #expect((try? RateText.bytesPerSecond(text)) == expected)
    }

    @Test func whatOverrulesWhat() {
        var schedule = ShipSchedule(
            Self.settings {
                $0.when = .hours(from: 600, until: 660)
                $0.lagSecondsMax = 900
                $0.backlogBytesMax = 1_000_000
            }, seed: 1)
        #expect(schedule.decide(Self.inputs(0)).kind == "hold:hours")
        #expect(schedule.decide(Self.inputs(1, age: 900)).kind == "ship:max-lag")
        var much = Self.inputs(2)
        much.backlogBytes = 1_000_000
        #expect(schedule.decide(much).kind == "ship:max-backlog")
        schedule.isAsked = true
        #expect(schedule.decide(Self.inputs(3)).kind == "ship:asked")
        schedule.noteFailure("down", now: 3 * Self.second)
        #expect(schedule.decide(Self.inputs(3, age: 2000)).kind == "hold:failed")
        schedule.isPaused = true
        #expect(schedule.decide(Self.inputs(100, age: 2000)).kind == "hold:paused")
        schedule.noteStanding("fenced")
        #expect(schedule.decide(Self.inputs(101)).kind == "hold:standing")
        schedule.isPaused = false
        schedule.clearStanding()
        #expect(schedule.decide(Self.inputs(102)).kind == "ship:asked")
        var nothing = Self.inputs(103)
        nothing.backlogRecords = 0
        let idle = schedule.decide(nothing)
        #expect(idle == .hold(.upToDate, lookAgainNanoseconds: nil), "nobody is asked (R7)")
        #expect(
            schedule.decisions.map(\.kind) == [
                "hold:hours", "ship:max-lag", "ship:max-backlog", "ship:asked", "hold:failed",
                "hold:paused", "hold:standing", "ship:asked", "hold:up-to-date",
            ])
    }

    @Test func recordsAreCollected() {
        var schedule = ShipSchedule(
            Self.settings {
                $0.when = .always
                $0.batchSeconds = 15
                $0.lagSecondsMax = 20
            }, seed: 1)
        #expect(
            schedule.decide(Self.inputs(0, age: 4))
                == .hold(.collecting(ageSeconds: 4), lookAgainNanoseconds: 6 * Self.second),
            "half of the lag allowed is the most")
        #expect(schedule.decide(Self.inputs(0, age: 10)).kind == "ship:always")
        var whole = Self.inputs(0, age: 0)
        whole.hasSegment = true
        #expect(schedule.decide(whole).kind == "ship:always")
        var busy = whole
        busy.isVolumeBusy = true
        #expect(schedule.decide(busy).kind == "hold:volume-busy")
        busy.oldestWall = busy.wall - 20 * Self.second
        #expect(schedule.decide(busy).kind == "ship:max-lag")
    }

    /// 1 MB/s for a while, then nothing, then in between: quiet begins below 0.8 of the threshold
    /// and ends above it. Our own bytes do not count.
    @Test func trafficWithHysteresis() {
        var schedule = ShipSchedule(
            Self.settings {
                $0.quietBelow = .bytesPerSecond(100_000)
                $0.windowSeconds = 5
            }, seed: 1)
        var (time, counter, own): (Int64, UInt64, UInt64) = (0, 1 << 40, 77)
        func run(_ seconds: Int, foreign: UInt64, ours: UInt64 = 0) -> [String] {
            (0..<seconds).map { _ in
                time += 1
                counter += foreign + ours
                own += ours
                var inputs = Self.inputs(time)
                inputs.interfaceBytes = counter
                inputs.ownBytes = own
                inputs.linkBytesPerSecond = 125_000_000
                return schedule.decide(inputs).kind
            }
        }
        #expect(Set(run(5, foreign: 1_000_000)) == ["hold:measuring"])
        #expect(Set(run(10, foreign: 1_000_000)) == ["hold:traffic"])
        let after = run(6, foreign: 0)
        #expect(after.first == "hold:traffic" && after.last == "ship:quiet")
        #expect(Set(run(10, foreign: 10, ours: 90_000_000)) == ["ship:quiet"], "ours is not theirs")
        #expect(run(10, foreign: 95_000).last == "ship:quiet", "below the threshold it goes on")
        #expect(run(10, foreign: 110_000).last == "hold:traffic")
        #expect(run(10, foreign: 95_000).last == "hold:traffic", "above 0.8 it does not begin")
        #expect(run(10, foreign: 70_000).last == "ship:quiet")
    }

    @Test func theServersLoadAndItsWish() {
        var schedule = ShipSchedule(
            Self.settings {
                $0.when = .always
                $0.lagSecondsMax = 100
            }, seed: 1)
        schedule.noteLoad(0.9, now: 0)
        #expect(schedule.decide(Self.inputs(1)).kind == "hold:server-busy")
        #expect(schedule.decide(Self.inputs(1, age: 100)).kind == "ship:max-lag")
        #expect(schedule.decide(Self.inputs(30)).kind == "ship:always", "what it said is old")
        schedule.noteLoad(0.7, now: 30 * Self.second)
        #expect(schedule.decide(Self.inputs(31)).kind == "ship:always")
        schedule.noteAskedToWait(seconds: 60, now: 31 * Self.second)
        #expect(schedule.decide(Self.inputs(32)).kind == "hold:asked-to-wait")
        let forced = schedule.decide(Self.inputs(33, age: 100))
        #expect(
            forced
                == .hold(
                    .askedToWait(seconds: 6), lookAgainNanoseconds: 5 * Self.second),
            "it is asked again soon, not at once")
        #expect(schedule.decide(Self.inputs(39, age: 100)).kind == "ship:max-lag")
    }

    @Test(arguments: 0..<20 as Range<UInt64>) func backOffGrowsWithJitter(seed: UInt64) {
        var schedule = ShipSchedule(Self.settings { $0.when = .always }, seed: seed)
        var now: Int64 = 0
        var expected = 1.0
        for _ in 0..<14 {
            schedule.noteFailure("down", now: now)
            var inputs = Self.inputs(0)
            inputs.now = now
            guard case .hold(.failed, let wait?) = schedule.decide(inputs) else {
                Issue.record("it does not wait")
                return
            }
            let seconds = Double(wait) / 1e9
            #expect(seconds >= expected * 0.74 && seconds <= expected * 1.26)
            expected = min(expected * 2, 300)
            now += wait
            inputs.now = now
            #expect(schedule.decide(inputs).isShip)
        }
        schedule.noteSuccess()
        schedule.noteFailure("down", now: now)
        var inputs = Self.inputs(0)
        inputs.now = now + 2 * Self.second
        #expect(schedule.decide(inputs).isShip, "from the beginning again")
    }

    /// Whatever happens: with max-lag nothing holds longer than that, but pauses, failures and the
    /// server's wish; without work it never ships; the record of decisions is bounded and true.
    @Test(arguments: 0..<60 as Range<UInt64>) func randomDays(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        let whens: [ShipSettings.When] = [.always, .quiet, .hours(from: 1320, until: 360)]
        var schedule = ShipSchedule(
            Self.settings {
                $0.when = whens[random.below(3)]
                $0.lagSecondsMax = 60
                $0.batchSeconds = Int64(random.below(100))
                $0.backlogBytesMax = random.chance(0.5) ? 5000 : nil
            }, seed: seed)
        var (time, counter): (Int64, UInt64) = (0, 0)
        var last = ""
        var changes = 0
        for _ in 0..<2000 {
            time += Int64(random.below(20))
            counter += UInt64(random.below(1_000_000))
            var inputs = Self.inputs(
                time, age: Int64(random.below(120)), minute: Int(time / 60 % 1440))
            inputs.interfaceBytes = random.chance(0.02) ? 0 : counter
            inputs.backlogRecords = random.chance(0.2) ? 0 : 1
            inputs.isVolumeBusy = random.chance(0.5)
            if random.chance(0.05) { schedule.noteFailure("x", now: inputs.now) }
            if random.chance(0.05) { schedule.noteLoad(0.95, now: inputs.now) }
            if random.chance(0.1) { schedule.noteSuccess() }
            let decision = schedule.decide(inputs)
            if decision.kind != last { changes += 1 }
            last = decision.kind
            switch decision {
            case .ship: #expect(inputs.backlogRecords > 0)
            case .hold(let reason, let wait):
                if let wait { #expect(wait > 0) }
                let age = (inputs.wall - (inputs.oldestWall ?? 0)) / Self.second
                if inputs.backlogRecords > 0, age >= 60 {
                    if case .failed = reason { continue }
                    Issue.record("held at an age of \(age) s: \(reason)")
                }
            }
        }
        #expect(schedule.decisions.count == min(changes, ShipSchedule.decisionsMax))
    }
}
