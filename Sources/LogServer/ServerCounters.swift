// What the server counts, and its metrics in the text form of Prometheus. Sums over all volumes:
// any token may read them, and no token may learn of another's volumes.

import ServerAPI
import Synchronization

/// Counts since the start. Any thread may call. Lone counts, in relaxed order: nothing is published
/// by them.
final class ServerCounters: Sendable {
    let receivedBytes = Atomic<Int>(0)
    let sentBytes = Atomic<Int>(0)
    let commits = Atomic<Int>(0)
    let backupFiles = Atomic<Int>(0)
    private let answers = Mutex<[Int: Int]>([:])
    private let refusalLogged = Atomic<UInt64>(0)

    func note(status: Int) { answers.withLock { $0[status, default: 0] += 1 } }

    var byStatus: [(status: Int, count: Int)] {
        answers.withLock { $0.map { ($0.key, $0.value) } }.sorted { $0.status < $1.status }
    }

    /// At most one line each second, however many are refused. `now`: monotonic nanoseconds.
    func mayLogRefusal(now: UInt64) -> Bool {
        let last = refusalLogged.load(ordering: .relaxed)
        guard last == 0 || now > last + 1_000_000_000 else { return false }
        return refusalLogged.compareExchange(
            expected: last, desired: now, ordering: .relaxed
        ).exchanged
    }
}

extension LogServer {
    /// Blocks on the disk.
    func metrics() -> String {
        var lines: [String] = []
        func add(_ name: String, _ type: String, _ help: String, _ value: some Any) {
            lines += [
                "# HELP logdisk_server_\(name) \(help)", "# TYPE logdisk_server_\(name) \(type)",
                "logdisk_server_\(name) \(value)",
            ]
        }
        let volumes = store.all
        let sums = volumes.map(\.segments.summary)
        add("volumes", "gauge", "Volumes in the store.", volumes.count)
        add("segments", "gauge", "Segments in the store.", sums.reduce(0) { $0 + $1.count })
        add(
            "segment_bytes", "gauge", "Bytes of all segments.", sums.reduce(0) { $0 + $1.byteCount }
        )
        let backups = store.backups.summary
        add("backup_devices", "gauge", "Backup devices that hold sets.", backups.devices)
        add("backup_sets", "gauge", "Sets of backups that are complete.", backups.complete)
        add("backup_sets_unfinished", "gauge", "Sets that are not complete.", backups.unfinished)
        add("backup_bytes", "gauge", "Bytes of all complete sets.", backups.bytes)
        if let free = try? store.storage.freeBytes(store.paths.store) {
            add("free_bytes", "gauge", "Bytes that are free on the file system.", free)
        }
        add("connections", "gauge", "Open connections.", connectionCount)
        add("uploads", "gauge", "Requests that send bytes at the moment.", load.uploads)
        add("leases", "gauge", "Leases held by clients.", store.leases.count)
        add(
            "load_ratio", "gauge", "How busy the server is, from 0 to 1.",
            load.load(now: Self.monotonic))
        add(
            "received_bytes_total", "counter", "Bytes taken into uploads.",
            counters.receivedBytes.load(ordering: .relaxed))
        add(
            "sent_bytes_total", "counter", "Bytes of segments and files sent.",
            counters.sentBytes.load(ordering: .relaxed))
        add(
            "commits_total", "counter", "Commits answered with success.",
            counters.commits.load(ordering: .relaxed))
        add(
            "backup_files_total", "counter", "Files of sets that became whole.",
            counters.backupFiles.load(ordering: .relaxed))
        add(
            "pruned_segments_total", "counter", "Segments deleted by retention.",
            retention.deletedCount)
        add(
            "prune_failures_total", "counter", "Runs of retention that failed.",
            retention.failureCount)
        lines += [
            "# HELP logdisk_server_answers_total Answers by HTTP status.",
            "# TYPE logdisk_server_answers_total counter",
        ]
        lines += counters.byStatus.map {
            "logdisk_server_answers_total{status=\"\($0.status)\"} \($0.count)"
        }
        return lines.joined(separator: "\n") + "\n"
    }
}
