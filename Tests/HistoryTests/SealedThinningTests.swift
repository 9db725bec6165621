// Pruning what cannot be looked into: whole chains go, and nothing that is young, pinned or in use
// is ever lost.

import BlockModel
import DiskIO
import History
import HistoryModel
import LogFormat
import Testing

@Suite struct SealedThinningTests {
    private static let second: Int64 = 1_000_000_000
    private static let volume = VolumeID(high: 1, low: 2)

    /// Ten records a second; LSN 10 is of second 1.
    private static func stamp(_ lsn: UInt64) -> Stamp {
        Stamp(lsn: LSN(lsn), wallNanoseconds: Int64(lsn) * second / 10)
    }

    private static func segment(
        _ kind: SegmentKind, _ first: UInt64, _ last: UInt64
    ) -> CataloguedSegment {
        let name = SegmentName(first: LSN(first), last: LSN(last), kind: kind)
        return CataloguedSegment(
            name: name,
            footer: SegmentFooter(
                standingIn: SegmentHeader(
                    kind: kind, volume: volume, epoch: 1, volumeBytes: 4096,
                    first: stamp(first)), last: stamp(last), digest: .none))
    }

    private static func log(_ first: UInt64, _ last: UInt64) -> CataloguedSegment {
        segment(.log, first, last)
    }
    private static func snapshot(_ lsn: UInt64) -> CataloguedSegment {
        segment(.snapshot, lsn, lsn)
    }

    /// The last span in seconds, at the time of that LSN.
    private static func rule(_ span: Int64, at lsn: UInt64) throws -> RetentionRule {
        RetentionRule(
            try Ladder([Ladder.Rung(spacing: .every, span: span * second)]),
            now: stamp(lsn).wallNanoseconds)
    }

    private static let chain = [
        snapshot(0), log(1, 100), snapshot(100), log(101, 150), snapshot(150), log(151, 230),
        snapshot(200), log(231, 300),
    ]

