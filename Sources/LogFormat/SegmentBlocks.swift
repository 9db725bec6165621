// Blocks of a segment and their table: compression, checksums, places. Pure and total; LZ4 is only
// ever called with the exact bounds of both buffers, so bad bytes end in an error.

import CLZ4
import CLinux

/// Where one block lies in the file and what it must decompress to.
public struct SegmentBlock: Hashable, Sendable {
    public var number: Int
    /// Byte offset in the file.
    public var storedOffset: UInt64
    /// Bytes in the file.
    public var storedBytes: Int
    /// Bytes after decompression.
    public var byteCount: Int
    public var isRaw: Bool
    var crc: UInt32
    var part: SegmentPart

    /// Decompresses `stored` into the first `byteCount` bytes of `target` and checks them (rule 5).
    /// On an error `target` holds rubbish.
    public func decode(
        _ stored: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer
    ) throws(SegmentError) {
        precondition(stored.count == storedBytes && target.count >= byteCount)
        guard let source = stored.baseAddress, let base = target.baseAddress else {
            throw .checksum(part, block: number)
        }
        if isRaw {
            base.copyMemory(from: source, byteCount: byteCount)
        } else {
            let count = LZ4_decompress_safe(
                source.assumingMemoryBound(to: CChar.self),
                base.assumingMemoryBound(to: CChar.self), Int32(storedBytes), Int32(byteCount))
            guard Int(count) == byteCount else { throw .checksum(part, block: number) }
        }
        try check(UnsafeRawBufferPointer(start: base, count: byteCount))
    }

    /// Checks uncompressed bytes; for blocks stored raw that were read into place.
    public func check(_ bytes: UnsafeRawBufferPointer) throws(SegmentError) {
        guard let base = bytes.baseAddress, clinux_crc32c(seed, base, bytes.count) == crc else {
            throw .checksum(part, block: number)
        }
    }

    var seed: UInt32
}

/// The block table of one segment. 16 bytes of memory per block.
public struct SegmentBlockTable: Sendable {
    private struct Entry {
        /// Offset in the file.
        var offset: UInt64
        /// As on disk: bytes in the file, bit 31 for raw.
        var stored: UInt32
        var crc: UInt32
    }
    private let entries: [Entry]
    private let dataBlockCount: Int
    private let blockBytes: Int
    private let dataBytes: UInt64
    private let indexBytes: UInt64
    private let headerCRC: UInt32

    static let rawFlag: UInt32 = 1 << 31

    /// Reads the table (rule 4) from its `footer.tableBytes` bytes.
    public init(
        _ source: UnsafeRawBufferPointer, of footer: SegmentFooter
    ) throws(SegmentError) {
        guard source.count == footer.tableBytes else { throw .malformed(.table, rule: 3) }
        if let base = source.baseAddress, source.count > 0 {
            guard clinux_crc32c(0, base, source.count) == footer.tableCRC else {
                throw .checksum(.table)
            }
        }
        dataBlockCount = footer.dataBlockCount
        blockBytes = footer.header.blockBytes
        dataBytes = footer.dataBytes
        indexBytes = footer.indexBytes
        headerCRC = footer.headerCRC
        let count = dataBlockCount + footer.indexBlockCount
        var entries: [Entry] = []
        entries.reserveCapacity(count)
        var offset = footer.dataOffset
        for number in 0..<count {
            if number == dataBlockCount, offset != footer.indexOffset {
                throw .malformed(.table, rule: 4)
            }
            let base = source.baseAddress! + number * SegmentFormat.tableEntryBytes
            let stored = base.load(0, as: UInt32.self)
            let bytes = Int(stored & ~Self.rawFlag)
            let length = Self.length(
                number, dataBlockCount, blockBytes, dataBytes, indexBytes)
            let isRaw = stored & Self.rawFlag != 0
            guard isRaw ? bytes == length : bytes > 0 && bytes < length else {
                throw .malformed(.table, rule: 4)
            }
            entries.append(
                Entry(offset: offset, stored: stored, crc: base.load(4, as: UInt32.self)))
            offset += UInt64(bytes)
        }
        guard offset == footer.tableOffset,
            count > dataBlockCount || footer.indexStoredBytes == 0
        else { throw .malformed(.table, rule: 4) }
        self.entries = entries
    }

    /// Number of blocks of both streams.
    public var count: Int { entries.count }
    public var dataBlocks: Range<Int> { 0..<dataBlockCount }
    public var indexBlocks: Range<Int> { dataBlockCount..<entries.count }

    /// Block `number`; traps outside 0 ..< count.
    public subscript(number: Int) -> SegmentBlock {
        let entry = entries[number]
        return SegmentBlock(
            number: number, storedOffset: entry.offset,
            storedBytes: Int(entry.stored & ~Self.rawFlag),
            byteCount: Self.length(number, dataBlockCount, blockBytes, dataBytes, indexBytes),
            isRaw: entry.stored & Self.rawFlag != 0, crc: entry.crc,
            part: number < dataBlockCount ? .data : .index,
            seed: number < dataBlockCount
                ? Self.seed(headerCRC, number)
                : Self.seed(headerCRC, number - dataBlockCount, isIndex: true))
    }

    /// What the checksum of block `number` of its stream continues from.
    static func seed(_ headerCRC: UInt32, _ number: Int, isIndex: Bool = false) -> UInt32 {
        headerCRC &+ UInt32(truncatingIfNeeded: number) &+ (isIndex ? 1 << 31 : 0)
    }

    private static func length(
        _ number: Int, _ dataBlockCount: Int, _ blockBytes: Int, _ dataBytes: UInt64,
        _ indexBytes: UInt64
    ) -> Int {
        let isData = number < dataBlockCount
        let start = UInt64(isData ? number : number - dataBlockCount) * UInt64(blockBytes)
        return Int(min(UInt64(blockBytes), (isData ? dataBytes : indexBytes) - start))
    }
}

/// Compresses blocks, one at a time, in memory that it keeps.
final class SegmentBlockCoder {
    private let output: UnsafeMutableRawBufferPointer

    init(blockBytes: Int) {
        output = .allocate(byteCount: blockBytes, alignment: 16)
    }

    deinit { output.deallocate() }

    /// What to store for `block`: compressed bytes in the coder's own memory, valid until the next
    /// call, or `block` itself where compression saves less than 1/16.
    func encode(_ block: UnsafeRawBufferPointer) -> (bytes: UnsafeRawBufferPointer, isRaw: Bool) {
        let limit = block.count - block.count / 16 - 1
        let count =
            limit <= 0
            ? 0
            : LZ4_compress_default(
                block.baseAddress!.assumingMemoryBound(to: CChar.self),
                output.baseAddress!.assumingMemoryBound(to: CChar.self), Int32(block.count),
                Int32(limit))
        guard count > 0 else { return (block, true) }
        return (UnsafeRawBufferPointer(rebasing: output[..<Int(count)]), false)
    }
}
