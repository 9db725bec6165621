// Mutated WAL files through recovery: never a trap, never a wrong byte. What is read is always a
// prefix of what was written.

import BlockModel
import DiskIO
import LogFormat
import Testing
import WriteLog

/// Changes bytes the way disks and accidents do.
struct Mutator {
    var random: SeededRandom

    mutating func mutate(_ bytes: inout [UInt8], other: [UInt8]) {
        for _ in 0...random.below(3) {
            if bytes.isEmpty { return }
            let at = random.below(bytes.count)
            switch random.below(6) {
            case 0, 1: bytes[at] ^= 1 << UInt8(random.below(8))
            case 2: bytes[at] = UInt8(truncatingIfNeeded: random.next())
            case 3: bytes.removeSubrange(at...)
            case 4:
                let end = min(bytes.count, at + 1 + random.below(2048))
                for i in at..<end { bytes[i] = 0 }
            default:
                // A piece of this or another file, often by whole sectors.
                let from = random.below(other.count)
                let unit = random.chance(0.7) ? 512 : 1
                let (to, start) = (at / unit * unit, from / unit * unit)
                let count = min(1 + random.below(3000), bytes.count - to, other.count - start)
                for i in 0..<count { bytes[to + i] = other[start + i] }
            }
        }
    }
}

@Suite struct LogFuzzTests {
    @Test(arguments: 0..<4) func mutatedFiles(_ part: Int) throws {
        let maker = try LogMaker()
        var older = maker
        older.salt = 5
        let first = maker.content(1, (1...3).map { maker.record($0, claims: $0 - 1) })
        let second = maker.content(2, (4...6).map { maker.record($0, claims: $0 - 1) })
        let stale = older.content(1, (1...3).map { older.record($0) })
        var mutator = Mutator(random: SeededRandom(seed: UInt64(part)))
        for round in 0..<12_500 {
            var (a, b) = (first, second)
            if round % 3 != 0 { mutator.mutate(&a, other: round % 2 == 0 ? second : stale) }
            if round % 3 != 1 { mutator.mutate(&b, other: round % 2 == 0 ? first : stale) }
            try maker.put(a, as: 1)
            try maker.put(b, as: 2)
            let checkpoint = UInt64(round % 7)
            do {
                let (contents, redone) = try maker.read(checkpoint: checkpoint)
                let wanted = (checkpoint + 1..<100).prefix(redone.count)
                let isRight =
                    redone.map(\.lsn) == Array(wanted)
                    && redone.allSatisfy { $0.lsn <= 6 && $0.payload == LogMaker.payload($0.lsn) }
                    && contents.last.lsn.rawValue <= max(6, checkpoint)
                if !isRight { Issue.record("part \(part), round \(round): \(redone.map(\.lsn))") }
            } catch is RecoveryError {}
        }
    }
}
