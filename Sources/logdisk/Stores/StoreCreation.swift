// The first shipment of a volume that keeps its history at a remote: its base snapshot, before the
// volume is ready. So there is no write that could not be undone, here as with any volume.

import BlockModel
import CommandText
import DiskIO
import Foundation
import History
import LogFormat
import Logging
import ProtectedVolume
import Shipping

/// Where the history of a new volume goes. One thread.
struct StoreCreation {
    let config: RemoteConfig
    /// The volume as the user named it.
    let object: String

    /// Asks the remote whether a volume can be made there.
    func check() throws(CommandFailure) {
        let remote: any VolumeRemote
        do throws(RemoteSetupError) {
            remote = try config.open { Interruption.isRequested }
        } catch { throw CommandFailure(error, object: config.url) }
        defer { remote.rest() }
        let state = try asking(config.url) { () throws(ShipError) in try remote.target.state() }
        guard let state else { return }
        throw CommandFailure(
            .usage, config.url, "there is a volume already",
            cause: "\(state.uuid) of \(state.host)",
            hint: "choose another name in the URL; logdisk adopt brings that one here")
    }

    /// Ships the base snapshot of the volume in `folder`, which is not ready yet, and keeps the
    /// settings there.
    func ship(_ folder: VolumeFolder, isSilent: Bool) throws(CommandFailure) {
        let remotes = RemoteFolder(folder.path, object: object)
        try remotes.write(config)
        let journal = BaseJournal(folder)
        var setup = Shipper.Setup(
            name: config.name, settings: try config.settings(),
            request: config.request(journal.identity))
        do throws(RemoteSetupError) { setup.key = try config.key() } catch {
            throw CommandFailure(error, object: object)
        }
        var log = Logger(label: "logdisk")
        log.logLevel = .critical
        let name = config.name
        let shipper = Shipper(
            setup, journal: journal,
            target: ConfiguredTarget(config) { Interruption.isRequested }, memory: ShipMemory(),
            log: log
        ) { memory in
            try? remotes.remember(memory, of: name)  // without it the remote is asked
        }
        try ShipRun(object: object, isSilent: isSilent).toTheEnd(shipper, through: .zero, now: true)
    }

    /// Takes away what `ship` has made here.
    func undo(_ path: String) {
        try? FileManager.default.removeItem(atPath: RemoteFolder(path, object: object).path)
    }
}

/// A volume that holds a base snapshot and nothing else.
private final class BaseJournal: ShipJournal {
    let identity: SegmentIdentity
    let store: any SegmentStore
    let durable: Stamp

    init(_ folder: VolumeFolder) {
        identity = VolumeService.identity(folder.superblock)
        store = DirectoryStore(storage: folder.storage, directory: folder.segmentsDirectory)
        durable = Stamp(lsn: .zero, wallNanoseconds: folder.superblock.createdWall)
    }

    var base: PointInTimeView? { nil }
    var archived: LSN { .zero }
    var unarchivedBytes: UInt64 { 0 }
    var pins: Set<LSN> { [] }
    var isBusy: Bool { false }

    func archive(through last: LSN, while mayGoOn: () -> Bool) {}
    func pace() {}
    func waitForRecords(after lsn: LSN, or isWoken: () -> Bool) {}
    func wakeWaiters() {}

    func spool(_ remote: String) throws(StoreError) -> any SegmentStore {
        throw StoreError(.put, store.label, .refused("a base snapshot goes as it is"))
    }

    func holdWriters(_ isHeld: Bool, for remote: String) {}
}
