// Writes one merged segment: of the records of an interval only what is visible at its end, in LSN
// order, with the flush or mark that is its end. Only blocks with visible bytes are read; each
// payload is checked end to end before a part of it gets a checksum of its own. Memory: the
// indexes of the sources and the pieces (bounded by the plan), and a few blocks.

import BlockModel
import LogFormat

/// One merge. One thread.
final class MergeWriter {
    private let merge: RetentionPlan.Merge
    private let store: any SegmentStore
    private let advance: (Int) throws(HistoryError) -> Void
    private var indexes: [RecordIndex] = []
    private var entries: [ArraySlice<SegmentEntry>] = []
    private var pieces: [NewestPart] = []
    private let payload: RawMemory

    /// Reads the indexes. `advance` hears of every byte of data that is read.
    init(
        _ merge: RetentionPlan.Merge, in store: any SegmentStore,
        advance: @escaping (Int) throws(HistoryError) -> Void
    ) throws(HistoryError) {
        self.merge = merge
        self.store = store
        self.advance = advance
        var extents: [Extent] = []
        for source in merge.sources {
            let segment = source.segment
            let index = try SegmentReader(segment.name, footer: segment.footer, in: store)
                .recordIndex()
            let low = index.entries.partitioningIndex { $0.stamp.lsn >= source.first.lsn }
            let high = index.entries.partitioningIndex { $0.stamp.lsn > source.last.lsn }
            indexes.append(index)
            entries.append(index.entries[low..<high])
            extents += index.entries[low..<high].map {
                $0.kind.changesSectors ? $0.extent : Extent(start: 0, count: 0)
            }
        }
        pieces = newestParts(extents)
        let longest = entries.joined().lazy.filter { $0.kind == .write }.map(\.payloadBytes).max()
        payload = RawMemory(count: Int(longest ?? 0))
    }

    /// Bytes of payload that the merged segment will hold.
    var visibleBytes: UInt64 {
        var sum: UInt64 = 0
        forEachEntry { _, entry, pieces in
            if entry.kind == .write { sum += pieces.reduce(0) { $0 + $1.extent.byteCount } }
        }
        return sum
    }

    /// Writes it into `target`, or beside its sources; nothing is left when it throws.
    func write(into target: (any SegmentStore)? = nil) throws(HistoryError) -> CataloguedSegment {
        let last = merge.sources[merge.sources.count - 1]
        let header = last.segment.footer.header
        let endsLog = last.last.lsn == last.segment.last.lsn
        let output = try OpenSegment(
            header: SegmentHeader(
                kind: .merged, volume: header.volume, epoch: header.epoch,
                volumeBytes: header.volumeBytes, first: merge.first,
                predecessor: endsLog ? last.segment.chainDigest ?? .none : .none,
                blockBytes: header.blockBytes),
            in: target ?? store)
        var stream: PayloadStream?
        var current = -1
        try forEachEntry { (source, entry, pieces) throws(HistoryError) in
            if entry.kind == .write, current != source {
                let segment = merge.sources[source].segment
                stream = PayloadStream(
                    try SegmentReader(segment.name, footer: segment.footer, in: store), advance)
                current = source
            }
            try put(entry, pieces, of: source, stream, into: output)
        }
        let (name, footer) = try output.commit(last: merge.last)
        return CataloguedSegment(name: name, footer: footer)
    }

    /// Gives what the merged segment holds, in LSN order.
    private func forEachEntry<Failure: Error>(
        _ body: (Int, SegmentEntry, ArraySlice<NewestPart>) throws(Failure) -> Void
    ) throws(Failure) {
        var record = 0
        var next = 0
        for source in entries.indices {
            for entry in entries[source] {
                var end = next
                while end < pieces.count, pieces[end].record == record { end += 1 }
                let isEnd = entry.stamp.lsn == merge.last.lsn && !entry.kind.changesSectors
                if end > next || isEnd { try body(source, entry, pieces[next..<end]) }
                (next, record) = (end, record + 1)
            }
        }
    }

    private func put(
        _ entry: SegmentEntry, _ pieces: ArraySlice<NewestPart>, of source: Int,
        _ stream: PayloadStream?, into output: OpenSegment
    ) throws(HistoryError) {
        func append(
            _ extent: Extent, _ bytes: UnsafeRawBufferPointer, _ crc: UInt32
        ) throws(HistoryError) {
            try output.append(
                LogRecord(
                    header: RecordHeader(
                        stamp: entry.stamp, kind: entry.kind, extent: extent,
                        payloadBytes: bytes.count, payloadCRC: crc), payload: bytes))
        }
        let nothing = UnsafeRawBufferPointer(start: nil, count: 0)
        switch entry.kind {
        case .write:
            guard let stream else { preconditionFailure("a write without its stream") }
            let count = Int(entry.payloadBytes)
            let whole = UnsafeMutableRawBufferPointer(rebasing: payload.bytes[..<count])
            try stream.read(into: whole, at: entry.payloadOffset)
            guard Checksum.crc32c(UnsafeRawBufferPointer(whole)) == entry.payloadCRC else {
                throw .damaged(stream.reader.name, .payload(entry.stamp.lsn))
            }
            for piece in pieces {
                let start = Int((piece.extent.start - entry.extent.start) << Sector.shift)
                let bytes = UnsafeRawBufferPointer(
                    rebasing: whole[start..<start + Int(piece.extent.byteCount)])
                let isWhole = bytes.count == count
                try append(
                    piece.extent, bytes, isWhole ? entry.payloadCRC : Checksum.crc32c(bytes))
            }
        case .zero, .discard:
            for piece in pieces { try append(piece.extent, nothing, 0) }
        case .flush: try append(entry.extent, nothing, 0)
        case .mark:
            let name = Array(indexes[source].nameBytes(of: entry))
            var failure: HistoryError?
            name.withUnsafeBytes { bytes in
                do throws(HistoryError) {
                    try append(entry.extent, bytes, entry.payloadCRC)
                } catch { failure = error }
            }
            if let failure { throw failure }
        case .pad: preconditionFailure("segments hold no pads")
        }
    }
}

/// The data stream of a segment, read forward, a block at a time. One thread.
private final class PayloadStream {
    let reader: SegmentReader
    private let advance: (Int) throws(HistoryError) -> Void
    private let block: RawMemory
    private var number = -1

    init(_ reader: SegmentReader, _ advance: @escaping (Int) throws(HistoryError) -> Void) {
        self.reader = reader
        self.advance = advance
        block = RawMemory(count: reader.footer.header.blockBytes)
    }

    func read(
        into target: UnsafeMutableRawBufferPointer, at offset: UInt64
    ) throws(HistoryError) {
        var done = 0
        while done < target.count {
            let position = offset + UInt64(done)
            let wanted = Int(position / UInt64(block.count))
            if wanted != number {
                number = -1  // what is there is rubbish while it is read
                try reader.readBlock(wanted, into: block.bytes)
                number = wanted
                try advance(reader.table[wanted].byteCount)
            }
            let within = Int(position % UInt64(block.count))
            let count = min(target.count - done, reader.table[number].byteCount - within)
            (target.baseAddress! + done).copyMemory(
                from: block.bytes.baseAddress! + within, byteCount: count)
            done += count
        }
    }
}
