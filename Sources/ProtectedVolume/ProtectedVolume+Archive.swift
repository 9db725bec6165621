// When the archiver works. Archiving reads the log again, compresses it and writes it elsewhere:
// more work for disk and processor than the writes themselves. So while the volume is under load
// the log keeps the records, and the archiver rests, until one of:
//
//   the volume is quiet                nobody is slowed down
//   the log is three quarters full     or it would soon stop the writers
//   it has rested for a minute         history must not stay in one place for long
//
// Whether the volume is quiet is seen from its counters over a quarter of a second.

import BlockModel
import CLinux
import Synchronization
import WriteLog

/// What the archiver's thread keeps between its looks. For one thread.
public struct ArchiveWatch {
    /// Enough for a segment.
    public let logBytesMin: UInt64
    public let recordsMin: UInt64
    fileprivate var lookedAt: Int64 = 0
    fileprivate var requests: UInt64 = 0
    fileprivate var bytes: UInt64 = 0
    fileprivate var endedAt = clinux_monotonic_ns()

    public init(logBytesMin: UInt64, recordsMin: UInt64) {
        self.logBytesMin = logBytesMin
        self.recordsMin = recordsMin
    }
}

extension ProtectedVolume {
    private static let lookNanoseconds: Int64 = 250_000_000
    private static let restNanosecondsMax: Int64 = 60_000_000_000
    private static let busyRequestsPerSecond = 500.0
    private static let busyBytesPerSecond = 32.0 * 1048576
    private static let fullShare = 0.75

    /// Durable records that are not archived.
    private var unarchivedRecords: UInt64 {
        log.durableLSN.rawValue - min(archivedLSN.rawValue, log.durableLSN.rawValue)
    }

    /// Bytes that they take in the log, roughly.
    public var unarchivedBytes: UInt64 { log.files.bytes(after: archivedLSN) }

    /// Sleeps until there is enough for a segment and a good moment to write it. Returns the LSN to
    /// archive through, or nil when the volume is closing.
    public func waitForArchiveWork(_ watch: inout ArchiveWatch) -> LSN? {
        while !isStopping.load(ordering: .sequentiallyConsistent) {
            let ticket = archiverWake.ticket()
            guard isArchiveDue(watch) else {
                watch.endedAt = clinux_monotonic_ns()
                archiverWake.wait(ticket)
                continue
            }
            look(&watch)
            if mayNotRest(watch) { return log.durableLSN }
            wait(ticket, until: watch.lookedAt + Self.lookNanoseconds)
            if isQuiet(&watch) { return log.durableLSN }
        }
        return nil
    }

    /// After each segment: whether to go on with the next one.
    public func mayGoOnArchiving(_ watch: inout ArchiveWatch) -> Bool {
        watch.endedAt = clinux_monotonic_ns()
        if mayNotRest(watch) { return true }
        let isLongAgo = watch.endedAt - watch.lookedAt >= Self.lookNanoseconds
        return isLongAgo ? isQuiet(&watch) : true
    }

    private func isArchiveDue(_ watch: ArchiveWatch) -> Bool {
        let records = unarchivedRecords
        guard records > 0 else { return false }
        return log.health == .behind || records >= watch.recordsMin
            || unarchivedBytes >= watch.logBytesMin
    }

    private func mayNotRest(_ watch: ArchiveWatch) -> Bool {
        log.health == .behind || log.files.share >= Self.fullShare
            || clinux_monotonic_ns() - watch.endedAt >= Self.restNanosecondsMax
    }

    private func look(_ watch: inout ArchiveWatch) {
        watch.lookedAt = clinux_monotonic_ns()
        watch.requests = requestCount
        watch.bytes = log.counters.bytes &+ readTotal.load(ordering: .relaxed)
    }

    /// Whether little happened since the last look; looks again.
    private func isQuiet(_ watch: inout ArchiveWatch) -> Bool {
        let before = watch
        look(&watch)
        let seconds = Double(max(watch.lookedAt - before.lookedAt, 1)) / 1e9
        return Double(watch.requests &- before.requests) < Self.busyRequestsPerSecond * seconds
            && Double(watch.bytes &- before.bytes) < Self.busyBytesPerSecond * seconds
    }

    private var requestCount: UInt64 {
        writeCount.load(ordering: .relaxed) &+ readCount.load(ordering: .relaxed)
            &+ flushCount.load(ordering: .relaxed)
    }

    /// Sleeps until `end`, however often others wake this thread: a shorter look would tell
    /// nothing. But not past the end of the volume, nor while the writers wait for the archiver.
    private func wait(_ ticket: UInt32, until end: Int64) {
        var ticket = ticket
        while !isStopping.load(ordering: .sequentiallyConsistent) {
            let left = end - clinux_monotonic_ns()
            guard left > 0, log.health != .behind else { return }
            archiverWake.wait(ticket, timeoutNanoseconds: left)
            ticket = archiverWake.ticket()
        }
    }
}
