// The process of a mount: opens the volume, serves the file and the control socket, archives, takes
// snapshots, and ends cleanly when the file is unmounted, by whomever.
//
//   open volume ── mount ── control socket ── ready ── serve ── unmounted ── drain ── close
//
// Threads: the main thread serves the mount (and FuseMount's workers); one thread each archives,
// takes snapshots and prunes by the clock, and waits for signals. Each sleeps while the volume is
// idle. What signals do stands in UnmountOnSignal.swift.

import BlockModel
import CLinux
import CommandText
import Foundation
import FuseMount
import Logging
import ProtectedVolume
import Synchronization

final class MountDaemon: Sendable {
    struct Options: Sendable {
        var ringBytes: UInt64?
        var snapshotSeconds: Int64?
        var allowOther = false
        var onFull = ProtectedVolume.OnFull.hold
        var prune: PruneSchedule?
    }

    private let location: VolumeLocation
    private let mountPoint: String
    private let options: Options
    private let log: Logger
    private let isEnding = Atomic<Bool>(false)

    init(volume: String, mountPoint: String, _ options: Options) {
        location = VolumeLocation(volume)
        self.mountPoint = PathText.canonical(mountPoint)
        self.options = options
        log = LineLogHandler.begin()
    }

    /// Serves until unmounted. `didStart` is called, with warnings, when the file can be used.
    func run(didStart: ([String]) -> Void) throws(CommandFailure) {
        UnmountOnSignal.prepare()
        umask(0o077)
        var volumeOptions = ProtectedVolume.Options()
        volumeOptions.ringBytes = options.ringBytes
        volumeOptions.onFull = options.onFull
        let service = try VolumeService(
            location, purpose: VolumeHolder.mountPrefix + mountPoint, volumeOptions, log: log)
        do {
            try serve(service, didStart)
        } catch {
            // The volume goes back to rest; the failure above is what the user must see.
            try? service.close()
            throw error
        }
        log.info("unmounted; bringing the log to the image")
        try service.close()
        log.info("closed cleanly")
    }

    private func serve(
        _ service: VolumeService, _ didStart: ([String]) -> Void
    ) throws(CommandFailure) {
        try service.closeGap()
        let mount = try makeMount(service)
        // Nothing that this process keeps open or stands in may hinder an unmount of other things.
        chdir("/")
        let target = MountTarget(service, mount, self.mountPoint)
        let server = try ControlServer(target: target, volume: location.path, log: log)
        do {
            try translating(location.object) { try server.start() }
        } catch {
            try? mount.requestUnmount(.lazy)
            throw error
        }
        defer { server.stop() }
        startThreads(service, mount)
        startShipping(service)
        didStart(service.folder.warnings)
        ServiceNotifier.tell("READY=1")
        log.info("serving \(location.path) on \(mountPoint)")
        defer {
            isEnding.store(true, ordering: .sequentiallyConsistent)
            ServiceNotifier.tell("STOPPING=1")
            service.stopRevert()  // so that who asked for it still gets an answer
            service.shipping.withLock { $0 }?.stop()
        }
        do throws(MountError) {
            try mount.run { [log] transport in log.info("requests come by \(transport.rawValue)") }
        } catch { throw CommandFailure(error, object: mountPoint) }
    }

    private func makeMount(_ service: VolumeService) throws(CommandFailure) -> FuseMount {
        do throws(MountError) {
            // This process holds the volume now, so a mount that is there has lost its own.
            if FuseMount.mountPoints(of: location.path).contains(mountPoint) {
                log.notice("removing the mount of a process that died from \(mountPoint)")
                try FuseMount.unmount(mountPoint, .lazy)
            }
            var mountOptions = MountOptions(
                allowOther: options.allowOther, fileSystemName: location.path)
            mountOptions.pasts = LivePast(service, mountPoint: mountPoint)
            return try FuseMount(
                device: service.volume, mountPoint: mountPoint, options: mountOptions)
        } catch { throw CommandFailure(error, object: mountPoint) }
    }

    // MARK: - threads

    private func startThreads(_ service: VolumeService, _ mount: FuseMount) {
        Self.background("archiver") { self.archive(service) }
        if let seconds = options.snapshotSeconds {
            Self.background("snapshots") { self.takeSnapshots(service, every: seconds) }
        }
        // What lies at the volume's store is thinned there, by VolumeShipping.
        if let schedule = options.prune, !service.opensAlone {
            Self.background("prune") { self.prune(service, schedule) }
        }
        if FillRecord.isThere(service.path) {
            Self.background("filler") { service.fillToTheEnd() }
        }
        UnmountOnSignal.begin(mount, log)
    }

    private func startShipping(_ service: VolumeService) {
        let shipping = VolumeShipping(
            service, storeKeep: options.prune.map { "\($0.ladder)" })
        service.shipping.withLock { $0 = shipping }
        // The volume serves whatever is wrong with a remote.
        do throws(CommandFailure) {
            try shipping.reload()
        } catch {
            log.error("\(error.text(verb: "ship"))")
            service.problems.withLock { $0[.remote] = "nothing is shipped: \(error.sentence)" }
        }
    }

