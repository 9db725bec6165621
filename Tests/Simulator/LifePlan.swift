// What one lifetime is like: sizes, and which kinds of trouble it may meet. Drawn from the seed
// before anything happens, so that few kinds come together and each gets its turn.

import DiskIO
import LogFormat
import ProtectedVolume
import WriteLog

/// A kind of trouble.
enum Trouble: CaseIterable {
    /// The power goes, or the program is killed, in the middle of operations.
    case power
    case shortWrites
    case tornSectors
    case logErrors
    case imageErrors
    case superblockErrors
    case archiveErrors
    case readErrors
    /// The disk is full for a while.
    case noSpace
    /// The clock steps by a day.
    case clock
    /// The disk puts a write to the log somewhere else, or nowhere.
    case misdirectedLog
    /// Bits flip, or a file loses its end, while the volume is closed.
    case damageAtRest
}

struct LifePlan {
    var volumeBytes: Int
    var ringBytes: UInt64 = 64 << 10
    var walFileBytes: UInt64
    var walFiles: UInt64
    var operations: Int
    var troubles: Set<Trouble> = []
    /// The volume begins with content, not with zeros.
    var hasContent: Bool
    /// Writes are small, so that many records come between two syncs.
    var smallWrites: Bool
    /// Nothing but single sectors and power cuts: the same places of the log get the same LSNs
    /// again and again.
    var isRestless: Bool

    init(_ random: inout SeededRandom) {
        let sizes = [64, 64, 96, 128, 192, 256]
        volumeBytes = sizes[random.below(sizes.count)] << 10
        // Not every volume ends at a block of 4 KiB.
        if random.chance(0.3) { volumeBytes += 512 * (1 + random.below(7)) }
        // Some are large enough for large extents of zeros.
        if random.chance(0.08) { volumeBytes = 3 << 20 }
        if random.chance(0.1) { ringBytes *= 2 }
        let files: [UInt64] = ringBytes == 64 << 10 ? [40, 40, 64, 128] : [72, 128]
        walFileBytes = files[random.below(files.count)] << 10
        walFiles = UInt64(3 + random.below(5))
        operations = 30 + random.below(100)
        hasContent = random.chance(0.5)
        smallWrites = random.chance(0.4)
        isRestless = random.chance(0.18)
        if isRestless || random.chance(0.8) { troubles.insert(.power) }
        let others = Trouble.allCases.filter { $0 != .power }
        for _ in 0..<random.below(4) { troubles.insert(others[random.below(others.count)]) }
    }

    var text: String {
        let names = Trouble.allCases.filter { troubles.contains($0) }.map { "\($0)" }
        return (isRestless ? "restless, " : "")
            + "volume \(volumeBytes), ring \(ringBytes), \(walFiles) log files of \(walFileBytes),"
            + " \(operations) operations, troubles: \(names.joined(separator: " "))"
    }
}
