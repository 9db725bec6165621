// One lifetime: the volume, its disk, its archive, its model, and the loop of random steps.
//
// Steps do something to the volume and to the model. Wherever the power may have gone meanwhile
// the loop sees it afterwards (`isDown`) and brings the volume back, which is where most promises
// are checked (Lifetime+Power.swift).

import BlockModel
import DiskIO
import History
import LogFormat
import ProtectedVolume
import WriteLog

/// A clock that moves only when told.
final class SteppedClock: WallClock, @unchecked Sendable {
    // @unchecked: one lifetime is one thread.
    var now: Int64 = 1_800_000_000_000_000_000

    override func nanoseconds() -> Int64 { now }
}

final class Lifetime {
    let seed: UInt64
    let plan: LifePlan
    let storage: SimulatedStorage
    let clock = SteppedClock()
    var random: SeededRandom
    var model: ModelDisk
    var coverage = Coverage()
    private(set) var trace: [String] = []

    var folder: VolumeFolder?
    var openVolume: ProtectedVolume?
    var openArchiver: Archiver?
    var superblock: Superblock?

    /// Where the volume began when it was opened.
    var openedAt: UInt64 = 0
    /// Newest LSN that a flush has answered for.
    var acknowledged: UInt64 = 0
    var createdWall: Int64 = 0
    /// Newest stamp ever seen.
    var newestStamp = Stamp.zero
    var marks: [(name: String, lsn: UInt64)] = []
    var markCount = 0
    /// The log lost or misplaced a write of its own; only a prefix can be asked for.
    var logIsLying = false
    /// What happened to the log, and the durable LSN when it did, or when the volume went down.
    var damage = Damage.none
    var durableAtDamage: UInt64 = 0
    var isOver = false

    enum Damage { case none, oneRecord, lostWrite, any }

    static let path = "/vol"
    private static let traceMax = 80

    init(seed: UInt64) {
        self.seed = seed
        random = SeededRandom(seed: seed)
        plan = LifePlan(&random)
        storage = SimulatedStorage(seed: random.next())
        var base = [UInt8](repeating: 0, count: plan.volumeBytes)
        if plan.hasContent {
            for sector in 0..<base.count / Sector.bytes where random.chance(0.6) {
                let value = UInt8(truncatingIfNeeded: random.next()) | 1
                for i in 0..<Sector.bytes { base[sector * Sector.bytes + i] = value }
            }
        }
        model = ModelDisk(base: base)
        coverage.lives = 1
    }

    func note(_ text: @autoclosure () -> String) {
        trace.append(text())
        if trace.count > 2 * Self.traceMax { trace.removeFirst(Self.traceMax) }
    }

    func check(_ condition: Bool, _ message: @autoclosure () -> String) throws(Failure) {
        if !condition { throw Failure(message: message()) }
    }

    /// The volume while it is open.
    func volume() throws(Failure) -> ProtectedVolume {
        guard let openVolume else { throw Failure(message: "simulator: no volume is open") }
        return openVolume
    }

    var isDown: Bool { storage.isDown }

    func chance(_ ratio: Double) -> Bool { random.chance(ratio) }
    func pick<T>(_ items: [T]) -> T { items[random.below(items.count)] }

    // MARK: the loop

    func run() throws {
        if plan.troubles.contains(.shortWrites) { storage.faults.shortWriteRatio = 0.2 }
        if plan.troubles.contains(.tornSectors) { storage.faults.tornSectorRatio = 0.3 }
        guard try create() else { return }
        try open()
        var step = 0
        while step < plan.operations, !isOver {
            step += 1
            if plan.troubles.contains(.power), !isDown, chance(0.04) {
                let after = storage.operationCount + 1 + UInt64(random.below(25))
                storage.crash(atOperation: after)
                note("the power will go at operation \(after)")
            }
            try makeTrouble()
            if plan.isRestless, chance(0.9) { try restlessStep() } else { try self.step() }
            if isDown, !isOver { try comeBack(byKill: chance(0.2)) }
        }
        if !isOver { try end() }
        dropVolume()
    }

    private func step() throws {
        switch random.below(100) {
        case 0..<36: try writeSomething()
        case 36..<42: try zeroSomething()
        case 42..<52: try readSomething()
        case 52..<61: try flush()
        case 61..<68: try stepWriter()
        case 68..<76: try stepApplier()
        case 76..<82: try stepKeeper()
        case 82..<87: try archive()
        case 87..<89: try takeSnapshot()
        case 89..<91: try markSomething()
        case 91..<94: try checkHistory()
        case 94..<96: try closeAndReopen()
        case 96..<97: try checkLiveness()
        default:
            if plan.troubles.contains(.power) {
                note("power cut")
                storage.powerOff()
            }
        }
        tick()
    }

    private func restlessStep() throws {
        switch random.below(10) {
        case 0..<6:
            let offset = random.below(model.byteCount / Sector.bytes) * Sector.bytes
            try write(someBytes(Sector.bytes), at: offset)
        case 6, 7:
            if chance(0.6) { storage.crash(atOperation: storage.operationCount + 1) }
            try stepWriter()
        case 8:
            try flush()
            if chance(0.7) { storage.powerOff() }
        default: storage.powerOff()
        }
        tick()
    }

    private func tick() {
        clock.now += Int64(random.below(3) == 0 ? 0 : random.below(2_000_000_000))
        if plan.troubles.contains(.clock), chance(0.08) {
            let step = (chance(0.5) ? 1 : -1) * Int64(86_400_000_000_000)
            clock.now += step
            note("the clock steps by \(step / 1_000_000_000) s")
            coverage.note("clock step")
        }
    }

    /// The end of a life: everything quiet, everything compared.
    private func end() throws {
        calm()
        try checkLiveness()
        if isDown || isOver { return }
        try archive()
        try checkHistory()
        try checkReplayToNow()
        if isDown || isOver { return }
        if plan.troubles.contains(.damageAtRest) {
            try sufferDamage()
        } else {
            try closeAndReopen()
            if !isOver { try compareAll() }
        }
    }

    /// No more faults of any kind.
    func calm() {
        storage.plannedFaults = []
        storage.faults.isFull = false
    }

    func dropVolume() {
        openVolume?.abandon()
        openVolume = nil
        openArchiver = nil
        folder?.close()
        folder = nil
    }
}
