// Thinning by the clock, in the process of a mount. Between runs the thread only compares two
// times now and then: an idle volume is left alone until the ladder has something to do (R7).

import BlockModel
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
}

extension VolumeService {
    /// Bounds the memory of a merge in a mount to some 50 MiB.
    private static let entriesMax: UInt64 = 1 << 18

    /// Prunes if something is due. What fails is told in `status` and tried again.
    func pruneIfDue(_ schedule: PruneSchedule, _ watch: inout PruneWatch) {
        let now =
            schedule.idleKeeps ? volume.durableStamp.wallNanoseconds : VolumeHistory.clock()
        let archived = archiver.archivedLSN
        let isDue = watch.nextDue.map { now >= $0 } ?? (watch.archived != archived)
        guard isDue, !isStopping else { return }
        do throws(CommandFailure) {
            let result = try pruning.withLock { _ throws(CommandFailure) in
                try prune(schedule.ladder, now: now)
            }
            watch.archived = archived
            // What was in use may be free at the next look.
            watch.nextDue = result.blockers.isEmpty ? result.nextDue : now
            problems.withLock { $0[.prune] = nil }
        } catch {
            guard error.status != .interrupted else { return }
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
            base: base, object: object)
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
