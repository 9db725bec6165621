// A model volume whose history is thinned, and what the model says must stay and may stay.

import BlockModel
import DiskIO
import History
import HistoryModel
import LogFormat
import Testing

struct ThinningWorld {
    var volume: ModelVolume
    var store: any SegmentStore
    var limits = Archiver.Limits()
    var archived = LSN.zero
    var pins: Set<LSN> = []
    /// Images of the volume after each record.
    private(set) var images: [[UInt8]]

    init(_ random: inout SeededRandom, store: any SegmentStore) throws {
        self.store = store
        var base = [UInt8](repeating: 0, count: [8, 33, 64][random.below(3)] * Sector.bytes)
        for _ in 0..<3 { base[random.below(base.count)] = UInt8(random.below(256)) }
        volume = ModelVolume(sectors: base.count / Sector.bytes, base: base)
        images = [base]
        limits.blockBytes = 4096
        limits.payloadBytesMax = UInt64(1 + random.below(40_000))
        limits.recordsMax = UInt64(1 + random.below(40))
        _ = try writer.write(ImageSource(base), at: volume.baseStamp)
    }

    private var writer: SnapshotWriter {
        SnapshotWriter(store: store, identity: volume.identity, blockBytes: 4096)
    }

    /// Writes, archives all of it, perhaps takes snapshots, perhaps pins a mark.
    mutating func grow(_ random: inout SeededRandom, records: Int, snapshots: Int) throws {
        for _ in 0..<records {
            if random.chance(0.05) { volume.append(.flush, after: Int64(random.below(20_000))) }
            volume.appendRandom(&random)
        }
        while images.count <= volume.records.count {
            var image = images[images.count - 1]
            let record = volume.records[images.count - 1]
            let start = Int(record.header.extent.byteOffset)
            let range = start..<start + Int(record.header.extent.byteCount)
            if record.header.kind == .write {
                image.replaceSubrange(range, with: record.payload)
            } else if record.header.kind.changesSectors {
                image.replaceSubrange(range, with: repeatElement(0, count: range.count))
            }
            images.append(image)
        }
        let archiver = try Archiver(store: store, identity: volume.identity, limits: limits)
        #expect(archiver.archivedLSN == archived)
        try archiver.archive(from: volume.source(), through: volume.last)
        archived = volume.last
        let old = volume.records.count - records
        for _ in 0..<snapshots {
            let lsn = LSN(UInt64(max(0, old) + random.below(records)))
            let name = SegmentName.snapshot(lsn)
            guard try !store.list().contains(where: { $0.name == name }) else { continue }
            _ = try writer.write(ImageSource(images[Int(lsn.rawValue)]), at: volume.stamp(lsn))
        }
        if random.chance(0.5) {
            let marks = volume.records.filter { $0.header.kind == .mark }
            let history = try catalogue()
            if let mark = marks.randomElement(using: &random)?.header.stamp.lsn,
                history.isRestorable(mark)
            {
                pins.insert(mark)
            }
        }
    }

    func catalogue() throws -> HistoryCatalogue {
        try HistoryCatalogue(store: store, volume: volume.id)
    }

    func thinning(_ leases: @escaping @Sendable () throws -> [Lease] = { [] }) -> Thinning {
        Thinning(store: store, volume: volume.id, leases: leases)
    }

    // MARK: - what the model says

    private func age(_ lsn: LSN, _ rule: RetentionRule) -> Int64 {
        rule.now - volume.stamp(lsn).wallNanoseconds
    }

    /// Whether the ladder, a mark or a pin keeps the state after the record `lsn`.
    func mustStay(_ lsn: LSN, _ rule: RetentionRule) -> Bool {
        if lsn == archived || rule.pins.contains(lsn) { return true }
        guard let rung = rule.ladder.rungs.first(where: { age(lsn, rule) <= $0.span }) else {
            return false
        }
        if lsn > .zero, volume.records[Int(lsn.rawValue) - 1].header.kind == .mark { return true }
        let (from, to) = (volume.stamp(lsn), volume.stamp(lsn.next))
        switch rung.spacing {
        case .every: return true
        case .newest: return false
        case .grid(let spacing):
            // Line by line, as slowly as the words say it.
            var line = from.wallNanoseconds / spacing * spacing
            if line < from.wallNanoseconds { line += spacing }
            return line < to.wallNanoseconds
        }
    }

