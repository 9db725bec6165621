// Faults planned on the way, and damage while the volume is closed.

import BlockModel
import DiskIO
import History
import LogFormat
import ProtectedVolume

#if canImport(Glibc)
    import Glibc
#endif

extension Lifetime {
    /// Now and then one of the plan's troubles.
    func makeTrouble() throws(Failure) {
        if isDown { return }
        if storage.faults.isFull, chance(0.2) {
            storage.faults.isFull = false
            note("there is space again")
        }
        guard chance(0.08) else { return }
        let troubles = Trouble.allCases.filter { plan.troubles.contains($0) }
        guard !troubles.isEmpty else { return }
        let skip = random.below(3)
        switch pick(troubles) {
        case .logErrors: inject(.write, "/wal/", .error(EIO), skip: skip)
        case .imageErrors:
            let operation = pick([IOError.Operation.write, .sync, .sync, .punch])
            inject(operation, "image.raw", .error(pick([EIO, EIO, ENOSPC])), skip: skip)
        case .superblockErrors: inject(.write, "/superblock", .error(EIO), skip: skip)
        case .archiveErrors:
            let operation = pick([IOError.Operation.write, .sync, .rename, .syncDirectory])
            inject(operation, "/segments", .error(pick([EIO, ENOSPC])), skip: skip)
        case .readErrors:
            inject(.read, pick(["image.raw", "/wal/", "/segments"]), .error(EIO), skip: skip)
        case .noSpace:
            storage.faults.isFull = true
            note("no space is left")
            coverage.note("no space")
        case .misdirectedLog:
            let isLost = chance(0.5)
            inject(.write, "/wal/", isLost ? .lost : .misdirected, skip: skip)
            damage = isLost && !logIsLying ? .lostWrite : .any
            logIsLying = true
        case .power, .shortWrites, .tornSectors, .clock, .damageAtRest: break
        }
    }

    private func inject(
        _ operation: IOError.Operation, _ part: String, _ effect: PlannedFault.Effect, skip: Int
    ) {
        storage.inject(PlannedFault(operation, pathPart: part, effect, skip: skip))
        note("planned: \(operation.rawValue) of \(part): \(effect) after \(skip)")
        coverage.note("planned \(operation.rawValue) \(part)")
    }

    // MARK: - damage at rest

    /// The volume is closed, or killed with everything it wrote on the disk; then something is
    /// damaged. Opening refuses, or shows exactly one state; history refuses, or is exact.
    func sufferDamage() throws {
        calm()
        try stepWriter()
        let volume = try volume()
        durableAtDamage = volume.durableStamp.lsn.rawValue
        if chance(0.3) {
            try closeAndReopen()
            if isDown || isOver { return }
            // Records in the new epoch, so that there is something to be damaged.
            for _ in 0..<8 { try writeSomething() }
            try flush()
            durableAtDamage = try self.volume().durableStamp.lsn.rawValue
        }
        note("killed at rest, durable \(durableAtDamage)")
        dropVolume()
        storage.kill()
        switch random.below(4) {
        case 0: try damageSuperblock()
        case 1: try damageSegment()
        default: try damageLog()
        }
    }

    private func files(in folder: String) throws -> [String] {
        try storage.list("\(Self.path)/\(folder)").map { "\(Self.path)/\(folder)/\($0)" }
    }

    private func flipBit(of path: String) throws {
        let file = try storage.open(path, OpenOptions(.readOnly))
        let size = try file.size()
        file.close()
        let bit = UInt64(random.below(Int(size) * 8))
        storage.corrupt(path, bit: bit)
        note("bit \(bit % 8) of byte \(bit / 8) of \(path) flips")
    }

    private func damageLog() throws {
        let paths = try files(in: "wal")
        guard !paths.isEmpty else { return }
        let path = pick(paths)
        logIsLying = true
        damage = .oneRecord
        if chance(0.25) {
            let file = try storage.open(path, OpenOptions(.readWrite))
            let size = try file.size()
            try file.truncate(to: UInt64(random.below(Int(size))))
            file.close()
            note("\(path) loses its end")
            damage = .any
        } else {
            try flipBit(of: path)
        }
        coverage.note("damaged log")
        try open()
    }

    private func damageSuperblock() throws {
        try flipBit(of: Self.path + "/superblock")
        coverage.note("damaged superblock")
        // One slot is enough: this must open, with everything.
        acknowledged = max(acknowledged, durableAtDamage)
        try open()
    }

    private func damageSegment() throws {
        let path = pick(try files(in: "segments"))
        try flipBit(of: path)
        coverage.note("damaged segment")
        let store = DirectoryStore(
            storage: storage, directory: Self.path + "/segments", owner: "seed")
        do {
            let history = try HistoryCatalogue(store: store, volume: superblock?.volume)
            for _ in 0..<4 {
                let lsn = UInt64(random.below(Int(model.newest) + 1))
                do {
                    let view = try PointInTimeView(history, at: LSN(lsn))
                    var bytes = [UInt8](repeating: 0xEE, count: model.byteCount)
                    try bytes.withUnsafeMutableBytes { try view.read(into: $0, at: 0) }
                    try check(
                        areSame(bytes[...], model.state(at: lsn)[...]),
                        "R4: after damage to \(path) the view at \(lsn) has wrong bytes")
                } catch let failure as Failure {
                    throw failure
                } catch {
                    note("the view at \(lsn) is refused: \(error)")
                }
            }
        } catch let failure as Failure {
            throw failure
        } catch {
            note("history is refused: \(error)")
        }
    }
}
