// What waits to be shipped, the bound on it, and the question to the schedule.

import BlockModel
import History
import LogFormat

extension Shipper {
    /// What the remote lacks.
    struct Backlog {
        /// Bytes of segments; those of the log come on top.
        var segmentBytes: UInt64 = 0
        /// Those of segments behind what is given up by --on-backlog drop-to-gap.
        var bytesAfterDrop: UInt64 = 0
        /// Snapshots that were not sent.
        var hasSnapshots = false
        fileprivate var archived: LSN?
        fileprivate var acked: LSN?
    }

    /// Finds out what waits, holds to the bound, and asks the schedule.
    @discardableResult
    func look(isUnderWay: Bool = false) -> ShipDecision {
        refreshBacklog()
        let durable = journal.durable
        let unarchived = journal.unarchivedBytes
        let isBusy = !isUnderWay && journal.isBusy
        let clock = setup.clock
        let (now, wall) = (clock.now(), clock.wall())
        let counters = counters()
        let (decision, isNew) = state.withLock { state -> (ShipDecision, Bool) in
            var inputs = ShipSchedule.Inputs(
                now: now, wall: wall, minuteOfDay: clock.minuteOfDay(wall))
            inputs.interfaceBytes = counters.bytes
            inputs.linkBytesPerSecond = counters.speed
            inputs.ownBytes = setup.traffic.bytes
            let acked = state.memory.acked
            if let acked {
                inputs.backlogRecords =
                    durable.lsn > acked ? durable.lsn.rawValue - acked.rawValue : 0
                inputs.hasSegment =
                    isUnderWay || journal.archived > acked || state.backlog.hasSnapshots
            } else {
                inputs.backlogRecords = max(1, durable.lsn.rawValue)
                inputs.hasSegment = true
            }
            inputs.backlogBytes =
                inputs.backlogRecords == 0 ? 0 : state.backlog.segmentBytes + unarchived
            if !inputs.hasWork {
                state.idleWall = wall
                if state.askedThrough.map({ $0 <= acked ?? .zero }) ?? false {
                    state.askedThrough = nil
                    state.schedule.isAsked = false
                }
            } else if state.schedule.decision.kind == "hold:up-to-date", acked != nil {
                state.idleWall = wall  // nothing waited until now
            }
            // A remote that has nothing yet waits since it was first seen.
            if acked == nil, state.idleWall == .min { state.idleWall = wall }
            if inputs.backlogRecords > 0 {
                inputs.oldestWall = max(state.memory.ackedWallNanoseconds, state.idleWall)
            }
            inputs.isVolumeBusy = isBusy
            let before = state.schedule.decision.kind
            let decision = state.schedule.decide(inputs)
            return (decision, before != decision.kind)
        }
        if isNew { log.info("remote \(setup.name): \(decision)") }
        keepBound(unarchived)
        return decision
    }

    private func counters() -> (bytes: UInt64?, speed: UInt64?) {
        guard setup.settings.when == .quiet, let interface = setup.interface else {
            return (nil, nil)
        }
        return (NetworkInterfaces.bytes(interface), NetworkInterfaces.speed(interface))
    }

    /// Lists the store only when something has changed there.
    private func refreshBacklog() {
        let archived = journal.archived
        let isOld = state.withLock { state in
            let isOld =
                state.hasNews || state.backlog.archived != archived
                || state.backlog.acked != state.memory.acked
            state.hasNews = false
            return isOld
        }
        guard isOld else { return }
        let segments: [StoredSegment]
        do throws(StoreError) { segments = try journal.store.list() } catch { return }
        state.withLock { state in
            let memory = state.memory
            var backlog = Backlog()
            (backlog.archived, backlog.acked) = (archived, memory.acked)
            let drop = memory.dropThroughLSN.map { LSN($0) } ?? .zero
            for segment in segments where segment.name.kind != .snapshot {
                if memory.acked.map({ segment.name.last > $0 }) ?? true {
                    backlog.segmentBytes += segment.byteCount
                    if segment.name.last > drop { backlog.bytesAfterDrop += segment.byteCount }
                }
            }
            let snapshots = segments.map(\.name).filter { $0.kind == .snapshot }.map(\.last)
            let sent = memory.snapshotLSN.map { LSN($0) }
            let beginning = journal.holdsBeginning ? 1 : 0
            backlog.hasSnapshots = snapshots.dropFirst(beginning).contains { lsn in
                sent.map { lsn > $0 } ?? true && memory.acked.map { lsn <= $0 } ?? true
            }
            state.backlog = backlog
        }
    }

    // MARK: - the bound

    private func keepBound(_ unarchived: UInt64) {
        guard let bound = setup.settings.backlogBytesMax else { return }
        let (total, fresh, isStanding) = state.withLock { state in
            (
                state.backlog.segmentBytes + unarchived,
                state.backlog.bytesAfterDrop + unarchived, state.schedule.standingProblem != nil
            )
        }
        switch setup.settings.onBacklog {
        case .holdWrites:
            // Somebody else writes there now, or the like: it would be for ever.
            if isStanding {
                hold(writers: false)
            } else if total >= bound {
                hold(writers: true)
            } else if total < bound / 10 * 9 {
                hold(writers: false)
            }
        case .dropToGap:
            if fresh >= bound { giveUpPoints(bytes: total) }
        }
    }

    func hold(writers isHeld: Bool) {
        let isNew = state.withLock { state in
            let isNew = state.isHoldingWriters != isHeld
            state.isHoldingWriters = isHeld
            return isNew
        }
        guard isNew else { return }
        journal.holdWriters(isHeld, for: setup.name)
        if isHeld {
            log.error("remote \(setup.name): as much waits as may; writers are held")
        } else {
            log.notice("remote \(setup.name): writers go on")
        }
    }

    /// What waits goes as one interval: its end arrives, the points in it are given up there.
    private func giveUpPoints(bytes: UInt64) {
        do throws(ShipError) {
            try journal.archive(through: journal.durable.lsn) { !isStopping }
        } catch {
            log.error("remote \(setup.name): \(error.words)")
        }
        let through = journal.archived
        let wall = setup.clock.wall()
        let memory = state.withLock { state -> ShipMemory? in
            guard through > max(state.memory.acked ?? .zero, LSN(state.memory.dropThroughLSN ?? 0))
            else { return nil }
            if state.memory.dropThroughLSN == nil { state.memory.dropCount += 1 }
            state.memory.dropThroughLSN = through.rawValue
            state.memory.lastDropWallNanoseconds = wall
            state.hasNews = true
            return state.memory
        }
        guard let memory else { return }
        remember(memory)
        log.error(
            """
            remote \(setup.name): \(bytes) bytes wait, more than may; what is not shipped up to \
            lsn \(through) goes as one interval, the points in it will not be there
            """)
    }
}
