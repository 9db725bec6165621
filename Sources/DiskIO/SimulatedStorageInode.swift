// One file of a simulated storage: what reads show (`cached`), what a power cut leaves for certain
// (`durable`), and the operations between the two. Not synchronised: the storage's lock orders
// all access.
//
// Invariant: unless `hasDiverged`, `durable` with every pending operation applied is `cached`.
// After a failed sync that does not hold: the cache still shows bytes that no sync will write.

/// A change that no sync has covered yet. Bytes of writes lie in the inode's `pendingBytes`.
struct PendingChange {
    enum Kind { case write, zero, reserve, resize }
    var kind: Kind
    var offset: UInt64
    var count: UInt64
    /// Where the bytes of a write begin in `pendingBytes`.
    var bytesStart = 0
    /// The file is at least this long afterwards (write, reserve), or exactly (resize).
    var sizeAfter: UInt64
    /// Durable already; it only waits for its turn behind changes that are not.
    var isCertain = false
}

/// Which pending changes a power cut spares.
enum Retention {
    case nothing, everything
    /// The first changes, and a part of the one after them.
    case prefix(Int)
    /// Each write wholly or not at all.
    case writes(Double)
    /// Each sector for itself.
    case sectors(Double)

    static func random(changes: Int, _ random: inout SeededRandom) -> Retention {
        switch random.below(8) {
        case 0: .nothing
        case 1: .everything
        case 2, 3: .prefix(random.below(changes + 1))
        case 4: .writes(0.5)
        case 5: .sectors(0.1)
        case 6: .sectors(0.5)
        default: .sectors(0.9)
        }
    }
}

final class SimulatedInode {
    /// Size of a device, which never changes; nil for a file.
    let deviceBytes: UInt64?
    private(set) var cached = SimulatedImage()
    private(set) var durable = SimulatedImage()
    private(set) var pending: [PendingChange] = []
    private var pendingBytes: [UInt8] = []
    private var hasDiverged = false
    /// Sectors that fail to be read until they are written again.
    var unreadableSectors: Set<UInt64> = []
    /// The handle that has the lock.
    var lockHolder: ObjectIdentifier?

    static let sectorBytes: UInt64 = 512
    /// Changes longer than this are not followed page by page.
    private static let wideBytes: UInt64 = 64 << 20

    init(deviceBytes: UInt64? = nil) {
        self.deviceBytes = deviceBytes
        cached.size = deviceBytes ?? 0
        durable.size = deviceBytes ?? 0
    }

    init(copying other: SimulatedInode) {
        deviceBytes = other.deviceBytes
        cached = other.cached
        durable = other.durable
        pending = other.pending
        pendingBytes = other.pendingBytes
        hasDiverged = other.hasDiverged
        unreadableSectors = other.unreadableSectors
    }

    // MARK: Changes

    /// Writes the first `count` bytes of the vectors. `isCertain`: durable at once.
    func write(
        _ vectors: UnsafeBufferPointer<IOVector>, count: Int, at offset: UInt64, isCertain: Bool
    ) {
        guard count > 0 else { return }
        let isDirect = isCertain && pending.isEmpty
        let bytesStart = pendingBytes.count
        var done = 0
        for vector in vectors where done < count {
            let piece = UnsafeRawBufferPointer(
                start: vector.base, count: min(vector.count, count - done))
            cached.write(piece, at: offset + UInt64(done))
            if !isDirect { pendingBytes.append(contentsOf: piece) }
            if isDirect && hasDiverged { durable.write(piece, at: offset + UInt64(done)) }
            done += piece.count
        }
        let end = offset + UInt64(count)
        cached.size = max(cached.size, end)
        if !unreadableSectors.isEmpty {
            for sector in offset / Self.sectorBytes...(end - 1) / Self.sectorBytes {
                unreadableSectors.remove(sector)
            }
        }
        if isDirect {
            if !hasDiverged { durable.share(offset: offset, count: UInt64(count), from: cached) }
            durable.size = max(durable.size, end)
            return
        }
        if isCertain {
            // The size and everything else of the inode goes with it.
            for index in pending.indices where pending[index].kind != .write {
                pending[index].isCertain = true
            }
        }
        pending.append(
            PendingChange(
                kind: .write, offset: offset, count: UInt64(count), bytesStart: bytesStart,
                sizeAfter: end, isCertain: isCertain))
    }

    func zero(offset: UInt64, count: UInt64) {
        cached.zero(offset: offset, count: count)
        note(.zero, offset: offset, count: count, sizeAfter: 0)
    }

    func resize(to size: UInt64) {
        guard size != cached.size else { return }
        cached.resize(to: size)
        note(.resize, offset: 0, count: 0, sizeAfter: size)
    }

    func reserve(offset: UInt64, count: UInt64) {
        cached.reserve(offset: offset, count: count)
        cached.size = max(cached.size, offset + count)
        note(.reserve, offset: offset, count: count, sizeAfter: offset + count)
    }

    private func note(_ kind: PendingChange.Kind, offset: UInt64, count: UInt64, sizeAfter: UInt64)
    {
        pending.append(
            PendingChange(kind: kind, offset: offset, count: count, sizeAfter: sizeAfter))
    }

    // MARK: Sync and crash

