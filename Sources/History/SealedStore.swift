// Encryption before leaving: a store whose segments are seen plain and lie sealed in another store
// (containers: head of SealedFormat.swift). Nothing that this file hands out was not checked by its
// tag. Reading takes the chunks that are asked for, in one request for those that lie together; the
// footer and the tail chunk come first and are kept, so that planning a restore reads each segment
// once, about 650 bytes.

import BlockModel
import LogFormat
import Synchronization

/// A sealed store. Any thread may call.
public final class SealedStore: SegmentStore {
    private let inner: any SegmentStore
    private let key: SealingKey
    private let volume: VolumeID?
    private let state = Mutex(State())
    private let cache: BlockCache

    private struct State {
        /// Sizes of containers, as far as they were listed.
        var sizes: [SegmentName: UInt64] = [:]
        var open: [SegmentName: OpenContainer] = [:]
        var numbers = 0
    }
    /// What is kept of one container is about 1 KiB.
    private static let openMax = 4096
    /// Sealed bytes read in one request at the most.
    private static let batchChunks: UInt64 = 32

    /// `volume`: containers of another one are refused as misplaced; nil: none are. `cacheBytes`
    /// bounds what is kept of chunks of which a part was read.
    public init(
        _ inner: any SegmentStore, key: SealingKey, volume: VolumeID? = nil,
        cacheBytes: Int = 16 << 20
    ) {
        self.inner = inner
        self.key = key
        self.volume = volume
        cache = BlockCache(bytesMax: cacheBytes)
    }

    public var label: String { inner.label }

    /// Sizes are those of the segments. One whose file has a size that no container has shows with
    /// 0 bytes: it is damaged.
    public func list() throws(StoreError) -> [StoredSegment] {
        let stored = try inner.list()
        let sizes = Dictionary(
            stored.map { ($0.name, $0.byteCount) }, uniquingKeysWith: { first, _ in first })
        state.withLock { state in
            state.sizes = sizes
            state.open = state.open.filter { sizes[$0.key] == $0.value.fileBytes }
        }
        return stored.map { segment in
            StoredSegment(
                name: segment.name,
                byteCount: SealedLayout(fileBytes: segment.byteCount)?.plainBytes ?? 0)
        }
    }

    public func read(
        _ name: SegmentName, into target: UnsafeMutableRawBufferPointer, at offset: UInt64
    ) throws(StoreError) {
        let (container, wasOpen) = try container(name)
        do throws(StoreError) {
            try read(container, into: target, at: offset)
        } catch {
            // Another process may have put a new one in its place since.
            guard wasOpen, case .damaged = error.cause else { throw error }
            forget(name)
            try read(try self.container(name).0, into: target, at: offset)
        }
    }

    /// What is expected of segments is expected of the chunks that hold it.
    public func expect(_ ranges: [SegmentRange]) {
        let sizes = state.withLock { $0.sizes }
        inner.expect(
            ranges.compactMap { range in
                guard range.byteCount > 0, let size = sizes[range.name],
                    let layout = SealedLayout(fileBytes: size), range.end <= layout.plainBytes
                else { return nil }
                let first = layout.chunk(holding: range.offset)
                let last = layout.chunk(holding: range.end - 1)
                // The header goes with the first chunk, the footer with the last.
                let start = first == 0 ? 0 : layout.fileRange(first).lowerBound
                let end =
                    last == layout.tailNumber ? size : layout.fileRange(last).upperBound
                return SegmentRange(name: range.name, offset: start, byteCount: end - start)
            })
    }

    public func upload() throws(StoreError) -> any SegmentUpload {
        try SealedUpload(try inner.upload(), key: key) { [weak self] name in self?.forget(name) }
    }

    public func delete(_ name: SegmentName) throws(StoreError) {
        forget(name)
        try inner.delete(name)
    }

    private func forget(_ name: SegmentName) {
        state.withLock { state in
            state.sizes[name] = nil
            state.open[name] = nil
        }
    }

    // MARK: - Opening

    /// And whether it was known before.
    private func container(
        _ name: SegmentName
    ) throws(StoreError) -> (OpenContainer, Bool) {
        if let known = state.withLock({ $0.open[name] }) { return (known, true) }
        let size = try size(of: name)
        let number = state.withLock { state in
            state.numbers += 1
            return state.numbers
        }
        let opened = try OpenContainer(
            StoredSegment(name: name, byteCount: size), number: number, in: inner, key: key,
            volume: volume)
        state.withLock { state in
            if state.open.count >= Self.openMax { state.open.removeAll() }
            state.open[name] = opened
        }
        return (opened, false)
    }

    private func size(of name: SegmentName) throws(StoreError) -> UInt64 {
        if let known = state.withLock({ $0.sizes[name] }) { return known }
        _ = try list()
        guard let size = state.withLock({ $0.sizes[name] }) else {
            throw StoreError(.read, "\(name)", .missing)
        }
        return size
    }

    // MARK: - Reading

