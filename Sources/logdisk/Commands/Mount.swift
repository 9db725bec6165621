// logdisk mount: shows a volume as a file. Without --foreground the serving process is this program
// again, in a session of its own; its failure to start is printed here, word for word.

import ArgumentParser
import CommandText
import Foundation
import FuseMount
import Logging
import ProtectedVolume

struct Mount: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "mount",
        abstract: "Show a volume as the file MNT/disk.img.",
        discussion: """
            Returns when the volume can be used; a process in the background serves it until \
            logdisk unmount, or SIGTERM. It logs to mount.log in the volume's folder.

              logdisk mount /srv/vol /mnt/vol
              losetup --find --show --direct-io=on /mnt/vol/disk.img

            curl --unix-socket /srv/vol/control.sock http://localhost/metrics shows its metrics.

            With --at the file shows a past state, at once and read-only, while the volume goes on:

              logdisk mount /srv/vol /mnt/past --at -15m
              logdisk mount https://backup:7340/vol /mnt/past --at -15m --token-file t

            With --branch as well, it can be written to. The writes go to a volume of its own in \
            DIR, with its own log; logdisk mount DIR MNT opens it again.

              logdisk mount /srv/vol /mnt/try --at mark:before-upgrade --branch /srv/try
            """)

    enum OnFull: String, ExpressibleByArgument, CaseIterable {
        case hold, fail
    }

    @Argument(
        help: ArgumentHelp(
            "The volume; with --at also one at a log server, as for logdisk replay.",
            valueName: "VOL"))
    var volume: String

    @Argument(help: ArgumentHelp("Mount point: an empty folder.", valueName: "MNT"))
    var mountPoint: String

    @Flag(help: "Serve in this process; log to standard error.")
    var foreground = false

    @Option(
        parsing: .unconditional,
        help: ArgumentHelp(
            "Take a full snapshot this often, if something changed.", valueName: "TIME"))
    var snapshotEvery: String?

    @Option(
        parsing: .unconditional,
        help: ArgumentHelp("Size of the ring, if not as created.", valueName: "SIZE"))
    var ring: String?

    @Flag(help: "Let other users open the file, too.")
    var allowOther = false

    @Option(
        help: ArgumentHelp(
            "When the log's disk is full: hold the writers (default), or fail them with ENOSPC.",
            valueName: "hold|fail"))
    var onFull: OnFull?

    @Option(
        parsing: .unconditional,
        help: ArgumentHelp(
            "Show the volume as it was, read-only; it may be mounted elsewhere meanwhile.",
            valueName: "TARGET"))
    var at: String?

    @Option(
        help: ArgumentHelp(
            "With --at: make the past state writable; writes go to a new volume in this folder.",
            valueName: "DIR"))
    var branch: String?

    @Flag(help: "With --at: go back to the last flush at or before the point.")
    var barrier = false

    @Option(
        parsing: .unconditional,
        help: ArgumentHelp(
            "Thin old history by this ladder; see logdisk help prune.", valueName: "LADDER"))
    var keep: String?

    @Flag(help: "With --keep: ages count from the last write instead of now.")
    var idleKeeps = false

    /// Set by this command for the process that it starts.
    @Flag(help: .hidden)
    var reportStart = false

    @OptionGroup var remote: RemoteOptions

    @OptionGroup var output: OutputOptions

    func run() throws {
        if let branch { return try mountBranch(branch) }
        let isPast = try isPast()
        let options = try daemonOptions()
        if foreground || reportStart {
            if isPast { try servePast() } else { try serve(options) }
        } else {
            try startInBackground()
        }
    }

    func daemonOptions() throws(CommandFailure) -> MountDaemon.Options {
        var options = MountDaemon.Options()
        if let ring {
            let bytes = try OptionText.size(ring, "--ring")
            guard bytes >= 1 << 20, bytes <= 64 << 30 else {
                throw CommandFailure(
                    .usage, volume, "--ring \(ring) is out of range", hint: "from 1 MiB to 64 GiB")
            }
            options.ringBytes = bytes
        }
        if let snapshotEvery {
            let seconds = try OptionText.duration(snapshotEvery, "--snapshot-every")
            guard seconds >= 1 else {
                throw CommandFailure(
                    .usage, volume, "--snapshot-every \(snapshotEvery) is too short",
                    hint: "for example --snapshot-every 1h")
            }
            options.snapshotSeconds = seconds
        }
        if let keep {
            options.prune = PruneSchedule(
                ladder: try Pruning.ladder(keep, volume), idleKeeps: idleKeeps)
        } else if idleKeeps {
            throw CommandFailure(
                .usage, volume, "--idle-keeps without --keep",
                hint: "add a ladder: --keep \"every 24h, 1m 7d\"")
        }
        options.allowOther = allowOther
        options.onFull = onFull == .fail ? .fail : .hold
        return options
    }

    // MARK: - the serving process

    private func serve(_ options: MountDaemon.Options) throws {
        // The daemon changes its working folder: paths are made absolute before.
        let places = Places(VolumeLocation(volume), mountPoint: mountPoint)
        let daemon = MountDaemon(volume: volume, mountPoint: mountPoint, options)
        do {
            try daemon.run { warnings in
                if reportStart {
                    StartReport.ready(warnings: warnings, words: "").send()
                } else {
                    for warning in warnings { Terminal.warn(warning) }
                    try? printReady(places)
                    fflush(nil)
                }
            }
        } catch {
            // Has no effect once the start was reported.
            if reportStart {
                StartReport.failed(error.status, message: error.text(verb: "mount")).send()
            }
            throw error
        }
    }

    // MARK: - the command

    private func startInBackground() throws {
        Interruption.begin()
        let location = try VolumeLocation.toRead(volume, remote)
        // Of a past state nothing lies in the volume's folder that must be good, but its segments.
        if at == nil || location.source.isVolume { _ = try location.superblock() }
        var arguments = ["mount", volume, mountPoint, "--report-start"] + pastArguments
        if let onFull { arguments += ["--on-full", onFull.rawValue] }
        if let ring { arguments += ["--ring", ring] }
        if let snapshotEvery { arguments += ["--snapshot-every", snapshotEvery] }
        if let keep { arguments += ["--keep", keep] }
        if idleKeeps { arguments.append("--idle-keeps") }
        if allowOther { arguments.append("--allow-other") }
        let folder =
            location.source.isVolume ? location.path : try RuntimeFolder.make(location.object)
        let log = MountLog(volume: folder)
        log.putAwayIfLarge()
        switch try BackgroundProcess.start(arguments, logPath: log.path) {
        case .ready(let warnings, let words):
            for warning in warnings { Terminal.warn(warning) }
            try printReady(Places(location, mountPoint: mountPoint), words)
        case .failed(let status, let message):
            throw ReportedFailure(status: status, message: message)
        case .died:
            throw CommandFailure(
                .failed, volume, "the mount's process died while starting",
                hint: "look at \(log.path)")
        }
    }

    /// Absolute paths; the volume may be a URL.
    struct Places {
        let volume: String
        let mountPoint: String

        init(_ location: VolumeLocation, mountPoint: String) {
            volume = location.path
            self.mountPoint = PathText.canonical(mountPoint)
        }
    }

    /// `point` says which state a past mount shows; empty for a live one.
    func printReady(_ places: Places, _ point: String = "") throws {
        let file = "\(places.mountPoint)/disk.img"
        if output.json {
            var answer = [
                "file": file, "mount_point": places.mountPoint, "volume": places.volume,
            ]
            if !point.isEmpty { answer["point"] = point }
            return try Terminal.json(answer)
        }
        let state = point.isEmpty ? "" : " as it was at \(point)"
        let readOnly = point.isEmpty ? "" : "--read-only "
        Terminal.out(
            """
            \(volume)\(state) is mounted: \(file)
            as a disk:  losetup --find --show \(readOnly)--direct-io=on \(file)
            end it:     logdisk unmount \(mountPoint)
            """)
    }
}

/// A failure that another process of ours put into words already.
struct ReportedFailure: Error {
    var status: ExitStatus
    var message: String
}
