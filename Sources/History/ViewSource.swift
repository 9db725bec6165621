// Where the bytes of a view come from.

import BlockModel
import LogFormat

/// One segment, or the records that are not in segments yet.
enum ViewSource: Sendable {
    case segment(SegmentReader)
    case tail(TailIndex, any TailLog)
    /// Nothing of it is visible.
    case unused

    /// Fills `target` with the bytes at `offset` of the data stream.
    func read(
        into target: UnsafeMutableRawBufferPointer, at offset: UInt64, source: Int,
        cache: BlockCache
    ) throws(HistoryError) {
        switch self {
        case .segment(let reader):
            try Self.read(reader, into: target, at: offset, source: source, cache: cache)
        case .tail(let tail, let log):
            try Self.read(tail, log, into: target, at: offset)
        case .unused: preconditionFailure("an extent points at a source without extents")
        }
    }

    private static func read(
        _ reader: SegmentReader, into target: UnsafeMutableRawBufferPointer, at offset: UInt64,
        source: Int, cache: BlockCache
    ) throws(HistoryError) {
        let blockBytes = UInt64(reader.footer.header.blockBytes)
        var done = 0
        while done < target.count {
            let position = offset + UInt64(done)
            let number = Int(position / blockBytes)
            let within = Int(position % blockBytes)
            let block = reader.table[number]
            let count = min(target.count - done, block.byteCount - within)
            let piece = UnsafeMutableRawBufferPointer(rebasing: target[done..<done + count])
            let key = BlockCache.Key(source: source, number: number)
            if block.isRaw {
                try read(block, of: reader, from: within, into: piece, key, cache)
            } else {
                let memory = try cache.block(key) { () throws(HistoryError) in
                    let memory = RawMemory(count: block.byteCount)
                    try reader.readBlock(number, into: memory.bytes)
                    return memory
                }
                piece.copyMemory(
                    from: UnsafeRawBufferPointer(
                        rebasing: memory.bytes[within..<within + count]))
            }
            done += count
        }
    }

    /// Of a block that is stored as it is, only what is asked for is read once the whole was
    /// checked: from then on there is a checksum for each piece of it.
    private static func read(
        _ block: SegmentBlock, of reader: SegmentReader, from within: Int,
        into target: UnsafeMutableRawBufferPointer, _ key: BlockCache.Key, _ cache: BlockCache
    ) throws(HistoryError) {
        guard let checks = cache.checks(key) else {
            let memory = RawMemory(count: block.byteCount)
            try reader.readBlock(block.number, into: memory.bytes)
            cache.add(PieceChecks(UnsafeRawBufferPointer(memory.bytes)), key)
            target.copyMemory(
                from: UnsafeRawBufferPointer(
                    rebasing: memory.bytes[within..<within + target.count]))
            return
        }
        let size = PieceChecks.pieceBytes
        let start = within / size * size
        let end = min((within + target.count + size - 1) / size * size, block.byteCount)
        if start == within, end == within + target.count {
            try reader.readStored(into: target, at: block.storedOffset + UInt64(start))
            guard checks.fit(UnsafeRawBufferPointer(target), from: start) else {
                throw .damaged(reader.name, .checksum(.data, block: block.number))
            }
            return
        }
        let memory = RawMemory(count: end - start)
        try reader.readStored(into: memory.bytes, at: block.storedOffset + UInt64(start))
        guard checks.fit(UnsafeRawBufferPointer(memory.bytes), from: start) else {
            throw .damaged(reader.name, .checksum(.data, block: block.number))
        }
        target.copyMemory(
            from: UnsafeRawBufferPointer(
                rebasing: memory.bytes[within - start..<within - start + target.count]))
    }

    private static func read(
        _ tail: TailIndex, _ log: any TailLog, into target: UnsafeMutableRawBufferPointer,
        at offset: UInt64
    ) throws(HistoryError) {
        var done = 0
        while done < target.count {
            let position = offset + UInt64(done)
            guard let entry = tail.write(at: position) else {
                preconditionFailure("an extent points past the tail's payloads")
            }
            let within = Int(position - entry.payloadOffset)
            let count = min(target.count - done, Int(entry.payloadBytes) - within)
            do {
                try log.payload(
                    of: entry.stamp.lsn, offset: within,
                    into: UnsafeMutableRawBufferPointer(rebasing: target[done..<done + count]))
            } catch { throw .source(error) }
            done += count
        }
    }
}
