// Carries out what a ladder asks for. Each merged segment and each new base is written, read back
// and verified before anything that it makes superfluous is deleted, and what lies before others in
// a chain is deleted first; so a crash anywhere leaves, for each point that stays, a whole way to
// it, and the next run goes on from there. What is leased is asked for again before each deletion.
//
// One run at a time (the caller's lock); the archiver, snapshots and readers may go on meanwhile.

import BlockModel
import LogFormat

/// What a run did.
public struct ThinningResult: Sendable {
    public var written: [SegmentName] = []
    public var deleted: [SegmentName] = []
    public var writtenBytes: UInt64 = 0
    public var deletedBytes: UInt64 = 0
    /// Who used what should have gone; not empty: something was left for the next run.
    public var blockers: [Lease] = []
    /// As in the last plan.
    public var nextDue: Int64?

    public init() {}
}

/// Thins the history in one store. A value; each call on one thread.
public struct Thinning: Sendable {
    private let store: any SegmentStore
    private let volume: VolumeID?
    private let base: PointInTimeView?
    private let leases: @Sendable () throws -> [Lease]

    /// Plans follow each other until nothing is left to do: parts of a large interval shrink and
    /// then fit together. Never more often than this.
    private static let roundsMax = 64

    /// `leases` tells what is in use at the moment; `base` is what a branch stands on.
    public init(
        store: any SegmentStore, volume: VolumeID?, base: PointInTimeView? = nil,
        leases: @escaping @Sendable () throws -> [Lease]
    ) {
        self.store = store
        self.volume = volume
        self.base = base
        self.leases = leases
    }

    /// What `run` would do first, from indexes alone.
    public func plan(_ rule: RetentionRule) throws(HistoryError) -> RetentionPlan {
        let (plan, _, _) = try look(rule)
        return plan
    }

    /// Bytes that the store would hold less after `plan`, about: compression is guessed from what
    /// is there.
    public func estimatedFreedBytes(_ rule: RetentionRule) throws(HistoryError) -> Int64 {
        let (plan, history, _) = try look(rule)
        let sizes = Self.sizes(history)
        var freed = plan.deletes.reduce(0.0) { $0 + Double(sizes[$1] ?? 0) }
        for cut in plan.cuts {
            for merge in cut.merges {
                let writer = try MergeWriter(merge, in: store) { _ throws(HistoryError) in }
                let footers = merge.sources.map(\.segment.footer)
                let stored = footers.reduce(0.0) { $0 + Double($1.fileBytes) }
                let plain = footers.reduce(1.0) { $0 + Double($1.dataBytes) }
                freed -= Double(writer.visibleBytes) * min(1, stored / plain)
            }
            if let base = cut.newBase {
                let view = try PointInTimeView(history, at: base.lsn)
                let footers = history.snapshots.map(\.footer)
                let stored = footers.reduce(0.0) { $0 + Double($1.fileBytes) }
                let plain = footers.reduce(1.0) { $0 + Double($1.dataBytes) }
                freed -= Double(view.dataBytes) * min(1, stored / plain)
            }
        }
        return Int64(freed)
    }

    /// Whose use keeps segments that `rule` would not; a branch's point is kept on purpose.
    public func holders(_ rule: RetentionRule) throws(HistoryError) -> [Lease] {
        let current: [Lease]
        do { current = try leases() } catch { throw .source(error) }
        let history = try HistoryCatalogue(store: store, volume: volume, base: base)
        let planner = RetentionPlanner(rule, history, leases: current.filter(\.isDurable))
        let superfluous = Set(try planner.plan().deletes)
        return current.filter { lease in
            !lease.isDurable && lease.segments.map { !$0.isDisjoint(with: superfluous) } ?? true
        }
    }

    /// Does it. Throws `.damaged` where a source or what was written does not verify; what was
    /// done until then stays done, and is sound.
    public func run(
        _ rule: RetentionRule, monitor: WorkMonitor = .none
    ) throws(HistoryError) -> ThinningResult {
        var result = ThinningResult()
        for _ in 0..<Self.roundsMax {
            let (plan, history, current) = try look(rule)
            result.nextDue = plan.nextDue
            result.blockers = plan.blockers
            if plan.isEmpty || !plan.blockers.isEmpty { break }
            let round = Round(
                store: store, history: history, leases: leases, monitor: monitor, plan: plan,
                known: current)
            defer { round.addTo(&result) }
            try round.run()
            if !round.blockers.isEmpty { break }
        }
        return result
    }

    private func look(
        _ rule: RetentionRule
    ) throws(HistoryError) -> (RetentionPlan, HistoryCatalogue, [Lease]) {
        let current: [Lease]
        do { current = try leases() } catch { throw .source(error) }
        let history = try HistoryCatalogue(store: store, volume: volume, base: base)
        return (try RetentionPlanner(rule, history, leases: current).plan(), history, current)
    }

    fileprivate static func sizes(_ history: HistoryCatalogue) -> [SegmentName: UInt64] {
        Dictionary(
            (history.records + history.snapshots).map { ($0.name, $0.footer.fileBytes) },
            uniquingKeysWith: { first, _ in first })
    }
}

