// Decides whether to ship now, and why. Pure: counters, clocks and what happened are handed in; no
// input or output, no randomness but a seed. Reasons count in this order:
//
//   stopped for good, paused        never ships
//   nothing waits                   no request is made (R7)
//   last try failed                 later and later, with jitter
//   asked to, max-lag, backlog      ships, whatever the traffic, the hours and the server's load
//   collecting, volume written to   a little later
//   server busy, hours, traffic     waits; traffic with hysteresis over a smoothed window

import DiskIO

/// The state behind the decisions for one remote. One thread.
public struct ShipSchedule: Sendable {
    /// What is known at one moment.
    public struct Inputs: Hashable, Sendable {
        /// Monotonic nanoseconds.
        public var now: Int64
        /// Nanoseconds since 1970-01-01 UTC.
        public var wall: Int64
        /// Minute of the day, local time.
        public var minuteOfDay: Int
        /// Bytes of the interface, all and ours; nil where it cannot be watched.
        public var interfaceBytes: UInt64?
        public var ownBytes: UInt64 = 0
        /// Of the link; nil where the kernel does not know.
        public var linkBytesPerSecond: UInt64?
        /// Records and bytes that wait, and the wall time of the oldest record.
        public var backlogRecords: UInt64 = 0
        public var backlogBytes: UInt64 = 0
        public var oldestWall: Int64?
        /// A whole segment waits, or a snapshot: nothing to collect.
        public var hasSegment = false
        /// The volume has much to do.
        public var isVolumeBusy = false

        public init(now: Int64, wall: Int64, minuteOfDay: Int) {
            self.now = now
            self.wall = wall
            self.minuteOfDay = minuteOfDay
        }

        var hasWork: Bool { backlogRecords > 0 || hasSegment }
        var ageSeconds: Int64 {
            guard let oldestWall else { return 0 }
            let (age, overflow) = wall.subtractingReportingOverflow(oldestWall)
            return overflow ? 0 : max(0, age / 1_000_000_000)
        }
    }

    public private(set) var settings: ShipSettings
    public var isPaused = false
    /// A command wants everything shipped that is there now.
    public var isAsked = false
    public private(set) var decision = ShipDecision.hold(.upToDate, lookAgainNanoseconds: nil)
    /// The newest decisions, the oldest first.
    public private(set) var decisions: [ShipDecisionRecord] = []
    public static let decisionsMax = 100

    private var meter: TrafficMeter
    private var isQuiet = false
    private var load: (value: Double, at: Int64)?
    private var isServerBusy = false
    /// Monotonic: not before.
    private var waitsUntil: Int64 = 0
    private var askedToWaitUntil: Int64 = 0
    private var failures = 0
    private var failure = ""
    private var standing: String?
    private var random: SeededRandom

    /// Looks at least so often while something waits.
    private static let lookNanoseconds: Int64 = 1_000_000_000
    /// Load from which on the server is left alone, below which it is not any more, and how long
    /// what it said holds.
    private static let loadMax = 0.8
    private static let loadGood = 0.6
    private static let loadNanoseconds: Int64 = 20_000_000_000
    /// Quiet begins at this share of the threshold; it ends above the threshold.
    private static let hysteresis = 0.8
    private static let retrySecondsMin = 1.0
    private static let retrySecondsMax = 300.0
    /// Under a lag that is too large a server that asks to wait is asked so often.
    private static let forcedWaitSeconds: Int64 = 5
    /// The volume's own writes come first for so long.
    private static let busySecondsMax: Int64 = 60
    /// Taken for the speed of a link that nobody knows, as long as nothing faster was seen.
    private static let speedMin: UInt64 = 1_000_000

    public init(_ settings: ShipSettings, seed: UInt64) {
        self.settings = settings
        meter = TrafficMeter(windowSeconds: settings.windowSeconds)
        random = SeededRandom(seed: seed)
    }