    private static func background(_ name: String, _ body: @escaping @Sendable () -> Void) {
        let thread = Thread {
            clinux_thread_name(name)
            _ = clinux_thread_background(10)  // without it the thread is only less modest
            body()
        }
        thread.start()
    }

    private static let segmentLogBytes: UInt64 = 64 << 20
    private static let segmentRecords: UInt64 = 1 << 18
    private static let retrySeconds: UInt32 = 5

    private func archive(_ service: VolumeService) {
        // A small WAL must not fill up before the first segment is due.
        let bytes = min(Self.segmentLogBytes, service.folder.superblock.walBytesMax / 4)
        var watch = ArchiveWatch(logBytesMin: bytes, recordsMin: Self.segmentRecords)
        while let last = service.volume.waitForArchiveWork(&watch) {
            // What failed stays due, also when nothing more is written.
            while !hasArchived(service, through: last, &watch), !service.isStopping {
                sleep(Self.retrySeconds)
            }
        }
    }

    private func hasArchived(
        _ service: VolumeService, through last: LSN, _ watch: inout ArchiveWatch
    ) -> Bool {
        do throws(CommandFailure) {
            try service.archive(through: last) { service.volume.mayGoOnArchiving(&watch) }
            if service.hasGap { _ = try service.snapshot(name: nil) }
            return true
        } catch {
            log.error("\(error.text(verb: "archive"))")
            return false
        }
    }

    private func takeSnapshots(_ service: VolumeService, every seconds: Int64) {
        while true {
            sleep(UInt32(clamping: seconds))
            if isEnding.load(ordering: .sequentiallyConsistent) { return }
            guard service.hasChangedSinceSnapshot else { continue }
            do throws(CommandFailure) {
                _ = try service.snapshot(name: nil)
            } catch {
                log.error("\(error.text(verb: "snapshot"))")
            }
        }
    }

    private func prune(_ service: VolumeService, _ schedule: PruneSchedule) {
        var watch = PruneWatch()
        while true {
            sleep(schedule.lookSeconds)
            if isEnding.load(ordering: .sequentiallyConsistent) { return }
            service.pruneIfDue(schedule, &watch)
        }
    }
}

/// The mount as its control socket sees it.
private final class MountTarget: ControlTarget {
    private let service: VolumeService
    private let mount: FuseMount
    private let mountPoint: String

    init(_ service: VolumeService, _ mount: FuseMount, _ mountPoint: String) {
        self.service = service
        self.mount = mount
        self.mountPoint = mountPoint
    }

    func status() -> StatusReport {
        var report = service.status()
        report.mountPoint = mountPoint
        report.transport = mount.transport.rawValue
        return report
    }

    func mark(_ name: String) throws(CommandFailure) -> PointReply { try service.mark(name) }

    func snapshot(name: String?) throws(CommandFailure) -> SnapshotReply {
        try service.snapshot(name: name)
    }

    func archive() throws(CommandFailure) -> PointReply { try service.archive() }

    func remotes() -> [RemoteReport] { service.shipping.withLock { $0 }?.reports() ?? [] }

    func reloadRemotes() throws(CommandFailure) {
        try service.shipping.withLock { $0 }?.reload()
        service.problems.withLock { $0[.remote] = nil }
    }

    func ship(_ name: String?) throws(CommandFailure) -> PointReply {
        try service.shipping.withLock { $0 }?.shipNow(name)
        return PointReply(service.volume.durableStamp)
    }

    func revert(to lsn: LSN) throws(CommandFailure) -> RevertReply {
        do {
            return try translating(mountPoint) {
                try mount.withFileClosed { try service.revert(to: lsn, isMounted: true) }
            }
        } catch {
            guard error.status == .inUse, error.hint == nil else { throw error }
            throw CommandFailure(
                .inUse, error.object, error.what, cause: error.cause,
                hint: "let it close the file first: end the process, or detach the loop device")
        }
    }

    func stopRevert() { service.stopRevert() }

    func unmount() throws(CommandFailure) {
        if mount.keepsFileClosed {
            throw CommandFailure(
                .inUse, mountPoint, "a revert is under way",
                hint: "wait for its end, or interrupt it with Ctrl-C")
        }
        try mount.requestUnmountOnDemand()
    }
}

extension FuseMount {
    /// The unmount that a command asked for, with its failure in words.
    func requestUnmountOnDemand() throws(CommandFailure) {
        do throws(MountError) {
            try requestUnmount(.whenFree)
        } catch {
            if error == .notMounted {
                throw CommandFailure(
                    .inUse, mountPoint, "it is unmounted, but its file is still open somewhere",
                    hint: "close it: losetup -l shows loop devices")
            }
            throw CommandFailure(error, object: mountPoint)
        }
    }
}
