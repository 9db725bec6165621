// Plans the next step and carries it to the remote.

import BlockModel
import CLinux
import History
import LogFormat
import ServerAPI

/// Why a round ended early.
enum ShipTrouble: Error {
    case ship(ShipError)
    /// Try again later.
    case failed(String)
    /// Nothing helps but the user.
    case standing(String)

    init(_ error: HistoryError) {
        switch error {
        case .store(let failure): self = .ship(.source(failure))
        case .cancelled: self = .ship(.stopped)
        default: self = .failed("\(error)")
        }
    }
}

extension Shipper {
    /// The next step; nil: the remote has all that is in segments.
    func plan() throws(ShipTrouble) -> ShipStep? {
        let memory = state.withLock { $0.memory }
        var plan = ShipPlan(head: work.head, memory: memory, newest: journal.durable.lsn)
        plan.outside = work.sealing.outside
        if let ladder = work.ladder {
            var rule = RetentionRule(ladder, now: setup.clock.wall())
            rule.pins = journal.pins
            rule.entriesMax = Self.entriesMax
            plan.rule = rule
        }
        let history: HistoryCatalogue
        do throws(HistoryError) {
            plan.holdsBeginning = journal.holdsBeginning
            if plan.holdsBeginning { plan.oldestSnapshot = try oldestSnapshot() }
            history = try catalogue(
                UnshippedSegments(
                    journal.store, head: work.head.map { LSN($0.lsn) },
                    snapshot: memory.snapshotLSN.map { LSN($0) }))
        } catch { throw ShipTrouble(error) }
        do throws(ShipPlanError) {
            let step = try plan.next(history)
            work.following = following(step, plan, history)
            return step
        } catch {
            throw trouble(error)
        }
    }

    /// What comes behind a step, as far as that is segments as they are: the head behind each of
    /// them is known.
    private func following(
        _ step: ShipStep?, _ plan: ShipPlan, _ history: HistoryCatalogue
    ) -> [Following] {
        var (step, plan) = (step, plan)
        var found: [Following] = []
        while found.count < target.nextMax, case .segment(let segment, _, _)? = step,
            segment.name.kind != .snapshot
        {
            let own =
                segment.name.kind == .log
                ? segment.footer.digest : segment.footer.header.predecessor
            plan.head = VolumeReply.Head(
                lsn: segment.last.lsn.rawValue, wallNanoseconds: segment.last.wallNanoseconds,
                digest: own == .none ? nil : "\(plan.outside(own))")
            step = try? plan.next(history)
            guard case .segment(let next, let after, let isGap)? = step else { break }
            found.append(Following(segment: next, after: after, isGap: isGap))
        }
        return found
    }

    /// Bounds the memory of a merge in a mount to some 50 MiB.
    private static let entriesMax: UInt64 = 1 << 18

    private func catalogue(
        _ store: any SegmentStore
    ) throws(HistoryError) -> HistoryCatalogue {
        try HistoryCatalogue(
            store: store, volume: journal.identity.volume, base: journal.base)
    }

    private func oldestSnapshot() throws(HistoryError) -> LSN? {
        do throws(StoreError) {
            return try journal.store.list().first { $0.name.kind == .snapshot }?.name.last
        } catch { throw .store(error) }
    }

    private func trouble(_ error: ShipPlanError) -> ShipTrouble {
        switch error {
        case .history(let failure): ShipTrouble(failure)
        case .diverged(let lsn):
            .standing(
                "the remote holds other records up to lsn \(lsn): this volume was set back or is "
                    + "a copy; ship it to another name")
        case .ahead(let lsn):
            .standing(
                "the remote holds records up to lsn \(lsn), which this volume does not have: it "
                    + "was set back; adopt the remote or ship to another name")
        case .broken(let lsn):
            .failed(
                "records after lsn \(lsn) are damaged or missing here and no snapshot follows; "
                    + "take one: logdisk snapshot")
        }
    }

    // MARK: - one step

    func carry(_ step: ShipStep) throws(ShipTrouble) {
        switch step {
        case .segment(let segment, let after, let isGap):
            try send(
                segment, from: journal.store, after: after, isGap: isGap, next: work.following)
        case .merge(let merge, let after):
            let segment = try spooled(merge.name) { spool throws(HistoryError) in
                try merge.write(from: journal.store, into: spool) { _ throws(HistoryError) in
                    try self.rest()
                }
            }
            try send(segment, from: spool(), after: after, isGap: false)
            forgetSpooled()
        case .snapshot(let lsn, let isGap):
            let segment = try spooled(.snapshot(lsn)) { spool throws(HistoryError) in
                try writeSnapshot(lsn, into: spool)
            }
            try send(segment, from: spool(), after: nil, isGap: isGap)
            forgetSpooled()
        }
    }

    /// Between pieces of work on this machine.
    private func rest() throws(HistoryError) {
        if isStopping { throw .cancelled }
        if !state.withLock({ $0.schedule.decision.isForced }) { journal.pace() }
    }

    private func writeSnapshot(
        _ lsn: LSN, into spool: any SegmentStore
    ) throws(HistoryError) -> CataloguedSegment {
        let history = try catalogue(journal.history)
        let view = try PointInTimeView(history, at: lsn)
        let known = (history.records + history.snapshots)
            .flatMap { [$0.first, $0.last] }.first { $0.lsn == lsn }
        let stamp: Stamp
        if let known {
            stamp = known
        } else {
            stamp = try history.resolve(.lsn(lsn), now: setup.clock.wall()).stamp
        }
        let name = try SnapshotWriter(store: spool, identity: journal.identity).write(
            view, at: stamp, monitor: WorkMonitor(isCancelled: { self.isStopping }))
        return CataloguedSegment(name: name, footer: try footer(name, in: spool))
    }