/// One plan being carried out. One thread.
private final class Round {
    private let store: any SegmentStore
    private let history: HistoryCatalogue
    private let leases: @Sendable () throws -> [Lease]
    private let monitor: WorkMonitor
    private let plan: RetentionPlan
    /// Points of branches that the plan knows of.
    private let branchPoints: Set<LSN>
    private let sizes: [SegmentName: UInt64]
    private var progress: WorkProgress
    private var written: [SegmentName] = []
    private var writtenBytes: UInt64 = 0
    private var deleted: [SegmentName] = []
    private(set) var blockers: [Lease] = []

    init(
        store: any SegmentStore, history: HistoryCatalogue,
        leases: @escaping @Sendable () throws -> [Lease], monitor: WorkMonitor,
        plan: RetentionPlan, known: [Lease]
    ) {
        self.store = store
        self.history = history
        self.leases = leases
        self.monitor = monitor
        self.plan = plan
        branchPoints = Set(known.filter(\.isDurable).compactMap(\.at))
        sizes = Thinning.sizes(history)
        let sources = plan.cuts.flatMap { $0.merges.flatMap(\.sources) }.map(\.segment)
        let total = Set(sources).reduce(0) { $0 + $1.footer.dataBytes }
        progress = WorkProgress(doneBytes: 0, totalBytes: total)
    }

    func run() throws(HistoryError) {
        guard try delete(plan.strays) else { return }
        for cut in plan.cuts {
            if let base = cut.newBase { try writeBase(base) }
            if let carrier = cut.carrier { try write(carrier) }
            guard try delete(cut.before) else { return }
            for merge in cut.merges {
                try write(merge)
                guard try delete(merge.replaces) else { return }
            }
            guard try delete(cut.snapshots) else { return }
        }
    }

    func addTo(_ result: inout ThinningResult) {
        result.written += written
        result.writtenBytes += writtenBytes
        result.deleted += deleted
        result.deletedBytes += deleted.reduce(0) { $0 + (sizes[$1] ?? 0) }
        if !blockers.isEmpty { result.blockers = blockers }
    }

    private func advance(_ count: Int) throws(HistoryError) {
        progress.doneBytes = min(progress.doneBytes + UInt64(count), progress.totalBytes)
        monitor.report(progress)
        if monitor.isCancelled() { throw .cancelled }
    }

    private func writeBase(_ stamp: Stamp) throws(HistoryError) {
        guard let header = history.snapshots.first?.footer.header else {
            preconditionFailure("a chain without a snapshot")
        }
        let view = try PointInTimeView(history, at: stamp.lsn)
        let identity = SegmentIdentity(
            volume: header.volume, volumeBytes: header.volumeBytes,
            epoch: history.records.last?.footer.header.epoch ?? header.epoch)
        let writer = SnapshotWriter(
            store: store, identity: identity, blockBytes: header.blockBytes)
        let name = try writer.write(
            view, at: stamp, monitor: WorkMonitor(isCancelled: monitor.isCancelled))
        try verify(name, sizeInStore(name))
    }

    /// What a run before this one has written is taken when it verifies.
    private func write(_ merge: RetentionPlan.Merge) throws(HistoryError) {
        if let known = history.records.first(where: { $0.name == merge.name }) {
            do throws(HistoryError) {
                return try check(known.name, known.footer.fileBytes)
            } catch {
                guard case .damaged = error else { throw error }
                guard try delete([merge.name]) else { throw error }
            }
        }
        let segment = try MergeWriter(merge, in: store, advance: advance).write()
        try verify(segment.name, segment.footer.fileBytes)
    }

    private func sizeInStore(_ name: SegmentName) throws(HistoryError) -> UInt64 {
        do throws(StoreError) {
            return try store.list().first { $0.name == name }?.byteCount ?? 0
        } catch { throw .store(error) }
    }

    /// Reads back what was just written; what is not right is taken away again.
    private func verify(_ name: SegmentName, _ byteCount: UInt64) throws(HistoryError) {
        do throws(HistoryError) {
            try check(name, byteCount)
        } catch {
            if case .damaged = error { try? store.delete(name) }
            throw error
        }
        written.append(name)
        writtenBytes += byteCount
    }

    private func check(_ name: SegmentName, _ byteCount: UInt64) throws(HistoryError) {
        let footer = try SegmentReader.footer(
            of: StoredSegment(name: name, byteCount: byteCount), in: store)
        let isCancelled = monitor.isCancelled
        let verifier = try SegmentVerifier(
            CataloguedSegment(name: name, footer: footer), in: store
        ) { _ throws(HistoryError) in
            if isCancelled() { throw .cancelled }
        }
        if let damage = try verifier.run().first { throw .damaged(name, damage.error) }
    }

    /// False when something is in use by now; then it and what follows is left.
    private func delete(_ names: [SegmentName]) throws(HistoryError) -> Bool {
        for name in names {
            let current: [Lease]
            do { current = try leases() } catch { throw .source(error) }
            blockers = current.filter { lease in
                let isNewBranch =
                    lease.isDurable && lease.at.map { !branchPoints.contains($0) } ?? false
                return isNewBranch || lease.segments?.contains(name) ?? true
            }
            guard blockers.isEmpty else { return false }
            do throws(StoreError) {
                try store.delete(name)
                deleted.append(name)
            } catch {
                guard error.cause == .missing else { throw .store(error) }
            }
        }
        return true
    }
}