    /// Other settings from now on; what was measured stays where it can.
    public mutating func change(_ settings: ShipSettings) {
        if settings.windowSeconds != self.settings.windowSeconds {
            meter = TrafficMeter(windowSeconds: settings.windowSeconds)
        }
        self.settings = settings
    }

    // MARK: - what happened

    /// A request went well.
    public mutating func noteSuccess() {
        failures = 0
        waitsUntil = 0
        askedToWaitUntil = 0
    }

    /// A request failed; it is tried again after 1 s, 2 s, 4 s … 5 min, each longer or shorter by
    /// up to a quarter, so that many clients do not come back at once.
    public mutating func noteFailure(_ text: String, now: Int64) {
        failures = min(failures + 1, 30)
        failure = text
        var seconds = Self.retrySecondsMin
        for _ in 1..<failures { seconds = min(seconds * 2, Self.retrySecondsMax) }
        let jitter = 0.75 + Double(random.below(1 << 20)) / Double(1 << 20) / 2
        waitsUntil = now + Int64(seconds * jitter * 1e9)
    }

    /// The server asked to wait.
    public mutating func noteAskedToWait(seconds: Int64, now: Int64) {
        let bounded = min(max(seconds, 1), 3600)
        askedToWaitUntil = now + bounded * 1_000_000_000
    }

    public mutating func noteLoad(_ value: Double?, now: Int64) {
        guard let value else { return }
        load = (value, now)
        isServerBusy = value >= (isServerBusy ? Self.loadGood : Self.loadMax)
    }

    /// It stops until `clearStanding`.
    public mutating func noteStanding(_ text: String) { standing = text }

    /// The user did something about it, or wants it tried again.
    public mutating func clearStanding() {
        standing = nil
        noteSuccess()
    }

    public var standingProblem: String? { standing }

    // MARK: - deciding

    /// What to do now. A change of mind is recorded.
    public mutating func decide(_ inputs: Inputs) -> ShipDecision {
        measure(inputs)
        let next = judge(inputs)
        if next.kind != decision.kind || decisions.isEmpty {
            if decisions.count >= Self.decisionsMax { decisions.removeFirst() }
            decisions.append(
                ShipDecisionRecord(
                    wallNanoseconds: inputs.wall, kind: next.kind, text: "\(next)"))
        }
        decision = next
        return next
    }

    private mutating func measure(_ inputs: Inputs) {
        guard settings.when == .quiet, let bytes = inputs.interfaceBytes else { return }
        meter.take(interfaceBytes: bytes, ownBytes: inputs.ownBytes, now: inputs.now)
    }

    private mutating func judge(_ inputs: Inputs) -> ShipDecision {
        func hold(_ reason: HoldReason, _ nanoseconds: Int64? = nil) -> ShipDecision {
            .hold(reason, lookAgainNanoseconds: nanoseconds)
        }
        func ship(_ reason: ShipReason) -> ShipDecision {
            .ship(rateBytesPerSecond: settings.rateBytesPerSecond, reason)
        }
        if let standing { return hold(.standing(standing)) }
        if isPaused { return hold(.paused) }
        guard inputs.hasWork else {
            // A look at the counters now would only tell of a time long past later.
            return hold(.upToDate)
        }
        if inputs.now < waitsUntil {
            let left = waitsUntil - inputs.now
            return hold(
                .failed(failure, retrySeconds: left / 1_000_000_000 + 1), left)
        }
        let forced = forcing(inputs)
        if let wait = waitForServer(inputs, isForced: forced != nil) { return wait }
        if let forced { return ship(forced) }
        if let wait = waitForVolume(inputs) { return wait }
        switch settings.when {
        case .always: return ship(.always)
        case .hours(let from, _):
            guard settings.when.allows(minute: inputs.minuteOfDay) else {
                return hold(.outsideHours(until: from), lookBefore(inputs, minute: from))
            }
            return ship(.inHours)
        case .quiet: return byTraffic(inputs)
        }
    }

