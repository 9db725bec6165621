// Progress of work in History, which reports from its own threads.

import CommandText
import History
import Synchronization

/// A reporter behind a lock, and the monitor that feeds it and carries interruptions.
final class MonitoredProgress: Sendable {
    private let reporter: Mutex<ProgressReporter>

    init(_ label: String, totalBytes: UInt64, isSilent: Bool) {
        reporter = Mutex(ProgressReporter(label, totalBytes: totalBytes, isSilent: isSilent))
    }

    var monitor: WorkMonitor {
        WorkMonitor(
            report: { progress in
                self.reporter.withLock {
                    // An interruption reaches the work through isCancelled.
                    try? $0.update(progress.doneBytes, of: progress.totalBytes)
                }
            }, isCancelled: { Interruption.isRequested })
    }

    func finish() { reporter.withLock { $0.finish() } }
}
