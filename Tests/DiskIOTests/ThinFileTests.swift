// A thin file against a model: what was written to it over what lies below, also after power cuts,
// when everything since the last sync is written again, as a volume's recovery does.

import DiskIO
import Dispatch
import Synchronization
import Testing

/// Bytes that never change.
private final class Below: ThinBase {
    let bytes: [UInt8]
    /// Reads of sectors from here on fail; nil: none do.
    let damagedFrom: Int?

    init(_ bytes: [UInt8], damagedFrom: Int? = nil) {
        self.bytes = bytes
        self.damagedFrom = damagedFrom
    }

    func read(
        into target: UnsafeMutableRawBufferPointer, at offset: UInt64
    ) throws(IOError) {
        if let damagedFrom, Int(offset) + target.count > damagedFrom {
            throw IOError(.read, "below", 5)
        }
        target.copyBytes(from: bytes[Int(offset)..<Int(offset) + target.count])
    }

    func nextData(from offset: UInt64) -> Range<UInt64>? {
        guard let first = bytes[Int(offset)...].firstIndex(where: { $0 != 0 }) else { return nil }
        let end = bytes[first...].firstIndex { $0 == 0 } ?? bytes.count
        return UInt64(first)..<UInt64(end)
    }
}

@Suite struct ThinFileTests {
    private static let sectors = 40_000  // more than one portion of bits
    private static let byteCount = sectors * 512

    private enum Change {
        case write(Int, [UInt8])
        case punch(Int, Int)
    }

    private func make(_ storage: Storage) throws {
        let data = try storage.open("/data", OpenOptions(.readWrite, creation: .exclusively))
        try data.truncate(to: UInt64(Self.byteCount))
        try data.sync()
        let present = try storage.open(
            "/present", OpenOptions(.readWrite, creation: .exclusively))
        let bits = ThinFile.presentBytes(for: UInt64(Self.byteCount))
        #expect(bits == 5000)
        try present.allocate(offset: 0, count: bits)
        try present.sync()
        try storage.syncDirectory("/")
    }

    private func open(_ storage: Storage, _ below: Below) throws -> ThinFile {
        ThinFile(
            data: try storage.open("/data", OpenOptions(.readWrite)),
            present: try storage.open("/present", OpenOptions(.readWrite)), base: below)
    }

