// Ranged reads of segments that lie far away: what is expected or follows forward reads is fetched
// meanwhile (ReadAhead.swift), tails are kept. Only where a range comes from differs between
// remotes; that is `fetch`.
//
// Any thread may call but a cooperative one; calls block as `fetch` does.

import History
import LogFormat
import Synchronization

/// Reads segments of one remote. `fetch` fills memory with the bytes at an offset, or throws.
package final class AheadReader: Sendable {
    private let ahead: ReadAhead
    private let state = Mutex(State())

    private struct State {
        /// Bytes of the segments in the last listing.
        var sizes: [SegmentName: UInt64] = [:]
        var tailBytes: UInt64 = 0
        var streams: [SegmentName: Stream] = [:]
    }

    /// A forward read of one segment.
    private struct Stream {
        /// Where the last read ended.
        var end: UInt64
        /// Reads in a row that went on about there.
        var count = 0
        /// What is expected already.
        var aheadEnd: UInt64 = 0
    }
    private static let aheadBytesMax: UInt64 = 8 << 20
    private static let streamsMax = 64

    package init(
        _ fetch:
            @escaping @Sendable (
                SegmentName, UnsafeMutableRawBufferPointer, UInt64
            ) throws(StoreError) -> Void
    ) { ahead = ReadAhead(fetch) }

    deinit { ahead.stop() }

    /// Takes notice of a listing: what is not in it, or has another size, is forgotten.
    package func note(_ listing: [StoredSegment]) {
        let sizes = Dictionary(listing.map { ($0.name, $0.byteCount) }) { first, _ in first }
        let gone = state.withLock { state in
            let gone = state.sizes.filter { sizes[$0.key] != $0.value }.keys
            state.sizes = sizes
            state.tailBytes = Self.tailBytes(for: listing.count)
            state.streams = [:]
            return Array(gone)
        }
        for name in gone { ahead.forget(name) }
    }

    /// So much of each segment's end is fetched when its footer is wanted: the smaller the more
    /// there are. Half of the room for tails is for longer indexes.
    private static func tailBytes(for count: Int) -> UInt64 {
        min(64 << 10, max(4 << 10, UInt64(ReadAhead.keptBytesMax / 2 / max(1, count))))
    }

    /// As SegmentStore.read.
    package func read(
        _ name: SegmentName, into target: UnsafeMutableRawBufferPointer, at offset: UInt64
    ) throws(StoreError) {
        guard target.count > 0 else { return }
        guard offset < .max - UInt64(target.count) else {
            throw StoreError(.read, "\(name)", .short)
        }
        let end = offset + UInt64(target.count)
        let outcome = try ahead.read(name, into: target, at: offset)
        // Whoever says what will be read knows better than a guess.
        if !outcome.wasSaid, let range = guess(name, offset..<end) {
            ahead.expect(name, range, .guessed)
        }
    }

    /// As SegmentStore.expect.
    package func expect(_ ranges: [SegmentRange]) {
        let (sizes, tailBytes) = state.withLock { ($0.sizes, $0.tailBytes) }
        for range in ranges {
            // What reaches to the end is a tail, or a part of it.
            if let size = sizes[range.name], range.end == size {
                let start = min(range.offset, size - min(size, tailBytes))
                ahead.expect(range.name, start..<size, .kept)
            } else {
                ahead.expect(range.name, range.offset..<range.end, .said)
            }
        }
    }

    package func forget(_ name: SegmentName) {
        state.withLock {
            $0.sizes[name] = nil
            $0.streams[name] = nil
        }
        ahead.forget(name)
    }

    /// What will be read after `range`, when reads of this segment go forward. Reads of several
    /// threads may come a little out of order.
    private func guess(_ name: SegmentName, _ range: Range<UInt64>) -> Range<UInt64>? {
        state.withLock { state in
            guard let size = state.sizes[name] else { return nil }
            let slack: UInt64 = 1 << 20
            guard var stream = state.streams[name], range.lowerBound + slack >= stream.end,
                range.lowerBound <= stream.end + slack
            else {
                if state.streams.count >= Self.streamsMax { state.streams = [:] }
                state.streams[name] = Stream(end: range.upperBound)
                return nil
            }
            if range.upperBound > stream.end {
                stream.end = range.upperBound
                stream.count += 1
            }
            defer { state.streams[name] = stream }
            guard stream.count >= 2 else { return nil }
            let bytes = UInt64(range.count) << min(UInt64(stream.count), 8)
            let depth = min(max(bytes, 256 << 10), Self.aheadBytesMax)
            let start = max(stream.aheadEnd, stream.end)
            let end = min(stream.end + depth, size)
            guard start < end, start - stream.end <= depth / 2 else { return nil }
            stream.aheadEnd = end
            return start..<end
        }
    }
}
