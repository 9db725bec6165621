// Full snapshots of an open volume, without a freeze.
//
// At a moment S the image begins to be watched, and the log up to S is archived. Then the image is
// copied; blocks that changed since S come from history at S instead. What history holds at S also
// tells where data lies, so that a block punched out after S is not taken for a hole.

import BlockModel
import CommandText
import Foundation
import History
import ProtectedVolume

extension VolumeService {
    /// Takes a snapshot; with a name, a mark at it.
    func snapshot(name: String?) throws(CommandFailure) -> SnapshotReply {
        if let name { try MarkName.check(name, object: object) }
        let (segment, stamp) = try snapshotting.withLock { _ throws(CommandFailure) in
            try takeSnapshot(name: name, usingHistory: true)
        }
        shipping.withLock { $0 }?.lookAgain()
        let bytes = (try? store.list().first { $0.name == segment })??.byteCount ?? 0
        log.notice("snapshot of lsn \(stamp.lsn), \(ByteSize(bytes: bytes))")
        return SnapshotReply(
            lsn: stamp.lsn.rawValue, time: stamp.time, name: name, segment: "\(segment)",
            bytes: bytes)
    }

    /// Whether there are records that no snapshot holds.
    var hasChangedSinceSnapshot: Bool {
        newestSnapshot.map { $0 < volume.durableStamp.lsn } ?? true
    }

    /// Before anything is written: where records are missing between segments and log, or between
    /// the last snapshot and what follows it, takes a snapshot, from which history goes on.
    func closeGap() throws(CommandFailure) {
        let end = volume.recovery.end.lsn
        let oldest = volume.oldestLSNInLog ?? end.next
        let isHoleBeforeLog = archiver.archivedLSN < end && oldest > archiver.archivedLSN.next
        guard isHoleBeforeLog || lacksBase else { return }
        if isHoleBeforeLog {
            do {
                try archive(through: end)
            } catch {
                guard hasGap else { throw error }
            }
        }
        _ = try snapshotting.withLock { _ throws(CommandFailure) in
            try takeSnapshot(name: nil, usingHistory: false)
        }
    }

    /// Whether there are segments behind a gap that is behind the newest snapshot.
    private var lacksBase: Bool {
        let names = ((try? store.list()) ?? []).map(\.name)
        guard let base = names.last(where: { $0.kind == .snapshot })?.last else { return false }
        var expected = base.next
        for name in names where name.kind != .snapshot && name.last > base {
            if name.first > expected { return true }
            expected = max(expected, name.last.next)
        }
        return false
    }

    private func takeSnapshot(
        name: String?, usingHistory: Bool
    ) throws(CommandFailure) -> (SegmentName, Stamp) {
        do {
            let result = try translating(object) { try copyImage(name, usingHistory) }
            problems.withLock {
                $0[.snapshot] = nil
                $0[.gap] = nil
            }
            return result
        } catch {
            if error.status != .interrupted {
                problems.withLock { $0[.snapshot] = "the last snapshot failed: \(error.what)" }
            }
            throw error
        }
    }

    private static let attempts = 3

    /// Without history to help, blocks must not change while they are copied: then once more.
    private func copyImage(
        _ name: String?, _ usingHistory: Bool
    ) throws -> (SegmentName, Stamp) {
        var attempt = 0
        while true {
            attempt += 1
            do {
                guard let session = try volume.beginImageSnapshot() else {
                    throw CommandFailure(.inUse, object, "another snapshot is being taken")
                }
                defer { session.end() }
                if let name { _ = try volume.mark(name) }
                do {
                    try archive(through: session.stamp.lsn)
                } catch {
                    guard hasGap else { throw error }
                }
                // What the view reads must stay until the copy is whole.
                let lease = usingHistory ? try leaseForSnapshot() : nil
                defer { lease?.release() }
                let view = usingHistory ? try history(at: session.stamp.lsn) : nil
                // Nothing was written since the last one: that is the one.
                let same = SegmentName.snapshot(session.stamp.lsn)
                if try store.list().contains(where: { $0.name == same }) {
                    return (same, session.stamp)
                }
                let segment = try SnapshotWriter(store: store, identity: identity).write(
                    OnlineSnapshotSource(session, view), at: session.stamp,
                    monitor: WorkMonitor(isCancelled: { self.isStopping }))
                return (segment, session.stamp)
            } catch HistoryError.source(let cause)
                where cause is ChangedMeanwhile && attempt < Self.attempts
            {
                continue
            }
        }
    }

    private func leaseForSnapshot() throws -> HeldLease {
        try leases.take(Lease(purpose: "snapshot", holder: "process \(getpid())"))
    }

    /// The volume at `lsn` as history has it; nil behind a gap, where the image alone must do.
    private func history(at lsn: LSN) throws -> PointInTimeView? {
        do {
            let history = try catalogue()
            return try PointInTimeView(history, at: lsn)
        } catch HistoryError.notRestorable {
            return nil
        }
    }
}

/// The image at the moment that a session began at. One thread.
private final class OnlineSnapshotSource: SnapshotSource {
    private let session: ImageSnapshotSession
    private let view: PointInTimeView?
    let byteCount: UInt64

    /// Without a view the image must not change meanwhile.
    init(_ session: ImageSnapshotSession, _ view: PointInTimeView?) {
        self.session = session
        self.view = view
        byteCount = session.volumeBytes
    }

    func nextData(from offset: UInt64) throws -> Range<UInt64>? {
        let next = try view.map { $0.nextData(from: offset) } ?? session.nextData(from: offset)
        if next == nil { try session.confirm() }
        return next
    }

    func read(into target: UnsafeMutableRawBufferPointer, at offset: UInt64) throws {
        try session.readImage(into: target, at: offset)
        // Asked after the read: what changes later does not concern it.
        for range in session.changed(in: offset..<offset + UInt64(target.count)) {
            guard let view else { throw ChangedMeanwhile() }
            let start = Int(range.lowerBound - offset)
            try view.read(
                into: UnsafeMutableRawBufferPointer(
                    rebasing: target[start..<start + range.count]), at: range.lowerBound)
        }
    }

}

/// The image was written to while it was copied, and no history has the bytes from before.
private struct ChangedMeanwhile: Error, CustomStringConvertible {
    var description: String {
        "the image changed while it was copied, and history before is missing: unmount it first"
    }
}
