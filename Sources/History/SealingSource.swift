// Plain segments seen as their sealed containers, for shipping: a store to read from. As long as it
// lives a segment has one data key and so always the same bytes; what was cut goes on at the byte.
// A new one seals anew, with another data key and another upload id.
//
// Who receives a sealed segment cannot check what is in it. So the segment's own SHA-256 is checked
// here while it goes: a segment that is damaged ends in an error, before its last bytes are given
// out.

import BlockModel
import Crypto
import LogFormat
import Synchronization

/// A segment as it will be sealed.
public struct SealedShipment: Hashable, Sendable {
    public var name: SegmentName
    /// Size of the container.
    public var byteCount: UInt64
    /// The same as long as the bytes are.
    public var uploadID: String
    public var label: SealedLabel
}

/// A store of containers; it can only be read. Any thread may call.
public final class SealingSource: SegmentStore {
    private let plain: any SegmentStore
    private let key: SealingKey
    private let sealings = Mutex<[SegmentName: Sealing]>([:])

    public init(_ plain: any SegmentStore, key: SealingKey) {
        self.plain = plain
        self.key = key
    }

    public var label: String { plain.label }

    /// With the sizes of the containers.
    public func list() throws(StoreError) -> [StoredSegment] {
        try plain.list().compactMap { segment in
            SealedLayout(plainBytes: segment.byteCount).map {
                StoredSegment(name: segment.name, byteCount: $0.fileBytes)
            }
        }
    }

    /// Begins to seal a segment of the plain store, or goes on with it. Reads its header and
    /// footer; `.damaged` where they are not those of a segment of this name.
    public func prepare(_ segment: StoredSegment) throws(StoreError) -> SealedShipment {
        // Another segment of that name gets another data key: one key never meets two contents.
        if let known = sealings.withLock({ $0[segment.name] }), try !known.isStill(segment) {
            forget(segment.name)
        }
        return try sealing(segment).shipment
    }

    /// As `prepare`, when the size is not known.
    public func prepare(_ name: SegmentName) throws(StoreError) -> SealedShipment {
        guard let segment = try plain.list().first(where: { $0.name == name }) else {
            throw StoreError(.read, "\(name)", .missing)
        }
        return try prepare(segment)
    }

    public func read(
        _ name: SegmentName, into target: UnsafeMutableRawBufferPointer, at offset: UInt64
    ) throws(StoreError) {
        let sealing = try sealing(name)
        let size = sealing.shipment.byteCount
        guard offset <= size, UInt64(target.count) <= size - offset else {
            throw StoreError(.read, "\(name)", .short)
        }
        try sealing.read(into: target, at: offset)
    }

    /// The digest in the container's footer. Where the container was read front to back nothing is
    /// read again for it.
    public func digest(_ name: SegmentName) throws(StoreError) -> SegmentDigest {
        try sealing(name).digest()
    }

    /// What stands for a digest at the remote, where chains are known by chain ids.
    public func chainID(of digest: SegmentDigest?, volume: VolumeID) -> SegmentDigest? {
        key.chainID(of: digest, volume: volume)
    }

    /// Drops the data key of a segment that is shipped.
    public func forget(_ name: SegmentName) {
        sealings.withLock { $0[name] = nil }
    }

    public func upload() throws(StoreError) -> any SegmentUpload {
        throw StoreError(.put, label, .refused("it can only be read"))
    }

    public func delete(_ name: SegmentName) throws(StoreError) {
        throw StoreError(.delete, "\(name)", .refused("it can only be read"))
    }

    private func sealing(_ name: SegmentName) throws(StoreError) -> Sealing {
        if let known = sealings.withLock({ $0[name] }) { return known }
        guard let segment = try plain.list().first(where: { $0.name == name }) else {
            throw StoreError(.read, "\(name)", .missing)
        }
        return try sealing(segment)
    }

    private func sealing(_ segment: StoredSegment) throws(StoreError) -> Sealing {
        if let known = sealings.withLock({ $0[segment.name] }) { return known }
        let made = try Sealing(segment, of: plain, key: key)
        return sealings.withLock { sealings in
            if let other = sealings[segment.name] { return other }  // another thread was faster
            sealings[segment.name] = made
            return made
        }
    }
}

