// The segments of a volume in a bucket: what reads a folder of segments reads these. The listing is
// the fold of the chain, bytes come by ranged gets, tails and what follows forward reads are
// fetched ahead (Shipping/AheadReader.swift). Whatever arrives is checked by who reads it, as with
// a folder.
//
// A reader sees the history as it was at its last listing; what is pruned meanwhile stays readable
// for the grace time.

import History
import LogFormat
import NIOCore
import ServerAPI
import Shipping
import Synchronization

/// A store in a bucket. Any thread may call but a cooperative one; calls block.
public final class ObjectStore: SegmentStore {
    public let volume: ObjectVolume
    private let ahead: AheadReader

    /// What the last listing showed; nil: none yet.
    private final class Shown: Sendable {
        let segments = Mutex<[String: ChainState.Segment]?>(nil)
    }
    private let shown: Shown

    public init(_ volume: ObjectVolume) {
        self.volume = volume
        let shown = Shown()
        self.shown = shown
        ahead = AheadReader { name, target, offset throws(StoreError) in
            try Self.fetch(volume, shown, name, target, offset)
        }
    }

    public var label: String { volume.label }

    public func list() throws(StoreError) -> [StoredSegment] {
        let state: ChainState?
        do throws(ShipError) {
            state = try volume.chain.refresh()
        } catch { throw StoreError(.list, label, error, remote: label) }
        guard let state else { throw StoreError(.list, label, .missing) }
        shown.segments.withLock { $0 = state.segments }
        let listing = state.listing
        ahead.note(listing)
        return listing
    }

    private static func fetch(
        _ volume: ObjectVolume, _ shown: Shown, _ name: SegmentName,
        _ target: UnsafeMutableRawBufferPointer, _ offset: UInt64
    ) throws(StoreError) {
        do throws(ShipError) {
            var segment = shown.segments.withLock { $0?["\(name)"] }
            if segment == nil {
                // Younger than the listing, or there was none.
                segment = try volume.chain.opened()?.segments["\(name)"]
            }
            guard let segment else { throw .rejected(ErrorReply(.missing, "there is none")) }
            guard offset <= segment.bytes, UInt64(target.count) <= segment.bytes - offset else {
                throw .rejected(ErrorReply(.range, "\(name) ends at \(segment.bytes)"))
            }
            let key = volume.client.url.key(segment.object)
            let count = try volume.client.get(key, into: target, at: offset)
            if count < target.count {
                throw .rejected(ErrorReply(.range, "\(name) ends at \(offset + UInt64(count))"))
            }
        } catch { throw StoreError(.read, "\(name)", error, remote: volume.label) }
    }

    public func read(
        _ name: SegmentName, into target: UnsafeMutableRawBufferPointer, at offset: UInt64
    ) throws(StoreError) {
        try ahead.read(name, into: target, at: offset)
    }

    public func expect(_ ranges: [SegmentRange]) { ahead.expect(ranges) }

    public func upload() throws(StoreError) -> any SegmentUpload {
        do throws(ShipError) {
            guard let state = try volume.chain.opened() else { throw volume.noVolume }
            return ObjectUpload(self, isSealed: state.isSealed)
        } catch { throw StoreError(.put, label, error, remote: label) }
    }

    public func delete(_ name: SegmentName) throws(StoreError) { try delete([name]) }

    /// Hides several at once; `.missing` where none of them is there.
    func delete(_ names: [SegmentName]) throws(StoreError) {
        for name in names { forget(name) }
        do throws(ShipError) {
            try volume.prune(names)
        } catch {
            let object = names.first.map { "\($0)" } ?? label
            throw StoreError(.delete, object, error, remote: label)
        }
    }

    func forget(_ name: SegmentName) {
        shown.segments.withLock { $0?["\(name)"] = nil }
        ahead.forget(name)
    }
}
