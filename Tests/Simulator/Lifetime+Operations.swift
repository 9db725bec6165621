// Steps of a user and of the volume's own threads: write, zero, read, flush, mark, and the three
// steps of manual mode. Each does the same to the model.

import BlockModel
import DiskIO
import LogFormat
import ProtectedVolume

extension Lifetime {
    var payloadBytesMax: Int { Int(plan.ringBytes / 4) }

    func newestLSN() throws(Failure) -> UInt64 {
        try volume().status().published.lsn.rawValue
    }

    /// A piece of a request that becomes one record: bytes at an offset, aligned or not, or zeros.
    struct Piece {
        var kind: RecordKind
        var offset: Int
        var count: Int
        var bytes: ArraySlice<UInt8> = []
    }

    /// How the volume cuts a write into records.
    func pieces(_ bytes: [UInt8], at offset: Int) -> [Piece] {
        let isAligned = offset % Sector.bytes == 0 && bytes.count % Sector.bytes == 0
        let most = isAligned ? payloadBytesMax : payloadBytesMax - 2 * Sector.bytes
        return stride(from: 0, to: bytes.count, by: most).map { start in
            let count = min(most, bytes.count - start)
            return Piece(
                kind: .write, offset: offset + start, count: count,
                bytes: bytes[start..<start + count])
        }
    }

    /// How the volume cuts a request for zeros into records.
    func zeroPieces(_ kind: RecordKind, at offset: Int, count: Int) -> [Piece] {
        func rim(_ offset: Int, _ count: Int) -> [Piece] {
            count == 0 ? [] : pieces([UInt8](repeating: 0, count: count), at: offset)
        }
        let first = (offset + Sector.bytes - 1) / Sector.bytes * Sector.bytes
        let end = (offset + count) / Sector.bytes * Sector.bytes
        guard first < end else { return rim(offset, count) }
        return rim(offset, first - offset)
            + [Piece(kind: kind, offset: first, count: end - first)]
            + rim(end, offset + count - end)
    }

    /// The record that a piece becomes, given the disk as it is now.
    private func record(_ piece: Piece, lsn: UInt64, wall: Int64, durable: UInt64) -> ModelRecord {
        let start = piece.offset / Sector.bytes * Sector.bytes
        let end = (piece.offset + piece.count + Sector.bytes - 1) / Sector.bytes * Sector.bytes
        var payload: [UInt8] = []
        if piece.kind == .write {
            payload = Array(model.current[start..<end])
            payload.replaceSubrange(
                piece.offset - start..<piece.offset - start + piece.count, with: piece.bytes)
        }
        return ModelRecord(
            lsn: lsn, wall: wall, kind: piece.kind, range: start..<end, payload: payload,
            durableBefore: durable)
    }

    /// Does a request on the volume, and as much of it on the model as was ordered. False when the
    /// volume refused some of it.
    private func order(
        _ pieces: [Piece], _ request: (ProtectedVolume) throws(DeviceError) -> Void
    ) throws(Failure) -> Bool {
        let volume = try volume()
        let before = try newestLSN()
        try check(
            before == model.newest, "the model is at \(model.newest), the volume at \(before)")
        let durable = volume.durableStamp.lsn.rawValue
        var refusal: DeviceError?
        do throws(DeviceError) { try request(volume) } catch { refusal = error }
        let stamp = volume.status().published
        let made = Int(stamp.lsn.rawValue - before)
        try check(made <= pieces.count, "one request became \(made) records of \(pieces.count)")
        for (index, piece) in pieces[..<made].enumerated() {
            model.append(
                record(
                    piece, lsn: before + 1 + UInt64(index), wall: stamp.wallNanoseconds,
                    durable: durable))
        }
        if made > 0 { try see(stamp) }
        if let refusal {
            note("  refused with errno \(refusal.rawValue) after \(made) records")
            coverage.note("refused write")
            return false
        }
        try check(made == pieces.count, "\(made) records of \(pieces.count) were ordered")
        return true
    }