    /// Whether something else explains that the point is there: a snapshot, or records as they are.
    private func mayStay(_ lsn: LSN, _ names: [SegmentName]) -> Bool {
        names.contains { name in
            switch name.kind {
            case .snapshot: name.first == lsn
            case .log: (name.first.previous...name.last).contains(lsn)
            case .merged: false
            }
        }
    }

    /// Checks every LSN there is.
    func check(_ rule: RetentionRule, parts: Bool = false, _ what: String) throws {
        let history = try catalogue()
        let names = try store.list().map(\.name)
        for raw in 0...archived.rawValue {
            let lsn = LSN(raw)
            let isThere = history.isRestorable(lsn)
            if mustStay(lsn, rule), lsn > .zero {
                #expect(isThere, "\(what): lsn \(lsn) must stay")
            } else if isThere, !parts {
                #expect(
                    mustStay(lsn, rule) || mayStay(lsn, names), "\(what): why is lsn \(lsn) there")
            }
            try checkPoint(lsn, isThere, history, what)
        }
        let marks = Set(try history.points().marks.map(\.stamp.lsn))
        for record in volume.records where record.header.kind == .mark {
            let lsn = record.header.stamp.lsn
            let isThere = marks.contains(lsn)
            #expect(isThere == mustStay(lsn, rule) || isThere, "\(what): mark at \(lsn)")
        }
        let gaps = history.gaps.filter { !$0.isThinned }
        #expect(gaps.isEmpty, "\(what): \(gaps)")
        #expect(try HistoryVerifier(history).run().isSound, "\(what)")
    }

    /// The model's bytes, or a refusal.
    func checkPoint(
        _ lsn: LSN, _ isThere: Bool, _ history: HistoryCatalogue, _ what: String
    ) throws {
        if isThere {
            let view = try PointInTimeView(history, at: lsn)
            #expect(try view.contents() == images[Int(lsn.rawValue)], "\(what): lsn \(lsn)")
            #expect(try history.resolve(.lsn(lsn), now: .max).stamp == volume.stamp(lsn))
        } else {
            #expect(refusal { _ = try PointInTimeView(history, at: lsn) } != nil)
            #expect(refusal { _ = try history.resolve(.lsn(lsn), now: .max) } != nil)
        }
    }

    /// Random times mean the point that the model means, or are refused.
    func checkTimes(_ random: inout SeededRandom, _ what: String) throws {
        let history = try catalogue()
        let start = volume.baseStamp.wallNanoseconds
        for _ in 0..<20 {
            let time = start + Int64(random.below(Int(volume.wall - start) + 1))
            let after = volume.records.partitioningPoint { $0.header.stamp.wallNanoseconds > time }
            let expected = LSN(UInt64(after))
            if history.isRestorable(expected) {
                #expect(
                    try history.resolve(.time(time), now: .max).stamp == volume.stamp(expected),
                    "\(what)")
            } else {
                #expect(
                    refusal { _ = try history.resolve(.time(time), now: .max) } != nil,
                    "\(what): time \(time), lsn \(expected)")
            }
        }
    }

    // MARK: - rules

    /// Rungs in units that fit the pauses of the model.
    static func ladder(_ random: inout SeededRandom) throws -> Ladder {
        var rungs: [Ladder.Rung] = []
        var span = Int64(1 + random.below(60_000))
        if random.chance(0.6) { rungs.append(.init(spacing: .every, span: span)) }
        var spacing = Int64(500 + random.below(4000))
        for _ in 0..<1 + random.below(3) {
            span += Int64(1 + random.below(100_000))
            rungs.append(.init(spacing: .grid(spacing), span: span))
            spacing *= Int64(2 + random.below(5))
        }
        if random.chance(0.3) {
            rungs.append(.init(spacing: .newest, span: span + Int64(1 + random.below(200_000))))
        }
        return try Ladder(rungs)
    }

    func rule(_ ladder: Ladder, after nanoseconds: Int64) -> RetentionRule {
        var rule = RetentionRule(ladder, now: volume.wall + nanoseconds)
        rule.pins = pins
        return rule
    }
}

extension Array {
    /// The first index whose element fulfils `belongs`; elements that do stand behind all others.
    fileprivate func partitioningPoint(_ belongs: (Element) -> Bool) -> Int {
        firstIndex(where: belongs) ?? count
    }
}
