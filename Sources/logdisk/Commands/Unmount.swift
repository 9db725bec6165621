// logdisk unmount: asks the mount's process to end and waits until it has: drained, applied,
// checkpointed. A mount whose process died is taken out of the tree.

import ArgumentParser
import BlockModel
import CommandText
import DiskIO
import Foundation
import FuseMount
import ProtectedVolume

struct Unmount: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "unmount",
        abstract: "End a mount cleanly.",
        discussion: """
            Name the volume or the mount point. Everything written is brought to the image, so the \
            next start has nothing to redo. A mount in use is left alone (exit code 11) and you \
            are told by whom it is used.

              logdisk unmount /mnt/vol
            """)

    @Argument(help: ArgumentHelp("Volume or mount point.", valueName: "VOL|MNT"))
    var target: String

    @Flag(help: "First ship everything that is there now, whatever the schedule says.")
    var waitShipped = false

    @OptionGroup var output: OutputOptions

    func run() throws {
        let location = VolumeLocation(target)
        if let past = try location.pastClient() { return try unmount(past, location) }
        if try removeStale(location) { return }
        guard location.isVolume else {
            throw CommandFailure(
                .noSuchVolume, target, "it is neither a mount of logdisk nor a volume",
                hint: "findmnt -t fuse.logdisk lists the mounts")
        }
        guard let client = try location.client() else {
            throw CommandFailure(
                .failed, target, "it is not mounted", hint: "logdisk status \(target)")
        }
        if waitShipped { try shipFirst(client, location) }
        try request(client, location)
        waitForEnd(location)
        let superblock = try location.superblock()
        guard superblock.isClean else {
            throw CommandFailure(
                .incomplete, target, "unmounted, but the log could not be brought to the image",
                cause: "see \(location.path)/mount.log",
                hint: "nothing is lost: the next mount brings it there")
        }
        if output.json {
            try Terminal.json(
                Unmounted(volume: location.path, lsn: superblock.checkpoint.lsn.rawValue))
        } else {
            Terminal.out("\(target): unmounted")
        }
        tellUnshipped(location, superblock.checkpoint.lsn)
    }

    private func shipFirst(_ client: ControlClient, _ location: VolumeLocation) throws {
        let names = try RemoteFolder(location.path, object: target).names()
        guard !names.isEmpty else { return }
        let point: PointReply = try client.post("/v1/ship")
        try Ship.follow(client, names, through: point.lsn, isSilent: output.json)
    }

    /// What the remotes do not have yet stays here until the next mount, or `logdisk ship`.
    private func tellUnshipped(_ location: VolumeLocation, _ newest: LSN) {
        let folder = RemoteFolder(location.path, object: target)
        for name in (try? folder.names()) ?? [] {
            let acked = folder.memory(name).acked ?? .zero
            guard acked < newest else { continue }
            Terminal.warn(
                "remote \(name) lacks \(newest.rawValue - acked.rawValue) records; "
                    + "send them: logdisk ship \(location.path) \(name)")
        }
    }

    private struct Unmounted: Encodable {
        var volume: String
        var lsn: UInt64
    }

    /// Ends a past mount, or takes it away where its process is dead.
    private func unmount(_ past: ControlClient, _ location: VolumeLocation) throws {
        let mountPoint = location.mountPoint ?? target
        if FuseMount.isStale(mountPoint) {
            try translating(target) { try FuseMount.unmount(mountPoint, .lazy) }
            Terminal.warn("the process of the mount on \(mountPoint) had died; removed the mount")
        } else {
            do {
                let reply: AcceptedReply = try past.post("/v1/unmount")
                while Self.isRunning(reply.pid) { usleep(5_000) }
            } catch let failure as CommandFailure where failure.status == .unreachable {
                // The process may have been quicker to end than its answer to arrive.
                guard FuseMount.source(of: mountPoint) == nil else { throw failure }
            }
        }
        if output.json {
            try Terminal.json(
                Unmounted(volume: location.path, lsn: location.past?.rawValue ?? 0))
        } else {
            Terminal.out("\(target): unmounted")
        }
    }

    /// Not a dead process either whose parent has not taken notice yet.
    private static func isRunning(_ process: Int32) -> Bool {
        guard kill(process, 0) == 0,
            let line = try? String(contentsOfFile: "/proc/\(process)/stat", encoding: .utf8),
            let end = line.lastIndex(of: ")")
        else { return false }
        return !line[end...].hasPrefix(") Z") && !line[end...].hasPrefix(") X")
    }

    /// Takes away mounts of this volume whose process is dead: it would hold the volume's lock.
    /// True when that was all there was to do.
    private func removeStale(_ location: VolumeLocation) throws(CommandFailure) -> Bool {
        let stale = FuseMount.mountPoints(of: location.path)
        guard !stale.isEmpty, VolumeFolder.holder(location.path, on: DiskStorage()) == nil else {
            return false
        }
        for mountPoint in stale {
            do throws(MountError) {
                try FuseMount.unmount(mountPoint, .lazy)
            } catch { throw CommandFailure(error, object: target) }
            Terminal.warn("the process of the mount on \(mountPoint) had died; removed the mount")
        }
        if output.json {
            try translating(target) {
                let superblock = try location.superblock()
                try Terminal.json(
                    Unmounted(volume: location.path, lsn: superblock.checkpoint.lsn.rawValue))
            }
        }
        return true
    }

    private func request(_ client: ControlClient, _ location: VolumeLocation) throws {
        do {
            let _: AcceptedReply = try client.post("/v1/unmount")
        } catch let failure as CommandFailure where failure.status == .unreachable {
            // The process may have been quicker to end than its answer to arrive.
            guard FuseMount.mountPoints(of: location.path).isEmpty else { throw failure }
        }
    }

    /// Polls the lock of the volume: it is let go when the process ends, however it ends.
    private func waitForEnd(_ location: VolumeLocation) {
        let storage = DiskStorage()
        var rounds = 0
        let first = VolumeFolder.holder(location.path, on: storage)
        while let holder = VolumeFolder.holder(location.path, on: storage),
            holder.processID == first?.processID
        {
            rounds += 1
            if rounds == 100 { Terminal.error("bringing the log to the image ...") }
            usleep(20_000)
        }
    }
}