/// One segment being sealed. Any thread may call; one works at a time.
private final class Sealing: Sendable {
    let shipment: SealedShipment
    private let plain: any SegmentStore
    private let layout: SealedLayout
    private let cipher: SealedCipher
    /// The digest that the segment's footer claims.
    private let plainDigest: SegmentDigest
    private let state: Mutex<State>

    private struct State {
        /// Over the header and the chunks before `hashed`.
        var digest = SealedDigest()
        /// Over what those chunks hold, up to the segment's digest field.
        var plainDigest = SHA256()
        var hashed: UInt64 = 0
        /// The chunk sealed last for a part of it.
        var chunk: (number: UInt64, sealed: RawMemory)?
        /// The footer, once it is known, and the digest in it.
        var end: (footer: [UInt8], digest: SegmentDigest)?
    }
    /// Plain bytes read in one request.
    private static let batchChunks: UInt64 = 16

    init(
        _ segment: StoredSegment, of plain: any SegmentStore, key: SealingKey
    ) throws(StoreError) {
        self.plain = plain
        let (name, size) = (segment.name, segment.byteCount)
        let (start, tail) = (
            RawMemory(count: SegmentFormat.headerBytes), RawMemory(count: SegmentFormat.footerBytes)
        )
        guard size >= SegmentFormat.fileBytesMin, let layout = SealedLayout(plainBytes: size)
        else { throw StoreError(.read, "\(name)", .damaged(.sealed(.misplaced))) }
        try plain.read(name, into: start.bytes, at: 0)
        try plain.read(name, into: tail.bytes, at: size - UInt64(tail.count))
        guard
            let label = SealedLabel(
                kind: name.kind, first: name.first, last: name.last,
                start: UnsafeRawBufferPointer(start.bytes),
                tail: UnsafeRawBufferPointer(tail.bytes), plainBytes: size, key: key)
        else { throw StoreError(.read, "\(name)", .damaged(.sealed(.misplaced))) }
        self.layout = layout
        cipher = SealedCipher(sealingWith: key)
        plainDigest = SegmentDigest(tail.bytes.baseAddress! + SegmentFooter.digestOffset)
        shipment = SealedShipment(
            name: name, byteCount: layout.fileBytes,
            uploadID: "sealed-\(cipher.header.fingerprint)-\(name)", label: label)
        var first = State()
        cipher.header.withBytes { first.digest.update($0) }
        state = Mutex(first)
    }

    /// Whether what is there is what was looked at first.
    func isStill(_ segment: StoredSegment) throws(StoreError) -> Bool {
        guard segment.byteCount == layout.plainBytes else { return false }
        let tail = RawMemory(count: SegmentFormat.footerBytes)
        try plain.read(segment.name, into: tail.bytes, at: segment.byteCount - UInt64(tail.count))
        return SegmentDigest(tail.bytes.baseAddress! + SegmentFooter.digestOffset) == plainDigest
    }

    /// `offset` and size lie inside the container.
    func read(
        into target: UnsafeMutableRawBufferPointer, at offset: UInt64
    ) throws(StoreError) {
        let memory = SharedMemory(target)
        try state.withLock { (state) throws(StoreError) in
            try read(&state, into: memory.bytes, at: offset)
        }
    }

    func digest() throws(StoreError) -> SegmentDigest {
        try state.withLock { (state) throws(StoreError) in try end(&state).digest }
    }

    private func read(
        _ state: inout State, into target: UnsafeMutableRawBufferPointer, at offset: UInt64
    ) throws(StoreError) {
        let wanted = offset..<offset + UInt64(target.count)
        let header = 0..<UInt64(SealedFormat.headerBytes)
        cipher.header.withBytes { Self.copy($0, of: header, to: target, of: wanted) }
        let chunks = (header.upperBound..<layout.footerOffset).clamped(to: wanted)
        if !chunks.isEmpty {
            var number = layout.chunk(atFileOffset: chunks.lowerBound)
            let last = layout.chunk(atFileOffset: chunks.upperBound - 1)
            while number <= last {
                var end = number
                while end <= last, end - number < Self.batchChunks,
                    wanted.contains(layout.fileRange(end))
                {
                    end += 1
                }
                if end > number {
                    let from = Int(layout.fileRange(number).lowerBound - offset)
                    let to = Int(layout.fileRange(end - 1).upperBound - offset)
                    try seal(
                        &state, number..<end,
                        into: UnsafeMutableRawBufferPointer(rebasing: target[from..<to]))
                    number = end
                } else {
                    let sealed = try chunk(&state, number)
                    Self.copy(
                        UnsafeRawBufferPointer(sealed.bytes), of: layout.fileRange(number),
                        to: target, of: wanted)
                    number += 1
                }
            }
        }
        guard wanted.upperBound > layout.footerOffset else { return }
        let footer = try end(&state).footer
        footer.withUnsafeBytes {
            Self.copy($0, of: layout.footerOffset..<layout.fileBytes, to: target, of: wanted)
        }
    }

