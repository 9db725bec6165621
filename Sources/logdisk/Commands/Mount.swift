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
            """)

    enum OnFull: String, ExpressibleByArgument, CaseIterable {
        case hold, fail
    }

    @Argument(help: ArgumentHelp("The volume.", valueName: "VOL"))
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
            "When the log's disk is full: hold the writers, or fail them with ENOSPC.",
            valueName: "hold|fail"))
    var onFull = OnFull.hold

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

    @OptionGroup var output: OutputOptions

    func run() throws {
        let options = try daemonOptions()
        if foreground || reportStart {
            try serve(options)
        } else {
            try startInBackground()
        }
    }

    private func daemonOptions() throws(CommandFailure) -> MountDaemon.Options {
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
        options.onFull = onFull == .hold ? .hold : .fail
        return options
    }

    // MARK: - the serving process

    private func serve(_ options: MountDaemon.Options) throws {
        // The daemon changes its working folder: paths are made absolute before.
        let places = Places(volume: volume, mountPoint: mountPoint)
        let daemon = MountDaemon(volume: volume, mountPoint: mountPoint, options)
        do {
            try daemon.run { warnings in
                if reportStart {
                    StartReport.ready(warnings: warnings).send()
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
        let location = VolumeLocation(volume)
        _ = try location.superblock()
        var arguments = [
            "mount", volume, mountPoint, "--report-start", "--on-full", onFull.rawValue,
        ]
        if let ring { arguments += ["--ring", ring] }
        if let snapshotEvery { arguments += ["--snapshot-every", snapshotEvery] }
        if let keep { arguments += ["--keep", keep] }
        if idleKeeps { arguments.append("--idle-keeps") }
        if allowOther { arguments.append("--allow-other") }
        let log = MountLog(volume: location.path)
        log.putAwayIfLarge()
        switch try BackgroundProcess.start(arguments, logPath: log.path) {
        case .ready(let warnings):
            for warning in warnings { Terminal.warn(warning) }
            try printReady(Places(volume: volume, mountPoint: mountPoint))
        case .failed(let status, let message):
            throw ReportedFailure(status: status, message: message)
        case .died:
            throw CommandFailure(
                .failed, volume, "the mount's process died while starting",
                hint: "look at \(log.path)")
        }
    }

    /// Absolute paths.
    private struct Places {
        let volume: String
        let mountPoint: String

        init(volume: String, mountPoint: String) {
            self.volume = PathText.canonical(volume)
            self.mountPoint = PathText.canonical(mountPoint)
        }
    }

    private func printReady(_ places: Places) throws {
        let file = "\(places.mountPoint)/disk.img"
        if output.json {
            return try Terminal.json([
                "file": file, "mount_point": places.mountPoint, "volume": places.volume,
            ])
        }
        Terminal.out(
            """
            \(volume) is mounted: \(file)
            as a disk:  losetup --find --show --direct-io=on \(file)
            end it:     logdisk unmount \(mountPoint)
            """)
    }
}

/// A failure that another process of ours put into words already.
struct ReportedFailure: Error {
    var status: ExitStatus
    var message: String
}
