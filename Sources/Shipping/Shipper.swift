// Ships the history of one volume to one remote: waits for work, asks the schedule, brings the tail
// of the log into segments when it is time, and sends what the plan says, in order. What goes wrong
// is told and tried again; the volume never waits for it, but where the user asked for that
// (--on-backlog hold-writes).
//
//   turn:  look (backlog, schedule) ── hold ──> sleep until the schedule says, or something is new
//             └── ship ──> attach once ──> plan ──> send ──> acknowledged: remember ──> plan …
//
// Threads: `run` or `turn` by one thread; everything else by any.

import BlockModel
import CLinux
import History
import LogFormat
import Logging
import ServerAPI
import Synchronization

/// Counts what all shippers of this process hand to the network, so that none takes the bytes of
/// another for foreign traffic.
public final class OwnTraffic: Sendable {
    private let count = Atomic<UInt64>(0)

    public init() {}

    public var bytes: UInt64 { count.load(ordering: .relaxed) }

    /// Counts a request with so many bytes of body: TLS and TCP/IP add about a thirtieth, the
    /// heads of request and answer about 2 KiB.
    public func add(body: Int, isRequest: Bool) {
        count.add(UInt64(body + body / 30 + (isRequest ? 2048 : 0)), ordering: .relaxed)
    }
}

/// One remote of one volume.
public final class Shipper: Sendable {
    /// What does not change while it lives.
    public struct Setup: Sendable {
        public var name: String
        public var settings: ShipSettings
        public var request: VolumeRequest
        /// What the remote keeps, as the user said when it was added.
        public var keep: String?
        public var interface: String?
        /// Segments are sealed with it before they leave.
        public var key: SealingKey?
        public var isPaused = false
        public var seed = UInt64.random(in: .min ... .max)
        public var traffic = OwnTraffic()
        public var clock = ShipClock()

        public init(name: String, settings: ShipSettings, request: VolumeRequest) {
            self.name = name
            self.settings = settings
            self.request = request
            keep = request.keep
        }
    }

    struct State {
        var schedule: ShipSchedule
        var memory: ShipMemory
        var backlog = Backlog()
        var askedThrough: LSN?
        var isStopping = false
        /// Segments may have come or gone.
        var hasNews = true
        /// When nothing waited at last: what waits now is younger.
        var idleWall: Int64 = .min
        var sending: (name: String, progress: WorkProgress)?
        var shippedBytes: UInt64 = 0
        var shippedSegments: UInt64 = 0
        var failure: String?
        var needsUser = false
        var isHoldingWriters = false
    }

    public let setup: Setup
    let journal: any ShipJournal
    let target: any ShipTarget
    let log: Logger
    let remember: @Sendable (ShipMemory) -> Void
    let state: Mutex<State>
    let bell = ShipBell()
    /// Only for the thread that turns.
    let work: Work

    /// A segment whose turn has not come yet.
    struct Following {
        var segment: CataloguedSegment
        var after: SegmentDigest?
        var isGap: Bool
    }

    /// What the turning thread keeps.
    final class Work: @unchecked Sendable {
        // @unchecked: reached only by the one thread that calls `turn` or `run`.
        var head: VolumeReply.Head?
        var isAttached = false
        var ladder: Ladder?
        var bucket: TokenBucket?
        let sealing: ShipSealing
        var spool: (any SegmentStore)?
        var spooled: CataloguedSegment?
        var lookedAt: Int64?
        /// Segments of the local store that follow the one that is sent, if nothing comes between.
        var following: [Following] = []
        /// Refusals of what was sent, in a row.
        var conflicts = 0

        init(_ sealing: ShipSealing) { self.sealing = sealing }
    }

    /// `remember` keeps the memory durably; called by the turning thread.
    public init(
        _ setup: Setup, journal: any ShipJournal, target: any ShipTarget, memory: ShipMemory,
        log: Logger, remember: @escaping @Sendable (ShipMemory) -> Void
    ) {
        self.setup = setup
        self.journal = journal
        self.target = target
        self.log = log
        self.remember = remember
        work = Work(ShipSealing(setup.key, volume: journal.identity.volume))
        var schedule = ShipSchedule(setup.settings, seed: setup.seed)
        schedule.isPaused = setup.isPaused
        if let standing = memory.standing { schedule.noteStanding(standing) }
        state = Mutex(State(schedule: schedule, memory: memory))
    }

    // MARK: - from other threads

    /// Records up to this LSN are durable at the remote; nil: none are.
    public var acked: LSN? { state.withLock { $0.memory.acked } }

    /// The schedule does not count until everything that is durable now is shipped. What had
    /// stopped for good is tried again.
    public func shipNow() {
        let through = journal.durable.lsn
        state.withLock {
            $0.askedThrough = max($0.askedThrough ?? .zero, through)
            $0.schedule.isAsked = true
            $0.schedule.clearStanding()
            $0.memory.standing = nil
            $0.hasNews = true
        }
        wake()
    }

    public func pause(_ isPaused: Bool) {
        state.withLock {
            $0.schedule.isPaused = isPaused
            if !isPaused {
                $0.schedule.clearStanding()
                $0.memory.standing = nil
            }
        }
        wake()
    }

    /// Segments came or went: snapshots above all.
    public func lookAgain() {
        state.withLock { $0.hasNews = true }
        wake()
    }

    /// Ends `run` soon; what is under way stays for the next time.
    public func stop() {
        state.withLock { $0.isStopping = true }
        wake()
    }