    /// A chunk of which a part is wanted.
    private func chunk(_ state: inout State, _ number: UInt64) throws(StoreError) -> RawMemory {
        if let known = state.chunk, known.number == number { return known.sealed }
        let memory = RawMemory(count: layout.fileRange(number).count)
        try seal(&state, number..<number + 1, into: memory.bytes)
        state.chunk = (number, memory)
        return memory
    }

    /// Seals chunks into `target`, which has their size; those that follow what is hashed are.
    private func seal(
        _ state: inout State, _ numbers: Range<UInt64>, into target: UnsafeMutableRawBufferPointer
    ) throws(StoreError) {
        let start = layout.plainRange(numbers.lowerBound).lowerBound
        let end = layout.plainRange(numbers.upperBound - 1).upperBound
        let memory = RawMemory(count: Int(end - start))
        if memory.count > 0 { try plain.read(shipment.name, into: memory.bytes, at: start) }
        var position = 0
        for number in numbers {
            let range = layout.plainRange(number)
            let from = Int(range.lowerBound - start)
            let bytes = UnsafeRawBufferPointer(
                rebasing: memory.bytes[from..<from + range.count])
            let part = UnsafeMutableRawBufferPointer(
                rebasing: target[position..<position + range.count + SealedFormat.tagBytes])
            cipher.seal(
                chunk: number, isTail: number == layout.tailNumber, bytes, into: part)
            position += part.count
            guard number == state.hashed else { continue }
            state.digest.update(UnsafeRawBufferPointer(part))
            let covered =
                number == layout.tailNumber ? SegmentFooter.digestOffset : bytes.count
            state.plainDigest.update(
                bufferPointer: UnsafeRawBufferPointer(rebasing: bytes[..<covered]))
            state.hashed += 1
        }
    }

    /// The footer, and the digest in it; what was not read front to back is sealed for it now.
    private func end(
        _ state: inout State
    ) throws(StoreError) -> (footer: [UInt8], digest: SegmentDigest) {
        if let known = state.end { return known }
        if state.hashed < layout.chunkCount {
            let memory = RawMemory(count: SealedFormat.chunkBytes + SealedFormat.tagBytes)
            while state.hashed < layout.chunkCount {
                let number = state.hashed
                let count = layout.fileRange(number).count
                try seal(
                    &state, number..<number + 1,
                    into: UnsafeMutableRawBufferPointer(rebasing: memory.bytes[..<count]))
            }
        }
        let found = state.plainDigest.finalize().withUnsafeBytes {
            SegmentDigest($0.baseAddress!)
        }
        guard found == plainDigest else {
            throw StoreError(.read, "\(shipment.name)", .damaged(.checksum(.digest)))
        }
        var digest = state.digest
        let (footer, sum) = cipher.footer(shipment.label, over: &digest)
        state.end = (footer, sum)
        return (footer, sum)
    }

    /// Copies what `source`, the bytes of `range`, has of `wanted`.
    private static func copy(
        _ source: UnsafeRawBufferPointer, of range: Range<UInt64>,
        to target: UnsafeMutableRawBufferPointer, of wanted: Range<UInt64>
    ) {
        let both = range.clamped(to: wanted)
        guard !both.isEmpty else { return }
        let from = Int(both.lowerBound - range.lowerBound)
        let to = Int(both.lowerBound - wanted.lowerBound)
        UnsafeMutableRawBufferPointer(rebasing: target[to...]).copyMemory(
            from: UnsafeRawBufferPointer(rebasing: source[from..<from + both.count]))
    }
}

/// Memory of the caller, handed into a lock.
private struct SharedMemory: @unchecked Sendable {
    // @unchecked: the caller waits until the call that it is handed into returns.
    let bytes: UnsafeMutableRawBufferPointer

    init(_ bytes: UnsafeMutableRawBufferPointer) { self.bytes = bytes }
}