    /// Everything pending becomes durable.
    func sync() {
        if pending.isEmpty { return }
        if hasDiverged {
            var unused = SeededRandom(seed: 0)
            settle(.everything, metadataCount: pending.count, tornSectorRatio: 0, &unused)
        } else if pending.contains(where: { $0.kind == .resize || $0.count > Self.wideBytes }) {
            durable = cached
        } else {
            for change in pending {
                durable.share(offset: change.offset, count: change.count, from: cached)
            }
            durable.size = cached.size
        }
        clearPending()
    }

    /// A failed sync, as on Linux: some of the data arrived, the rest is marked clean and will
    /// never be written; sizes are in the journal and survive.
    func failSync(evicting: Bool, _ random: inout SeededRandom) {
        let retention = Retention.random(changes: pending.count, &random)
        settle(retention, metadataCount: pending.count, tornSectorRatio: 0, &random)
        clearPending()
        hasDiverged = true
        if evicting { showDurable() }
    }

    /// The power goes and comes back.
    func crash(tornSectorRatio: Double, _ random: inout SeededRandom) {
        let retention = Retention.random(changes: pending.count, &random)
        let metadataCount =
            switch retention {
            case .nothing: 0
            case .everything: pending.count
            case .prefix(let count): count
            case .writes, .sectors: random.below(pending.count + 1)
            }
        settle(retention, metadataCount: metadataCount, tornSectorRatio: tornSectorRatio, &random)
        clearPending()
        showDurable()
        lockHolder = nil
    }

    /// Forgets cached bytes that no sync will write; nothing else changes.
    func evict() {
        guard hasDiverged else { return }
        let onDisk = durable
        var unused = SeededRandom(seed: 0)
        settle(.everything, metadataCount: pending.count, tornSectorRatio: 0, &unused)
        showDurable()
        durable = onDisk
    }

    /// Flips one bit, on the disk and in the cache.
    func flip(byte: UInt64, mask: UInt8) {
        func flip(_ image: inout SimulatedImage) {
            var value: UInt8 = 0
            withUnsafeMutableBytes(of: &value) { image.read(into: $0, at: byte) }
            value ^= mask
            withUnsafeBytes(of: &value) { image.write($0, at: byte) }
        }
        flip(&cached)
        if byte < durable.size { flip(&durable) }
    }

    private func showDurable() {
        cached = durable
        hasDiverged = false
    }

    private func clearPending() {
        pending.removeAll(keepingCapacity: true)
        pendingBytes.removeAll(keepingCapacity: true)
    }

    /// Applies to `durable`, in order, what the retention spares; of sizes, holes and reservations
    /// the first `metadataCount` (counted over all changes), as a journal would.
    private func settle(
        _ retention: Retention, metadataCount: Int, tornSectorRatio: Double,
        _ random: inout SeededRandom
    ) {
        for (index, change) in pending.enumerated() {
            let hasMetadata = change.isCertain || index < metadataCount
            switch change.kind {
            case .write:
                settleWrite(
                    change, index: index, retention, tornSectorRatio: tornSectorRatio, &random)
                if hasMetadata { durable.size = max(durable.size, change.sizeAfter) }
            case .zero:
                if hasMetadata { durable.zero(offset: change.offset, count: change.count) }
            case .reserve:
                guard hasMetadata else { continue }
                durable.reserve(offset: change.offset, count: change.count)
                durable.size = max(durable.size, change.sizeAfter)
            case .resize:
                if hasMetadata { durable.resize(to: change.sizeAfter) }
            }
        }
        durable.trim()
    }

    private func settleWrite(
        _ change: PendingChange, index: Int, _ retention: Retention, tornSectorRatio: Double,
        _ random: inout SeededRandom
    ) {
        let count = Int(change.count)
        var sectorRatio = 0.0
        var prefixBytes = 0
        switch retention {
        case .nothing: break
        case .everything: prefixBytes = count
        case .prefix(let kept):
            prefixBytes = index < kept ? count : index == kept ? random.below(count + 1) : 0
        case .writes(let ratio): prefixBytes = random.chance(ratio) ? count : 0
        case .sectors(let ratio): sectorRatio = ratio
        }
        if change.isCertain { prefixBytes = count }
        pendingBytes.withUnsafeBytes { all in
            let bytes = UnsafeRawBufferPointer(
                rebasing: all[change.bytesStart..<change.bytesStart + count])
            if prefixBytes == count {
                durable.write(bytes, at: change.offset)
                return
            }
            var done = 0
            while done < count {
                let position = change.offset + UInt64(done)
                let length = min(Int(Self.sectorBytes - position % Self.sectorBytes), count - done)
                // A sector is atomic: the one in which the prefix ends is lost.
                if done + length <= prefixBytes || random.chance(sectorRatio) {
                    let sector = UnsafeRawBufferPointer(rebasing: bytes[done..<done + length])
                    let isTorn = random.chance(tornSectorRatio)
                    settleSector(sector, at: position, isTorn: isTorn, &random)
                }
                done += length
            }
        }
    }

    private func settleSector(
        _ bytes: UnsafeRawBufferPointer, at position: UInt64, isTorn: Bool,
        _ random: inout SeededRandom
    ) {
        guard isTorn else { return durable.write(bytes, at: position) }
        let kept = random.below(bytes.count)
        durable.write(UnsafeRawBufferPointer(rebasing: bytes[..<kept]), at: position)
        guard random.chance(0.5) else { return }
        let garbage = (kept..<bytes.count).map { _ in UInt8(truncatingIfNeeded: random.next()) }
        garbage.withUnsafeBytes { durable.write($0, at: position + UInt64(kept)) }
    }
}