    /// R6: LSNs and stamps only rise.
    func see(_ stamp: Stamp) throws(Failure) {
        try check(
            stamp.lsn >= newestStamp.lsn && stamp.wallNanoseconds >= newestStamp.wallNanoseconds,
            "R6: the stamp \(stamp) came after \(newestStamp)")
        newestStamp = stamp
    }

    func someBytes(_ count: Int) -> [UInt8] {
        let first = random.next()
        let isText = random.chance(0.5)
        return (0..<count).map { i in
            UInt8(
                truncatingIfNeeded: isText ? first &+ UInt64(i / 64) : first &* UInt64(i + 1) >> 32)
        }
    }

    func writeSomething() throws(Failure) {
        var count: Int
        var offset: Int
        switch random.below(plan.smallWrites ? 8 : 11) {
        case 0..<4: (count, offset) = (4096, random.below(model.byteCount / 4096) * 4096)
        case 4, 5:
            count = Sector.bytes * (1 + random.below(8))
            offset = random.below(model.byteCount / Sector.bytes) * Sector.bytes
        case 6: (count, offset) = (1 + random.below(64), random.below(model.byteCount))
        case 7: (count, offset) = (1 + random.below(6000), random.below(model.byteCount))
        case 8:
            count = 4096 * (1 + random.below(8))
            offset = random.below(model.byteCount / 4096) * 4096
        case 9:
            count = Sector.bytes * (20 + random.below(60))
            offset = random.below(model.byteCount / Sector.bytes) * Sector.bytes
        default: (count, offset) = (1 + random.below(40_000), random.below(model.byteCount))
        }
        // Few places, often hit: what is superseded matters most.
        if chance(0.5) { offset %= 16384 }
        count = min(count, model.byteCount - offset)
        try write(someBytes(count), at: offset)
    }

    func write(_ bytes: [UInt8], at offset: Int) throws(Failure) {
        note("write \(offset)+\(bytes.count) as \(model.newest + 1)")
        _ = try order(pieces(bytes, at: offset)) { volume throws(DeviceError) in
            var failure: DeviceError?
            bytes.withUnsafeBytes { bytes in
                do throws(DeviceError) {
                    try volume.write(bytes, at: UInt64(offset))
                } catch { failure = error }
            }
            if let failure { throw failure }
        }
    }

    func zeroSomething() throws(Failure) {
        var offset = random.below(model.byteCount)
        var count = 1 + random.below(min(model.byteCount - offset, 40_000))
        if chance(0.5) {
            offset = offset / Sector.bytes * Sector.bytes
            count = (count + Sector.bytes - 1) / Sector.bytes * Sector.bytes
        }
        if model.byteCount > 2 << 20, chance(0.6) {
            offset = random.below(model.byteCount - (1 << 20) - 8192)
            count = (1 << 20) + random.below(model.byteCount - offset - (1 << 20))
            coverage.note("large zero")
        }
        count = min(count, model.byteCount - offset)
        let kind = chance(0.5) ? RecordKind.zero : .discard
        note("\(kind) \(offset)+\(count) as \(model.newest + 1)")
        _ = try order(zeroPieces(kind, at: offset, count: count)) { volume throws(DeviceError) in
            if kind == .zero {
                try volume.writeZeroes(offset: UInt64(offset), count: UInt64(count))
            } else {
                try volume.discard(offset: UInt64(offset), count: UInt64(count))
            }
        }
    }

    func readSomething() throws(Failure) {
        let offset = random.below(model.byteCount)
        var count = 1 + random.below(min(model.byteCount - offset, 32_768))
        if chance(0.02) { count = model.byteCount - offset }
        try compare(offset..<offset + count)
    }

