// Entry of the program: parses the command line, runs one command, turns every failure into a
// message on standard error and an exit code (CommandText/ExitStatus.swift).
//
// Commands are synchronous and run on the main thread, which may block. What is asynchronous (the
// control socket) runs on its own threads and is waited for (Support/Waiting.swift).

import ArgumentParser
import CommandText

#if canImport(Glibc)
    import Glibc
#endif

@main
enum Entry {
    static func main() {
        do {
            var command = try LogDisk.parseAsRoot()
            defer { LeaseEnds.wait() }
            try command.run()
        } catch let failure as CommandFailure {
            // A request that was given up because of a signal looks like one without an answer.
            let isInterrupted = failure.status == .unreachable && Interruption.isRequested
            end(with: isInterrupted ? .interrupted : failure)
        } catch let failure as ReportedFailure {
            Terminal.error(failure.message)
            exit(failure.status.rawValue)
        } catch {
            end(withParserError: error)
        }
        exit(ExitStatus.done.rawValue)
    }

    private static func end(with failure: CommandFailure) -> Never {
        fflush(nil)  // what was printed before comes before
        Terminal.error(failure.text(verb: isKnown(Terminal.verb) ? Terminal.verb : ""))
        exit(failure.status.rawValue)
    }

    /// Help, version and completion requests are "errors" of the parser that end with 0.
    private static func end(withParserError error: any Error) -> Never {
        guard LogDisk.exitCode(for: error) == .validationFailure else {
            LogDisk.exit(withError: error)
        }
        let verb = Terminal.verb
        if !verb.isEmpty, !isKnown(verb) {
            end(
                with: CommandFailure(
                    .usage, "", "there is no command '\(verb)'", hint: "logdisk help"))
        }
        let message = LogDisk.message(for: error)
        end(
            with: CommandFailure(
                .usage, "", message.prefix(1).lowercased() + message.dropFirst(),
                hint: verb.isEmpty ? "logdisk help" : "logdisk help \(verb)"))
    }

    private static func isKnown(_ verb: String) -> Bool {
        LogDisk.configuration.subcommands.contains { $0.configuration.commandName == verb }
            || verb == "help"
    }
}

/// The command `logdisk`; its verbs are the subcommands.
struct LogDisk: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "logdisk",
        abstract: "Protects a disk so that it can be had back as it was at any moment.",
        discussion: """
            A volume is a folder with an image, a log and snapshots. Mounted, it shows one file, \
            disk.img, to use as a disk: for a loop device, a virtual machine or any program.

            Exit codes: 0 done, 1 failed, 3 done but incomplete, 10 no such volume, 11 in use, \
            12 not restorable, 13 damaged (valid part kept), 14 not reachable, 15 refused, \
            64 wrong usage, 130 interrupted.
            """,
        version: Version.text,
        subcommands: [
            Create.self, Mount.self, Unmount.self, Status.self, Mark.self, Snapshot.self,
            Points.self, ReplayCommand.self, RevertCommand.self, Bisect.self, Diff.self,
            Patch.self, HistoryCommand.self, Verify.self, Inspect.self, Drill.self, Branches.self,
            BranchCommand.self, Prune.self, Pin.self, Unpin.self, Export.self, Import.self,
            Serve.self, AccessCommand.self, Adopt.self, Key.self, RemoteCommand.self, Ship.self,
            SpreadCommand.self,
        ])

    func run() throws {
        Terminal.out(Self.overview)
    }

    static let overview = """
        logdisk \(Version.text): protects a disk; every write stays restorable.

        Start:      logdisk create VOL --size 10G       a new volume in folder VOL
                    logdisk mount VOL MNT               shows it as MNT/disk.img
                    logdisk unmount MNT
        Look:       logdisk status VOL                  state, rates, health
                    logdisk points VOL                  what can be restored
        Keep:       logdisk mark VOL NAME               names this moment
                    logdisk snapshot VOL                a full snapshot, while in use
        Go back:    logdisk replay VOL --at -15m --output old.img
                    logdisk revert VOL --at -15m        the volume itself goes back
                    logdisk bisect VOL --good T --bad T -- COMMAND
        Look back:  logdisk mount VOL MNT2 --at -15m    the volume as it was, beside the live one
                    ls MNT/at/mark:NAME/disk.img        the same, below a live mount
                    logdisk mount VOL MNT2 --at -15m --branch DIR     a writable copy of it
                    TARGET: now, -15m, 2026-11-21T10:05:03Z, "10:05", lsn:1234, mark:NAME
        Compare:    logdisk diff VOL --from T1 --to T2  what changed, also as a patch
                    logdisk history VOL                 what was written, when and where
        Come back:  logdisk adopt URL VOL               from a log server, on a new machine
        Exchange:   logdisk export VOL, logdisk import  dm-log-writes, qcow2, raw
        Thin:       logdisk prune VOL --keep "every 24h, 1m 7d, 1h 30d"
        Serve:      logdisk serve STORE --listen ADDR:PORT      keeps the history of others
                    logdisk access create STORE --name NAME     a token for one of them
        Encrypt:    logdisk key create FILE             seals what leaves this machine
        Ship:       logdisk remote add VOL NAME https://HOST:PORT/VOL --token-file F
                    logdisk ship VOL --now              sends what is not there yet
        Check:      logdisk verify VOL, logdisk inspect FILE
                    logdisk drill VOL --check 'e2fsck -fn "$LOGDISK_IMAGE"'

        Spread:     logdisk spread plan SOURCE --device dir:/mnt/a --device dir:/mnt/b

        Every command: --help, and --json for programs. Exit codes: logdisk help.
        """
}

/// The program's version.
enum Version {
    static let text = "0.1.0"
}
