// Walks the chains of a history and decides, record by record, which points a ladder keeps
// (RetentionPlan.swift has the rules in words). Reads the indexes of those log segments only that
// are thinned now; memory is that of one index and of the points that stay.

import BlockModel
import LogFormat

/// Makes plans. A value; one thread.
struct RetentionPlanner {
    let rule: RetentionRule
    let history: HistoryCatalogue
    let chains: [HistoryChain]
    /// In use, or the only way to a point that stays.
    var leased: Set<SegmentName>
    /// Points that stay whatever their age.
    private let fixed: Set<LSN>
    let leases: [Lease]
    var keptSnapshots: Set<LSN> = []
    /// Kept snapshots and fixed points that can be restored, in order.
    private var anchors: [LSN] = []
    /// What `slack` adds to the last span at present.
    var extraSpan: Int64 = 0

    init(_ rule: RetentionRule, _ history: HistoryCatalogue, leases: [Lease]) {
        self.rule = rule
        self.history = history
        self.leases = leases
        chains = history.timeline.chains()
        leased = leases.reduce(into: []) { $0.formUnion($1.segments ?? []) }
        fixed = rule.pins.union(leases.compactMap(\.at))
        if let base = chains.first?.base.first,
            age(base) <= rule.ladder.lastSpan.addingReportingOverflow(rule.slack).partialValue
        {
            extraSpan = rule.slack
        }
        leased.formUnion(segmentsOfOffChainPoints())
        keptSnapshots = snapshotsToKeep()
        anchors = keptSnapshots.union(fixed).filter { history.isRestorable($0) }.sorted()
    }

    func plan() throws(HistoryError) -> RetentionPlan {
        var plan = RetentionPlan()
        plan.storedBytes = (history.records + history.snapshots)
            .reduce(0) { $0 + $1.footer.fileBytes }
        plan.blockers = leases.filter { $0.segments == nil }
        guard plan.blockers.isEmpty else { return plan }
        for (i, chain) in chains.enumerated() {
            let next = i + 1 < chains.count ? chains[i + 1].base.first : nil
            let walk = try walk(chain, next: next)
            plan.cuts.append(cut(chain, walk))
            plan.ranges += ranges(chain, walk)
        }
        plan.ranges = Timeline.union(plan.ranges)
        addStrays(&plan)
        plan.nextDue = nextDue(plan)
        return plan
    }

    // MARK: - rules

    private func age(_ stamp: Stamp) -> Int64 {
        let (age, overflow) = rule.now.subtractingReportingOverflow(stamp.wallNanoseconds)
        return overflow ? (rule.now < 0 ? .min : .max) : age
    }

    func rung(_ stamp: Stamp) -> Ladder.Rung? {
        let age = age(stamp)
        if let rung = rule.ladder.rung(age: age) { return rung }
        return age - rule.ladder.lastSpan <= extraSpan ? rule.ladder.rungs.last : nil
    }

    /// Whether the state that held from `stamp` until `end` stays.
    private func keeps(_ stamp: Stamp, isMark: Bool, until end: Int64) -> Bool {
        if fixed.contains(stamp.lsn) { return true }
        guard let rung = rung(stamp) else { return false }
        return isMark || keptSnapshots.contains(stamp.lsn)
            || rung.spacing.holdsLine(from: stamp.wallNanoseconds, until: end)
    }

    /// After a prune that did not end a fixed point may hang on segments beside the chains.
    private func segmentsOfOffChainPoints() -> Set<SegmentName> {
        var names: Set<SegmentName> = []
        for lsn in fixed where history.isRestorable(lsn) {
            let isOnChain = chains.contains { chain in
                if chain.base.first.lsn == lsn { return true }
                let i = chain.links.partitioningIndex { $0.segment.last.lsn >= lsn }
                guard i < chain.links.count, chain.links[i].after < lsn else { return false }
                let segment = chain.links[i].segment
                return segment.name.kind == .log || segment.last.lsn == lsn
            }
            guard !isOnChain, let plan = try? history.plan(to: lsn, snapshot: nil) else { continue }
            names.insert(plan.snapshot.name)
            for case .segment(let segment) in plan.runs.map(\.origin) { names.insert(segment.name) }
        }
        return names
    }

    private func snapshotsToKeep() -> Set<LSN> {
        let all = history.snapshots
        var kept: Set<LSN> = []
        for (i, snapshot) in all.enumerated() {
            let stamp = snapshot.first
            let isNewest = i + 1 == all.count
            let isInGrid = rung(stamp).map {
                isNewest
                    || $0.spacing.holdsLine(
                        from: stamp.wallNanoseconds, until: all[i + 1].first.wallNanoseconds)
            }
            if isInGrid ?? false || fixed.contains(stamp.lsn) || leased.contains(snapshot.name)
                || isUnshipped(stamp.lsn)
            {
                kept.insert(stamp.lsn)
            }
        }
        return kept
    }

