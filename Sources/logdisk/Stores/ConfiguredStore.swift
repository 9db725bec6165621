// The segments at a remote of a volume, for reading. Opened when they are needed: a volume serves
// and takes writes whatever is wrong with its remotes.

import BlockModel
import CommandText
import History
import LogFormat
import Shipping
import Synchronization

/// A store that only reads. Any thread may call; calls block.
final class ConfiguredStore: SegmentStore {
    private let config: RemoteConfig
    private let volume: VolumeID
    private let opened = Mutex<(any SegmentStore)?>(nil)

    init(_ config: RemoteConfig, volume: VolumeID) {
        self.config = config
        self.volume = volume
    }

    var label: String { config.url }

    /// Plain segments, also where those there are sealed.
    private func store() throws(StoreError) -> any SegmentStore {
        if let known = opened.withLock({ $0 }) { return known }
        do throws(RemoteSetupError) {
            let remote = try config.place.open(isCancelled: { Interruption.isRequested })
            var store = remote.store()
            if let key = try config.key() { store = SealedStore(store, key: key, volume: volume) }
            return opened.withLock { opened in
                if let faster = opened { return faster }
                opened = store
                return store
            }
        } catch { throw StoreError(.list, label, .refused("\(error)")) }
    }

    /// Runs `body`; what was refused is opened anew the next time, as secrets may be new then.
    private func using<R>(
        _ body: (any SegmentStore) throws(StoreError) -> R
    ) throws(StoreError) -> R {
        do throws(StoreError) { return try body(try store()) } catch {
            if case .refused = error.cause { opened.withLock { $0 = nil } }
            throw error
        }
    }

    func list() throws(StoreError) -> [StoredSegment] {
        try using { (store) throws(StoreError) in try store.list() }
    }

    func read(
        _ name: SegmentName, into target: UnsafeMutableRawBufferPointer, at offset: UInt64
    ) throws(StoreError) {
        try using { (store) throws(StoreError) in try store.read(name, into: target, at: offset) }
    }

    func expect(_ ranges: [SegmentRange]) { opened.withLock { $0 }?.expect(ranges) }

    func upload() throws(StoreError) -> any SegmentUpload {
        throw StoreError(.put, label, .refused("only a shipment changes what is there"))
    }

    func delete(_ name: SegmentName) throws(StoreError) {
        throw StoreError(.delete, label, .refused("only a shipment changes what is there"))
    }
}
