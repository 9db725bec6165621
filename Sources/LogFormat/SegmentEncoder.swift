// Writes a segment front to back (layout: head of SegmentFormat.swift). Memory: three blocks, the
// compressed index and the block table; the data goes out block by block. Pure: bytes leave by
// `emit`; who gave it makes the file. One thread.

import BlockModel
import CLinux
import Crypto

/// A streaming encoder. `Failure` is what `emit` throws; after a throw the encoder is of no use.
public final class SegmentEncoder<Failure: Error> {
    public typealias Emit = (UnsafeRawBufferPointer) throws(Failure) -> Void

    public let header: SegmentHeader
    /// Length of the data stream so far.
    public private(set) var dataBytes: UInt64 = 0
    public private(set) var entryCount: UInt64 = 0
    /// Stamp of the record appended last; the header's first stamp before any.
    public private(set) var last: Stamp

    private var flushCount: UInt32 = 0
    private var markCount: UInt32 = 0
    private let emitBytes: Emit
    private let coder: SegmentBlockCoder
    private let headerCRC: UInt32
    private var digest = SHA256()
    private let data: BlockBuffer
    private let index: BlockBuffer
    private var names: [UInt8] = []
    private var dataTable: [UInt8] = []
    private var dataStoredBytes: UInt64 = 0
    private var indexTable: [UInt8] = []
    private var indexStored: [UInt8] = []
    private var indexBytes: UInt64 = 0

    /// Emits the header.
    public init(header: SegmentHeader, emit: @escaping Emit) throws(Failure) {
        self.header = header
        last = header.first
        emitBytes = emit
        coder = SegmentBlockCoder(blockBytes: header.blockBytes)
        data = BlockBuffer(count: header.blockBytes)
        index = BlockBuffer(count: header.blockBytes)
        headerCRC = header.encode(to: data.base)
        try send(UnsafeRawBufferPointer(start: data.base, count: SegmentFormat.headerBytes))
    }

    /// Appends a record of a log or merged segment: LSNs and times as rule 6 wants them, extent
    /// inside the volume, payload of the length that the header says and with its checksum.
    public func append(_ record: LogRecord) throws(Failure) {
        let header = record.header
        precondition(self.header.kind != .snapshot && header.kind != .pad)
        precondition(record.payload.count == header.payloadBytes)
        putEntry(
            header.stamp.lsn.rawValue, UInt64(bitPattern: header.stamp.wallNanoseconds),
            header.extent.start, header.extent.count | UInt64(header.kind.rawValue) << 56,
            UInt64(header.payloadBytes) | UInt64(header.payloadCRC) << 32)
        last = header.stamp
        entryCount += 1
        switch header.kind {
        case .write: try putData(record.payload)
        case .mark:
            names.append(contentsOf: record.payload)
            markCount += 1
        case .flush: flushCount += 1
        default: break
        }
    }

    /// Opens the next run of a snapshot; its bytes follow through `appendData`.
    public func beginExtent(_ extent: Extent) {
        precondition(header.kind == .snapshot && extent.count > 0)
        putEntry(extent.start, extent.count)
        entryCount += 1
    }

    /// Appends bytes of the runs of a snapshot, in any portions; runs may be announced later, but
    /// before `finish` all announced bytes must have come.
    public func appendData(_ bytes: UnsafeRawBufferPointer) throws(Failure) {
        precondition(header.kind == .snapshot)
        try putData(bytes)
    }

    /// Emits index, table and footer. `last` is the greatest stamp (of merged segments it can be
    /// above the last record's).
    public func finish(last: Stamp? = nil) throws(Failure) -> SegmentFooter {
        names.withUnsafeBytes { putIndex($0) }
        try flushData()
        flushIndex()
        let tables = dataTable + indexTable
        var footer = SegmentFooter(
            header: header, headerCRC: headerCRC, last: last ?? self.last,
            dataStoredBytes: dataStoredBytes, dataBytes: dataBytes,
            indexStoredBytes: UInt64(indexStored.count), indexBytes: indexBytes,
            entryCount: entryCount, flushCount: flushCount, markCount: markCount,
            tableCRC: tables.withUnsafeBytes {
                $0.count == 0 ? 0 : clinux_crc32c(0, $0.baseAddress!, $0.count)
            }, digest: .none)
        try send(indexStored)
        try send(tables)
        let base = data.base
        footer.encodeBeforeDigest(to: base)
        digest.update(
            bufferPointer: UnsafeRawBufferPointer(start: base, count: SegmentFooter.digestOffset))
        footer.digest = digest.finalize().withUnsafeBytes { SegmentDigest($0.baseAddress!) }
        SegmentFooter.seal(base, digest: footer.digest)
        try emitBytes(UnsafeRawBufferPointer(start: base, count: SegmentFormat.footerBytes))
        return footer
    }

