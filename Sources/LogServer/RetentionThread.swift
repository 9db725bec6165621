// Retention at the server: a thread that thins one volume at a time by its ladder, with the same
// code as a local volume (History/Thinning.swift). Leases of clients and of processes on this
// machine are honoured. It sleeps until a commit, a changed ladder, or the time when a ladder has
// something to do again; a server without ladders is never woken.
//
// A clock that is set forth by more than an hour while the server runs stops all thinning for a
// day: somebody can see it in the log and set it back before history goes.

import BlockModel
import DiskIO
import Foundation
import History
import Logging
import Synchronization

/// Thins the volumes of a store. `start` and `stop` once each, in that order or only `stop`.
final class RetentionThread: Sendable {
    private let store: ServedStore
    private let restNanoseconds: UInt64
    private let everyNanoseconds: UInt64
    private let log: Logger
    private let stopping = Atomic<Bool>(false)
    private let deleted = Atomic<Int>(0)
    private let failures = Atomic<Int>(0)
    private let isStarted = Atomic<Bool>(false)
    private let woken = DispatchSemaphore(value: 0)
    private let ended = DispatchSemaphore(value: 0)

    /// Bounds the memory of a merge to some 50 MiB.
    private static let entriesMax: UInt64 = 1 << 18

    init(_ store: ServedStore, _ limits: LogServerConfiguration.Limits, log: Logger) {
        self.store = store
        self.log = log
        restNanoseconds = UInt64(limits.pruneRestSeconds) * 1_000_000_000
        everyNanoseconds = UInt64(limits.pruneEverySeconds) * 1_000_000_000
    }

    var deletedCount: Int { deleted.load(ordering: .relaxed) }
    var failureCount: Int { failures.load(ordering: .relaxed) }

    func start() {
        isStarted.store(true, ordering: .sequentiallyConsistent)
        let thread = Thread { [self] in
            run()
            ended.signal()
        }
        thread.start()
    }

    /// Something may be due. Never blocks.
    func wake() { woken.signal() }

    /// Returns when the thread has ended, soon.
    func stop() {
        stopping.store(true, ordering: .sequentiallyConsistent)
        woken.signal()
        if isStarted.exchange(false, ordering: .sequentiallyConsistent) { ended.wait() }
    }

    private var isStopping: Bool { stopping.load(ordering: .relaxed) }

    // MARK: the thread

    /// What the thread knows of a volume.
    private struct Watch {
        /// As they were at the last run.
        var head: UInt64?
        var keep: String?
        /// By the server's clock; nil: nothing becomes due by itself.
        var due: Int64?
        /// Monotonic: not again before.
        var restsUntil: UInt64 = 0
        var failures = 0
    }

    private func run() {
        var watches: [String: Watch] = [:]
        var quietUntil = DispatchTime.now().uptimeNanoseconds + restNanoseconds
        var clock = ClockWatch()
        while !isStopping {
            let monotonic = DispatchTime.now().uptimeNanoseconds
            if let step = clock.step(wall: store.now, monotonic: monotonic) {
                log.error("nothing is pruned for a day: the clock went forth by \(step) s at once")
                quietUntil = monotonic + 86_400_000_000_000
            }
            if monotonic >= quietUntil {
                for volume in store.all where !isStopping {
                    look(volume, &watches[volume.name, default: Watch()])
                }
            }
            for volume in store.all {
                volume.removeOldUploads(nowSeconds: store.now / 1_000_000_000)
            }
            let next = watches.values.compactMap { wait($0) }.min()
            let pause = monotonic < quietUntil ? quietUntil - monotonic : next
            let isAnyKept = store.all.contains { $0.record.keep != nil }
            // Once a day for uploads that nobody finished; a kept volume's clock is watched.
            let longest: UInt64 = isAnyKept ? 600_000_000_000 : 86_400_000_000_000
            let nanoseconds = min(pause ?? longest, longest)
            if woken.wait(timeout: .now() + .nanoseconds(Int(nanoseconds))) == .success {
                // All that came meanwhile is one reason to look.
                while woken.wait(timeout: .now()) == .success {}
            }
        }
    }