    private func footer(
        _ name: SegmentName, in store: any SegmentStore
    ) throws(HistoryError) -> SegmentFooter {
        let stored: StoredSegment?
        do throws(StoreError) {
            stored = try store.list().first { $0.name == name }
        } catch { throw .store(error) }
        guard let stored else { throw .store(StoreError(.read, "\(name)", .missing)) }
        return try SegmentReader.footer(of: stored, in: store)
    }

    // MARK: - what is made before it goes

    private func spool() throws(ShipTrouble) -> any SegmentStore {
        if let spool = work.spool { return spool }
        do throws(StoreError) {
            let spool = try journal.spool(setup.name)
            work.spool = spool
            return spool
        } catch { throw .ship(.source(error)) }
    }

    /// What was made for a try that failed is taken again: its upload may have begun.
    private func spooled(
        _ name: SegmentName,
        make: (any SegmentStore) throws(HistoryError) -> CataloguedSegment
    ) throws(ShipTrouble) -> CataloguedSegment {
        if let known = work.spooled, known.name == name { return known }
        forgetSpooled()
        let spool = try spool()
        do throws(HistoryError) {
            let segment = try make(spool)
            work.spooled = segment
            return segment
        } catch { throw ShipTrouble(error) }
    }

    private func forgetSpooled() {
        guard let segment = work.spooled, let spool = work.spool else { return }
        try? spool.delete(segment.name)  // the next start empties the folder
        work.spooled = nil
    }

    // MARK: - the network

    private func send(
        _ segment: CataloguedSegment, from store: any SegmentStore, after: SegmentDigest?,
        isGap: Bool, next: [Following] = []
    ) throws(ShipTrouble) {
        let shipment: Shipment
        do throws(StoreError) {
            shipment = try work.sealing.shipment(segment, in: store, after: after, isGap: isGap)
        } catch { throw .ship(.source(error)) }
        let later = next.compactMap {
            try? work.sealing.shipment($0.segment, in: store, after: $0.after, isGap: $0.isGap)
        }
        var done: UInt64 = 0
        let total = shipment.byteCount
        note(sending: shipment.name, done, total)
        defer { state.withLock { $0.sending = nil } }
        setup.traffic.add(body: 0, isRequest: true)
        let reply: CommitReply?
        do throws(ShipError) {
            reply = try target.put(shipment, next: later) { count throws(ShipError) in
                try pace(count)
                done += UInt64(count)
                note(sending: shipment.name, min(done, total), total)
            }
        } catch {
            guard case .rejected(let refusal) = error, refusal.code == .exists,
                segment.name.kind == .snapshot
            else { throw .ship(error) }
            reply = nil  // a snapshot of that LSN is there: the same state, in other bytes
        }
        noteGood()
        work.conflicts = 0
        work.sealing.forget(segment.name, in: store)
        acknowledged(segment, reply, isGap: isGap)
    }

    private func note(sending name: SegmentName, _ done: UInt64, _ total: UInt64) {
        state.withLock {
            $0.sending = ("\(name)", WorkProgress(doneBytes: done, totalBytes: total))
        }
    }

    private func acknowledged(
        _ segment: CataloguedSegment, _ reply: CommitReply?, isGap: Bool
    ) {
        let name = segment.name
        let isFirst = work.head == nil
        state.withLock { state in
            state.shippedSegments += 1
            guard name.kind == .snapshot else { return }
            state.memory.restartLSN = name.last.rawValue
            // One that was made to begin anew says nothing of those that were taken before.
            if isFirst || isGap || work.spooled?.name != name {
                state.memory.snapshotLSN = max(state.memory.snapshotLSN ?? 0, name.last.rawValue)
            }
        }
        log.debug("remote \(setup.name): \(name) is there")
        if let reply {
            take(reply.head)
        } else {
            take(work.head)
        }
    }

    /// Before each piece: counts it, keeps to the rate, gives way to the volume, and stops when the
    /// schedule has changed its mind.
    private func pace(_ count: Int) throws(ShipError) {
        if isStopping { throw .stopped }
        let clock = setup.clock
        if work.lookedAt.map({ clock.now() - $0 >= Self.lookNanoseconds }) ?? true {
            work.lookedAt = clock.now()
            guard look(isUnderWay: true).isShip else { throw .stopped }
        }
        let decision = state.withLock { $0.schedule.decision }
        if !decision.isForced { journal.pace() }
        if case .ship(let rate?, _) = decision {
            if work.bucket?.bytesPerSecond != rate {
                work.bucket = TokenBucket(bytesPerSecond: rate)
            }
            let wait = work.bucket?.take(count, now: clock.now()) ?? 0
            if wait > 0 { try sleep(wait) }
        }
        setup.traffic.add(body: count, isRequest: false)
        state.withLock { $0.shippedBytes += UInt64(count) }
    }

    private static let lookNanoseconds: Int64 = 500_000_000

    /// Also for long waits at small rates a stop or a pause comes through.
    private func sleep(_ nanoseconds: Int64) throws(ShipError) {
        let clock = setup.clock
        if let sleep = clock.sleep { return sleep(nanoseconds) }
        let end = clock.now() + nanoseconds
        while true {
            let left = end - clock.now()
            guard left > 0 else { return }
            bell.sleep(min(left, Self.lookNanoseconds), since: bell.count)
            if isStopping { throw .stopped }
            guard look(isUnderWay: true).isShip else { throw .stopped }
        }
    }
}
