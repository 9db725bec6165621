// Retention where nothing can be looked into: a server with sealed segments cannot merge them, so
// it keeps every point up to the ladder's last span and drops what lies before, whole chains only.
// Pure planning from the clear footers, then deletion under the same leases as any thinning.
//
//   snapshot   logs                  snapshot    logs                       now
//   ●──────────────────────────────────●────────────────────────────────────▶
//   ┆◄──────── deleted ───────────────►┆◄── base    ┆◄── the ladder's last span
//
// The base is the newest snapshot that is not younger than the last span, lies before every pin and
// branch, and from which everything can be reached that can be reached now: so neither the newest
// chain nor anything after a gap loses its beginning. Without such a snapshot nothing goes.

import BlockModel
import LogFormat

/// What pruning a sealed volume would do.
public struct SealedPlan: Sendable, Hashable {
    /// From which snapshot on everything stays; nil: nothing goes.
    public var base: Stamp?
    /// The newest first, so that what is left by an end in between is a whole chain.
    public var deletes: [SegmentName] = []
    public var deletedBytes: UInt64 = 0
    /// Who uses something of it; not empty: nothing is to be deleted now.
    public var blockers: [Lease] = []
    /// When there will be something to do, if no segment comes; nil: never.
    public var nextDue: Int64?

    public init() {}
}

/// Prunes the sealed history in one store. A value; each call on one thread.
public struct SealedThinning: Sendable {
    private let store: any SegmentStore
    private let volume: VolumeID
    private let leases: @Sendable () throws -> [Lease]

    /// `store` holds containers; `leases` tells what is in use at the moment.
    public init(
        store: any SegmentStore, volume: VolumeID, leases: @escaping @Sendable () throws -> [Lease]
    ) {
        self.store = store
        self.volume = volume
        self.leases = leases
    }

    /// What `run` would do. Segments whose footers are damaged or of another volume count for
    /// nothing and stay.
    public func plan(_ rule: RetentionRule) throws(HistoryError) -> SealedPlan {
        var segments: [CataloguedSegment] = []
        var sizes: [SegmentName: UInt64] = [:]
        let stored: [StoredSegment]
        do throws(StoreError) { stored = try store.list() } catch { throw .store(error) }
        for segment in stored {
            do throws(HistoryError) {
                let footer = try SealedSegment.footer(of: segment, in: store)
                guard footer.label.content?.volume == volume,
                    let known = CataloguedSegment(sealed: footer)
                else { continue }
                segments.append(known)
                sizes[segment.name] = segment.byteCount
            } catch {
                switch error {
                case .damaged: continue
                case .store(let failure) where failure.isOfOneSegment: continue
                default: throw error
                }
            }
        }
        var plan = Self.plan(rule, segments, leases: try current())
        plan.deletedBytes = plan.deletes.reduce(0) { $0 + (sizes[$1] ?? 0) }
        return plan
    }

    /// Does it. What is leased is asked for again before each deletion.
    public func run(_ rule: RetentionRule) throws(HistoryError) -> ThinningResult {
        let plan = try plan(rule)
        var result = ThinningResult()
        result.nextDue = plan.nextDue
        result.blockers = plan.blockers
        guard plan.blockers.isEmpty, let base = plan.base else { return result }
        let sizes: [SegmentName: UInt64]
        do throws(StoreError) {
            sizes = Dictionary(
                try store.list().map { ($0.name, $0.byteCount) },
                uniquingKeysWith: { first, _ in first })
        } catch { throw .store(error) }
        for name in plan.deletes {
            result.blockers = Self.blockers(try current(), of: [name], base: base)
            guard result.blockers.isEmpty else { break }
            do throws(StoreError) {
                try store.delete(name)
                result.deleted.append(name)
                result.deletedBytes += sizes[name] ?? 0
            } catch {
                guard error.cause == .missing else { throw .store(error) }
            }
        }
        return result
    }

    private func current() throws(HistoryError) -> [Lease] {
        do { return try leases() } catch { throw .source(error) }
    }

    // MARK: - Planning

