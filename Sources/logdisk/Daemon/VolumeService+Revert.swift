// Going back: what differs between the volume and a past point of it is written as ordinary records
// between two marks (docs/adr/0015).
//
//   archive ── plan ── mark before-revert-N ── write what differs ── flush ── read back
//           ── mark after-revert-N-to-lsn-X ── archive
//
// It may stop anywhere: the volume is then at some LSN between the two marks, the first of which is
// the way back, and another revert to the same point is the way on. Without a difference there is
// neither a mark nor a write.

import BlockModel
import CommandText
import Foundation
import History
import ProtectedVolume
import Synchronization

extension VolumeService {
    static let beforeRevertPrefix = "before-revert-"

    /// Brings the volume back to its state after the record `lsn`. Nobody else may write meanwhile.
    /// `isMounted` decides how the commands in hints look.
    func revert(
        to lsn: LSN, isMounted: Bool, monitor: WorkMonitor = .none
    ) throws(CommandFailure) -> RevertReply {
        try reverting.withLock { _ throws(CommandFailure) in
            isRevertUnwanted.store(false, ordering: .relaxed)  // a lone flag
            var work = try RevertWork(self, to: lsn, isMounted: isMounted, monitor)
            defer { work.end() }
            return try work.run()
        }
    }

    func stopRevert() { isRevertUnwanted.store(true, ordering: .relaxed) }

    /// Takes a lease on this volume's history.
    fileprivate func lease(_ purpose: String, _ segments: Set<SegmentName>?) throws(CommandFailure)
        -> HeldLease
    {
        try translating(object) {
            try leases.take(
                Lease(purpose: purpose, holder: "process \(getpid())", segments: segments))
        }
    }
}

/// One revert from its beginning to its end. One thread.
private struct RevertWork {
    private let service: VolumeService
    private let isMounted: Bool
    private let monitor: WorkMonitor
    private let number: Int
    private let point: Stamp
    private let plan: RevertPlan
    private let lease: HeldLease
    private var pass: RevertRun
    /// The mark before the first write; nil as long as there is none.
    private var before: PointReply?
    private var bytesSinceArchive: UInt64 = 0

    /// Log that one revert lets grow until it archives; less for a small log.
    private static let archiveBytesMax: UInt64 = 64 << 20
    /// What a record costs in the log beside its payload, at most.
    private static let recordOverhead: UInt64 = 1024

    private var object: String { service.object }
    private var volume: ProtectedVolume { service.volume }

    init(
        _ service: VolumeService, to lsn: LSN, isMounted: Bool, _ monitor: WorkMonitor
    ) throws(CommandFailure) {
        self.service = service
        self.isMounted = isMounted
        self.monitor = monitor
        // Everything, until it is known what is read.
        let all = try service.lease("revert", nil)
        defer { all.release() }
        let (history, now) = try Self.present(service)
        let object = service.object
        (point, plan, number) = try translating(object) {
            let point = try history.resolve(.lsn(lsn), now: .max)
            let marks = try history.points().marks.compactMap { mark in
                mark.name.hasPrefix(VolumeService.beforeRevertPrefix)
                    ? Int(mark.name.dropFirst(VolumeService.beforeRevertPrefix.count)) : nil
            }.filter { 0..<Self.numbersMax ~= $0 }  // a user may have named a mark like ours
            return (
                point.stamp, try RevertPlan(history, from: now, to: lsn), (marks.max() ?? 0) + 1
            )
        }
        lease = try service.lease("revert", plan.past.segments)
        pass = RevertRun(plan, on: service.volume)
    }

    private static let numbersMax = 1_000_000_000

    func end() { lease.release() }

    /// History up to now, which can be restored: that is how the future that is left stays there.
    private static func present(
        _ service: VolumeService
    ) throws(CommandFailure) -> (HistoryCatalogue, LSN) {
        try checkRoom(service)
        func catalogue() throws(CommandFailure) -> HistoryCatalogue {
            try translating(service.object) {
                try service.catalogue()
            }
        }
        let now = LSN(try service.archive().lsn)
        let history = try catalogue()
        if history.isRestorable(now) { return (history, now) }
        let snapshot = LSN(try service.snapshot(name: nil).lsn)
        return (try catalogue(), snapshot)
    }

    /// A write would wait for room, if the mount holds its writers, and nobody would know.
    private static func checkRoom(_ service: VolumeService) throws(CommandFailure) {
        let status = service.volume.status()
        guard status.health == .full || status.health == .failed else { return }
        throw CommandFailure(
            .failed, service.object,
            status.health == .full ? "there is no room for the log" : "the log fails",
            cause: status.logError.map { "\($0.path): \($0.reason)" },
            hint: status.health == .full
                ? "make room where the log lies, then try again"
                : "logdisk status \(service.object)")
    }