    // MARK: - Streams

    /// Appends an entry: five words (record) or the first two (extent).
    private func putEntry(
        _ a: UInt64, _ b: UInt64, _ c: UInt64 = 0, _ d: UInt64 = 0, _ e: UInt64 = 0
    ) {
        let words = (
            a.littleEndian, b.littleEndian, c.littleEndian, d.littleEndian, e.littleEndian
        )
        let count =
            header.kind == .snapshot
            ? SegmentFormat.extentEntryBytes : SegmentFormat.recordEntryBytes
        withUnsafeBytes(of: words) { putIndex(UnsafeRawBufferPointer(rebasing: $0[..<count])) }
    }

    private func putData(_ bytes: UnsafeRawBufferPointer) throws(Failure) {
        dataBytes += UInt64(bytes.count)
        var rest = bytes
        while rest.count > 0 {
            rest = data.take(rest)
            if data.isFull { try flushData() }
        }
    }

    private func putIndex(_ bytes: UnsafeRawBufferPointer) {
        indexBytes += UInt64(bytes.count)
        var rest = bytes
        while rest.count > 0 {
            rest = index.take(rest)
            if index.isFull { flushIndex() }
        }
    }

    private func flushData() throws(Failure) {
        guard data.fill > 0 else { return }
        let number = dataTable.count / SegmentFormat.tableEntryBytes
        let (stored, isRaw) = coder.encode(data.filled)
        Self.note(
            stored.count, isRaw, data.filled, SegmentBlockTable.seed(headerCRC, number), &dataTable)
        dataStoredBytes += UInt64(stored.count)
        try send(stored)
        data.fill = 0
    }

    private func flushIndex() {
        guard index.fill > 0 else { return }
        let number = indexTable.count / SegmentFormat.tableEntryBytes
        let (stored, isRaw) = coder.encode(index.filled)
        Self.note(
            stored.count, isRaw, index.filled,
            SegmentBlockTable.seed(headerCRC, number, isIndex: true), &indexTable)
        indexStored.append(contentsOf: stored)
        index.fill = 0
    }

    private static func note(
        _ storedBytes: Int, _ isRaw: Bool, _ plain: UnsafeRawBufferPointer, _ seed: UInt32,
        _ table: inout [UInt8]
    ) {
        let stored = UInt32(storedBytes) | (isRaw ? SegmentBlockTable.rawFlag : 0)
        let crc = clinux_crc32c(seed, plain.baseAddress!, plain.count)
        withUnsafeBytes(of: (UInt64(stored) | UInt64(crc) << 32).littleEndian) {
            table.append(contentsOf: $0)
        }
    }

    private func send(_ bytes: UnsafeRawBufferPointer) throws(Failure) {
        guard bytes.count > 0 else { return }
        digest.update(bufferPointer: bytes)
        try emitBytes(bytes)
    }

    private func send(_ bytes: [UInt8]) throws(Failure) {
        var failure: Failure?
        bytes.withUnsafeBytes { bytes in
            do throws(Failure) { try send(bytes) } catch { failure = error }
        }
        if let failure { throw failure }
    }
}

/// One block being filled.
private final class BlockBuffer {
    private let memory: UnsafeMutableRawBufferPointer
    var fill = 0

    init(count: Int) {
        memory = .allocate(byteCount: count, alignment: 4096)
    }

    deinit { memory.deallocate() }

    var base: UnsafeMutableRawPointer { memory.baseAddress! }
    var isFull: Bool { fill == memory.count }
    var filled: UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: memory[..<fill]) }

    /// Copies what fits; returns what does not.
    func take(_ bytes: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer {
        let count = min(bytes.count, memory.count - fill)
        if count > 0 { (base + fill).copyMemory(from: bytes.baseAddress!, byteCount: count) }
        fill += count
        return UnsafeRawBufferPointer(rebasing: bytes[count...])
    }
}