    /// What overrules traffic, hours and load.
    private func forcing(_ inputs: Inputs) -> ShipReason? {
        if isAsked { return .asked }
        if let bound = settings.lagSecondsMax, inputs.ageSeconds >= bound {
            return .maxLag(ageSeconds: inputs.ageSeconds)
        }
        if let bound = settings.backlogBytesMax, inputs.backlogBytes >= bound {
            return .backlogBound(bytes: inputs.backlogBytes)
        }
        return nil
    }

    private mutating func waitForServer(_ inputs: Inputs, isForced: Bool) -> ShipDecision? {
        var left = askedToWaitUntil - inputs.now
        if left > 0 {
            if isForced, left > Self.forcedWaitSeconds * 1_000_000_000 {
                left = Self.forcedWaitSeconds * 1_000_000_000
                askedToWaitUntil = inputs.now + left
            }
            return .hold(
                .askedToWait(seconds: left / 1_000_000_000 + 1),
                lookAgainNanoseconds: isForced ? left : min(left, lookBeforeLag(inputs)))
        }
        guard !isForced, isServerBusy, let load else { return nil }
        // What it said is old by now: the next request will tell.
        let old = load.at + Self.loadNanoseconds - inputs.now
        guard old > 0 else {
            isServerBusy = false
            return nil
        }
        return .hold(
            .serverBusy(load: load.value), lookAgainNanoseconds: min(old, lookBeforeLag(inputs)))
    }

    /// Lets records come together, and the volume's own writes come first.
    private func waitForVolume(_ inputs: Inputs) -> ShipDecision? {
        let age = inputs.ageSeconds
        if !inputs.hasSegment, age < settings.collectSeconds {
            return .hold(
                .collecting(ageSeconds: age),
                lookAgainNanoseconds: (settings.collectSeconds - age) * 1_000_000_000)
        }
        if inputs.isVolumeBusy, age < max(Self.busySecondsMax, settings.collectSeconds) {
            return .hold(.volumeBusy, lookAgainNanoseconds: Self.lookNanoseconds)
        }
        return nil
    }

    private mutating func byTraffic(_ inputs: Inputs) -> ShipDecision {
        guard inputs.interfaceBytes != nil else {
            return .ship(rateBytesPerSecond: settings.rateBytesPerSecond, .unmeasured)
        }
        guard let foreign = meter.rate else {
            isQuiet = false
            return .hold(
                .measuring,
                lookAgainNanoseconds: min(
                    max(meter.nanosecondsUntilKnown, 1), Self.lookNanoseconds,
                    lookBeforeLag(inputs)))
        }
        let speed = inputs.linkBytesPerSecond ?? max(meter.rateMax, Self.speedMin)
        let threshold = settings.quietBelow.threshold(linkBytesPerSecond: speed)
        let bound = isQuiet ? threshold : UInt64(Double(threshold) * Self.hysteresis)
        isQuiet = foreign <= bound
        if isQuiet {
            return .ship(
                rateBytesPerSecond: settings.rateBytesPerSecond,
                .quiet(foreign: foreign, threshold: threshold))
        }
        return .hold(
            .traffic(foreign: foreign, threshold: threshold),
            lookAgainNanoseconds: min(Self.lookNanoseconds, lookBeforeLag(inputs)))
    }

    /// Until the lag reaches its bound.
    private func lookBeforeLag(_ inputs: Inputs) -> Int64 {
        guard let bound = settings.lagSecondsMax else { return .max }
        let left = bound.subtractingReportingOverflow(inputs.ageSeconds).partialValue
        return max(1, min(left, 1 << 30)) * 1_000_000_000
    }

    /// Until the hours begin, or the lag reaches its bound; looks now and then in between, for
    /// clocks are set.
    private func lookBefore(_ inputs: Inputs, minute: Int) -> Int64 {
        let minutes = (minute - inputs.minuteOfDay + 1440) % 1440
        let whole = Int64(max(1, min(minutes, 10))) * 60_000_000_000
        let sinceMinute = ((inputs.wall % 60_000_000_000) + 60_000_000_000) % 60_000_000_000
        return min(max(whole - sinceMinute, 1_000_000_000), lookBeforeLag(inputs))
    }
}
