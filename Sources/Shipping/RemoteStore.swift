// The segments of a volume at a log server: what reads a folder of segments reads these. Tails and
// what follows forward reads are fetched ahead over several connections (ReadAhead.swift), so that
// a round trip of many milliseconds is not paid for each block.
//
// Whatever arrives is checked by who reads it, as with a folder: this store only makes sure that it
// is of the range that was asked for.

import DiskIO
import History
import LogFormat
import ServerAPI
import Synchronization

#if canImport(Glibc)
    import Glibc
#endif

/// A store at a log server. Any thread may call but a cooperative one; calls block.
public final class RemoteStore: SegmentStore {
    public let client: LogServerClient
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

    public init(_ client: LogServerClient) {
        self.client = client
        ahead = ReadAhead { name, target, offset throws(StoreError) in
            do throws(ShipError) {
                try client.readSegment(name, into: target, at: offset)
            } catch { throw StoreError(.read, "\(name)", error, client) }
        }
    }

    deinit { ahead.stop() }

    public var label: String { "\(client.url)" }

    public func list() throws(StoreError) -> [StoredSegment] {
        let listing: SegmentListing
        do throws(ShipError) {
            listing = try client.segments()
        } catch { throw StoreError(.list, label, error, client) }
        let found = listing.segments.compactMap { entry in
            SegmentName(entry.name).map { StoredSegment(name: $0, byteCount: entry.bytes) }
        }
        let sizes = Dictionary(found.map { ($0.name, $0.byteCount) }) { first, _ in first }
        let gone = state.withLock { state in
            let gone = state.sizes.filter { sizes[$0.key] != $0.value }.keys
            state.sizes = sizes
            state.tailBytes = Self.tailBytes(for: found.count)
            state.streams = [:]
            return Array(gone)
        }
        for name in gone { ahead.forget(name) }
        return found.sorted { $0.name < $1.name }
    }

    /// So much of each segment's end is fetched when its footer is wanted: the smaller the more
    /// there are. Half of the room for tails is for longer indexes.
    private static func tailBytes(for count: Int) -> UInt64 {
        min(64 << 10, max(4 << 10, UInt64(ReadAhead.keptBytesMax / 2 / max(1, count))))
    }

    public func read(
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

    public func expect(_ ranges: [SegmentRange]) {
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

    public func upload() throws(StoreError) -> any SegmentUpload { RemoteUpload(client, self) }

    public func delete(_ name: SegmentName) throws(StoreError) {
        forget(name)
        do throws(ShipError) {
            try client.deleteSegment(name)
        } catch { throw StoreError(.delete, "\(name)", error, client) }
    }

    func forget(_ name: SegmentName) {
        state.withLock {
            $0.sizes[name] = nil
            $0.streams[name] = nil
        }
        ahead.forget(name)
    }
}

extension StoreError {
    /// What a failed request means for the segment or the store.
    init(
        _ operation: Operation, _ object: String, _ error: ShipError, _ client: LogServerClient
    ) {
        let cause: Cause =
            switch error {
            case .unreachable(let text), .busy(_, let text): .unreachable(text)
            case .full: .io(IOError(.write, "\(client.url)", ENOSPC))
            case .refused(let text), .fenced(let text): .refused(text)
            case .source(let error): error.cause
            case .stopped: .unreachable("stopped")
            case .rejected(let reply):
                switch reply.code {
                case .missing, .noVolume: .missing
                case .exists: .exists
                case .range: .short
                case .failed: .io(IOError(.read, object, EIO))
                default: .refused(reply.what)
                }
            }
        self.init(operation, object, cause)
    }
}
