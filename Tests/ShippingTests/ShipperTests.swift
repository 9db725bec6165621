// One thing at a time: what the shipper does about fencing, refusals, a full remote, a bound on
// what waits, and a volume that was set back.

import BlockModel
import DiskIO
import History
import HistoryModel
import ServerAPI
import Shipping
import Testing

@Suite struct ShipperTests {
    private static func world() throws -> (SeededRandom, ModelJournal, MemoryTarget, ModelClock) {
        var random = SeededRandom(seed: 3)
        let journal = try ModelJournal(&random)
        journal.grow(&random, records: 40)
        let clock = ModelClock()
        clock.wallOffset.withLock { $0 = journal.volume.wall }
        return (random, journal, MemoryTarget(), clock)
    }

    /// Turns until it waits for something else than time, or so often.
    private static func settle(_ shipper: Shipper, _ clock: ModelClock) -> ShipDecision {
        var decision = shipper.turn()
        for _ in 0..<30 {
            guard case .hold(_, let wait?) = decision else { return decision }
            clock.advance(wait)
            decision = shipper.turn()
        }
        return decision
    }

    @Test func fencedStopsForGood() throws {
        let (_, journal, target, clock) = try Self.world()
        target.change { $0.writer = "somebody else" }
        let shipper = journal.shipper(to: target, clock)
        guard case .hold(.standing, nil) = Self.settle(shipper, clock) else {
            Issue.record("it goes on")
            return
        }
        let requests = target.requests
        clock.advance(3_600_000_000_000)
        #expect(!shipper.turn().isShip && target.requests == requests)
        #expect(shipper.status().memory.standing != nil)
        // The user mended it.
        target.change { $0.writer = nil }
        shipper.pause(false)
        #expect(Self.settle(shipper, clock) == .hold(.upToDate, lookAgainNanoseconds: nil))
        #expect(target.head?.lsn == journal.volume.last.rawValue)
    }

    @Test func waitsAsLongAsItIsAsked() throws {
        let (_, journal, target, clock) = try Self.world()
        target.change { $0.refusals = [.busy(seconds: 7, "busy"), .full(seconds: 9, "full")] }
        let shipper = journal.shipper(to: target, clock)
        var waits: [Int64] = []
        while case .hold(let reason, let wait?) = shipper.turn() {
            if case .askedToWait = reason { waits.append(wait / 1_000_000_000) }
            clock.advance(wait)
        }
        #expect(waits == [7, 9])
        #expect(shipper.acked == journal.volume.last)
    }

    @Test func refusedIsToldAndTriedAgain() throws {
        let (_, journal, target, clock) = try Self.world()
        target.change { $0.refusals = [.refused("no such token")] }
        let shipper = journal.shipper(to: target, clock)
        _ = shipper.turn()
        #expect(shipper.status().needsUser)
        #expect(Self.settle(shipper, clock) == .hold(.upToDate, lookAgainNanoseconds: nil))
        #expect(!shipper.status().needsUser && shipper.status().failure == nil)
    }

    @Test func writersAreHeldAtTheBound() throws {
        var (random, journal, target, clock) = try Self.world()
        let shipper = journal.shipper(to: target, clock) {
            $0.settings.backlogBytesMax = 4000
        }
        target.change { $0.isDown = true }
        _ = shipper.turn()
        #expect(journal.isHeld)
        #expect(shipper.status().isHoldingWriters)
        target.change { $0.isDown = false }
        #expect(Self.settle(shipper, clock) == .hold(.upToDate, lookAgainNanoseconds: nil))
        _ = shipper.turn()
        #expect(!journal.isHeld)
        journal.grow(&random, records: 1)
    }

    /// What waited goes as merged segments; the newest state and every point after it are right.
    @Test func pointsAreGivenUpAtTheBound() throws {
        var (random, journal, target, clock) = try Self.world()
        let shipper = journal.shipper(to: target, clock) {
            $0.settings.backlogBytesMax = 6000
            $0.settings.onBacklog = .dropToGap
        }
        target.change { $0.isDown = true }
        journal.grow(&random, records: 200)
        _ = shipper.turn()
        let through = try #require(shipper.status().memory.dropThroughLSN)
        #expect(!journal.isHeld && shipper.status().memory.dropCount == 1)
        journal.grow(&random, records: 10)
        target.change { $0.isDown = false }
        #expect(Self.settle(shipper, clock) == .hold(.upToDate, lookAgainNanoseconds: nil))
        let commits = target.commits
        #expect(commits.filter { $0.kind == .merged }.map(\.last.rawValue).contains(through))
        let remote = try HistoryCatalogue(store: target.store)
        let last = journal.volume.last
        let view = try PointInTimeView(remote, at: last)
        #expect(try view.contents() == journal.volume.image(at: last))
        #expect(shipper.status().memory.dropThroughLSN == nil)
    }

    @Test func aVolumeThatWasSetBackIsTold() throws {
        let (_, journal, target, clock) = try Self.world()
        let shipper = journal.shipper(to: target, clock)
        _ = Self.settle(shipper, clock)
        // The same volume went another way from its beginning on.
        var random = SeededRandom(seed: 5)
        let other = try ModelJournal(&random)
        other.grow(&random, records: 60)
        let otherClock = ModelClock()
        let late = other.shipper(to: target, otherClock)
        guard case .hold(.standing(let text), _) = Self.settle(late, otherClock) else {
            Issue.record("it goes on")
            return
        }
        #expect(!text.isEmpty)
        #expect(target.head?.lsn == journal.volume.last.rawValue, "nothing was mixed in")
    }

    @Test func aCutGoesOnAtTheByte() throws {
        let (_, journal, target, clock) = try Self.world()
        target.change { $0.cutRatio = 0.3 }
        let shipper = journal.shipper(to: target, clock)
        while case .hold(_, let wait?) = shipper.turn() { clock.advance(wait) }
        let stored = target.store.content.values.reduce(0) { $0 + $1.count }
        #expect(target.receivedBytes == stored, "no byte was sent twice")
    }

    @Test func theRateIsKept() throws {
        let (_, journal, target, clock) = try Self.world()
        let shipper = journal.shipper(to: target, clock) {
            $0.settings.rateBytesPerSecond = 10_000
        }
        let start = clock.clock.now()
        while case .hold(_, let wait?) = shipper.turn() { clock.advance(wait) }
        let seconds = Double(clock.clock.now() - start) / 1e9
        #expect(Double(target.receivedBytes) <= 10_000 * (seconds + 1) + 4096)
    }
}