    @Test func theNewestSnapshotBeforeTheSpanIsTheBase() throws {
        // At second 30, a span of 14 reaches back to LSN 160.
        let plan = SealedThinning.plan(try Self.rule(14, at: 300), Self.chain)
        #expect(plan.base == Self.stamp(150))
        #expect(
            plan.deletes
                == [
                    Self.log(101, 150), Self.snapshot(100), Self.log(1, 100), Self.snapshot(0),
                ].map(\.name))
        // The next base is the snapshot at second 20.
        #expect(plan.nextDue == Self.second * 34)
        // Exactly as old as the span counts.
        #expect(SealedThinning.plan(try Self.rule(15, at: 300), Self.chain).base?.lsn == LSN(150))
        #expect(SealedThinning.plan(try Self.rule(16, at: 300), Self.chain).base?.lsn == LSN(100))
        // A log that begins before the base and ends behind it stays.
        let cut = SealedThinning.plan(try Self.rule(5, at: 300), Self.chain)
        #expect(cut.base == Self.stamp(200) && !cut.deletes.contains(Self.log(151, 230).name))
        #expect(cut.nextDue == nil)
    }

    @Test func nothingGoesWithoutAnotherBase() throws {
        for segments in [[], [Self.snapshot(0)], [Self.snapshot(0), Self.log(1, 300)]] {
            let plan = SealedThinning.plan(try Self.rule(1, at: 400), segments)
            #expect(plan.deletes.isEmpty && plan.base == nil && plan.nextDue == nil)
        }
        let young = SealedThinning.plan(try Self.rule(25, at: 300), Self.chain)
        #expect(young.deletes.isEmpty && young.nextDue == Self.second * 35)
    }

    @Test func slackWaits() throws {
        var rule = try Self.rule(14, at: 300)
        rule.slack = 17 * Self.second
        let plan = SealedThinning.plan(rule, Self.chain)
        #expect(plan.deletes.isEmpty && plan.nextDue == Self.second * 31)
        rule.slack = 16 * Self.second
        #expect(SealedThinning.plan(rule, Self.chain).deletes.count == 4)
        rule.slack = .max
        #expect(SealedThinning.plan(rule, Self.chain).deletes.isEmpty)
    }

    @Test func pinsBranchesAndLeases() throws {
        var rule = try Self.rule(14, at: 300)
        rule.pins = [LSN(120)]
        #expect(SealedThinning.plan(rule, Self.chain).base?.lsn == LSN(100))
        rule.pins = [LSN(99)]
        #expect(SealedThinning.plan(rule, Self.chain).base == nil)
        rule.pins = []
        var branch = Lease(purpose: "branch", holder: "/b", at: LSN(149))
        branch.isDurable = true
        #expect(SealedThinning.plan(rule, Self.chain, leases: [branch]).base?.lsn == LSN(100))
        let reader = Lease(
            purpose: "replay", holder: "x", at: LSN(120), segments: [Self.log(101, 150).name])
        let held = SealedThinning.plan(rule, Self.chain, leases: [reader])
        #expect(held.blockers == [reader])
        let other = Lease(
            purpose: "replay", holder: "x", at: LSN(280), segments: [Self.log(231, 300).name])
        #expect(SealedThinning.plan(rule, Self.chain, leases: [other]).blockers.isEmpty)
        let undecided = Lease(purpose: "replay", holder: "x")
        #expect(SealedThinning.plan(rule, Self.chain, leases: [undecided]).blockers == [undecided])
    }

    /// A snapshot from which the newest state cannot be reached is no base.
    @Test func theNewestChainKeepsItsBeginning() throws {
        // The merged segment leads from 0 over 100; the snapshot at 100 stands in the middle of it.
        let broken = [
            Self.snapshot(0), Self.log(1, 50), Self.snapshot(100), Self.segment(.merged, 51, 200),
            Self.log(201, 300),
        ]
        #expect(SealedThinning.plan(try Self.rule(5, at: 300), broken).base?.lsn == LSN(100))
        let gap = [
            Self.snapshot(0), Self.log(1, 300), Self.snapshot(400), Self.log(501, 600),
            Self.snapshot(500), Self.log(601, 700),
        ]
        let plan = SealedThinning.plan(try Self.rule(5, at: 700), gap)
        #expect(plan.base?.lsn == LSN(500))
        #expect(plan.deletes.contains(Self.snapshot(400).name))
    }

    /// Whatever lies there: every point from the base on that could be restored still can, and
    /// nothing younger than the span goes that is not before a snapshot that old.
    @Test(arguments: 1...4 as ClosedRange<UInt64>) func anyHistory(_ seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        for _ in 0..<12 {
            let containers = MemoryStore()
            let store = SealedStore(containers, key: .random())
            var world = try ThinningWorld(&random, store: store)
            for _ in 0..<3 { try world.grow(&random, records: 25, snapshots: 1) }
            if random.chance(0.4), let lost = containers.content.keys.randomElement(using: &random)
            {
                containers.content[lost] = nil
            }
            let now = world.volume.wall
            let span =
                1 + Int64(random.below(Int(now - world.volume.baseStamp.wallNanoseconds) + 9))
            var rule = RetentionRule(
                try Ladder([Ladder.Rung(spacing: .every, span: span)]), now: now)
            rule.pins = world.pins
            let before = try world.catalogue()
            let thinning = SealedThinning(store: containers, volume: world.volume.id) { [] }
            let plan = try thinning.plan(rule)
            let result = try thinning.run(rule)
            #expect(result.deleted == plan.deletes && result.deletedBytes == plan.deletedBytes)
            let after = try world.catalogue()
            let kept = plan.base?.lsn ?? .zero
            if let base = plan.base { #expect(base.wallNanoseconds <= now - span) }
            for lsn in kept.rawValue...max(kept.rawValue, world.archived.rawValue) {
                #expect(
                    after.isRestorable(LSN(lsn)) == before.isRestorable(LSN(lsn)),
                    "seed \(seed), lsn \(lsn)")
            }
            for pin in world.pins { #expect(after.isRestorable(pin) == before.isRestorable(pin)) }
            let newest = try after.ranges.last.map {
                try PointInTimeView(after, at: $0.last.lsn).contents()
            }
            #expect(newest == before.ranges.last.map { world.images[Int($0.last.lsn.rawValue)] })
            #expect(try thinning.plan(rule).deletes.isEmpty)
        }
    }
}
