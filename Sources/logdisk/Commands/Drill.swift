// logdisk drill: proves that a past state can be used, by a command that the user gave, and keeps a
// record of it.

import ArgumentParser
import BlockModel
import CommandText
import Foundation
import History

struct Drill: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "drill",
        abstract: "Prove that a past state can be restored.",
        discussion: """
            Shows a past state as a file, runs the check on it, and keeps the result in \
            drills.jsonl in the volume's folder; status and metrics show the newest. The check is \
            a line for the shell; the path of the image is in $LOGDISK_IMAGE, the point in \
            $LOGDISK_LSN and $LOGDISK_TIME. Exit code 0 passes. The volume may be mounted and \
            goes on.

              logdisk drill /srv/vol --check 'e2fsck -fn "$LOGDISK_IMAGE"'
              logdisk drill /srv/vol --at random --every 1d --writable --check /srv/check-database

            A check that writes, a database's recovery for example, needs --writable: then the \
            image is a branch in a temporary folder (TMPDIR), deleted afterwards. Of a volume at a \
            log server no result is kept, and it has no branches.
            """)

    @Argument(help: .readable)
    var volume: String

    @Option(help: ArgumentHelp("A line for the shell.", valueName: "COMMAND"))
    var check: String

    @Option(
        parsing: .unconditional,
        help: ArgumentHelp("latest, random, or a point.", valueName: "TARGET"))
    var at = "latest"

    @Flag(help: "Go back to the last flush at or before the point.")
    var barrier = false

    @Flag(help: "Let the check write to the image.")
    var writable = false

    @Option(
        parsing: .unconditional,
        help: ArgumentHelp("Do it again this often, until interrupted.", valueName: "TIME"))
    var every: String?

    @OptionGroup var remote: RemoteOptions

    @OptionGroup var output: OutputOptions

    func run() throws {
        Interruption.begin()
        let command = try CheckCommand(["/bin/sh", "-c", check], object: volume)
        guard !check.allSatisfy(\.isWhitespace) else {
            throw CommandFailure(.usage, volume, "--check is empty", hint: "--check 'e2fsck -fn …'")
        }
        let period = try every.map { text throws(CommandFailure) in
            try OptionText.duration(text, "--every")
        }
        if let period, period < 1 {
            throw CommandFailure(
                .usage, volume, "--every \(every ?? "") is too short", hint: "--every 1d")
        }
        if at != "latest", at != "random" { _ = try VolumeHistory.target(at, "--at") }
        guard let period else {
            let record = try drill(command)
            try tell(record)
            guard record.result == .passed else { throw failed(record) }
            return
        }
        while true {
            let end = ContinuousClock.now + .seconds(period)
            do throws(CommandFailure) {
                try tell(drill(command))
            } catch {
                // Of one that could not be done the next may be.
                let isHopeless = [.interrupted, .usage, .noSuchVolume].contains(error.status)
                guard !isHopeless else { throw error }
                Terminal.error(error.text(verb: "drill"))
            }
            while ContinuousClock.now < end {
                try Interruption.check()
                usleep(200_000)
            }
        }
    }

    // MARK: one drill

    private func drill(_ command: CheckCommand) throws(CommandFailure) -> DrillRecord {
        let location = try VolumeLocation.toRead(volume, remote)
        let state = try PastState.open(
            location, at: try target(location), barrier: barrier, purpose: "drill",
            holder: "process \(getpid())")
        defer { state.release() }
        let stamp = state.point.stamp
        if !output.json { Terminal.error("\(at) is \(stamp.words)") }
        let now = VolumeHistory.clock()
        let start = ContinuousClock.now
        let ending = try judge(command, state, location)
        var code: Int32?
        if case .exited(let number) = ending { code = number }
        let record = DrillRecord(
            time: TimeText.rfc3339(now), unixTime: now / 1_000_000_000, target: at,
            lsn: stamp.lsn.rawValue, pointTime: stamp.time, check: check,
            result: code == 0 ? .passed : .failed, exitCode: code,
            seconds: start.seconds(to: .now), by: Self.whoAndWhere)
        if location.source.isVolume {
            try translating(volume) { try DrillLog(volume: location.path).append(record) }
        }
        return record
    }

    private func target(_ location: VolumeLocation) throws(CommandFailure) -> Target {
        switch at {
        case "latest": return .now
        case "random":
            let ranges = try VolumeHistory(location).catalogue.ranges
            let count = ranges.reduce(0) { $0 + $1.last.lsn.rawValue - $1.first.lsn.rawValue + 1 }
            guard count > 0 else { return .now }  // which says what is the matter
            var number = UInt64.random(in: 0..<count)
            for range in ranges {
                let length = range.last.lsn.rawValue - range.first.lsn.rawValue + 1
                if number < length { return .lsn(LSN(range.first.lsn.rawValue + number)) }
                number -= length
            }
            return .now
        default: return try VolumeHistory.target(at, "--at")
        }
    }

    private func judge(
        _ command: CheckCommand, _ state: PastState, _ location: VolumeLocation
    ) throws(CommandFailure) -> CheckCommand.Ending {
        let stamp = state.point.stamp
        func run(_ path: String) throws(CommandFailure) -> CheckCommand.Ending {
            try command.run([
                "LOGDISK_IMAGE": path, "LOGDISK_LSN": "\(stamp.lsn)", "LOGDISK_TIME": stamp.time,
            ])
        }
        if writable {
            try location.mustBeVolume()
            let image = try WritableImage(of: location, state)
            let ending = try run(image.path)
            try image.end()
            return ending
        }
        let image = try PastImage(state.view, object: volume)
        let ending = try run(image.path)
        let failure = image.failure
        try image.end()
        // A state that cannot be read is the worst that a drill can find.
        if let failure { throw CommandFailure(failure, object: volume) }
        return ending
    }

    private static var whoAndWhere: String {
        "\(NSUserName())@\(ProcessInfo.processInfo.hostName)"
    }

    // MARK: what is said

    private func tell(_ record: DrillRecord) throws(CommandFailure) {
        if output.json {
            try translating(volume) { try Terminal.json(record) }
        } else {
            Terminal.out("\(volume): drill \(record.words)")
        }
        fflush(nil)
    }

    private func failed(_ record: DrillRecord) -> CommandFailure {
        // What a shell says when it cannot run a program.
        if let code = record.exitCode, code == 126 || code == 127 {
            return CommandFailure(
                .failed, volume, "the check could not be run", cause: "exit code \(code)",
                hint: "--check is a line for /bin/sh: are its programs there and executable?")
        }
        return CommandFailure(
            .failed, volume, "the check did not pass",
            cause: record.exitCode.map { "exit code \($0)" } ?? "ended by a signal",
            hint: "look at that state: logdisk mount \(volume) MNT --at lsn:\(record.lsn)")
    }
}