    /// Reads a range and compares it with the model. Read errors are no lie.
    func compare(_ range: Range<Int>) throws(Failure) {
        let volume = try volume()
        var bytes = [UInt8](repeating: 0xEE, count: range.count)
        var failure: DeviceError?
        bytes.withUnsafeMutableBytes { target in
            do throws(DeviceError) {
                try volume.read(into: target, at: UInt64(range.lowerBound))
            } catch { failure = error }
        }
        if let failure {
            note("read \(range) fails with errno \(failure.rawValue)")
            return
        }
        if areSame(bytes[...], model.current[range]) { return }
        let place = zip(range, bytes).first { model.current[$0] != $1 }?.0 ?? 0
        throw Failure(message: "a read of \(range) gives wrong bytes from \(place) on")
    }

    func compareAll() throws(Failure) { try compare(0..<model.byteCount) }

    func flush() throws(Failure) {
        let volume = try volume()
        let target = model.newest
        do throws(DeviceError) {
            try volume.flush()
        } catch {
            note("flush fails with errno \(error.rawValue)")
            coverage.note("refused flush")
            try takeFlushes(1)
            return
        }
        try takeFlushes(1)
        note("flush answers for \(target)")
        coverage.note("flush")
        acknowledged = max(acknowledged, target)
        try check(
            volume.durableStamp.lsn.rawValue >= target,
            "R1: a flush for \(target) answered at durable \(volume.durableStamp.lsn)")
    }

    /// Enters up to `most` flush records that a call has made.
    private func takeFlushes(_ most: Int) throws(Failure) {
        let stamp = try volume().status().published
        let made = Int(stamp.lsn.rawValue - model.newest)
        try check(made <= most, "a flush made \(made) records")
        for _ in 0..<made {
            appendPoint(.flush, payload: [], wall: stamp.wallNanoseconds)
            try see(stamp)
        }
    }

    private func appendPoint(_ kind: RecordKind, payload: [UInt8], wall: Int64) {
        model.append(
            ModelRecord(
                lsn: model.newest + 1, wall: wall, kind: kind, range: 0..<0, payload: payload,
                durableBefore: 0))
    }

    /// Whether the volume takes its newest record for a flush.
    private var endsInFlush: Bool {
        model.newest == openedAt || model.records.last.map { $0.kind == .flush } ?? true
    }

    func markSomething() throws(Failure) {
        let volume = try volume()
        markCount += 1
        let name = "mark \(markCount)"
        let before = model.newest
        var stamp: Stamp?
        do throws(DeviceError) { stamp = try volume.mark(name) } catch {
            note("mark fails with errno \(error.rawValue)")
        }
        // A flush where the newest record is none, the mark, a flush; any first part of that.
        let published = volume.status().published
        let kinds: [RecordKind] = endsInFlush ? [.mark, .flush] : [.flush, .mark, .flush]
        let made = Int(published.lsn.rawValue - before)
        try check(made <= kinds.count, "a mark made \(made) records")
        for kind in kinds[..<made] {
            appendPoint(
                kind, payload: kind == .mark ? Array(name.utf8) : [],
                wall: published.wallNanoseconds)
            if kind == .mark { marks.append((name, model.newest)) }
        }
        if made > 0 { try see(published) }
        guard let stamp else { return }
        note("mark \(name) is \(stamp.lsn)")
        coverage.note("mark")
        try check(
            marks.last.map { $0.lsn == stamp.lsn.rawValue } ?? false,
            "the mark is \(stamp.lsn), by the model \(String(describing: marks.last))")
        acknowledged = max(acknowledged, stamp.lsn.rawValue)
    }

    // MARK: the volume's own steps

    func stepWriter() throws(Failure) {
        let volume = try volume()
        let done = volume.stepWriter()
        note("writer: \(done), durable \(volume.durableStamp.lsn), \(volume.status().health)")
    }

    func stepApplier() throws(Failure) {
        let volume = try volume()
        let done = volume.stepApplier()
        note("applier: \(done), applied \(volume.appliedLSN)")
        try check(
            volume.appliedLSN <= volume.durableStamp.lsn,
            "R3: applied \(volume.appliedLSN) before durable \(volume.durableStamp.lsn)")
    }

    func stepKeeper() throws(Failure) {
        let volume = try volume()
        let done = volume.stepKeeper()
        note("keeper: \(done), checkpoint \(volume.checkpointLSN)")
    }
}