    private func read(
        _ container: OpenContainer, into target: UnsafeMutableRawBufferPointer, at offset: UInt64
    ) throws(StoreError) {
        let layout = container.layout
        guard offset <= layout.plainBytes, UInt64(target.count) <= layout.plainBytes - offset
        else { throw StoreError(.read, "\(container.name)", .short) }
        guard target.count > 0 else { return }
        let wanted = offset..<offset + UInt64(target.count)
        var number = layout.chunk(holding: offset)
        let last = layout.chunk(holding: wanted.upperBound - 1)
        while number <= last {
            let range = layout.plainRange(number)
            let isWhole = wanted.contains(range)
            if number == layout.tailNumber {
                Self.copy(container.tail, of: range, to: target, of: wanted)
                number += 1
            } else if isWhole {
                // All that are wanted as a whole and lie together, decrypted where they belong.
                var end = number + 1
                while end <= last, end < layout.tailNumber, end - number < Self.batchChunks,
                    wanted.contains(layout.plainRange(end))
                {
                    end += 1
                }
                let part = Int(range.lowerBound - offset)
                let bytes = Int(layout.plainRange(end - 1).upperBound - range.lowerBound)
                try container.open(
                    number..<end, in: inner,
                    into: UnsafeMutableRawBufferPointer(rebasing: target[part..<part + bytes]))
                number = end
            } else {
                let key = BlockCache.Key(source: container.number, number: Int(number))
                let chunk = try cache.block(key) { () throws(StoreError) in
                    let memory = RawMemory(count: range.count)
                    try container.open(number..<number + 1, in: inner, into: memory.bytes)
                    return memory
                }
                Self.copy(chunk, of: range, to: target, of: wanted)
                number += 1
            }
        }
    }

    /// Copies what `source`, the bytes of `range`, has of `wanted`.
    private static func copy(
        _ source: RawMemory, of range: Range<UInt64>, to target: UnsafeMutableRawBufferPointer,
        of wanted: Range<UInt64>
    ) {
        let both = range.clamped(to: wanted)
        let from = Int(both.lowerBound - range.lowerBound)
        let to = Int(both.lowerBound - wanted.lowerBound)
        UnsafeMutableRawBufferPointer(rebasing: target[to...]).copyMemory(
            from: UnsafeRawBufferPointer(rebasing: source.bytes[from..<from + both.count]))
    }
}

/// A container whose footer and tail chunk were read and checked. Immutable.
private final class OpenContainer: Sendable {
    let name: SegmentName
    /// Names its chunks in the cache.
    let number: Int
    let layout: SealedLayout
    let tail: RawMemory
    private let cipher: SealedCipher

    var fileBytes: UInt64 { layout.fileBytes }

    init(
        _ segment: StoredSegment, number: Int, in store: any SegmentStore, key: SealingKey,
        volume: VolumeID?
    ) throws(StoreError) {
        name = segment.name
        self.number = number
        guard let layout = SealedLayout(fileBytes: segment.byteCount) else {
            throw StoreError(.read, segment.name, SealedError.notSealed)
        }
        self.layout = layout
        let place = layout.fileRange(layout.tailNumber)
        let memory = RawMemory(count: place.count + SealedFormat.footerBytes)
        try store.read(segment.name, into: memory.bytes, at: place.lowerBound)
        tail = RawMemory(count: place.count - SealedFormat.tagBytes)
        let bytes = UnsafeRawBufferPointer(memory.bytes)
        let footerBytes = UnsafeRawBufferPointer(rebasing: bytes[place.count...])
        do throws(SealedError) {
            let footer = try SealedFooter.decode(footerBytes, fileBytes: segment.byteCount)
            cipher = try SealedCipher(opening: footer.header, with: key)
            try cipher.check(footer: footerBytes)
            guard footer.label.name == segment.name,
                volume == nil || footer.label.content.map({ $0.volume == volume }) ?? true
            else { throw .misplaced }
            try cipher.open(
                chunk: layout.tailNumber, isTail: true,
                UnsafeRawBufferPointer(rebasing: bytes[..<place.count]), into: tail.bytes)
        } catch { throw StoreError(.read, segment.name, error) }
    }

    /// Reads and decrypts chunks, not the tail; `target` has the size of what they hold.
    func open(
        _ numbers: Range<UInt64>, in store: any SegmentStore,
        into target: UnsafeMutableRawBufferPointer
    ) throws(StoreError) {
        // The header is read with the first chunk, and must be the one that the footer repeats.
        let start =
            numbers.lowerBound == 0 ? 0 : layout.fileRange(numbers.lowerBound).lowerBound
        let end = layout.fileRange(numbers.upperBound - 1).upperBound
        let memory = RawMemory(count: Int(end - start))
        try store.read(name, into: memory.bytes, at: start)
        let bytes = UnsafeRawBufferPointer(memory.bytes)
        do throws(SealedError) {
            if numbers.lowerBound == 0, !cipher.header.isAt(start: bytes) {
                throw .malformed(.header, rule: 4)
            }
            var position = 0
            for number in numbers {
                let place = layout.fileRange(number)
                let from = Int(place.lowerBound - start)
                let count = place.count - SealedFormat.tagBytes
                try cipher.open(
                    chunk: number, isTail: false,
                    UnsafeRawBufferPointer(rebasing: bytes[from..<from + place.count]),
                    into: UnsafeMutableRawBufferPointer(
                        rebasing: target[position..<position + count]))
                position += count
            }
        } catch { throw StoreError(.read, name, error) }
    }
}

/// A segment that is sealed on its way into the store below. One thread.
private final class SealedUpload: SegmentUpload {
    private let inner: any SegmentUpload
    private let encoder: SealedEncoder<StoreError>
    private let committed: (SegmentName) -> Void

    init(
        _ inner: any SegmentUpload, key: SealingKey, committed: @escaping (SegmentName) -> Void
    ) throws(StoreError) {
        self.inner = inner
        self.committed = committed
        encoder = try SealedEncoder(key: key) { (bytes) throws(StoreError) in
            try inner.append(bytes)
        }
    }

    func append(_ bytes: UnsafeRawBufferPointer) throws(StoreError) { try encoder.append(bytes) }

    func commit(as name: SegmentName) throws(StoreError) {
        do throws(StoreError) {
            try encoder.finish(kind: name.kind, first: name.first, last: name.last)
            try inner.commit(as: name)
        } catch {
            inner.abort()
            throw error
        }
        committed(name)
    }

    func abort() { inner.abort() }
}