    /// Mostly zeros, with noise in places.
    private func belowBytes(_ random: inout SeededRandom) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: Self.byteCount)
        for _ in 0..<20 {
            let start = Int.random(in: 0..<Self.byteCount - 50_000, using: &random)
            for i in start..<start + 50_000 { bytes[i] = UInt8(truncatingIfNeeded: i / 7 + 1) }
        }
        return bytes
    }

    private func change(_ random: inout SeededRandom) -> Change {
        let count = Int.random(in: 1...200, using: &random)
        // Often near the seam of two portions.
        let start =
            Bool.random(using: &random)
            ? Int.random(in: 32_600...32_900, using: &random)
            : Int.random(in: 0...Self.sectors - count, using: &random)
        if Int.random(in: 0..<4, using: &random) == 0 { return .punch(start * 512, count * 512) }
        let fill = UInt8.random(in: 0...255, using: &random)
        return .write(start * 512, [UInt8](repeating: fill, count: count * 512))
    }

    private func apply(_ change: Change, to file: ThinFile) throws {
        switch change {
        case .write(let offset, let bytes): try file.put(bytes, at: UInt64(offset))
        case .punch(let offset, let count):
            try file.punchHole(offset: UInt64(offset), count: UInt64(count))
        }
    }

    private func apply(_ change: Change, to model: inout [UInt8]) {
        switch change {
        case .write(let offset, let bytes):
            model.replaceSubrange(offset..<offset + bytes.count, with: bytes)
        case .punch(let offset, let count):
            model.replaceSubrange(
                offset..<offset + count, with: repeatElement(0, count: count))
        }
    }

    /// What is brought over from below never covers what was written, and stays after power cuts
    /// although nobody writes it again; in the end nothing is read from below.
    @Test func fillingLosesNothing() throws {
        for seed in UInt64(1)...4 {
            var random = SeededRandom(seed: seed)
            let storage = SimulatedStorage(seed: seed, faults: SimulatedFaults())
            try make(storage)
            let below = Below(belowBytes(&random))
            var model = below.bytes
            var file = try open(storage, below)
            var sinceSync: [Change] = []
            for _ in 0..<16 {
                let change = change(&random)
                try apply(change, to: file)
                apply(change, to: &model)
                sinceSync.append(change)
                let start = Int.random(in: 0..<Self.sectors - 3000, using: &random) * 512
                _ = try file.fill(UInt64(start)..<UInt64(start + 3000 * 512))
                switch Int.random(in: 0..<4, using: &random) {
                case 0:
                    try file.sync()
                    sinceSync = []
                case 1:
                    storage.crash()
                    file = try open(storage, below)
                    for change in sinceSync { try apply(change, to: file) }
                default: break
                }
                #expect(try file.get(Self.byteCount, at: 0) == model, "seed \(seed)")
            }
            let all = 0..<UInt64(Self.byteCount)
            #expect(try file.fill(all) > 0)
            #expect(try file.fill(all) == 0)
            try file.sync()
            storage.crash()
            file = try open(storage, Below(below.bytes, damagedFrom: 0))
            #expect(try file.get(Self.byteCount, at: 0) == model, "seed \(seed)")
        }
    }

    /// Writers and a filler at once: each sector has what was written last, or what was below.
    @Test func writersWinOverTheFiller() throws {
        let storage = SimulatedStorage(seed: 1, faults: SimulatedFaults())
        try make(storage)
        var random = SeededRandom(seed: 3)
        let below = Below(belowBytes(&random))
        let file = try open(storage, below)
        let places = (0..<200).map { _ in Int.random(in: 0..<Self.sectors, using: &random) }
        let failures = Mutex<[String]>([])
        let hasEnded = DispatchGroup()
        DispatchQueue.global().async(group: hasEnded) {
            do { _ = try file.fill(0..<UInt64(Self.byteCount)) } catch {
                failures.withLock { $0.append("\(error)") }
            }
        }
        var model = below.bytes
        for (number, place) in places.enumerated() {
            let bytes = [UInt8](repeating: UInt8(number % 255 + 1), count: 512)
            try file.put(bytes, at: UInt64(place * 512))
            model.replaceSubrange(place * 512..<place * 512 + 512, with: bytes)
        }
        hasEnded.wait()
        #expect(failures.withLock { $0 }.isEmpty)
        #expect(try file.get(Self.byteCount, at: 0) == model)
    }

    @Test func keepsWhatWasWrittenOverPowerCuts() throws {
        for seed in UInt64(1)...8 {
            var random = SeededRandom(seed: seed)
            var faults = SimulatedFaults()
            faults.shortWriteRatio = 0.1
            let storage = SimulatedStorage(seed: seed, faults: faults)
            try make(storage)
            let below = Below(belowBytes(&random))
            var model = below.bytes
            var file = try open(storage, below)
            var sinceSync: [Change] = []
            for _ in 0..<12 {
                for _ in 0..<15 {
                    let change = change(&random)
                    try apply(change, to: file)
                    apply(change, to: &model)
                    sinceSync.append(change)
                }
                switch Int.random(in: 0..<3, using: &random) {
                case 0:
                    try file.sync()
                    sinceSync = []
                case 1:
                    storage.crash()
                    file = try open(storage, below)
                    for change in sinceSync { try apply(change, to: file) }
                default: break
                }
                #expect(try file.get(Self.byteCount, at: 0) == model, "seed \(seed)")
                let offset = Int.random(in: 0..<Self.byteCount - 5000, using: &random)
                #expect(
                    try file.get(5000, at: UInt64(offset))
                        == Array(model[offset..<offset + 5000]), "seed \(seed)")
                try everythingElseIsZero(file, model, seed)
            }
        }
    }

    /// `nextData` may name zeros, but leaves out nothing else.
    private func everythingElseIsZero(_ file: ThinFile, _ model: [UInt8], _ seed: UInt64) throws {
        var position: UInt64 = 0
        while position < UInt64(model.count) {
            let next = try file.nextData(from: position)
            let end = Int(next?.lowerBound ?? UInt64(model.count))
            #expect(
                model[Int(position)..<max(end, Int(position))].allSatisfy { $0 == 0 },
                "seed \(seed)")
            guard let next else { return }
            #expect(next.upperBound > position)
            position = next.upperBound
        }
    }

    @Test func aFailedSyncIsNotForgotten() throws {
        let storage = SimulatedStorage(seed: 3)
        try make(storage)
        let below = Below([UInt8](repeating: 9, count: Self.byteCount))
        var file = try open(storage, below)
        try file.put([UInt8](repeating: 1, count: 512), at: 0)
        storage.inject(PlannedFault(.sync, pathPart: "present", .error(5)))
        #expect(throws: IOError.self) { try file.sync() }
        try file.sync()  // writes the bits again, not only syncs them again
        storage.crash()
        file = try open(storage, below)
        #expect(try file.get(1024, at: 0) == pattern(512, 1) + pattern(512, 9))
    }

    @Test func whatLiesBelowMayBeDamaged() throws {
        let storage = SimulatedStorage(seed: 3)
        try make(storage)
        let below = Below([UInt8](repeating: 9, count: Self.byteCount), damagedFrom: 4096)
        let file = try open(storage, below)
        #expect(try file.get(4096, at: 0) == pattern(4096, 9))
        #expect(throws: IOError.self) { try file.get(512, at: 4096) }
        try file.put([UInt8](repeating: 1, count: 512), at: 4096)
        #expect(try file.get(512, at: 4096) == pattern(512, 1))
        #expect(throws: IOError.self) { try file.put([1], at: 100) }
    }
}
