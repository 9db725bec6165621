// Thinning by the clock, in the process of a mount. Between runs the thread only compares two
// times now and then: an idle volume is left alone until the ladder has something to do (R7).

import BlockModel
import CLinux
import CommandText
import Foundation
import History

/// `mount --keep`.
struct PruneSchedule: Sendable {
    var ladder: Ladder
    /// Ages count from the last write.
    var idleKeeps = false

    /// How often to look whether something is due.
    var lookSeconds: UInt32 {
        let quarter = (ladder.rungs[0].span / 4) / 1_000_000_000
        return UInt32(clamping: min(60, max(1, quarter)))
    }
}

/// What the thread keeps between its looks. For one thread.
struct PruneWatch {
    fileprivate var archived: LSN?
    /// nil: nothing becomes due by itself.
    fileprivate var nextDue: Int64?
    /// Wall clock and monotonic clock at the last look, to find out that the first was set.
    private var looked: (wall: Int64, monotonic: Int64)?
    /// On the monotonic clock: until then nothing is thinned.
    private var restsUntil: Int64 = 0
    private var failures = 0
    /// What the remotes had at the last run, and when that was, on the monotonic clock.
    fileprivate var shipped: LSN?
    fileprivate var ranAt: Int64 = 0

    /// A step forth that is no step of time.
    private static let stepMin: Int64 = 3_600_000_000_000
    /// So long somebody can see in `status` that the clock was set, and set it back.
    private static let restAfterStep: Int64 = 86_400_000_000_000
    /// What waited for a remote is thinned so long after the last run at the soonest.
    fileprivate static let restAfterRun: Int64 = 600_000_000_000
    private static let restAfterFailure: Int64 = 60_000_000_000

    /// Whether thinning may go on now. `step`: the clock was set forth by so many nanoseconds since
    /// the last look.
    mutating func look(wall: Int64, monotonic: Int64) -> (mayPrune: Bool, step: Int64?) {
        var step: Int64?
        if let looked {
            let ahead = (wall - looked.wall) - (monotonic - looked.monotonic)
            if ahead > Self.stepMin {
                step = ahead
                restsUntil = monotonic + Self.restAfterStep
            }
        }
        looked = (wall, monotonic)
        return (monotonic >= restsUntil, step)
    }

    /// What failed is tried again later and later, up to half an hour.
    mutating func noteEnd(isGood: Bool, monotonic: Int64) {
        failures = isGood ? 0 : min(failures + 1, 6)
        if !isGood { restsUntil = monotonic + Self.restAfterFailure << Int64(failures - 1) }
    }
}

extension VolumeService {
    /// Bounds the memory of a merge in a mount to some 50 MiB.
    private static let entriesMax: UInt64 = 1 << 18

    /// Prunes if something is due. What fails is told in `status` and tried again.
    func pruneIfDue(_ schedule: PruneSchedule, _ watch: inout PruneWatch) {
        // History up to an adoption may lie elsewhere yet.
        guard (try? location.mustHaveBase()) != nil else { return }
        let now =
            schedule.idleKeeps ? volume.durableStamp.wallNanoseconds : VolumeHistory.clock()
        let monotonic = clinux_monotonic_ns()
        let (mayPrune, step) = watch.look(wall: VolumeHistory.clock(), monotonic: monotonic)
        if let step {
            let text =
                "history is not thinned for a day: the clock went forth by "
                + "\(DurationText(seconds: step / 1_000_000_000)) at once"
            problems.withLock { $0[.prune] = text }
            log.error("\(text)")
        }
        guard mayPrune else { return }
        let archived = archiver.archivedLSN
        var bounded = RetentionRule(schedule.ladder, now: now)
        try? RemoteFolder(path, object: object).bound(&bounded)
        let shipped = bounded.unshippedAfter
        let hasShipped =
            shipped != watch.shipped && monotonic - watch.ranAt >= PruneWatch.restAfterRun
        let isDue =
            watch.nextDue.map { now >= $0 } ?? (watch.archived != archived) || hasShipped
        guard isDue, !isStopping else { return }
        do throws(CommandFailure) {
            let result = try pruning.withLock { _ throws(CommandFailure) in
                try prune(schedule.ladder, now: now)
            }
            watch.archived = archived
            (watch.shipped, watch.ranAt) = (shipped, monotonic)
            // What was in use may be free at the next look.
            watch.nextDue = result.blockers.isEmpty ? result.nextDue : now
            watch.noteEnd(isGood: true, monotonic: monotonic)
            problems.withLock { $0[.prune] = nil }
        } catch {
            guard error.status != .interrupted else { return }
            watch.noteEnd(isGood: false, monotonic: monotonic)
            let isNew = problems.withLock {
                $0.updateValue("history is not thinned: \(error.sentence)", forKey: .prune)
                    != "history is not thinned: \(error.sentence)"
            }
            if isNew { log.error("\(error.text(verb: "prune"))") }
        }
    }

    private func prune(_ ladder: Ladder, now: Int64) throws(CommandFailure) -> ThinningResult {
        let pruning = Pruning(
            store: store, volume: identity.volume, logDirectory: folder.logDirectory,
            base: ground.withLock { $0.base }, object: object, path: path)
        var rule = try pruning.rule(ladder, now: now)
        rule.entriesMax = Self.entriesMax
        // Cut back by an eighth of the history at a time: each cut can cost a full snapshot.
        rule.slack = ladder.lastSpan / 8
        let volume = volume
        let pacer = Pacer { volume.status().writes }
        let monitor = WorkMonitor(isCancelled: {
            pacer.pace()
            return self.isStopping
        })
        let result = try pruning.run(rule, monitor: monitor)
        if !result.deleted.isEmpty || !result.written.isEmpty {
            let text =
                "pruned: \(result.deleted.count) segments deleted, "
                + "\(ByteSize(bytes: result.deletedBytes)); \(result.written.count) written"
            log.notice("\(text)")
        }
        return result
    }
}