    /// Nanoseconds until the volume may be due.
    private func wait(_ watch: Watch) -> UInt64? {
        let monotonic = DispatchTime.now().uptimeNanoseconds
        let rest = watch.restsUntil > monotonic ? watch.restsUntil - monotonic : 0
        guard let due = watch.due else { return rest > 0 ? rest : nil }
        return max(rest, UInt64(clamping: due - store.now), 1_000_000_000)
    }

    private func look(_ volume: ServedVolume, _ watch: inout Watch) {
        let record = volume.record
        guard let keep = record.keep, let ladder = try? Ladder(parsing: keep) else { return }
        let monotonic = DispatchTime.now().uptimeNanoseconds
        guard monotonic >= watch.restsUntil else { return }
        let isNew = watch.head != record.head?.lsn || watch.keep != keep
        guard isNew || watch.due.map({ store.now >= $0 }) ?? false else { return }
        do throws(HistoryError) {
            let result = try thin(volume, ladder)
            watch.head = record.head?.lsn
            watch.keep = keep
            // What is in use may be free at the next look.
            watch.due = result.blockers.isEmpty ? result.nextDue : store.now
            watch.failures = 0
            let quarter = UInt64(ladder.rungs[0].span / 4)
            watch.restsUntil = monotonic + min(everyNanoseconds, max(1_000_000_000, quarter))
        } catch {
            if case .cancelled = error { return }
            failures.add(1, ordering: .relaxed)
            watch.failures = min(watch.failures + 1, 6)
            watch.restsUntil = monotonic + 60_000_000_000 << UInt64(watch.failures - 1)
            watch.due = store.now
            log.error("volume \(volume.name) is not thinned: \(error)")
        }
    }

    /// One run. Blocks; for the thread, and for tests.
    func thin(
        _ volume: ServedVolume, _ ladder: Ladder
    ) throws(HistoryError) -> ThinningResult {
        let store = self.store
        let leases: @Sendable () throws -> [Lease] = {
            try store.leases.current(volume, now: store.now)
        }
        var rule = RetentionRule(ladder, now: store.now)
        rule.entriesMax = Self.entriesMax
        // Cut back by an eighth of the history at a time: each cut can cost a full snapshot.
        rule.slack = ladder.lastSpan / 8
        let result: ThinningResult
        if volume.record.isSealed {
            // Nothing can be looked into: whole chains only.
            result = try SealedThinning(
                store: volume.segments, volume: volume.volume, leases: leases
            ).run(rule)
        } else {
            result = try Thinning(store: volume.segments, volume: volume.volume, leases: leases)
                .run(rule, monitor: WorkMonitor(isCancelled: { self.isStopping }))
        }
        deleted.add(result.deleted.count, ordering: .relaxed)
        if !result.deleted.isEmpty || !result.written.isEmpty {
            log.notice(
                """
                volume \(volume.name) pruned: \(result.deleted.count) segments deleted, \
                \(result.deletedBytes) bytes; \(result.written.count) written
                """)
        }
        return result
    }
}

/// Finds out that the wall clock was set forth.
private struct ClockWatch {
    private var looked: (wall: Int64, monotonic: UInt64)?
    /// A step forth that is no step of time.
    private static let stepMin: Int64 = 3_600_000_000_000

    /// Seconds that the wall clock went forth by itself since the last look.
    mutating func step(wall: Int64, monotonic: UInt64) -> Int64? {
        defer { looked = (wall, monotonic) }
        guard let looked else { return nil }
        let ahead = (wall - looked.wall) - Int64(clamping: monotonic - looked.monotonic)
        return ahead > Self.stepMin ? ahead / 1_000_000_000 : nil
    }
}
