// logdisk pin and unpin: marks that are never pruned.

import ArgumentParser
import CommandText
import History

struct Pin: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "pin",
        abstract: "Keep a mark for ever, whatever is pruned.",
        discussion: """
            Of several marks of that name the newest is meant; a later mark of the same name \
            does not take its place.

              logdisk pin /srv/vol before-upgrade
            """)

    @Argument(help: ArgumentHelp("Volume or mount point.", valueName: "VOL"))
    var volume: String

    @Argument(help: ArgumentHelp("The mark, as given to logdisk mark.", valueName: "MARK"))
    var mark: String

    @OptionGroup var output: OutputOptions

    func run() throws {
        let location = VolumeLocation(volume)
        try location.mustBeLive()
        let history = try VolumeHistory(location)
        let pruning = try history.pruning()
        // Found and pinned while nobody prunes: a mark that is gone cannot be pinned.
        let (stamp, isNew) = try pruning.locked {
            let stamp = try HistoryCatalogue(
                store: history.store, volume: history.superblock?.volume, tail: history.tail
            ).resolve(.mark(mark), now: VolumeHistory.clock()).stamp
            return (stamp, try pruning.pins.add(MarkPin(name: mark, lsn: stamp.lsn)))
        }
        if output.json {
            return try Terminal.json(
                PinJSON(name: mark, lsn: stamp.lsn.rawValue, time: stamp.time))
        }
        Terminal.out(
            "mark:\(mark), \(stamp.words), " + (isNew ? "is pinned" : "was pinned already"))
    }

    private struct PinJSON: Encodable {
        var name: String
        var lsn: UInt64
        var time: String
    }
}

struct Unpin: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "unpin",
        abstract: "Let a pinned mark age like any other.",
        discussion: "  logdisk unpin /srv/vol before-upgrade")

    @Argument(help: ArgumentHelp("Volume or mount point.", valueName: "VOL"))
    var volume: String

    @Argument(help: ArgumentHelp("The pinned mark.", valueName: "MARK"))
    var mark: String

    @OptionGroup var output: OutputOptions

    func run() throws {
        let location = VolumeLocation(volume)
        try location.mustBeLive()
        let pruning = try VolumeHistory(location).pruning()
        let gone = try pruning.locked {
            let gone = try pruning.pins.remove(named: mark)
            if gone.isEmpty { throw unknown(try pruning.pins.pins()) }
            return gone
        }
        if output.json {
            return try Terminal.json(["unpinned": gone.map(\.lsn.rawValue)])
        }
        Terminal.out("mark:\(mark) is not pinned any more")
    }

    private func unknown(_ pins: [MarkPin]) -> CommandFailure {
        let names = Set(pins.map(\.name)).sorted { editDistance($0, mark) < editDistance($1, mark) }
        return CommandFailure(
            .notRestorable, volume, "no mark '\(mark)' is pinned",
            hint: names.isEmpty
                ? "nothing is pinned"
                : "pinned marks: " + names.prefix(3).joined(separator: ", "))
    }
}
