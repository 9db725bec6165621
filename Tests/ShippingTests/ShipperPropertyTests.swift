// Random histories, outages, lost answers, restarts and prunes at both ends: what the remote lists
// equals the model, and nothing is missing that nobody dropped. A failure names its seed.

import BlockModel
import DiskIO
import Foundation
import History
import HistoryModel
import LogFormat
import ServerAPI
import Shipping
import Synchronization
import Testing

@Suite struct ShipperPropertyTests {
    private static func seeds(_ count: UInt64) -> [UInt64] {
        getenv("LOGDISK_SEED").flatMap { UInt64(String(cString: $0)) }.map { [$0] }
            ?? Array(0..<count)
    }

    private static let ladders = [
        "every 20s, 1m 1h, newest 1d", "newest 1y", "every 1m, 1m 10m", "1m 1h, 10m 1d",
        "every 5s, newest 1m",
    ]

    /// What is remembered, behind a reference.
    private final class Kept: Sendable {
        let memory = Mutex(ShipMemory())
    }

    /// One volume, one remote.
    private final class World {
        var random: SeededRandom
        let journal: ModelJournal
        let target = MemoryTarget()
        let clock = ModelClock()
        let kept = Kept()
        var keep: String?
        var isRemotePruned = false
        var isMemoryLost = false
        var shipper: Shipper

        /// `isElsewhere`: the volume keeps its history at the remote.
        init(seed: UInt64, isElsewhere: Bool = false) throws {
            random = SeededRandom(seed: seed)
            journal = try ModelJournal(&random)
            if isElsewhere { journal.elsewhere = target.store }
            if random.chance(0.4) { keep = ladders[random.below(ladders.count)] }
            let keep = self.keep
            target.change {
                $0.random = SeededRandom(seed: seed)
                $0.keep = keep
            }
            shipper = journal.shipper(to: target, clock)
            restart()
        }

        /// Everything in memory is gone, but what was remembered, as JSON.
        func restart() {
            let memory = kept.memory.withLock { $0 }
            let bytes = (try? JSONEncoder().encode(memory)) ?? Data()
            let read = (try? JSONDecoder().decode(ShipMemory.self, from: bytes)) ?? ShipMemory()
            kept.memory.withLock { $0 = read }
            var settings = ShipSettings()
            settings.when = .always
            settings.batchSeconds = 0
            let request = VolumeRequest(
                uuid: "\(journal.volume.id)", sizeBytes: journal.volume.byteCount, writer: "w",
                host: "host", isSealed: false, keep: keep)
            var setup = Shipper.Setup(name: "r", settings: settings, request: request)
            setup.clock = clock.clock
            let kept = self.kept
            shipper = Shipper(
                setup, journal: journal, target: target, memory: read, log: .quiet
            ) { [journal] memory in
                kept.memory.withLock { $0 = memory }
                guard journal.elsewhere != nil, let here = try? journal.segments.list() else {
                    return
                }
                for name in memory.superfluous(here) { try? journal.segments.delete(name) }
            }
        }

        func act() throws {
            switch random.below(12) {
            case 0, 1, 2: journal.grow(&random, records: 1 + random.below(30))
            case 3:
                let room = journal.volume.last.rawValue - journal.archived.rawValue
                if room > 0 {
                    let last = LSN(
                        journal.archived.rawValue + 1 + UInt64(random.below(Int(room))))
                    try journal.archive(through: last) { true }
                }
            case 4:
                try journal.snapshot()
                shipper.lookAgain()
            case 5 where journal.elsewhere == nil:
                let ladder = try Ladder(parsing: ladders[random.below(ladders.count)])
                try journal.prune(ladder, unshippedAfter: shipper.acked ?? .zero)
            case 6:
                let ladder = try Ladder(parsing: keep ?? ladders[random.below(ladders.count)])
                guard random.chance(0.4) || keep != nil else { break }
                isRemotePruned = true
                try target.prune(RetentionRule(ladder, now: journal.volume.wall))
            case 7:
                let (down, cut, lost) = (random.chance(0.2), random.chance(0.3), random.chance(0.3))
                target.change {
                    $0.isDown = down
                    $0.cutRatio = cut ? 0.2 : 0
                    $0.lostAnswerRatio = lost ? 0.3 : 0
                }
            case 8:
                if random.chance(0.1) {
                    kept.memory.withLock { $0 = ShipMemory() }
                    isMemoryLost = true
                }
                restart()
            default:
                clock.wallOffset.withLock { $0 = journal.volume.wall }
                if case .hold(_, let wait?) = shipper.turn() { clock.advance(wait) }
            }
        }

        /// Until the remote has everything.
        func settle() throws {
            target.change {
                $0.isDown = false
                $0.cutRatio = 0
                $0.lostAnswerRatio = 0
            }
            clock.wallOffset.withLock { $0 = journal.volume.wall }
            for _ in 0..<40 {
                switch shipper.turn() {
                case .hold(.upToDate, _): return
                case .hold(let reason, let wait):
                    if case .standing = reason { Issue.record("\(reason)") }
                    clock.advance(wait ?? 1_000_000_000)
                case .ship: continue
                }
            }
            Issue.record("it never ends: \(shipper.status().decision)")
        }
    }

    @Test(arguments: seeds(150)) func whatIsThereEqualsTheModel(seed: UInt64) throws {
        try Self.check(World(seed: seed))
    }

    @Test(arguments: seeds(150)) func whatIsRemovedHereIsThere(seed: UInt64) throws {
        let world = try World(seed: seed, isElsewhere: true)
        try Self.check(world)
        let here = try world.journal.segments.list().map(\.name)
        #expect(here.count { $0.kind != .snapshot } <= 1, "\(here)")
        #expect(here.contains { $0.last == world.journal.archived }, "\(here)")
    }

    private static func check(_ world: World) throws {
        for _ in 0..<10 + world.random.below(50) { try world.act() }
        try world.settle()
        let volume = world.journal.volume
        #expect(world.target.head?.lsn == volume.last.rawValue)
        #expect(world.shipper.acked == volume.last)
        let remote = try HistoryCatalogue(store: world.target.store, volume: volume.id)
        #expect(remote.unusable.isEmpty)
        #expect(remote.ranges.last?.last.lsn == volume.last, "the newest state is there")
        if world.keep == nil, !world.isRemotePruned, !world.isMemoryLost {
            #expect(remote.ranges.count == 1, "\(remote.ranges)")
        }
        for range in remote.ranges {
            var lsn = range.first.lsn
            while lsn <= range.last.lsn {
                let view = try PointInTimeView(remote, at: lsn)
                try #require(try view.contents() == volume.image(at: lsn), "at \(lsn)")
                let step = max(1, (range.last.lsn.rawValue - range.first.lsn.rawValue) / 12)
                if lsn == range.last.lsn { break }
                lsn = min(range.last.lsn, LSN(lsn.rawValue + step))
            }
        }
        // Nothing to do means nothing is asked.
        let requests = world.target.requests
        world.restart()
        #expect(world.shipper.turn() == .hold(.upToDate, lookAgainNanoseconds: nil))
        #expect(world.target.requests == requests)
    }
}
