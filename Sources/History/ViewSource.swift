// Where the bytes of a view come from, and the cache of decompressed blocks.

import BlockModel
import LogFormat
import Synchronization

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
            let block = try cache.block(source: source, number: number) {
                () throws(HistoryError) in
                let memory = RawMemory(count: reader.table[number].byteCount)
                try reader.readBlock(number, into: memory.bytes)
                return memory
            }
            let count = min(target.count - done, block.count - within)
            (target.baseAddress! + done).copyMemory(
                from: block.bytes.baseAddress! + within, byteCount: count)
            done += count
        }
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

/// Decompressed blocks, the least recently used dropped first. Any thread may call; two that miss
/// the same block at once both read it.
final class BlockCache: Sendable {
    private struct Key: Hashable {
        var source: Int
        var number: Int
    }
    private struct State {
        var blocks: [Key: (memory: RawMemory, used: UInt64)] = [:]
        var clock: UInt64 = 0
    }
    private let capacity: Int
    private let state = Mutex(State())

    init(capacity: Int) { self.capacity = max(1, capacity) }

    func block(
        source: Int, number: Int, read: () throws(HistoryError) -> RawMemory
    ) throws(HistoryError) -> RawMemory {
        let key = Key(source: source, number: number)
        let known: RawMemory? = state.withLock { state in
            state.clock += 1
            guard let found = state.blocks[key] else { return nil }
            state.blocks[key] = (found.memory, state.clock)
            return found.memory
        }
        if let known { return known }
        let memory = try read()
        state.withLock { state in
            if state.blocks.count >= capacity,
                let oldest = state.blocks.min(by: { $0.value.used < $1.value.used })
            {
                state.blocks[oldest.key] = nil
            }
            state.blocks[key] = (memory, state.clock)
        }
        return memory
    }
}
