// Reads every byte of one segment and checks all nine rules of SegmentFormat.swift.

import BlockModel
import Crypto
import LogFormat

/// Damage found in a segment.
public struct SegmentDamage: Hashable, Sendable {
    public var error: SegmentError
    /// The records whose bytes it makes unusable; nil where it costs no record.
    public var first: LSN?
    public var last: LSN?

    public init(error: SegmentError, first: LSN? = nil, last: LSN? = nil) {
        self.error = error
        self.first = first
        self.last = last
    }
}

/// The verdict on one segment.
public struct SegmentVerdict: Sendable {
    public var name: SegmentName
    public var byteCount: UInt64
    /// Why it cannot be used at all: tail, table or index are not valid, it is of another volume.
    public var unusable: HistoryGap.Reason?
    /// Damage to some of its bytes, in LSN order; at most one entry for each block and record.
    public var damages: [SegmentDamage]
    public var recordCount: UInt64

    public var isSound: Bool { unusable == nil && damages.isEmpty }
}

/// One pass over one segment. One thread.
final class SegmentVerifier {
    private let reader: SegmentReader
    private let store: any SegmentStore
    private let advance: (Int) throws(HistoryError) -> Void
    private var digest = SHA256()
    private var damages: [SegmentDamage] = []
    private static let readBytesMax = 2 << 20

    init(
        _ segment: CataloguedSegment, in store: any SegmentStore,
        advance: @escaping (Int) throws(HistoryError) -> Void
    ) throws(HistoryError) {
        reader = try SegmentReader(segment.name, footer: segment.footer, in: store)
        self.store = store
        self.advance = advance
    }

    /// Damage that leaves the rest usable. Throws `.damaged` where nothing is.
    func run() throws(HistoryError) -> [SegmentDamage] {
        let footer = reader.footer
        let isSnapshot = footer.header.kind == .snapshot
        let entries = isSnapshot ? [] : try reader.recordIndex().entries
        if isSnapshot { _ = try reader.snapshotIndex() }
        try checkHeader()
        try checkData(PayloadCheck(entries: entries))
        try hashTail()
        let found = digest.finalize().withUnsafeBytes { SegmentDigest($0.baseAddress!) }
        if found != footer.digest, damages.isEmpty {
            damages.append(SegmentDamage(error: .checksum(.digest)))
        }
        return damages
    }

    private func checkHeader() throws(HistoryError) {
        let memory = RawMemory(count: SegmentFormat.headerBytes)
        try reader.readStored(into: memory.bytes, at: 0)
        digest.update(bufferPointer: UnsafeRawBufferPointer(memory.bytes))
        do throws(SegmentError) {
            let header = try SegmentHeader.decode(UnsafeRawBufferPointer(memory.bytes))
            if header != reader.footer.header { throw .malformed(.header, rule: 8) }
        } catch {
            damages.append(SegmentDamage(error: error))
        }
    }

    /// Decompresses every data block; `payloads` sees the stream.
    private func checkData(_ payloads: PayloadCheck) throws(HistoryError) {
        let blocks = reader.table.dataBlocks
        let plain = RawMemory(count: reader.footer.header.blockBytes)
        var next = blocks.lowerBound
        while next < blocks.upperBound {
            let start = reader.table[next].storedOffset
            var (end, count) = (next, 0)
            while end < blocks.upperBound {
                let bytes = reader.table[end].storedBytes
                if count > 0, count + bytes > Self.readBytesMax { break }
                (end, count) = (end + 1, count + bytes)
            }
            let stored = RawMemory(count: count)
            try reader.readStored(into: stored.bytes, at: start)
            digest.update(bufferPointer: UnsafeRawBufferPointer(stored.bytes))
            for number in next..<end {
                let block = reader.table[number]
                let from = Int(block.storedOffset - start)
                let bytes = UnsafeRawBufferPointer(
                    rebasing: stored.bytes[from..<from + block.storedBytes])
                do throws(SegmentError) {
                    try block.decode(bytes, into: plain.bytes)
                    damages += payloads.take(
                        UnsafeRawBufferPointer(rebasing: plain.bytes[..<block.byteCount]))
                } catch {
                    damages.append(payloads.skip(block.byteCount, error, reader.footer))
                }
            }
            next = end
            try advance(count)
        }
    }

    /// Hashes index, table and the footer's bytes under the digest.
    private func hashTail() throws(HistoryError) {
        let footer = reader.footer
        var position = footer.indexOffset
        let end = footer.footerOffset + UInt64(SegmentFooter.digestOffset)
        let memory = RawMemory(count: Self.readBytesMax)
        while position < end {
            let bytes = UnsafeMutableRawBufferPointer(
                rebasing: memory.bytes[..<Int(min(UInt64(memory.count), end - position))])
            try reader.readStored(into: bytes, at: position)
            digest.update(bufferPointer: UnsafeRawBufferPointer(bytes))
            position += UInt64(bytes.count)
            try advance(bytes.count)
        }
    }
}

/// Follows the data stream record by record and checks each payload end to end (rule 9).
private final class PayloadCheck {
    private let writes: [SegmentEntry]
    private var index = 0
    private var position: UInt64 = 0
    private var crc: UInt32 = 0
    /// Whether bytes of the current record were lost with a bad block.
    private var isBroken = false

    init(entries: [SegmentEntry]) { writes = entries.filter { $0.kind == .write } }

    /// Goes on through `bytes`; returns the records whose payload is wrong.
    func take(_ bytes: UnsafeRawBufferPointer) -> [SegmentDamage] {
        var found: [SegmentDamage] = []
        var done = 0
        while done < bytes.count, index < writes.count {
            let entry = writes[index]
            let end = entry.payloadOffset + UInt64(entry.payloadBytes)
            let count = min(bytes.count - done, Int(end - position))
            crc = Checksum.crc32c(
                UnsafeRawBufferPointer(rebasing: bytes[done..<done + count]), continuing: crc)
            done += count
            position += UInt64(count)
            guard position == end else { break }
            if crc != entry.payloadCRC, !isBroken {
                let lsn = entry.stamp.lsn
                found.append(SegmentDamage(error: .payload(lsn), first: lsn, last: lsn))
            }
            nextRecord()
        }
        return found
    }

    /// Leaves out a bad block; the damage names the records that lie in it.
    func skip(_ count: Int, _ error: SegmentError, _ footer: SegmentFooter) -> SegmentDamage {
        guard !writes.isEmpty else {
            return SegmentDamage(
                error: error, first: footer.header.first.lsn, last: footer.last.lsn)
        }
        var damage = SegmentDamage(error: error)
        let end = position + UInt64(count)
        while index < writes.count, writes[index].payloadOffset < end {
            damage.first = damage.first ?? writes[index].stamp.lsn
            damage.last = writes[index].stamp.lsn
            isBroken = true
            if writes[index].payloadOffset + UInt64(writes[index].payloadBytes) > end { break }
            nextRecord()
        }
        position = end
        return damage
    }

    private func nextRecord() {
        index += 1
        crc = 0
        isBroken = false
    }
}
