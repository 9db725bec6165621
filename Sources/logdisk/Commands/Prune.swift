// logdisk prune: thins history by a ladder, or says what that would do.

import ArgumentParser
import BlockModel
import CLinux
import CommandText
import History

struct Prune: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "prune",
        abstract: "Thin old history by a ladder.",
        discussion: """
            A ladder is a list of rungs SPACING SPAN, from young to old. SPACING is every (each \
            write), a time (the state at each minute, hour, day ... of the clock) or newest (of \
            each sector the newest entry). What is older than the last span goes away. Marks \
            stay within the last span, pinned marks for ever, the newest state always.

              logdisk prune /srv/vol --keep "every 24h, 1m 7d, 1h 30d, 1d 1y" --dry-run
              logdisk pin /srv/vol before-upgrade

            Works on a mounted volume, too. logdisk mount --keep does it by the clock.
            """)

    @Argument(help: ArgumentHelp("Volume or mount point.", valueName: "VOL"))
    var volume: String

    @Option(
        parsing: .unconditional, help: ArgumentHelp("What stays.", valueName: "LADDER"))
    var keep: String

    @Flag(help: "Change nothing; say what would go, what that frees and what stays.")
    var dryRun = false

    @Flag(help: "Ages count from the last write instead of now.")
    var idleKeeps = false

    @OptionGroup var output: OutputOptions

    func run() throws {
        Interruption.begin()
        let ladder = try Pruning.ladder(keep, volume)
        let location = VolumeLocation(volume)
        try location.mustBeLive()
        try location.mustKeepHistory("logdisk mount \(volume) MNT --keep LADDER thins it there")
        let history = try VolumeHistory(location)
        let pruning = try history.pruning()
        if let missing = history.missingNewest {
            Terminal.warn("the newest records are not archived: " + missing.sentence)
        }
        let clock = VolumeHistory.clock()
        let now = idleKeeps ? history.catalogue.last?.wallNanoseconds ?? clock : clock
        let rule = try pruning.rule(ladder, now: now)
        if dryRun { return try tell(rule, pruning) }
        // The mount's own work comes first. Without it the command is only less modest.
        if history.isMounted { _ = clinux_thread_background(19) }
        let progress = MonitoredProgress("prune", totalBytes: 0, isSilent: output.json)
        var result: ThinningResult
        do {
            defer { progress.finish() }
            var monitor = progress.monitor
            if let pacer = try pacer(history) {
                let isCancelled = monitor.isCancelled
                monitor.isCancelled = {
                    pacer.pace()
                    return isCancelled()
                }
            }
            result = try pruning.run(rule, monitor: monitor)
        }
        if result.blockers.isEmpty {
            result.blockers = try translating(volume) { try pruning.thinning.holders(rule) }
        }
        try report(result, ladder)
    }

    /// Beside a mount under load the work takes its time.
    private func pacer(_ history: VolumeHistory) throws(CommandFailure) -> Pacer? {
        guard history.isMounted, let client = try history.location.client() else { return nil }
        return Pacer {
            let report: StatusReport? = try? client.get("/v1/status")
            return report?.writes
        }
    }

    // MARK: - what is said

    private func tell(_ rule: RetentionRule, _ pruning: Pruning) throws {
        let plan = try translating(volume) { try pruning.thinning.plan(rule) }
        guard plan.blockers.isEmpty else { throw Self.inUse(plan.blockers, volume) }
        let freed = try translating(volume) { try pruning.thinning.estimatedFreedBytes(rule) }
        if output.json {
            return try Terminal.json(
                PruneJSON(
                    ladder: rule.ladder.description, isDryRun: true,
                    written: plan.writes.map { "\($0)" }, deleted: plan.deletes.map { "\($0)" },
                    freedBytes: freed, ranges: plan.ranges.map { RangeJSON($0) }))
        }
        if plan.isEmpty {
            Terminal.out("\(volume): there is nothing to prune")
        } else {
            Terminal.out(
                "\(volume): would delete \(plan.deletes.count) segments and write "
                    + "\(plan.writes.count); frees about \(Self.size(freed)) of "
                    + "\(ByteSize(bytes: plan.storedBytes))")
            for name in plan.deletes { Terminal.out("  delete \(name)") }
            for name in plan.writes { Terminal.out("  write  \(name)") }
        }
        Terminal.out("what stays restorable:\n" + RangesText.text(plan.ranges))
    }

    private func report(_ result: ThinningResult, _ ladder: Ladder) throws {
        let freed = Int64(clamping: result.deletedBytes) - Int64(clamping: result.writtenBytes)
        if output.json {
            try Terminal.json(
                PruneJSON(
                    ladder: ladder.description, isDryRun: false,
                    written: result.written.map { "\($0)" },
                    deleted: result.deleted.map { "\($0)" }, freedBytes: freed, ranges: nil))
        } else if result.written.isEmpty, result.deleted.isEmpty, result.blockers.isEmpty {
            Terminal.out("\(volume): there was nothing to prune")
        } else {
            Terminal.out(
                "\(volume): deleted \(result.deleted.count) segments, wrote "
                    + "\(result.written.count); \(Self.size(freed)) freed")
        }
        if !result.blockers.isEmpty {
            var failure = Self.inUse(result.blockers, volume)
            if !result.deleted.isEmpty || !result.written.isEmpty { failure.status = .incomplete }
            throw failure
        }
    }

    static func inUse(_ leases: [Lease], _ object: String) -> CommandFailure {
        let holders = leases.map { "\($0.purpose): \($0.holder)" }
        return CommandFailure(
            .inUse, object, "what should go is in use", cause: holders.joined(separator: "; "),
            hint: "prune again when that has ended")
    }

    private static func size(_ bytes: Int64) -> String {
        (bytes < 0 ? "-" : "") + ByteSize(bytes: bytes.magnitude).description
    }

    private struct PruneJSON: Encodable {
        var ladder: String
        var isDryRun: Bool
        var written: [String]
        var deleted: [String]
        var freedBytes: Int64
        var ranges: [RangeJSON]?

        enum CodingKeys: String, CodingKey {
            case ladder, written, deleted, ranges
            case isDryRun = "dry_run"
            case freedBytes = "freed_bytes"
        }
    }
}