    /// The plan for these segments, of one volume; stand-ins by CataloguedSegment(sealed:) will do.
    public static func plan(
        _ rule: RetentionRule, _ segments: [CataloguedSegment], leases: [Lease] = []
    ) -> SealedPlan {
        var plan = SealedPlan()
        let records = segments.filter { $0.name.kind != .snapshot }
        let snapshots = segments.filter { $0.name.kind == .snapshot }.sorted { $0.name < $1.name }
        // What must stay restorable bounds the base.
        let kept = rule.pins.union(leases.filter(\.isDurable).compactMap(\.at)).min() ?? .max
        let candidates = snapshots.dropFirst().filter { $0.first.lsn <= kept }
        let all = Reach(records: records, snapshots: snapshots)
        func isSound(_ base: CataloguedSegment) -> Bool {
            let rest = Self.rest(segments, from: base)
            let left = Reach(
                records: rest.filter { $0.name.kind != .snapshot },
                snapshots: rest.filter { $0.name.kind == .snapshot })
            return left == all.after(base.first.lsn)
        }
        guard let oldest = snapshots.first else { return plan }
        let span = rule.ladder.lastSpan
        let edge = Self.minus(rule.now, span)
        let base = candidates.last { $0.first.wallNanoseconds <= edge && isSound($0) }
        let isDue = oldest.first.wallNanoseconds <= Self.minus(edge, rule.slack)
        let first = isDue ? base ?? oldest : oldest
        let next =
            isDue || base == nil
            ? candidates.first { $0.first.wallNanoseconds > edge && isSound($0) } : base
        plan.nextDue = next.map { next in
            max(
                Self.plus(next.first.wallNanoseconds, span),
                Self.plus(Self.plus(first.first.wallNanoseconds, span), rule.slack))
        }
        guard isDue, let base else { return plan }
        let staying = Set(Self.rest(segments, from: base).map(\.name))
        plan.deletes = segments.map(\.name).filter { !staying.contains($0) }.sorted(by: >)
        plan.base = base.first
        plan.blockers = blockers(leases, of: plan.deletes, base: base.first)
        return plan
    }

    /// What stays when `base` becomes the first snapshot.
    private static func rest(
        _ segments: [CataloguedSegment], from base: CataloguedSegment
    ) -> [CataloguedSegment] {
        segments.filter {
            $0.name.kind == .snapshot
                ? $0.name.first >= base.name.first : $0.name.last > base.name.first
        }
    }

    /// Who keeps `names` from being deleted: who reads one of them or is still to say what it
    /// reads, and a branch that stands before the base.
    private static func blockers(
        _ leases: [Lease], of names: [SegmentName], base: Stamp
    ) -> [Lease] {
        leases.filter { lease in
            if lease.isDurable, let at = lease.at { return at < base.lsn }
            return lease.segments.map { !$0.isDisjoint(with: names) } ?? true
        }
    }

    private static func minus(_ a: Int64, _ b: Int64) -> Int64 {
        let (value, isOver) = a.subtractingReportingOverflow(b)
        return isOver ? (b > 0 ? .min : .max) : value
    }

    private static func plus(_ a: Int64, _ b: Int64) -> Int64 {
        let (value, isOver) = a.addingReportingOverflow(b)
        return isOver ? (b > 0 ? .max : .min) : value
    }
}

/// The LSNs that can be restored.
private struct Reach: Equatable {
    private var ranges: [ClosedRange<UInt64>]

    init(records: [CataloguedSegment], snapshots: [CataloguedSegment]) {
        let timeline = Timeline(
            records: records, snapshots: snapshots, unusable: [], tail: nil)
        ranges = timeline.restorable().0.map { $0.first.lsn.rawValue...$0.last.lsn.rawValue }
    }

    /// Without what lies before `lsn`.
    func after(_ lsn: LSN) -> Reach {
        var result = self
        result.ranges = ranges.compactMap { range in
            range.upperBound < lsn.rawValue
                ? nil : max(range.lowerBound, lsn.rawValue)...range.upperBound
        }
        return result
    }
}
