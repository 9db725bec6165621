// The applier: durable records from the ring to the image, newest bytes only, in address order.
//
// One round takes the records between the applied and the claimed mark (LogWriter.claimed: never
// what damage to the log could pass off as a torn end, for then the image would be ahead). What a
// later record of the ring has superseded is left out, whether that one is durable yet or not: the
// checkpoint waits until it is (`mustBeDurable`). After the image has the bytes, the round takes
// its records out of the overlay in LSN order and gives their ring memory free.
//
// A failed image write leaves everything as it was: the round is tried again later.

import BlockModel
import CLinux
import DiskIO
import LogFormat
import Synchronization
import WriteLog

/// What the applier keeps between rounds; guarded by `imageLock`.
struct ApplierState {
    /// Ring position up to which everything is in the image or superseded.
    var position: UInt64 = 0
    var lsn = LSN.zero
    var wall: Int64 = 0
    /// What was superseded may have been so by records up to here.
    var mustBeDurable: UInt64 = 0
    var bytesSinceCheckpoint: UInt64 = 0
    /// Reused from round to round.
    var pieces: [Piece] = []
    var vectors: [IOVector] = []
    var tracker: ChangeTracker?
    /// Written since the last write-back.
    var dirtyRegions: DirtyRegions

    init(volumeBytes: UInt64) { dirtyRegions = DirtyRegions(volumeBytes: volumeBytes) }

    /// A run of sectors for the image; `source` nil: zeros.
    struct Piece {
        var extent: Extent
        var source: UnsafeRawPointer?
    }
}

extension ProtectedVolume {
    /// One round of the applier. False when the image does not take the bytes now.
    @discardableResult
    package func stepApplier() -> Bool {
        imageLock.lock()
        defer { imageLock.unlock() }
        return applyRound()
    }

    /// Rounds until the image has all that is durable now.
    func applyEverything() -> Bool {
        let last = log.durableLSN
        while appliedLSN < last {
            if !stepApplier() { return false }
        }
        return true
    }

    /// Under `imageLock`.
    func applyRound() -> Bool {
        guard let target = applyTarget() else { return false }
        guard applier.position < target else { return true }
        collectPieces(through: target)
        // Records ordered after this moment cannot have superseded anything above.
        let supersededBy = ring.reserved
        do throws(IOError) {
            try punchLargeZeros(through: target)
            try writePieces()
        } catch {
            imageErrorCode.store(error.code, ordering: .relaxed)
            return false
        }
        imageErrorCode.store(0, ordering: .relaxed)
        applier.mustBeDurable = max(applier.mustBeDurable, supersededBy)
        // Never past the durable mark, which only the deliberate fault can do: the writer still
        // needs what lies behind it.
        release(through: min(target, log.durable))
        return true
    }

    /// Up to where the image may have the records: where the disk says that they are durable. What
    /// was appended last has nobody to say so when no more records come; then the superblock does.
    private func applyTarget() -> UInt64? {
        if Fault.imageBeforeLog.isOn { return ring.published }
        let durable = log.durable
        let claimed = log.claimed
        if claimed > applier.position || durable == applier.position { return claimed }
        let lsn = log.durableLSN  // at or after `durable`
        do throws(IOError) {
            try folder.updateSuperblock { $0.durableLSN = max($0.durableLSN, lsn) }
        } catch {
            imageErrorCode.store(error.code, ordering: .relaxed)
            return nil
        }
        log.claim(through: durable)
        return durable
    }

    /// Fills `applier.pieces` with what is still the newest, sorted by address.
    private func collectPieces(through target: UInt64) {
        applier.pieces.removeAll(keepingCapacity: true)
        var position = applier.position
        var isSorted = true
        var lastEnd: UInt64 = 0
        while position < target {
            let header = UnsafeRawPointer(ring.pointer(position))
            let record = RingRecord(header)
            let isSmallZero =
                (record.kind == .zero || record.kind == .discard)
                && record.extent.count <= BlockOverlay.largeZeroSectors
            if record.kind == .write || isSmallZero {
                collect(record, header: header, position: position)
                if record.extent.start < lastEnd { isSorted = false }
                lastEnd = record.extent.end
            }
            position += record.ringBytes
        }
        if !isSorted { applier.pieces.sort { $0.extent.start < $1.extent.start } }
    }

