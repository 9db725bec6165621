// A file that holds only what was written to it; the rest is read from something else that never
// changes (a past state of another volume). A bit per sector tells which is which.
//
//     data file      sparse, of the whole size
//     present file   one bit per 512 bytes, from bit 0 of byte 0 on; 1: the sector is in the data
//                    file, be it a hole there
//
// The bits lie in memory, in portions read when first needed, and are written by `sync`. After a
// power cut bits and data may each be older or newer than the other; so the owner must write again
// everything since the last `sync` that succeeded, as a volume's recovery does: whole sectors, of
// which none depends on what was there before. That is why it is a bit per sector, not per block.
//
// `fill` brings sectors over from below, until nothing is read from there any more. Nobody writes
// those again after a power cut: their bits are set only when their data is durable.

import Synchronization

/// What lies below a thin file. Any thread may call.
public protocol ThinBase: AnyObject, Sendable {
    /// Fills `target` with the bytes at `offset`, which lie inside the file.
    func read(
        into target: UnsafeMutableRawBufferPointer, at offset: UInt64
    ) throws(IOError)
    /// The next range at or after `offset` that may hold other bytes than zero; nil at the end.
    func nextData(from offset: UInt64) -> Range<UInt64>?
}

/// A sparse file over a base. Writes are whole sectors; reads are of any bytes. Any thread may
/// call; a sector that is written while it is read gives either content.
public final class ThinFile: StorageFile, @unchecked Sendable {
    // @unchecked: the bits are under a lock; the rest does not change.
    public static let sectorBytes = 512
    /// Bytes of the present file for a file of `size` bytes.
    public static func presentBytes(for size: UInt64) -> UInt64 {
        (size / UInt64(sectorBytes) + 7) / 8
    }

    private struct Portion {
        var bits: [UInt8]
        var isDirty = false
    }
    private static let portionBytes = 4096
    private static let sectorsPerPortion = UInt64(portionBytes * 8)

    private let data: StorageFile
    private let present: StorageFile
    private let base: any ThinBase
    private let portions = Mutex<[UInt64: Portion]>([:])
    /// Held by who writes to the data file, so that what is brought over never lands on newer data.
    private let writing = Mutex(())

    /// Takes both files over. `data` has its whole size already, a multiple of 512.
    public init(data: StorageFile, present: StorageFile, base: any ThinBase) {
        self.data = data
        self.present = present
        self.base = base
        super.init(path: data.path)
    }

    // MARK: reading

    public override func read(
        into target: UnsafeMutableRawBufferPointer, at offset: UInt64
    ) throws(IOError) -> Int {
        let size = try data.size()
        guard offset < size else { return 0 }
        let end = min(offset + UInt64(target.count), size)
        var position = offset
        while position < end {
            let (isPresent, runEnd) = try run(from: position, to: end)
            let piece = UnsafeMutableRawBufferPointer(
                rebasing: target[Int(position - offset)..<Int(runEnd - offset)])
            if isPresent {
                try data.readZeroExtended(into: piece, at: position)
            } else {
                try base.read(into: piece, at: position)
            }
            position = runEnd
        }
        return Int(end - offset)
    }

    public override func nextData(from offset: UInt64) throws(IOError) -> Range<UInt64>? {
        let own = try data.nextData(from: offset)
        let below = base.nextData(from: offset)
        guard let own, let below else { return own ?? below }
        let (first, second) = own.lowerBound <= below.lowerBound ? (own, below) : (below, own)
        guard second.lowerBound <= first.upperBound else { return first }
        return first.lowerBound..<max(first.upperBound, second.upperBound)
    }

    public override func size() throws(IOError) -> UInt64 { try data.size() }

    // MARK: writing

    public override func writeSome(
        _ vectors: UnsafeBufferPointer<IOVector>, at offset: UInt64, _ durability: Durability
    ) throws(IOError) -> Int {
        guard durability == .deferred, offset % UInt64(Self.sectorBytes) == 0 else {
            throw IOError(.write, path, 22)  // EINVAL
        }
        return try writing.withLock { _ throws(IOError) in
            var whole = 0
            // After less than a sector the caller would go on in the middle of it: once more.
            while whole == 0 {
                let written = try data.writeSome(vectors, at: offset, .deferred)
                whole = written / Self.sectorBytes * Self.sectorBytes
            }
            // After the data: a reader that sees the bit finds them.
            try setPresent(from: offset, count: UInt64(whole))
            return whole
        }
    }

    public override func punchHole(offset: UInt64, count: UInt64) throws(IOError) {
        try writing.withLock { _ throws(IOError) in
            try data.punchHole(offset: offset, count: count)
            try setPresent(from: offset, count: count)
        }
    }

    // MARK: filling

    private static let fillBytes: UInt64 = 1 << 20

    /// Brings over from below what is not in the data file of `range`, whole sectors; other writers
    /// may be at work and win. Returns the bytes that were brought. The next `sync` makes it last.
    public func fill(_ range: Range<UInt64>) throws(IOError) -> UInt64 {
        precondition(range.lowerBound % UInt64(Self.sectorBytes) == 0)
        precondition(range.upperBound % UInt64(Self.sectorBytes) == 0)
        let memory = AlignedBuffer(count: Int(Self.fillBytes))
        var brought: [Range<UInt64>] = []
        var position = range.lowerBound
        while position < range.upperBound {
            let end = min(range.upperBound, position + Self.fillBytes)
            let (isPresent, runEnd) = try run(from: position, to: end)
            if !isPresent {
                try bring(position..<runEnd, memory)
                brought.append(position..<runEnd)
            }
            position = runEnd
        }
        if brought.isEmpty { return 0 }
        try data.sync()
        try writing.withLock { _ throws(IOError) in
            for piece in brought {
                try setPresent(from: piece.lowerBound, count: UInt64(piece.count))
            }
        }
        return brought.reduce(0) { $0 + UInt64($1.count) }
    }

