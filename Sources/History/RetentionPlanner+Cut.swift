// From the points that stay to the segments that are written and deleted.

import BlockModel
import LogFormat

extension RetentionPlanner {
    /// Greedily, so that one part more or less changes nothing before it.
    func parts(_ sources: [RetentionPlan.Source]) -> [RetentionPlan.Merge] {
        var parts: [RetentionPlan.Merge] = []
        var count: UInt64 = 0
        for source in sources {
            if !parts.isEmpty, count + source.entryCount <= rule.entriesMax {
                parts[parts.count - 1].sources.append(source)
                count += source.entryCount
            } else {
                parts.append(RetentionPlan.Merge(sources: [source]))
                count = source.entryCount
            }
        }
        return parts
    }

    func cut(_ chain: HistoryChain, _ walk: Walk) -> RetentionPlan.Cut {
        var cut = RetentionPlan.Cut()
        var stays = leased
        var base = chain.base.first
        var items = walk.items[...]
        if !walk.keepsBase {
            if case .merge(let sources)? = items.popFirst() {
                var last = sources[sources.count - 1]
                base = last.last
                let isThere = chain.snapshots.contains { $0.first.lsn == base.lsn }
                if !isThere { cut.newBase = base }
                last.first = base
                let carrier = RetentionPlan.Merge(sources: [last])
                if last.endsAtRest {
                    if carrier.isThere { stays.insert(carrier.name) } else { cut.carrier = carrier }
                }
            } else {
                base = Stamp(lsn: .max, wallNanoseconds: .max)  // nothing stays
            }
        }
        var merges: [RetentionPlan.Merge] = []
        for item in items {
            switch item {
            case .whole(let segment): stays.insert(segment.name)
            case .merge(let sources): merges += parts(sources)
            }
        }
        for merge in merges where merge.isThere { stays.insert(merge.name) }
        merges.removeAll(where: \.isThere)
        for snapshot in [chain.base] + chain.snapshots {
            let lsn = snapshot.first.lsn
            let isKept = keptSnapshots.contains(lsn) && lsn >= base.lsn
            if isKept || lsn == base.lsn { stays.insert(snapshot.name) }
        }
        var gone = chain.links.map(\.segment).filter { !stays.contains($0.name) }
        if let carrier = carrier(of: chain), !stays.contains(chain.base.name) {
            gone.insert(carrier, at: 0)
        }
        cut.before =
            gone.filter { $0.last.lsn <= base.lsn }.reversed().map(\.name)
            + ([chain.base] + chain.snapshots).reversed().map(\.name)
            .filter { !stays.contains($0) && $0.last < base.lsn }
        cut.snapshots = chain.snapshots.map(\.name)
            .filter { !stays.contains($0) && $0.last > base.lsn }
        gone.removeAll { $0.last.lsn <= base.lsn }
        for i in merges.indices {
            let end = merges[i].last.lsn
            merges[i].replaces = gone.prefix { $0.last.lsn <= end }.map(\.name)
            gone.removeFirst(merges[i].replaces.count)
        }
        cut.merges = merges
        return cut
    }

    /// What the chain leads to afterwards.
    func ranges(_ chain: HistoryChain, _ walk: Walk) -> [RestorableRange] {
        var ranges: [RestorableRange] = []
        func add(_ first: Stamp, _ last: Stamp) {
            ranges.append(RestorableRange(first: first, last: last))
        }
        if walk.keepsBase { add(chain.base.first, chain.base.first) }
        for item in walk.items {
            switch item {
            case .whole(let segment):
                add(segment.name.kind == .log ? segment.first : segment.last, segment.last)
            case .merge(let sources):
                for part in parts(sources) { add(part.last, part.last) }
            }
        }
        if !walk.keepsBase, case .merge(let sources)? = walk.items.first {
            // Parts before the new base go with it.
            let base = sources[sources.count - 1].last
            ranges.removeAll { $0.last < base }
        }
        for snapshot in chain.snapshots where keptSnapshots.contains(snapshot.first.lsn) {
            if let first = ranges.first, snapshot.first.lsn >= first.first.lsn {
                add(snapshot.first, snapshot.first)
            }
        }
        return ranges
    }

    // MARK: - the rest

    /// Segments that no chain uses: covered by others, or older than the ladder reaches.
    func addStrays(_ plan: inout RetentionPlan) {
        let used = Set(chains.flatMap { $0.links.map(\.segment.name) })
        let planned = Set(plan.writes)
        // They go with their bases.
        let carriers = Set(chains.compactMap { carrier(of: $0)?.name })
        for segment in history.records
        where !used.contains(segment.name) && !carriers.contains(segment.name) {
            let isCovered = chains.contains {
                $0.base.first.lsn < segment.first.lsn && segment.last.lsn <= $0.end.lsn
            }
            let isTooOld = rung(segment.last) == nil && !isUnshipped(segment.last.lsn)
            guard isCovered || isTooOld, !planned.contains(segment.name) else {
                continue
            }
            if leased.contains(segment.name) {
                if segment.name.kind == .log { continue }
                // Nothing may be put across it.
                plan.blockers += leases.filter { $0.segments?.contains(segment.name) ?? false }
                plan.cuts = []
                plan.strays = []
                return
            }
            plan.strays.append(segment.name)
        }
    }

    /// When the first of the points comes to another rung.
    func nextDue(_ plan: RetentionPlan) -> Int64? {
        var due: Int64?
        for stamp in plan.ranges.flatMap({ [$0.first, $0.last] })
            + history.snapshots.map(\.first) + history.records.map(\.last)
        {
            for rung in rule.ladder.rungs {
                for span in [rung.span, rung.span.addingReportingOverflow(extraSpan).partialValue] {
                    let (time, overflow) = stamp.wallNanoseconds.addingReportingOverflow(span)
                    if !overflow, time >= rule.now { due = min(due ?? time, time) }
                }
            }
        }
        return due.map { $0 == .max ? $0 : $0 + 1 }
    }
}
