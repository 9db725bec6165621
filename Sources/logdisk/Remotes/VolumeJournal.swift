// An open volume as its shippers see it. What they ask of it never holds up a writer, but for
// `holdWriters`, which is there to do that. Where the volume keeps its history at a store, the
// shipper to that sees what lies here, and those to other remotes see all of it.

import BlockModel
import CLinux
import CommandText
import DiskIO
import History
import LogFormat
import ProtectedVolume
import Shipping
import Synchronization

final class VolumeJournal: ShipJournal {
    private let service: VolumeService
    private let pacer: Pacer
    private struct Load {
        var lookedAt: Int64
        var writes: UInt64
        var isBusy = false
    }
    private let load: Mutex<Load>
    private let holders: HeldWriters
    let store: any SegmentStore
    let history: any SegmentStore
    let holdsBeginning: Bool

    private static let lookNanoseconds: Int64 = 500_000_000
    private static let busyWritesPerSecond = 100.0

    /// `isForStore`: of the shipper to the volume's own store.
    init(_ service: VolumeService, isForStore: Bool, _ holders: HeldWriters) {
        self.service = service
        self.holders = holders
        let ground = service.ground.withLock { $0 }
        holdsBeginning = !isForStore
        history = ground.opensAlone ? ground.history(service.store) : service.store
        store = isForStore ? service.store : history
        let volume = service.volume
        pacer = Pacer { volume.status().writes }
        load = Mutex(Load(lookedAt: clinux_monotonic_ns(), writes: volume.status().writes))
    }

    var identity: SegmentIdentity { service.identity }
    var base: PointInTimeView? { service.base?.view }
    var durable: Stamp { service.volume.durableStamp }
    var archived: LSN { service.archiver.archivedLSN }
    var unarchivedBytes: UInt64 {
        archived < durable.lsn ? service.volume.unarchivedBytes : 0
    }

    /// Where they cannot be read the marks are thinned with the rest; locally they stay.
    var pins: Set<LSN> {
        let file = PinFile(storage: DiskStorage(), directory: service.folder.logDirectory)
        return Set(((try? file.pins()) ?? []).map(\.lsn))
    }

    var isBusy: Bool {
        let now = clinux_monotonic_ns()
        return load.withLock { load in
            guard now - load.lookedAt >= Self.lookNanoseconds else { return load.isBusy }
            let writes = service.volume.status().writes
            let seconds = Double(now - load.lookedAt) / 1e9
            load.isBusy = Double(writes &- load.writes) > Self.busyWritesPerSecond * seconds
            (load.lookedAt, load.writes) = (now, writes)
            return load.isBusy
        }
    }

    func archive(through last: LSN, while mayGoOn: () -> Bool) throws(ShipError) {
        do throws(CommandFailure) {
            try service.archive(through: last, while: mayGoOn)
            // History goes on behind a gap with a snapshot only.
            if service.hasGap { _ = try service.snapshot(name: nil) }
        } catch {
            // `status` tells it in its own words, too.
            throw .source(StoreError(.put, service.store.label, .refused(error.sentence)))
        }
    }

    func pace() { pacer.pace() }

    func waitForRecords(after lsn: LSN, or isWoken: () -> Bool) {
        service.volume.waitForRecords(after: lsn, or: isWoken)
    }

    func wakeWaiters() { service.volume.wakeWaiters() }

    func spool(_ remote: String) throws(StoreError) -> any SegmentStore {
        let path = Self.spoolPath(service.folder.logDirectory, remote)
        let storage = service.folder.storage
        do throws(IOError) {
            if !storage.isDirectory(path) {
                try storage.createDirectory(path)
            }
            for name in try storage.list(path) { try storage.remove("\(path)/\(name)") }
        } catch { throw StoreError(.put, path, .io(error)) }
        return DirectoryStore(storage: storage, directory: path)
    }

    static func spoolPath(_ logDirectory: String, _ remote: String) -> String {
        "\(logDirectory)/spool-\(remote)"
    }

    func holdWriters(_ isHeld: Bool, for remote: String) {
        service.volume.holdWriters(holders.hold(isHeld, for: remote))
    }
}

/// Which remotes of a volume hold its writers. Any thread may call.
final class HeldWriters: Sendable {
    private let holders = Mutex<Set<String>>([])

    /// Whether any remote holds them after this.
    func hold(_ isHeld: Bool, for remote: String) -> Bool {
        holders.withLock { holders in
            if isHeld { holders.insert(remote) } else { holders.remove(remote) }
            return !holders.isEmpty
        }
    }
}
