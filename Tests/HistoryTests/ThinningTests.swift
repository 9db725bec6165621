// Thinning against the model: random histories and ladders, crashes at any operation, leases, and
// the rung `newest` against the plain rule. A failure names its seed.

import BlockModel
import DiskIO
import History
import HistoryModel
import LogFormat
import Synchronization
import Testing

#if canImport(Glibc)
    import Glibc
#endif

@Suite struct ThinningTests {
    /// LOGDISK_SEED runs a single one.
    private static func seeds(_ count: UInt64) -> [UInt64] {
        getenv("LOGDISK_SEED").flatMap { UInt64(String(cString: $0)) }.map { [$0] }
            ?? Array(0..<count)
    }

    /// Thins now and then while the history grows, and at the end; the same ladder, thinned only
    /// at the end, keeps the same.
    @Test(arguments: seeds(120)) func keepsWhatTheLadderSays(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        var world = try ThinningWorld(&random, store: MemoryStore())
        let ladder = try ThinningWorld.ladder(&random)
        var never = world
        never.store = MemoryStore((world.store as? MemoryStore)?.content ?? [:])
        var now = Int64.min
        for round in 0..<1 + random.below(4) {
            var twin = random
            let (records, snapshots) = (1 + random.below(60), random.below(3))
            twin = random
            try world.grow(&random, records: records, snapshots: snapshots)
            try never.grow(&twin, records: records, snapshots: snapshots)
            never.pins = world.pins
            var rule = world.rule(ladder, after: Int64(random.below(60_000)))
            // The clock does not go back.
            rule.now = max(rule.now, now)
            now = rule.now
            let what = "\(ladder) round \(round)"
            _ = try world.thinning().run(rule)
            try world.check(rule, what)
            try world.checkTimes(&random, what)
            #expect(try world.thinning().plan(rule).isEmpty, "\(what): two prunes equal one")
        }
        // Pins are of marks that were there: those of the thinned history.
        var rule = world.rule(ladder, after: Int64(random.below(200_000)))
        rule.now = max(rule.now, now)
        let planned = try world.thinning().plan(rule).ranges
        _ = try world.thinning().run(rule)
        try world.check(rule, "\(ladder) often")
        #expect(try world.catalogue().ranges == planned, "the plan says what stays")
        _ = try never.thinning().run(rule)
        try never.check(rule, "\(ladder) once")
    }

    /// The rungs one by one, in any order, come to the same as all at once.
    @Test(arguments: seeds(40)) func rungsInAnyOrder(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        var world = try ThinningWorld(&random, store: MemoryStore())
        try world.grow(&random, records: 120, snapshots: 0)
        let whole = try ThinningWorld.ladder(&random)
        let rule = world.rule(whole, after: Int64(random.below(30_000)))
        // Each step knows some rungs; what the others would drop stays.
        for count in (1...whole.rungs.count).shuffled(using: &random) {
            var rungs = Array(whole.rungs.prefix(count))
            rungs[count - 1].span = .max / 4
            _ = try world.thinning().run(
                RetentionRule(try Ladder(rungs), now: rule.now).with(rule.pins))
        }
        _ = try world.thinning().run(rule)
        try world.check(rule, "\(whole)")
    }

    @Test(arguments: seeds(30)) func newestIsThePlainRule(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        var world = try ThinningWorld(&random, store: MemoryStore())
        try world.grow(&random, records: 1 + random.below(150), snapshots: 0)
        world.pins = []
        // From the most recent entry on: every earlier entry to the same sector is deleted.
        var plain: [UInt64: LSN] = [:]
        for record in world.volume.records.reversed() where record.header.kind.changesSectors {
            let extent = record.header.extent
            for sector in extent.start..<extent.end where plain[sector] == nil {
                plain[sector] = record.header.stamp.lsn
            }
        }
        let marks = world.volume.records.filter { $0.header.kind == .mark }.count
        let ladder = try Ladder([.init(spacing: .newest, span: .max / 4)])
        _ = try world.thinning().run(world.rule(ladder, after: 0))
        let segments = try world.store.list().filter { $0.name.kind == .merged }
        #expect(try world.store.list().allSatisfy { $0.name.kind != .log })
        #expect(segments.count <= marks + 1)
        var found: [UInt64: LSN] = [:]
        for segment in segments {
            let index = try SegmentReader(segment, in: world.store).recordIndex()
            for entry in index.entries where entry.kind.changesSectors {
                for sector in entry.extent.start..<entry.extent.end {
                    #expect(segments.count > 1 || found[sector] == nil, "one entry a sector")
                    found[sector] = entry.stamp.lsn
                }
            }
        }
        #expect(found == plain)
    }