    // MARK: - the way

    mutating func run() throws(CommandFailure) -> RevertReply {
        do throws(CommandFailure) {
            while try step() {}
            guard before != nil else { return reply(after: nil) }
            try flush()
            try readBack()
            let name = "after-revert-\(number)-to-lsn-\(point.lsn)"
            let after = try service.mark(name)
            try service.archive(through: LSN(after.lsn))
            service.log.notice("reverted to lsn \(point.lsn) of \(point.time)")
            return reply(after: after)
        } catch {
            throw stopped(by: error)
        }
    }

    /// One piece; false when there is none left.
    private mutating func step() throws(CommandFailure) -> Bool {
        try checkWanted()
        monitor.report(
            WorkProgress(doneBytes: pass.progressBytes, totalBytes: plan.touchedBytes))
        switch try look(&pass) {
        case .end: return false
        case .same: return true
        case .differs: break
        }
        if before == nil {
            before = try service.mark("\(VolumeService.beforeRevertPrefix)\(number)")
        }
        try Self.checkRoom(service)
        let writtenBefore = pass.writtenBytes
        do throws(RevertError) { try pass.write() } catch { throw failure(error) }
        bytesSinceArchive += pass.writtenBytes - writtenBefore + Self.recordOverhead
        if bytesSinceArchive >= archiveBytes {
            // A volume that is not mounted has no thread that does it.
            try flush()
            try service.archive(through: volume.durableStamp.lsn)
            bytesSinceArchive = 0
        }
        return true
    }

    private var archiveBytes: UInt64 {
        min(Self.archiveBytesMax, service.folder.superblock.walBytesMax / 8)
    }

    private func flush() throws(CommandFailure) {
        try Self.checkRoom(service)
        _ = try translating(object) { try volume.barrier() }
    }

    private func readBack() throws(CommandFailure) {
        var check = RevertRun(plan, on: volume)
        while true {
            try checkWanted()
            switch try look(&check) {
            case .same: continue
            case .end: return
            case .differs:
                throw failure(.readsBackWrong(offset: check.firstDifference ?? 0))
            }
        }
    }

    private func look(_ pass: inout RevertRun) throws(CommandFailure) -> RevertRun.Finding {
        do throws(RevertError) { return try pass.look() } catch { throw failure(error) }
    }

    private func checkWanted() throws(CommandFailure) {
        let isUnwanted = service.isRevertUnwanted.load(ordering: .relaxed)
        if isUnwanted || service.isStopping || monitor.isCancelled() { throw .interrupted }
    }

    // MARK: - the end

    private func reply(after: PointReply?) -> RevertReply {
        RevertReply(
            lsn: point.lsn.rawValue, time: point.time, before: before, after: after,
            comparedBytes: pass.comparedBytes, writtenBytes: pass.writtenBytes,
            zeroedBytes: pass.zeroedBytes)
    }

    private func failure(_ error: RevertError) -> CommandFailure {
        switch error {
        case .history(let error): CommandFailure(error, object: object)
        case .device(.noSpace):
            CommandFailure(
                .failed, object, "there is no room for the log", cause: "No space left on device",
                hint: "make room where the log lies, then try again")
        case .device(let error):
            CommandFailure(
                .failed, object, "the volume cannot be read or written",
                cause: String(cString: strerror(error.rawValue)),
                hint: "logdisk status \(object)")
        case .readsBackWrong(let offset):
            CommandFailure(
                .damaged, object, "byte \(offset) does not read back as it was written",
                hint: "look at the disk: dmesg, smartctl")
        }
    }

    /// What to say of a revert that ended early: what the volume is now, the way on, the way back.
    private func stopped(by error: CommandFailure) -> CommandFailure {
        guard let before, let name = before.name else { return error }
        // Best effort: what is not durable is not part of the state after a crash, that is all.
        try? flush()
        // The mount's process may have been started in another folder than this command.
        let command = "logdisk revert " + (isMounted ? "\(service.path) --force" : object)
        let ways =
            "go on: \(command) --at lsn:\(point.lsn); back: \(command) --at mark:\(name)"
        let isInterrupted = error.status == .interrupted
        service.log.warning("a revert stopped half-way: \(error.sentence)")
        return CommandFailure(
            error.status, object,
            isInterrupted ? "interrupted half-way" : "stopped half-way: \(error.what)",
            cause: isInterrupted
                ? "the volume is between mark:\(name) and lsn:\(point.lsn), flushed" : error.cause,
            hint: error.hint.map { "\($0); \(ways)" } ?? ways)
    }
}