    /// Copies one absent run. Where below is nothing but zeros the data file has a hole.
    private func bring(_ piece: Range<UInt64>, _ memory: AlignedBuffer) throws(IOError) {
        guard let below = base.nextData(from: piece.lowerBound),
            below.lowerBound < piece.upperBound
        else { return }
        let bytes = UnsafeMutableRawBufferPointer(rebasing: memory.bytes[..<piece.count])
        try base.read(into: bytes, at: piece.lowerBound)
        try writing.withLock { _ throws(IOError) in
            var position = piece.lowerBound
            while position < piece.upperBound {
                // Somebody may have written here since.
                let (isPresent, end) = try run(from: position, to: piece.upperBound)
                let start = Int(position - piece.lowerBound)
                let stop = Int(end - piece.lowerBound)
                if !isPresent {
                    try data.write(
                        UnsafeRawBufferPointer(rebasing: bytes[start..<stop]), at: position)
                }
                position = end
            }
        }
    }

    public override func sync() throws(IOError) {
        let written = try writePortions()
        do throws(IOError) {
            try data.sync()
            try present.sync()
        } catch {
            // What the cache has of them may be lost.
            portions.withLock { portions in
                for number in written { portions[number]?.isDirty = true }
            }
            throw error
        }
    }

    public override func writeBack(offset: UInt64, count: UInt64) throws(IOError) {
        try data.writeBack(offset: offset, count: count)
    }

    public override func expectSmallAccess() { data.expectSmallAccess() }
    public override func forgetCached() { data.forgetCached() }
    public override func tryLock() throws(IOError) -> Bool { try data.tryLock() }

    public override func close() {
        data.close()
        present.close()
    }

    // MARK: bits

    /// The longest run of bytes from `position` on, in one portion, that is all present or not.
    private func run(
        from position: UInt64, to end: UInt64
    ) throws(IOError) -> (isPresent: Bool, end: UInt64) {
        let bytes = UInt64(Self.sectorBytes)
        let first = position / bytes
        let portion = first / Self.sectorsPerPortion
        let last = min((end + bytes - 1) / bytes, (portion + 1) * Self.sectorsPerPortion)
        return try withPortion(portion) { bits in
            func isSet(_ sector: UInt64) -> Bool {
                let bit = sector % Self.sectorsPerPortion
                return bits.bits[Int(bit / 8)] & 1 << UInt8(bit % 8) != 0
            }
            let isPresent = isSet(first)
            var sector = first + 1
            while sector < last, isSet(sector) == isPresent { sector += 1 }
            return (isPresent, min(sector * bytes, end))
        }
    }

    private func setPresent(from offset: UInt64, count: UInt64) throws(IOError) {
        let bytes = UInt64(Self.sectorBytes)
        var sector = offset / bytes
        let end = (offset + count) / bytes
        while sector < end {
            let portion = sector / Self.sectorsPerPortion
            let stop = min(end, (portion + 1) * Self.sectorsPerPortion)
            try withPortion(portion) { bits in
                for sector in sector..<stop {
                    let bit = sector % Self.sectorsPerPortion
                    bits.bits[Int(bit / 8)] |= 1 << UInt8(bit % 8)
                }
                bits.isDirty = true
            }
            sector = stop
        }
    }

    private func withPortion<R: Sendable>(
        _ number: UInt64, _ body: (inout Portion) -> R
    ) throws(IOError) -> R {
        // Read outside of the lock; who is second finds the first one's.
        if !portions.withLock({ $0[number] != nil }) {
            var bits = [UInt8](repeating: 0, count: Self.portionBytes)
            var failure: IOError?
            bits.withUnsafeMutableBytes { target in
                do throws(IOError) {
                    try present.readZeroExtended(
                        into: target, at: number * UInt64(Self.portionBytes))
                } catch { failure = error }
            }
            if let failure { throw failure }
            portions.withLock { [bits] portions in
                if portions[number] == nil { portions[number] = Portion(bits: bits) }
            }
        }
        return portions.withLock { portions in
            // In place: no copy of the bits. They are there: nobody takes them away.
            body(&portions[number, default: Portion(bits: [])])
        }
    }

    /// What fails stays to be written. Returns which were.
    private func writePortions() throws(IOError) -> [UInt64] {
        let dirty = portions.withLock { $0.filter(\.value.isDirty).map(\.key).sorted() }
        for number in dirty {
            let bits = portions.withLock { portions in
                portions[number]?.isDirty = false
                return portions[number]?.bits ?? []
            }
            var failure: IOError?
            bits.withUnsafeBytes { bytes in
                do throws(IOError) {
                    try present.write(bytes, at: number * UInt64(Self.portionBytes))
                } catch { failure = error }
            }
            if let failure {
                portions.withLock { portions in
                    for number in dirty { portions[number]?.isDirty = true }
                }
                throw failure
            }
        }
        return dirty
    }
}