    private func wake() {
        bell.ring()
        journal.wakeWaiters()
    }

    public func status() -> ShipStatus {
        let (durable, wall) = (journal.durable, setup.clock.wall())
        return state.withLock { state in
            let acked = state.memory.acked ?? .zero
            let lag = durable.lsn > acked ? durable.lsn.rawValue - acked.rawValue : 0
            let oldest = max(state.memory.ackedWallNanoseconds, state.idleWall)
            return ShipStatus(
                name: setup.name, label: target.label, interface: setup.interface,
                isPaused: state.schedule.isPaused, decision: state.schedule.decision,
                decisions: state.schedule.decisions, memory: state.memory, lagRecords: lag,
                lagBytes: lag == 0 ? 0 : state.backlog.segmentBytes + journal.unarchivedBytes,
                lagSeconds: lag == 0 || state.memory.acked == nil && state.idleWall == .min
                    ? 0 : max(0, (wall - oldest) / 1_000_000_000),
                sending: state.sending, shippedBytes: state.shippedBytes,
                shippedSegments: state.shippedSegments, failure: state.failure,
                needsUser: state.needsUser, isHoldingWriters: state.isHoldingWriters,
                settings: setup.settings, keep: setup.keep)
        }
    }

    /// Whether `stop` was called.
    public var isEnding: Bool { isStopping }

    var isStopping: Bool { state.withLock { $0.isStopping } }

    // MARK: - the thread

    /// Ships until `stop`.
    public func run() {
        while !isStopping {
            let count = bell.count
            guard case .hold(let reason, let nanoseconds) = turn() else { continue }
            if reason == .upToDate {
                journal.waitForRecords(after: acked ?? .zero) { bell.count != count }
            } else {
                bell.sleep(bounded(nanoseconds), since: count)
            }
        }
        hold(writers: false)
    }

    /// A bound of the backlog is looked after also while nothing is shipped.
    private func bounded(_ nanoseconds: Int64?) -> Int64? {
        guard setup.settings.backlogBytesMax != nil else { return nanoseconds }
        return min(nanoseconds ?? .max, 250_000_000)
    }

    /// Looks once, and ships as long as the schedule says so. Returns what to wait for.
    @discardableResult
    public func turn() -> ShipDecision {
        let decision = look()
        guard decision.isShip else { return decision }
        let outcome = round()
        let next = look()
        if outcome == .stalled, next.isShip {
            // Nothing could be done though something waits: not at once again.
            return .hold(.collecting(ageSeconds: 0), lookAgainNanoseconds: 1_000_000_000)
        }
        return next
    }

    private enum Outcome { case done, stalled }

    private func round() -> Outcome {
        do throws(ShipTrouble) {
            if !work.isAttached { try attach() }
            var isStalled = false
            while look().isShip, !isStopping {
                if let step = try plan() {
                    try carry(step)
                    isStalled = false
                } else if journal.archived < journal.durable.lsn, !isStalled {
                    let before = journal.archived
                    try archiveTail()
                    isStalled = journal.archived == before
                } else {
                    noteAllSent()
                    return isStalled ? .stalled : .done
                }
            }
            return .done
        } catch {
            handle(error)
            return .stalled
        }
    }

    private func archiveTail() throws(ShipTrouble) {
        let isForced = state.withLock { $0.schedule.decision.isForced }
        do throws(ShipError) {
            try journal.archive(through: journal.durable.lsn) {
                !isStopping && (isForced || !journal.isBusy)
            }
        } catch { throw .ship(error) }
        state.withLock { $0.hasNews = true }
    }

    private func noteAllSent() {
        state.withLock { state in
            if let asked = state.askedThrough, state.memory.acked.map({ $0 >= asked }) ?? false {
                state.askedThrough = nil
                state.schedule.isAsked = false
            }
            state.backlog.hasSnapshots = false
        }
    }

    // MARK: - the remote

    private func attach() throws(ShipTrouble) {
        setup.traffic.add(body: 256, isRequest: true)
        let reply: VolumeReply
        do throws(ShipError) {
            reply = try target.attach(setup.request)
        } catch { throw .ship(error) }
        work.isAttached = true
        let keep = reply.keep ?? setup.keep
        work.ladder = keep.flatMap { text in
            do throws(LadderError) { return try Ladder(parsing: text) } catch { return nil }
        }
        noteGood()
        take(reply.head)
        log.info("remote \(setup.name): attached to \(target.label)")
    }

    /// The remote's own word of where it stands.
    func take(_ head: VolumeReply.Head?) {
        work.head = head
        let (memory, isBehind) = state.withLock { state -> (ShipMemory, Bool) in
            let before = state.memory
            var memory = before
            if let head {
                memory.acknowledge(head.lsn, wall: head.wallNanoseconds)
            } else {
                memory.ackedLSN = nil
                memory.ackedWallNanoseconds = 0
                memory.snapshotLSN = nil
                memory.restartLSN = nil
            }
            state.memory = memory
            state.hasNews = state.hasNews || memory != before
            return (memory, (before.ackedLSN ?? 0) > (memory.ackedLSN ?? 0))
        }
        if isBehind {
            log.warning(
                "remote \(setup.name): it has less than it had acknowledged; sending again")
        }
        remember(memory)
    }

    func noteGood() {
        state.withLock { state in
            state.schedule.noteSuccess()
            state.schedule.noteLoad(target.load, now: setup.clock.now())
            state.failure = nil
            state.needsUser = false
        }
    }
}
