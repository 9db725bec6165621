// logdisk bisect: finds the point at which a volume went bad, by asking a command about past images
// of it. The search itself is History/Bisection.swift.

import ArgumentParser
import BlockModel
import CommandText
import Foundation
import History

struct Bisect: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "bisect",
        abstract: "Find the point at which something went wrong.",
        discussion: """
            Runs COMMAND on past images of the volume, halving the interval each time. The path of \
            the image, which can only be read, is in $LOGDISK_IMAGE; $LOGDISK_LSN and \
            $LOGDISK_TIME say which point it is. COMMAND says what it found by its exit code:

              0              good
              1-124, 126-127 bad
              125            cannot tell: skip this point
              others, signals: stop

            Points are the flushes between the two, or with --every-write all records. Works on a \
            mounted volume, too; nothing in it changes.

              logdisk bisect /srv/vol --good -2d --bad now -- \\
                sh -c 'e2fsck -fn "$LOGDISK_IMAGE"'

            The forms of TARGET: logdisk help replay. A command that must write takes a copy \
            first: cp --sparse=always "$LOGDISK_IMAGE" /tmp/copy.img
            """)

    @Argument(help: .readable)
    var volume: String

    @Option(
        parsing: .unconditional, help: ArgumentHelp("A point that is good.", valueName: "TARGET"))
    var good: String

    @Option(
        parsing: .unconditional, help: ArgumentHelp("A later one that is bad.", valueName: "TARGET")
    )
    var bad: String

    @Flag(help: "Go back to the last flush at or before each of the two.")
    var barrier = false

    @Flag(help: "Look at every record, not only at flushes.")
    var everyWrite = false

    @OptionGroup var remote: RemoteOptions

    @OptionGroup var output: OutputOptions

    @Argument(
        parsing: .postTerminator,
        help: ArgumentHelp("The command, after --.", valueName: "COMMAND"))
    var command: [String] = []

    func run() throws {
        Interruption.begin()
        let (goodTarget, badTarget) = (
            try VolumeHistory.target(good, "--good"), try VolumeHistory.target(bad, "--bad")
        )
        let check = try CheckCommand(command, object: volume)
        let location = try VolumeLocation.toRead(volume, remote)
        let leases = BisectLease(location)
        defer { leases.end() }
        let history = try VolumeHistory(location)
        let first = try history.resolve(goodTarget, barrier: barrier).stamp
        let last = try history.resolve(badTarget, barrier: barrier).stamp
        try checkOrder(first, last)
        let candidates = try translating(volume) {
            everyWrite
                ? BisectCandidates.records(history.catalogue, between: first, and: last)
                : try BisectCandidates.flushes(history.catalogue, between: first, and: last)
        }
        try checkCount(candidates, first, last)
        try leases.narrow(to: history, from: first.lsn, through: last.lsn)
        let search = BisectSearch(
            history.catalogue, candidates, check, object: volume, isSilent: output.json)
        let found = try search.run(good: first, bad: last)
        if output.json { try Terminal.json(found) } else { Terminal.out(text(found)) }
        if let failure = incomplete(found, candidates) { throw failure }
    }

    private func checkOrder(_ first: Stamp, _ last: Stamp) throws(CommandFailure) {
        if first.lsn < last.lsn { return }
        if first.lsn == last.lsn {
            throw CommandFailure(
                .usage, volume, "--good and --bad are the same point", cause: first.words,
                hint: "give two points, the good one before the bad one")
        }
        throw CommandFailure(
            .usage, volume, "--good lies after --bad", cause: "\(first.words) and \(last.words)",
            hint: "bisect goes from good to bad; when it became good again: exchange the two and "
                + "let the command say the opposite")
    }

    private func checkCount(
        _ candidates: BisectCandidates, _ first: Stamp, _ last: Stamp
    ) throws(CommandFailure) {
        guard candidates.count == 0 else { return }
        throw CommandFailure(
            .usage, volume,
            "\(everyWrite ? "nothing restorable" : "no flush") lies between the two",
            cause: "\(first.words) and \(last.words)",
            hint: everyWrite
                ? "if the first is good and the second bad, the second is the first bad one"
                : "add --every-write to look at single records")
    }

    // MARK: - what is said

    private func text(_ found: BisectFinding) -> String {
        var text = "last good  lsn:\(found.good.lsn) (\(found.good.time))\n"
        text += "first bad  lsn:\(found.bad.lsn) (\(found.bad.time))\n"
        let kind = everyWrite ? "records" : "flushes"
        let tries = found.tries.count - 2
        text += "\(tries) tries among \(found.candidates) \(kind), and the two ends\n"
        text += "go back    logdisk revert \(volume) --at lsn:\(found.good.lsn)"
        if !everyWrite, found.bad.lsn - found.good.lsn > 1 {
            text += "\nlook closer  --good lsn:\(found.good.lsn) --bad lsn:\(found.bad.lsn) "
            text += "--every-write"
        }
        return text
    }

    private func incomplete(
        _ found: BisectFinding, _ candidates: BisectCandidates
    ) -> CommandFailure? {
        guard let last = found.undecided.last, let first = found.undecided.first else { return nil }
        let what =
            found.undecided.count == candidates.count
            ? "every point between the two was skipped"
            : "\(found.undecided.count) points were skipped where it went bad"
        return CommandFailure(
            .incomplete, volume, what,
            cause: "the first bad one is among lsn:\(first) to lsn:\(last) and "
                + "lsn:\(found.bad.lsn)",
            hint: everyWrite
                ? "let the command tell more points apart" : "try it with --every-write")
    }
}
