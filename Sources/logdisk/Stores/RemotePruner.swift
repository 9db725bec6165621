// The thinning of a remote where nothing of ours runs: by the mount that ships there, now and then,
// at low priority. Nothing is asked of the remote while nothing new has come there: an idle volume
// costs nothing, and is thinned when it is written to again.

import BlockModel
import CLinux
import CommandText
import Foundation
import History
import Shipping
import Synchronization

/// One remote's. `start` once; `stop` returns when nothing runs any more.
final class RemotePruner: Sendable {
    private let service: VolumeService
    private let config: RemoteConfig
    private let target: ConfiguredTarget
    private let keep: String?
    private let state = Mutex(State())
    private let stopping = Atomic<Bool>(false)
    private let woken = DispatchSemaphore(value: 0)
    private let ended = DispatchSemaphore(value: 0)

    private struct State {
        var isStarted = false
        var last: RemoteReport.Retention?
    }
    private static let hourSeconds: Int64 = 3600

    /// `keep` is what shall be kept from now on; nil: as it is.
    init(
        _ service: VolumeService, _ config: RemoteConfig, _ target: ConfiguredTarget, keep: String?
    ) {
        self.service = service
        self.config = config
        self.target = target
        self.keep = keep
    }

    /// What the last run did; nil before the first.
    var last: RemoteReport.Retention? { state.withLock { $0.last } }

    /// Begins, where the remote needs it.
    func start() {
        guard config.place.kind == .objectStorage else { return }
        state.withLock { $0.isStarted = true }
        let thread = Thread { [self] in
            clinux_thread_name("remote-prune")
            _ = clinux_thread_background(10)  // without it the thread is only less modest
            run()
            ended.signal()
        }
        thread.start()
    }

    func stop() {
        stopping.store(true, ordering: .relaxed)  // the semaphore orders it
        woken.signal()
        if state.withLock({ $0.isStarted }) { ended.wait() }
    }

    private var isStopping: Bool { stopping.load(ordering: .relaxed) || service.isStopping }

    /// A ladder of seconds is looked after in seconds.
    private var lookSeconds: Int64 {
        guard let text = keep ?? config.keep, let ladder = try? Ladder(parsing: text) else {
            return Self.hourSeconds
        }
        return min(Self.hourSeconds, max(1, ladder.rungs[0].span / 4_000_000_000))
    }

    private func run() {
        var watch = PruneWatch()
        var done: LSN?
        while !isStopping {
            _ = woken.wait(timeout: .now() + .seconds(Int(lookSeconds)))
            let (mayPrune, step) = watch.look(
                wall: VolumeHistory.clock(), monotonic: clinux_monotonic_ns())
            if let step {
                service.log.error(
                    """
                    remote \(config.name): nothing is thinned there for a day: the clock went \
                    forth by \(step / 1_000_000_000) s at once
                    """)
            }
            let acked = RemoteFolder(service.path, object: service.object).memory(config.name).acked
            guard mayPrune, !isStopping, acked != done, let retention = target.remote?.retention
            else { continue }
            let isGood = runOnce(retention)
            watch.noteEnd(isGood: isGood, monotonic: clinux_monotonic_ns())
            if isGood { done = acked }
        }
    }

    private func runOnce(_ retention: any RemoteRetention) -> Bool {
        let leases = service.leases
        let pacer = Pacer { [service] in service.volume.status().writes }
        var report: RemoteReport.Retention
        do {
            let pins = PinFile(
                storage: service.folder.storage, directory: service.folder.logDirectory)
            report = try retention.run(
                keep: keep, pins: Set(try pins.pins().map(\.lsn)),
                leases: { try leases.current() },
                monitor: WorkMonitor(isCancelled: { [self] in
                    pacer.pace()
                    return isStopping
                }))
        } catch {
            if isStopping { return false }
            report = last ?? RemoteReport.Retention()
            let text = "\(error)"
            if report.failure != text {
                service.log.error("remote \(config.name) is not thinned: \(text)")
            }
            report.failure = text
        }
        report.time = TimeText.rfc3339(VolumeHistory.clock() / 1_000_000_000 * 1_000_000_000)
        state.withLock { $0.last = report }
        if report.pruned > 0 || report.deletedObjects > 0 {
            service.log.notice(
                """
                remote \(config.name) pruned: \(report.pruned) segments, \
                \(report.written) written, \(report.deletedObjects) objects deleted
                """)
        }
        return report.failure == nil
    }
}
