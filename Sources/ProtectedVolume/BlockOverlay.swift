// The overlay: which sectors of the volume have newer bytes in the ring than in the image.
//
// A hash table from 4 KiB block to the ring places of its eight sectors. A write enters its blocks
// before it is published; the applier takes them out after the image holds them and before the
// ring memory is given free. So whoever finds a place here, under the shard's lock, may read the
// ring there until he lets the lock go.
//
// Places are sector positions (ring position / 512) modulo 2^32: younger means greater in
// wrap-around order, which is unambiguous for any ring under 1 TiB. Zeroed sectors carry the place
// of their record's header and a zero bit. Extents of zeros over `largeZeroSectors` are kept in a
// short list instead; a sector's younger entry wins, whichever of the two it is in.
//
//   invariant: an entry's place lies in [freed, reserved) of the ring
//   invariant: of two records for a sector the entry is the younger one
//
// 64 shards by 1 MiB region, so that a large write or read takes one lock per region.

import BlockModel
import Synchronization
import WriteLog

/// Sectors of a block and where they are. 48 bytes.
package struct OverlayEntry {
    /// Block number + 1; 0: the slot is free.
    var key: UInt64 = 0
    package var valid: UInt8 = 0
    package var zero: UInt8 = 0
    private var reserved: (UInt8, UInt8, UInt32) = (0, 0, 0)
    private var places: SIMD8<UInt32> = .zero

    init() {}

    package subscript(sector: Int) -> UInt32 {
        get { places[sector] }
        set { places[sector] = newValue }
    }
}

/// One shard: open addressing, linear probing, backward-shift deletion. All under `lock`.
package final class OverlayShard: @unchecked Sendable {
    // @unchecked: `slots`, what they point to and `mask` are read and written under `lock`; `fill`
    // is atomic, and changes under `lock`.
    let lock = Lock()
    /// Entries in the table; may be read without the lock.
    let fill = Atomic<Int>(0)
    private var slots: UnsafeMutablePointer<OverlayEntry>
    private var mask: Int

    init() {
        mask = 63
        slots = .allocate(capacity: 64)
        slots.initialize(repeating: OverlayEntry(), count: 64)
    }

    deinit { slots.deallocate() }

    private static func hash(_ key: UInt64) -> Int {
        Int(truncatingIfNeeded: (key &* 0x9E37_79B9_7F4A_7C15) >> 29)
    }

    /// The entry of a block; nil where there is none. The pointer dies with the next change.
    package func find(_ block: UInt64) -> UnsafeMutablePointer<OverlayEntry>? {
        let key = block + 1
        var index = Self.hash(key) & mask
        while slots[index].key != 0 {
            if slots[index].key == key { return slots + index }
            index = (index + 1) & mask
        }
        return nil
    }

    /// The entry of a block, made where missing.
    func findOrInsert(_ block: UInt64) -> UnsafeMutablePointer<OverlayEntry> {
        let key = block + 1
        var index = Self.hash(key) & mask
        while slots[index].key != 0 {
            if slots[index].key == key { return slots + index }
            index = (index + 1) & mask
        }
        let count = fill.load(ordering: .relaxed) + 1
        if count * 4 > (mask + 1) * 3 {
            grow()
            return findOrInsert(block)
        }
        fill.store(count, ordering: .relaxed)
        slots[index].key = key
        slots[index].valid = 0
        slots[index].zero = 0
        return slots + index
    }

    func remove(_ entry: UnsafeMutablePointer<OverlayEntry>) {
        var hole = entry - slots
        var index = hole
        while true {
            index = (index + 1) & mask
            let key = slots[index].key
            if key == 0 { break }
            // Move back what would not be found any more past the hole.
            let home = Self.hash(key) & mask
            if (index - home) & mask >= (index - hole) & mask {
                slots[hole] = slots[index]
                hole = index
            }
        }
        slots[hole].key = 0
        fill.store(fill.load(ordering: .relaxed) - 1, ordering: .relaxed)
    }

    private func grow() {
        let old = slots
        let oldCount = mask + 1
        mask = oldCount * 2 - 1
        slots = .allocate(capacity: oldCount * 2)
        slots.initialize(repeating: OverlayEntry(), count: oldCount * 2)
        for index in 0..<oldCount where old[index].key != 0 {
            var target = Self.hash(old[index].key) & mask
            while slots[target].key != 0 { target = (target + 1) & mask }
            slots[target] = old[index]
        }
        old.deallocate()
    }
}

/// A large extent of zeros that the image does not have yet.
package struct LargeZero {
    package var extent: Extent
    package var place: UInt32
}

