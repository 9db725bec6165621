// What can be known of a sealed segment without its key: its footer, read and held against the
// segment's name. A server checks what comes with it and prunes by it.

import BlockModel
import LogFormat

/// Reads the clear parts of sealed segments.
public enum SealedSegment {
    /// Reads the footer alone, 384 bytes, and checks rules 1 to 3 of SealedFormat.swift and that it
    /// tells of a segment of this name. Not whether the bytes at offset 0 are its header.
    public static func footer(
        of segment: StoredSegment, in store: any SegmentStore
    ) throws(HistoryError) -> SealedFooter {
        let size = SealedFormat.footerBytes
        guard segment.byteCount >= UInt64(size) else {
            throw .damaged(segment.name, .sealed(.notSealed))
        }
        let memory = RawMemory(count: size)
        do throws(StoreError) {
            try store.read(
                segment.name, into: memory.bytes, at: segment.byteCount - UInt64(size))
        } catch { throw .store(error) }
        do throws(SealedError) {
            let footer = try SealedFooter.decode(
                UnsafeRawBufferPointer(memory.bytes), fileBytes: segment.byteCount)
            guard footer.label.name == segment.name else { throw .misplaced }
            return footer
        } catch { throw .damaged(segment.name, .sealed(error)) }
    }

    /// Reads all of a container and checks rules 1 to 4: that storage has kept it as it came. Who
    /// changed it on purpose could pass; only the key tells that. `advance` hears of bytes read and
    /// may end it by throwing.
    public static func verify(
        _ segment: StoredSegment, in store: any SegmentStore,
        advance: (Int) throws(HistoryError) -> Void = { _ throws(HistoryError) in }
    ) throws(HistoryError) {
        let footer = try footer(of: segment, in: store)
        let end = footer.layout.footerOffset + UInt64(SealedFormat.digestOffset)
        let memory = RawMemory(count: 1 << 20)
        var digest = SealedDigest()
        var position: UInt64 = 0
        while position < end {
            let part = UnsafeMutableRawBufferPointer(
                rebasing: memory.bytes[..<Int(min(end - position, UInt64(memory.count)))])
            do throws(StoreError) {
                try store.read(segment.name, into: part, at: position)
            } catch { throw HistoryError(reading: segment.name, error) }
            let bytes = UnsafeRawBufferPointer(part)
            if position == 0, !footer.header.isAt(start: bytes) {
                throw .damaged(segment.name, .sealed(.malformed(.header, rule: 4)))
            }
            digest.update(bytes)
            position += UInt64(part.count)
            try advance(part.count)
        }
        guard digest.finalize() == footer.digest else {
            throw .damaged(segment.name, .sealed(.checksum(.digest)))
        }
    }
}

extension SealedLabel {
    /// The name that the segment must have.
    public var name: SegmentName {
        SegmentName(first: first.lsn, last: last.lsn, kind: kind)
    }
}

extension CataloguedSegment {
    /// A stand-in for a segment of which only the footer of its container is known: name, stamps,
    /// volume and the links of the chain are right, with chain ids in the place of digests; there
    /// is nothing to be read with it. nil: the content is no segment.
    public init?(sealed footer: SealedFooter) {
        let label = footer.label
        guard let content = label.content else { return nil }
        let link = label.kind == .merged ? content.chainID : content.predecessorID
        let header = SegmentHeader(
            kind: label.kind, volume: content.volume, epoch: content.epoch,
            volumeBytes: content.volumeBytes, first: label.first, predecessor: link ?? .none)
        self.init(
            name: label.name,
            footer: SegmentFooter(
                standingIn: header, last: label.last, digest: content.chainID ?? .none))
    }
}