    /// Intervals that are too large for the memory allowed become parts, which fit together when
    /// they have shrunk.
    @Test(arguments: seeds(30)) func largeIntervalsComeInParts(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        var world = try ThinningWorld(&random, store: MemoryStore())
        world.limits.recordsMax = 6
        try world.grow(&random, records: 100, snapshots: 1)
        var rule = world.rule(try ThinningWorld.ladder(&random), after: 5000)
        rule.entriesMax = UInt64(1 + random.below(30))
        _ = try world.thinning().run(rule)
        try world.check(rule, parts: true, "in parts")
        #expect(try world.thinning().plan(rule).isEmpty)
        rule.entriesMax = 1 << 20
        _ = try world.thinning().run(rule)
        try world.check(rule, "as a whole")
    }

    /// The power goes, or the program is killed, at any operation: what must stay is there, and
    /// the next run ends where an undisturbed one does.
    @Test(arguments: seeds(8)) func crashAnywhere(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        let storage = SimulatedStorage(seed: seed)
        try storage.createDirectory("/h")
        try storage.syncDirectory("/")
        var world = try ThinningWorld(
            &random, store: DirectoryStore(storage: storage, directory: "/h"))
        let ladder = try ThinningWorld.ladder(&random)
        try world.grow(&random, records: 50, snapshots: 2)
        if random.chance(0.5) { _ = try world.thinning().run(world.rule(ladder, after: 0)) }
        try world.grow(&random, records: 40, snapshots: 1)
        let rule = world.rule(ladder, after: Int64(random.below(80_000)))
        func undisturbed() throws -> (operations: UInt64, ranges: [RestorableRange]) {
            let fork = storage.fork(seed: 0)
            let before = fork.operationCount
            var twin = world
            twin.store = DirectoryStore(storage: fork, directory: "/h")
            _ = try twin.thinning().run(rule)
            return (fork.operationCount - before, try twin.catalogue().ranges)
        }
        let (operations, ranges) = try undisturbed()
        let step = max(1, operations / 40)
        for operation in stride(from: 1, through: operations, by: Int(step)) {
            let fork = storage.fork(seed: seed ^ operation)
            var twin = world
            twin.store = DirectoryStore(storage: fork, directory: "/h")
            fork.crash(atOperation: fork.operationCount + operation)
            #expect(throws: (any Error).self) { _ = try twin.thinning().run(rule) }
            if random.chance(0.7) { fork.crash() } else { fork.kill() }
            let store = DirectoryStore(storage: fork, directory: "/h")
            try store.removeUnfinished()
            twin.store = store
            let what = "crash at \(operation) of \(operations)"
            let history = try twin.catalogue()
            for raw in 0...twin.archived.rawValue {
                let isThere = history.isRestorable(LSN(raw))
                if raw > 0, twin.mustStay(LSN(raw), rule) { #expect(isThere, "\(what): \(raw)") }
                try twin.checkPoint(LSN(raw), isThere, history, what)
            }
            _ = try twin.thinning().run(rule)
            try twin.check(rule, what)
            #expect(try twin.catalogue().ranges == ranges, "\(what)")
        }
    }

    @Test(arguments: seeds(40)) func leasesHoldWhatTheyName(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        var world = try ThinningWorld(&random, store: MemoryStore())
        try world.grow(&random, records: 100, snapshots: 2)
        let rule = world.rule(try ThinningWorld.ladder(&random), after: Int64(random.below(90_000)))
        let lsn = LSN(UInt64(random.below(Int(world.archived.rawValue) + 1)))
        let view = try PointInTimeView(try world.catalogue(), at: lsn, cacheBytesMax: 4096)
        let image = world.images[Int(lsn.rawValue)]

        let all = try world.thinning { [Lease(purpose: "replay", holder: "x")] }.run(rule)
        #expect(all.deleted.isEmpty && all.written.isEmpty && all.blockers.count == 1)

        let lease = Lease(purpose: "past mount", holder: "x", at: lsn, segments: view.segments)
        // A lease that comes between plan and deletion counts, too.
        let calls = Mutex(0)
        let late = random.below(4)
        _ = try world.thinning {
            calls.withLock {
                $0 += 1; return $0
            } > late ? [lease] : []
        }.run(rule)
        if late == 0 { #expect(try view.contents() == image) }
        _ = try world.thinning { [lease] }.run(rule)
        if late == 0 {
            #expect(try view.contents() == image, "to the end")
            #expect(try world.catalogue().isRestorable(lsn))
        }
        let branch = Lease(purpose: "branch", holder: "y", at: lsn, segments: [])
        let canBranch = try world.catalogue().isRestorable(lsn)
        _ = try world.thinning { [branch] }.run(rule)
        if canBranch {
            #expect(try PointInTimeView(world.catalogue(), at: lsn).contents() == image)
        }
        _ = try world.thinning().run(rule)
        try world.check(rule, "when it is free")
    }

    /// What is damaged stays damaged under its own name: it is never merged into something sound.
    @Test(arguments: seeds(20)) func damageIsNotLaundered(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        let store = MemoryStore()
        var world = try ThinningWorld(&random, store: store)
        try world.grow(&random, records: 60, snapshots: 0)
        let logs = try store.list().filter { $0.name.kind == .log && $0.byteCount > 600 }
        guard let victim = logs.randomElement(using: &random) else { return }
        store.content[victim.name]?[128 + random.below(64)] ^= 1
        let ladder = try Ladder([.init(spacing: .newest, span: .max / 4)])
        let error = historyError { _ = try world.thinning().run(world.rule(ladder, after: 0)) }
        if let error {
            guard case .damaged(let name, _) = error else { throw error }
            #expect(name == victim.name)
            #expect(store.content[victim.name] != nil)
        } else {
            // Nothing of the damaged block was visible any more.
            try world.checkPoint(world.archived, true, try world.catalogue(), "superseded")
        }
    }

    @Test func slackSparesSnapshots() throws {
        var random = SeededRandom(seed: 5)
        var world = try ThinningWorld(&random, store: MemoryStore())
        try world.grow(&random, records: 80, snapshots: 0)
        world.pins = []
        let age = world.volume.wall - world.volume.baseStamp.wallNanoseconds
        var rule = world.rule(
            try Ladder([.init(spacing: .grid(1000), span: age * 9 / 10)]), after: 0)
        rule.slack = age / 5
        _ = try world.thinning().run(rule)
        let names = try world.store.list().map(\.name)
        #expect(names.filter { $0.kind == .snapshot } == [.snapshot(.zero)])
        rule.slack = 0
        _ = try world.thinning().run(rule)
        let after = try world.store.list().map(\.name).filter { $0.kind == .snapshot }
        #expect(after.count == 1 && after != [.snapshot(.zero)])
        try world.check(rule, "cut back")
    }

    @Test func pinsAreKept() throws {
        let storage = SimulatedStorage(seed: 1)
        try storage.createDirectory("/log")
        let pins = PinFile(storage: storage, directory: "/log")
        #expect(try pins.pins() == [])
        let (a, b) = (MarkPin(name: "a b", lsn: LSN(7)), MarkPin(name: "c", lsn: LSN(3)))
        #expect(try pins.add(a))
        #expect(try pins.add(b))
        #expect(try !pins.add(a))
        #expect(try pins.pins() == [b, a])
        #expect(try pins.remove(named: "a b") == [a])
        #expect(try pins.remove(named: "a b") == [])
        #expect(try pins.pins() == [b])
        let file = try storage.open("/log/pins", OpenOptions(.readWrite))
        try file.truncate(to: 17)
        #expect(throws: PinFile.Unreadable.self) { try pins.pins() }
    }
}

extension RetentionRule {
    fileprivate func with(_ pins: Set<LSN>) -> RetentionRule {
        var rule = self
        rule.pins = pins
        return rule
    }
}
