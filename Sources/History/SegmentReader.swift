// Reads one segment of a store: the tail first, then only what is asked for. Every byte that it
// hands out was checked (rules 1 to 7 of SegmentFormat.swift).

import BlockModel
import LogFormat

/// An open segment; immutable. Any thread may call.
public final class SegmentReader: Sendable {
    public let name: SegmentName
    public let footer: SegmentFooter
    public let table: SegmentBlockTable
    private let store: any SegmentStore

    /// Reads the footer alone: 256 bytes.
    public static func footer(
        of segment: StoredSegment, in store: any SegmentStore
    ) throws(HistoryError) -> SegmentFooter {
        let size = SegmentFormat.footerBytes
        guard segment.byteCount >= SegmentFormat.fileBytesMin else {
            throw .damaged(segment.name, .notASegment)
        }
        let memory = RawMemory(count: size)
        do throws(StoreError) {
            try store.read(
                segment.name, into: memory.bytes, at: segment.byteCount - UInt64(size))
        } catch { throw HistoryError(reading: segment.name, error) }
        let tail = UnsafeRawBufferPointer(memory.bytes)
        do throws(SegmentError) {
            return try SegmentFooter.decode(tail, fileBytes: segment.byteCount)
        } catch {
            if SealedFormat.isSealed(tail: tail) {
                throw .store(StoreError(.read, "\(segment.name)", .needsKey))
            }
            throw .damaged(segment.name, error)
        }
    }

    /// Reads the block table of a segment whose footer is known.
    public init(
        _ name: SegmentName, footer: SegmentFooter, in store: any SegmentStore
    ) throws(HistoryError) {
        self.name = name
        self.footer = footer
        self.store = store
        let memory = RawMemory(count: footer.tableBytes)
        do throws(StoreError) {
            if footer.tableBytes > 0 {
                try store.read(name, into: memory.bytes, at: footer.tableOffset)
            }
        } catch { throw HistoryError(reading: name, error) }
        do throws(SegmentError) {
            table = try SegmentBlockTable(UnsafeRawBufferPointer(memory.bytes), of: footer)
        } catch { throw .damaged(name, error) }
    }

    /// Reads footer and table.
    public convenience init(
        _ segment: StoredSegment, in store: any SegmentStore
    ) throws(HistoryError) {
        try self.init(
            segment.name, footer: SegmentReader.footer(of: segment, in: store), in: store)
    }

    /// The index of a log or merged segment.
    public func recordIndex() throws(HistoryError) -> RecordIndex {
        let memory = try indexBytes()
        do throws(SegmentError) {
            return try RecordIndex(UnsafeRawBufferPointer(memory.bytes), of: footer)
        } catch { throw .damaged(name, error) }
    }

    /// The index of a snapshot.
    public func snapshotIndex() throws(HistoryError) -> SnapshotIndex {
        let memory = try indexBytes()
        do throws(SegmentError) {
            return try SnapshotIndex(UnsafeRawBufferPointer(memory.bytes), of: footer)
        } catch { throw .damaged(name, error) }
    }

    /// Decompresses block `number` into the first bytes of `target`, which has room for a block.
    public func readBlock(
        _ number: Int, into target: UnsafeMutableRawBufferPointer
    ) throws(HistoryError) {
        let block = table[number]
        let stored = RawMemory(count: block.storedBytes)
        try readStored(into: stored.bytes, at: block.storedOffset)
        try decode(block, UnsafeRawBufferPointer(stored.bytes), into: target)
    }

    /// Says to the store that these ranges of this segment will be read soon.
    func expect(_ ranges: [SegmentRange]) { store.expect(ranges) }

    func readStored(
        into target: UnsafeMutableRawBufferPointer, at offset: UInt64
    ) throws(HistoryError) {
        do throws(StoreError) {
            try store.read(name, into: target, at: offset)
        } catch { throw HistoryError(reading: name, error) }
    }

    func decode(
        _ block: SegmentBlock, _ stored: UnsafeRawBufferPointer,
        into target: UnsafeMutableRawBufferPointer
    ) throws(HistoryError) {
        do throws(SegmentError) {
            try block.decode(stored, into: target)
        } catch { throw .damaged(name, error) }
    }

    /// The whole index stream, decompressed.
    private func indexBytes() throws(HistoryError) -> RawMemory {
        // Rule 3 bounds this by 255 times the size of the file.
        let memory = RawMemory(count: Int(footer.indexBytes))
        let stored = RawMemory(count: Int(footer.indexStoredBytes))
        if stored.count > 0 { try readStored(into: stored.bytes, at: footer.indexOffset) }
        var (from, to) = (0, 0)
        for number in table.indexBlocks {
            let block = table[number]
            try decode(
                block,
                UnsafeRawBufferPointer(
                    rebasing: stored.bytes[from..<from + block.storedBytes]),
                into: UnsafeMutableRawBufferPointer(
                    rebasing: memory.bytes[to..<to + block.byteCount]))
            from += block.storedBytes
            to += block.byteCount
        }
        return memory
    }
}

/// Plain memory with one owner. Not synchronised.
final class RawMemory: @unchecked Sendable {
    // @unchecked: the pointer never changes; what it points at is ordered by whoever shares it.
    let bytes: UnsafeMutableRawBufferPointer

    init(count: Int) {
        bytes = .allocate(byteCount: count, alignment: 16)
    }

    deinit { bytes.deallocate() }

    var count: Int { bytes.count }
}
