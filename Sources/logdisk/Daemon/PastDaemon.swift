// The process of a past mount: shows the volume as it was at one point, read-only, until unmounted.
// The volume itself may be mounted elsewhere and go on; the lease keeps pruning away from what is
// read here. A control socket of its own answers status and unmount; it lies in the volume's
// folder, or, where there is none of this machine, in a folder of the user's (RuntimeFolder).

import BlockModel
import CommandText
import DiskIO
import Foundation
import FuseMount
import History
import Logging

final class PastDaemon: Sendable {
    private let location: VolumeLocation
    private let target: Target
    private let barrier: Bool
    private let mountPoint: String
    private let allowOther: Bool
    private let log: Logger

    /// `mountPoint` as the user typed it.
    init(
        _ location: VolumeLocation, at target: Target, barrier: Bool, mountPoint: String,
        allowOther: Bool
    ) {
        self.location = location
        self.target = target
        self.barrier = barrier
        self.mountPoint = PathText.canonical(mountPoint)
        self.allowOther = allowOther
        log = LineLogHandler.begin()
    }

    /// Serves until unmounted. `didStart` is called with the point when the file can be used.
    func run(didStart: (ResolvedPoint) -> Void) throws(CommandFailure) {
        UnmountOnSignal.prepare()
        umask(0o077)
        // Before the work of building a view: a mount point that cannot be used is known at once.
        do throws(MountError) { try FuseMount.check(mountPoint) } catch {
            throw CommandFailure(error, object: mountPoint)
        }
        let controlFolder =
            location.source.isVolume ? location.path : try RuntimeFolder.make(location.object)
        let state = try PastState.open(
            location, at: target, barrier: barrier, purpose: "past mount",
            holder: "process \(getpid()) on \(mountPoint)")
        defer { state.release() }
        let device = PastDevice(state)
        let place = PastPlace(volume: location.path, lsn: state.view.lsn)
        let mount: FuseMount
        do throws(MountError) {
            mount = try FuseMount(
                device: device, mountPoint: mountPoint,
                options: MountOptions(allowOther: allowOther, fileSystemName: place.source))
        } catch { throw CommandFailure(error, object: mountPoint) }
        chdir("/")
        let server = try ControlServer(
            target: PastTarget(device, mount, state.point), volume: controlFolder,
            socketName: PastPlace.socketName(mountPoint), log: log)
        do {
            try translating(location.object) { try server.start() }
        } catch {
            try? mount.requestUnmount(.lazy)
            throw error
        }
        defer { server.stop() }
        UnmountOnSignal.begin(mount, log)
        didStart(state.point)
        log.info("serving \(location.path) as of lsn \(state.view.lsn) on \(mountPoint)")
        do throws(MountError) {
            try mount.run()
        } catch { throw CommandFailure(error, object: mountPoint) }
        log.info("unmounted \(mountPoint)")
    }
}

/// How a past mount is named to the kernel, so that commands find it by its mount point.
struct PastPlace: Equatable, Sendable {
    private static let separator = "@lsn:"

    let volume: String
    let lsn: LSN

    init(volume: String, lsn: LSN) {
        self.volume = volume
        self.lsn = lsn
    }

    /// Reads what `source` made; nil for the source of a live mount.
    init?(source: String) {
        guard let range = source.range(of: Self.separator, options: .backwards),
            let number = UInt64(source[range.upperBound...])
        else { return nil }
        self.init(volume: String(source[..<range.lowerBound]), lsn: LSN(number))
    }

    /// The file system name of the mount.
    var source: String { "\(volume)\(Self.separator)\(lsn)" }

    /// Name of the control socket, one for each mount point. FNV-1a, 64 bits: two mount points of
    /// one volume that collide would have to be sought.
    static func socketName(_ mountPoint: String) -> String {
        let hash = mountPoint.utf8.reduce(0xcbf2_9ce4_8422_2325 as UInt64) {
            ($0 ^ UInt64($1)) &* 0x100_0000_01b3
        }
        return "past-\(String(hash, radix: 16)).sock"
    }

    static func isSocketName(_ file: String) -> Bool {
        file.hasPrefix("past-") && file.hasSuffix(".sock")
    }
}

/// A past mount as its control socket sees it.
private final class PastTarget: ControlTarget {
    private let device: PastDevice
    private let mount: FuseMount
    private let point: ResolvedPoint
    private let startedAt = ContinuousClock.now

    init(_ device: PastDevice, _ mount: FuseMount, _ point: ResolvedPoint) {
        self.device = device
        self.mount = mount
        self.point = point
    }

    func status() -> StatusReport {
        let place = PastPlace(source: mount.options.fileSystemName)
        var report = StatusReport()
        report.volume = place?.volume ?? ""
        report.isMounted = true
        report.mountPoint = mount.mountPoint
        report.pid = getpid()
        report.transport = mount.transport.rawValue
        report.uptimeSeconds = startedAt.seconds(to: .now)
        report.sizeBytes = device.byteCount
        let point = point.stamp
        report.past = StatusReport.Snapshot(lsn: point.lsn.rawValue, time: point.time)
        (report.reads, report.readBytes) = device.reads
        report.problems = device.problems
        if !report.problems.isEmpty { report.health = .degraded }
        return report
    }

    func mark(_ name: String) throws(CommandFailure) -> PointReply { throw refusal }

    func snapshot(name: String?) throws(CommandFailure) -> SnapshotReply { throw refusal }

    func archive() throws(CommandFailure) -> PointReply { throw refusal }

    func revert(to lsn: LSN) throws(CommandFailure) -> RevertReply { throw refusal }

    func remotes() -> [RemoteReport] { [] }

    func reloadRemotes() throws(CommandFailure) { throw refusal }

    func ship(_ name: String?) throws(CommandFailure) -> PointReply { throw refusal }

    func stopRevert() {}

    func unmount() throws(CommandFailure) { try mount.requestUnmountOnDemand() }

    private var refusal: CommandFailure { .isPast(mount.mountPoint) }
}

extension CommandFailure {
    /// What a past mount answers to commands for a live one.
    static func isPast(_ mountPoint: String) -> CommandFailure {
        CommandFailure(
            .usage, mountPoint, "this is a past state, which does not change",
            hint: "name the volume itself")
    }
}
