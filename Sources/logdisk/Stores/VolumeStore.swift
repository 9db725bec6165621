// A volume whose history lies at a remote (create --store). Here are the log, the image and those
// segments that the store has not acknowledged; the newest of them stays, so that the volume can be
// opened without a network. Reading joins both sides.
//
//   WAL ─► segment here ─► shipped ─► acknowledged: remembered ─► removed here
//
// So a segment is on one side at least at any moment, and whoever lists this side first misses
// none. Of the store only what it has acknowledged to us counts: behind that may be the records of
// somebody who has taken the volume over.

import BlockModel
import CommandText
import DiskIO
import History
import LogFormat
import ProtectedVolume
import Shipping

extension RemoteFolder {
    /// The remote that is where the volume keeps its history; nil: it keeps it itself.
    func store() throws(CommandFailure) -> RemoteConfig? {
        try all().first { $0.role == .store }
    }
}

extension VolumeLocation {
    /// What the segments of this volume are joined with, if its history lies at a remote.
    func storeGround() throws(CommandFailure) -> VolumeGround? {
        let folder = RemoteFolder(path, object: object)
        guard let config = try folder.store() else { return nil }
        let store = ConfiguredStore(config, volume: try superblock().volume)
        return VolumeGround(store: store, through: { folder.memory(config.name).acked ?? .zero })
    }

    /// Throws where the volume's history lies at a remote.
    func mustKeepHistory(_ hint: String) throws(CommandFailure) {
        guard let config = try RemoteFolder(path, object: object).store() else { return }
        throw CommandFailure(
            .usage, object, "the history of this volume lies elsewhere", cause: config.url,
            hint: hint)
    }
}

extension VolumeService {
    /// Removes what the volume's store has, after `memory` was kept.
    func removeShipped(_ memory: ShipMemory) {
        do throws(StoreError) {
            for name in memory.superfluous(try store.list()) {
                try store.delete(name)
                log.debug("\(name) is at the store")
            }
        } catch {
            // What stays is removed after the next one.
            if error.cause != .missing { log.warning("\(error)") }
        }
    }

    /// The newest snapshot that is known of: here, or sent to the store.
    var newestSnapshot: LSN? {
        let here = (try? store.list())?.last { $0.name.kind == .snapshot }?.name.last
        let folder = RemoteFolder(path, object: object)
        guard let config = try? folder.store() else { return here }
        let sent = folder.memory(config.name).snapshotLSN.map { LSN($0) }
        return [here, sent].compactMap { $0 }.max()
    }
}
