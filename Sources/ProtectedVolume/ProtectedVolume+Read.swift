// Reading: newest bytes first from the ring, the rest from the image.
//
// The overlay is asked before the image. A sector that is not in the overlay then is already in
// the image, or nobody had finished writing it: either content is right. A sector that is in it is
// copied under the shard's lock, so that the applier cannot give its ring memory away meanwhile.

import BlockModel
import DiskIO
import WriteLog

extension ProtectedVolume {
    /// `target.count` bytes at any offset.
    func readBytes(
        into target: UnsafeMutableRawBufferPointer, at offset: UInt64
    ) throws(DeviceError) {
        guard target.count > 0 else { return }
        guard offset <= byteCount, UInt64(target.count) <= byteCount - offset else {
            throw .invalid
        }
        readCount.add(1, ordering: .relaxed)
        readTotal.add(UInt64(target.count), ordering: .relaxed)
        if (offset | UInt64(target.count)) & UInt64(Sector.bytes - 1) != 0 {
            return try readUnaligned(into: target, at: offset)
        }
        try readSectors(
            into: target,
            Extent(
                start: offset >> Sector.shift, count: UInt64(target.count) >> Sector.shift))
    }

    private func readUnaligned(
        into target: UnsafeMutableRawBufferPointer, at offset: UInt64
    ) throws(DeviceError) {
        let extent = Extent(coveringBytesAt: offset, count: UInt64(target.count))
        let scratch = AlignedBuffer(count: Int(extent.byteCount))
        try readSectors(
            into: UnsafeMutableRawBufferPointer(
                start: scratch.base, count: Int(extent.byteCount)), extent)
        target.baseAddress!.copyMemory(
            from: scratch.base + Int(offset - extent.byteOffset), byteCount: target.count)
    }

    /// Reads whole sectors; `target.count` is the extent's size.
    func readSectors(
        into target: UnsafeMutableRawBufferPointer, _ extent: Extent
    ) throws(DeviceError) {
        var start = extent.start
        while start < extent.end {
            let regionEnd = (start / BlockOverlay.regionSectors + 1) * BlockOverlay.regionSectors
            let region = Extent(start: start, count: min(extent.end, regionEnd) - start)
            let piece = UnsafeMutableRawBufferPointer(
                rebasing: target[
                    Int((start - extent.start) << Sector.shift)...][
                        ..<(Int((start - extent.start) << Sector.shift)
                            + Int(region.byteCount))])
            try readRegion(into: piece, region)
            start = region.end
        }
    }

    /// Which sectors of a region came from the overlay.
    private struct Covered {
        private var words: InlineArray<32, UInt64> = .init(repeating: 0)

        subscript(sector: Int) -> Bool { words[sector >> 6] & (1 << UInt64(sector & 63)) != 0 }
        mutating func insert(_ sector: Int) { words[sector >> 6] |= 1 << UInt64(sector & 63) }
    }

    private func readRegion(
        into target: UnsafeMutableRawBufferPointer, _ region: Extent
    ) throws(DeviceError) {
        let shard = overlay.shard(ofSector: region.start)
        var covered = Covered()
        var count = 0
        shard.lock.lock()
        // Under the shard's lock: the applier takes a large zero out after what it superseded and
        // before what superseded it, so what is seen here is one moment's state.
        let zeros = overlay.largeZeros(touching: region)
        if zeros.isEmpty {
            if shard.fill.load(ordering: .relaxed) != 0 {
                count = copyFromRing(into: target, region, shard, &covered)
            }
        } else {
            count = copyFromRing(into: target, region, shard, zeros, &covered)
        }
        shard.lock.unlock()
        if count == 0 { return try readImage(into: target, at: region.byteOffset) }
        if count == Int(region.count) { return }
        var sector = 0
        while sector < Int(region.count) {
            if covered[sector] {
                sector += 1
                continue
            }
            var end = sector + 1
            while end < Int(region.count), !covered[end] { end += 1 }
            try readImage(
                into: UnsafeMutableRawBufferPointer(
                    rebasing: target[(sector * Sector.bytes)..<(end * Sector.bytes)]),
                at: region.byteOffset + UInt64(sector * Sector.bytes))
            sector = end
        }
    }

    /// Under the shard's lock. Returns how many sectors were copied.
    private func copyFromRing(
        into target: UnsafeMutableRawBufferPointer, _ region: Extent, _ shard: OverlayShard,
        _ covered: inout Covered
    ) -> Int {
        var count = 0
        var sector = region.start
        while sector < region.end {
            let blockEnd = min(region.end, (sector | 7) + 1)
            if let entry = shard.find(sector >> BlockOverlay.blockShift) {
                while sector < blockEnd {
                    if entry.pointee.valid & (1 << UInt8(sector & 7)) != 0 {
                        let index = Int(sector - region.start)
                        copySector(entry, Int(sector & 7), to: target, index)
                        covered.insert(index)
                        count += 1
                    }
                    sector += 1
                }
            }
            sector = blockEnd
        }
        return count
    }

    /// The same where large extents of zeros have to be reckoned with.
    private func copyFromRing(
        into target: UnsafeMutableRawBufferPointer, _ region: Extent, _ shard: OverlayShard,
        _ zeros: [LargeZero], _ covered: inout Covered
    ) -> Int {
        var count = 0
        for sector in region.start..<region.end {
            let entry = shard.find(sector >> BlockOverlay.blockShift)
            let bit = UInt8(1) << UInt8(sector & 7)
            let place = entry.flatMap {
                $0.pointee.valid & bit != 0 ? $0.pointee[Int(sector & 7)] : nil
            }
            let index = Int(sector - region.start)
            let zeroed = zeros.contains {
                $0.extent.start <= sector && sector < $0.extent.end
                    && (place.map { [zero = $0.place] in BlockOverlay.isYounger(zero, than: $0) }
                        ?? true)
            }
            if zeroed {
                (target.baseAddress! + index * Sector.bytes).initializeMemory(
                    as: UInt8.self, repeating: 0, count: Sector.bytes)
            } else if let entry, place != nil {
                copySector(entry, Int(sector & 7), to: target, index)
            } else {
                continue
            }
            covered.insert(index)
            count += 1
        }
        return count
    }

    @inline(__always)
    private func copySector(
        _ entry: UnsafeMutablePointer<OverlayEntry>, _ sector: Int,
        to target: UnsafeMutableRawBufferPointer, _ index: Int
    ) {
        let place = target.baseAddress! + index * Sector.bytes
        if entry.pointee.zero & (1 << UInt8(sector)) != 0 {
            place.initializeMemory(as: UInt8.self, repeating: 0, count: Sector.bytes)
        } else {
            place.copyMemory(
                from: ring.sector(UInt64(entry.pointee[sector])), byteCount: Sector.bytes)
        }
    }

    @inline(__always)
    func readImage(
        into target: UnsafeMutableRawBufferPointer, at offset: UInt64
    ) throws(DeviceError) {
        if imageIsSuspect.load(ordering: .acquiring), !healImage() { throw .io }
        do throws(IOError) {
            try image.readZeroExtended(into: target, at: offset)
        } catch {
            throw .io
        }
    }
}