    /// Whether a remote lacks it, or may lack it.
    func isUnshipped(_ lsn: LSN) -> Bool { rule.unshippedAfter.map { lsn > $0 } ?? false }

    /// Whether a segment stays as it is, with all its points: young, in use, or not to be cut.
    func staysWhole(_ link: HistoryChain.Link) -> Bool {
        let segment = link.segment
        if leased.contains(segment.name) || isUnshipped(segment.last.lsn) { return true }
        switch segment.name.kind {
        case .log: return rule.ladder.everySpan.map { age(segment.last) <= $0 } ?? false
        case .merged:
            // Points inside it that a snapshot makes cannot be cut at.
            let i = anchors.partitioningIndex { $0 >= segment.first.lsn }
            return link.isClipped || i < anchors.count && anchors[i] < segment.last.lsn
        case .snapshot: return true
        }
    }

    // MARK: - one chain

    struct Walk {
        enum Item {
            case whole(CataloguedSegment)
            /// What ends with a kept point.
            case merge([RetentionPlan.Source])
        }
        var items: [Item] = []
        var keepsBase: Bool
        /// What lies behind the last kept point so far.
        var open: [RetentionPlan.Source] = []

        mutating func close() {
            if !open.isEmpty { items.append(.merge(open)) }
            open = []
        }
    }

    func walk(
        _ chain: HistoryChain, next: Stamp?
    ) throws(HistoryError) -> Walk {
        let firstWall = try chain.links.first.map { link throws(HistoryError) in
            try first(of: link).wallNanoseconds
        }
        var walk = Walk(
            keepsBase: keptSnapshots.contains(chain.base.first.lsn)
                || keeps(
                    chain.base.first, isMark: carrier(of: chain)?.footer.markCount ?? 0 > 0,
                    until: firstWall ?? .min)
        )
        for (i, link) in chain.links.enumerated() {
            if staysWhole(link) {
                // The point before it cannot go.
                if walk.items.isEmpty, walk.open.isEmpty { walk.keepsBase = true }
                walk.close()
                walk.items.append(.whole(link.segment))
                continue
            }
            var end = next?.wallNanoseconds ?? .min
            if i + 1 < chain.links.count { end = try first(of: chain.links[i + 1]).wallNanoseconds }
            try thin(link, until: end, &walk)
        }
        // The end of the chain is the newest state, or the last before a gap.
        if next == nil || walk.keepsBase || !walk.items.isEmpty { walk.close() }
        if next == nil, walk.items.isEmpty { walk.keepsBase = true }
        return walk
    }

    /// The segment with the record that the base of the chain stands on, where it stayed.
    func carrier(of chain: HistoryChain) -> CataloguedSegment? {
        let lsn = chain.base.first.lsn
        return history.records.first {
            $0.name == SegmentName(first: lsn, last: lsn, kind: .merged)
        }
    }

    /// The first record that counts.
    func first(of link: HistoryChain.Link) throws(HistoryError) -> Stamp {
        guard link.isClipped, link.segment.name.kind == .log else { return link.segment.first }
        let entries = try history.index(of: link.segment).entries
        return entries[Int(link.after.rawValue - link.segment.first.lsn.rawValue) + 1].stamp
    }

    func thin(
        _ link: HistoryChain.Link, until end: Int64, _ walk: inout Walk
    ) throws(HistoryError) {
        let segment = link.segment
        guard segment.name.kind == .log else {
            walk.open.append(
                RetentionPlan.Source(
                    segment: segment, first: segment.first, last: segment.last,
                    endsAtRest: segment.footer.markCount + segment.footer.flushCount > 0))
            // What a merged segment keeps of flushes and marks is its last record.
            if keeps(segment.last, isMark: segment.footer.markCount > 0, until: end) {
                walk.close()
            }
            return
        }
        let all = try history.index(of: segment).entries
        let entries = all[Int(link.after.next.rawValue - segment.first.lsn.rawValue)...]
        var kept: [Int] = []
        for i in entries.indices {
            let until = i + 1 < entries.endIndex ? entries[i + 1].stamp.wallNanoseconds : end
            if keeps(entries[i].stamp, isMark: entries[i].kind == .mark, until: until) {
                kept.append(i)
            }
        }
        let isAfterKept = walk.open.isEmpty && (walk.keepsBase || !walk.items.isEmpty)
        if kept.count == entries.count, isAfterKept, !link.isClipped {
            return walk.items.append(.whole(segment))
        }
        var start = entries.startIndex
        for i in kept + (kept.last == entries.endIndex - 1 ? [] : [entries.endIndex - 1]) {
            walk.open.append(
                RetentionPlan.Source(
                    segment: segment, first: entries[start].stamp, last: entries[i].stamp,
                    endsAtRest: !entries[i].kind.changesSectors))
            start = i + 1
            if kept.last.map({ i <= $0 }) ?? false { walk.close() }
        }
    }
}