    private func collect(_ record: RingRecord, header: UnsafeRawPointer, position: UInt64) {
        let isZero = record.kind != .write
        let headerPlace = UInt32(truncatingIfNeeded: position >> Sector.shift)
        let payload = header + RecordHeader.byteCount
        let zeros = overlay.largeZeros(touching: record.extent)
        applier.tracker?.mark(record.extent)
        var sector = record.extent.start
        var shard = overlay.shard(ofSector: sector)
        shard.lock.lock()
        while sector < record.extent.end {
            let blockEnd = min(record.extent.end, (sector | 7) + 1)
            let offset = sector - record.extent.start
            let part = Extent(start: sector, count: blockEnd - sector)
            let place =
                isZero ? headerPlace : headerPlace &+ 1 &+ UInt32(truncatingIfNeeded: offset)
            if let entry = shard.find(sector >> BlockOverlay.blockShift) {
                var mask = BlockOverlay.matching(
                    entry.pointee, part, place: place, isZero: isZero)
                for zero in zeros where BlockOverlay.isYounger(zero.place, than: headerPlace) {
                    if let covered = zero.extent.intersection(part) {
                        for s in covered.start..<covered.end { mask &= ~(1 << UInt8(s & 7)) }
                    }
                }
                append(mask, part, isZero ? nil : payload + Int(offset) * Sector.bytes)
            }
            sector = blockEnd
            if sector < record.extent.end, sector % BlockOverlay.regionSectors == 0 {
                shard.lock.unlock()
                shard = overlay.shard(ofSector: sector)
                shard.lock.lock()
            }
        }
        shard.lock.unlock()
    }

    /// Adds the sectors of `part` whose bits are set, joined to the piece before where they touch.
    private func append(_ mask: UInt8, _ part: Extent, _ source: UnsafeRawPointer?) {
        var sector = part.start
        while sector < part.end {
            guard mask & (1 << UInt8(sector & 7)) != 0 else {
                supersededBytes.add(UInt64(Sector.bytes), ordering: .relaxed)
                sector += 1
                continue
            }
            var end = sector + 1
            while end < part.end, mask & (1 << UInt8(end & 7)) != 0 { end += 1 }
            let memory = source.map { $0 + Int(sector - part.start) * Sector.bytes }
            if let last = applier.pieces.indices.last, applier.pieces[last].extent.end == sector,
                memory == nil
                    ? applier.pieces[last].source == nil
                    : applier.pieces[last].source.map({
                        $0 + Int(applier.pieces[last].extent.byteCount)
                    }) == memory
            {
                applier.pieces[last].extent.count += end - sector
            } else {
                applier.pieces.append(
                    .init(extent: Extent(start: sector, count: end - sector), source: memory))
            }
            sector = end
        }
    }

    private func punchLargeZeros(through target: UInt64) throws(IOError) {
        let whole = Extent(start: 0, count: byteCount >> Sector.shift)
        let zeros = overlay.largeZeros(touching: whole)
        guard !zeros.isEmpty else { return }
        var position = applier.position
        while position < target {
            let record = RingRecord(ring.pointer(position))
            if record.kind == .zero || record.kind == .discard,
                record.extent.count > BlockOverlay.largeZeroSectors
            {
                applier.tracker?.mark(record.extent)
                try image.punchHole(
                    offset: record.extent.byteOffset, count: record.extent.byteCount)
            }
            position += record.ringBytes
        }
    }

    /// Writes the pieces, neighbours in one call.
    private func writePieces() throws(IOError) {
        var index = 0
        while index < applier.pieces.count {
            let first = applier.pieces[index]
            if first.source == nil {
                try image.punchHole(
                    offset: first.extent.byteOffset, count: first.extent.byteCount)
                applier.bytesSinceCheckpoint += first.extent.byteCount
                index += 1
                continue
            }
            applier.vectors.removeAll(keepingCapacity: true)
            var end = first.extent.start
            while index < applier.pieces.count, applier.vectors.count < 512 {
                let piece = applier.pieces[index]
                guard piece.extent.start == end, let source = piece.source else { break }
                applier.vectors.append(
                    IOVector(base: source, count: Int(piece.extent.byteCount)))
                end = piece.extent.end
                index += 1
            }
            var failure: IOError?
            applier.vectors.withUnsafeMutableBufferPointer { vectors in
                do throws(IOError) {
                    try image.write(vectors: vectors, at: first.extent.byteOffset)
                } catch { failure = error }
            }
            if let failure { throw failure }
            let written = Extent(start: first.extent.start, count: end - first.extent.start)
            applier.dirtyRegions.insert(written)
            let bytes = written.byteCount
            applier.bytesSinceCheckpoint += bytes
            appliedBytes.add(bytes, ordering: .relaxed)
        }
    }

    /// Takes the round's records out of the overlay, in LSN order, and frees their ring memory.
    private func release(through target: UInt64) {
        var position = applier.position
        while position < target {
            let record = RingRecord(ring.pointer(position))
            let place = UInt32(truncatingIfNeeded: position >> Sector.shift)
            switch record.kind {
            case .write:
                overlay.remove(record.extent, place: place &+ 1, isZero: false)
            case .zero, .discard:
                if record.extent.count > BlockOverlay.largeZeroSectors {
                    overlay.removeLargeZero(place: place)
                } else {
                    overlay.remove(record.extent, place: place, isZero: true)
                }
            case .flush, .mark, .pad: break
            }
            if !record.isPad {
                applier.lsn = record.lsn
                applier.wall = record.wallNanoseconds
            }
            position += record.ringBytes
        }
        applier.position = target
        appliedLSNWord.store(applier.lsn.rawValue, ordering: .releasing)
        ring.free(before: target)
        room.signal()
    }
}