package final class BlockOverlay: @unchecked Sendable {
    // @unchecked: `shards` is constant, and what is in one is guarded by its own lock; `zeros` is
    // read and written under `zeroLock`; `zeroCount` is atomic, and changes under `zeroLock`.
    package static let blockShift: UInt64 = 3  // sectors to blocks
    static let sectorsPerBlock = 8
    /// Sectors of the region that one shard lock covers at a time: 1 MiB.
    static let regionSectors: UInt64 = 2048
    package static let largeZeroSectors: UInt64 = 2048
    private static let shardCount: UInt64 = 64

    private let shards: [OverlayShard]
    private let zeroLock = Lock()
    private var zeros: [LargeZero] = []
    private let zeroCount = Atomic<Int>(0)

    package init() { shards = (0..<Int(Self.shardCount)).map { _ in OverlayShard() } }

    @inline(__always)
    package func shard(ofSector sector: UInt64) -> OverlayShard {
        shards[Int((sector / Self.regionSectors) % Self.shardCount)]
    }

    /// Whether place `a` is younger than `b`.
    @inline(__always)
    package static func isYounger(_ a: UInt32, than b: UInt32) -> Bool {
        Int32(bitPattern: a &- b) > 0
    }

    /// Calls `body` with each region's part of an extent.
    @inline(__always)
    private func forEachRegion(_ extent: Extent, _ body: (Extent) -> Void) {
        var start = extent.start
        while start < extent.end {
            let end = min(extent.end, (start / Self.regionSectors + 1) * Self.regionSectors)
            body(Extent(start: start, count: end - start))
            start = end
        }
    }

    /// Enters a write whose payload begins at `place`.
    package func insertWrite(_ extent: Extent, place: UInt32) {
        forEachRegion(extent) { region in
            let shard = shard(ofSector: region.start)
            shard.lock.lock()
            defer { shard.lock.unlock() }
            var sector = region.start
            while sector < region.end {
                let entry = shard.findOrInsert(sector >> Self.blockShift)
                let blockEnd = min(region.end, (sector | 7) + 1)
                while sector < blockEnd {
                    let index = Int(sector & 7)
                    let mine = place &+ UInt32(truncatingIfNeeded: sector - extent.start)
                    let bit = UInt8(1) << UInt8(index)
                    if entry.pointee.valid & bit == 0
                        || Self.isYounger(mine, than: entry.pointee[index])
                    {
                        entry.pointee[index] = mine
                        entry.pointee.valid |= bit
                        entry.pointee.zero &= ~bit
                    }
                    sector += 1
                }
            }
        }
    }

    /// Enters an extent of zeros whose record's header is at `place`.
    package func insertZeros(_ extent: Extent, place: UInt32) {
        if extent.count > Self.largeZeroSectors {
            zeroLock.lock()
            defer { zeroLock.unlock() }
            zeros.append(LargeZero(extent: extent, place: place))
            zeroCount.store(zeros.count, ordering: .sequentiallyConsistent)
            return
        }
        forEachRegion(extent) { region in
            let shard = shard(ofSector: region.start)
            shard.lock.lock()
            defer { shard.lock.unlock() }
            for sector in region.start..<region.end {
                let entry = shard.findOrInsert(sector >> Self.blockShift)
                let index = Int(sector & 7)
                let bit = UInt8(1) << UInt8(index)
                if entry.pointee.valid & bit == 0
                    || Self.isYounger(place, than: entry.pointee[index])
                {
                    entry.pointee[index] = place
                    entry.pointee.valid |= bit
                    entry.pointee.zero |= bit
                }
            }
        }
    }

    /// Large extents of zeros that touch `extent`. Usually there are none.
    package func largeZeros(touching extent: Extent) -> [LargeZero] {
        if zeroCount.load(ordering: .sequentiallyConsistent) == 0 { return [] }
        zeroLock.lock()
        defer { zeroLock.unlock() }
        return zeros.filter { $0.extent.overlaps(extent) }
    }

    package func removeLargeZero(place: UInt32) {
        zeroLock.lock()
        defer { zeroLock.unlock() }
        zeros.removeAll { $0.place == place }
        zeroCount.store(zeros.count, ordering: .sequentiallyConsistent)
    }

    /// Whether nothing of the volume is newer than the image.
    package var isEmpty: Bool {
        zeroCount.load(ordering: .sequentiallyConsistent) == 0
            && shards.allSatisfy { $0.fill.load(ordering: .relaxed) == 0 }
    }

    /// Entries in all shards.
    package var blockCount: Int { shards.reduce(0) { $0 + $1.fill.load(ordering: .relaxed) } }

    /// Which of the sectors `extent` (within one block) still have exactly the record whose first
    /// sector of the extent is at `place`: bit i for sector i of the block. Under the shard's lock.
    static func matching(
        _ entry: OverlayEntry, _ extent: Extent, place: UInt32, isZero: Bool
    ) -> UInt8 {
        var mask: UInt8 = 0
        for offset in 0..<Int(extent.count) {
            let index = Int(extent.start & 7) + offset
            let bit = UInt8(1) << UInt8(index)
            let wanted = isZero ? place : place &+ UInt32(offset)
            if entry.valid & bit != 0, (entry.zero & bit != 0) == isZero, entry[index] == wanted {
                mask |= bit
            }
        }
        return mask
    }

    /// Takes out what is still this record's. `place` is that of the extent's first sector.
    package func remove(_ extent: Extent, place: UInt32, isZero: Bool) {
        forEachRegion(extent) { region in
            let shard = shard(ofSector: region.start)
            shard.lock.lock()
            defer { shard.lock.unlock() }
            var sector = region.start
            while sector < region.end {
                let blockEnd = min(region.end, (sector | 7) + 1)
                if let entry = shard.find(sector >> Self.blockShift) {
                    let part = Extent(start: sector, count: blockEnd - sector)
                    let first =
                        isZero
                        ? place : place &+ UInt32(truncatingIfNeeded: sector - extent.start)
                    let mask = Self.matching(
                        entry.pointee, part, place: first, isZero: isZero)
                    entry.pointee.valid &= ~mask
                    entry.pointee.zero &= ~mask
                    if entry.pointee.valid == 0 { shard.remove(entry) }
                }
                sector = blockEnd
            }
        }
    }
}
