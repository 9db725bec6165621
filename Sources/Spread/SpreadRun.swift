// The executor: carries a plan out on all devices at once, and ends with the set visible on all of
// them, or nowhere.
//
//   coordinator (the caller of `run`)          one writer thread a device
//     begin  ───────────────────────────────►  makes ready
//     items  ───────────────────────────────►  its queue, in the order of the list
//       ◄── a device failed: plan what is not elsewhere again, over the rest (SpreadRun+Failures)
//       ◄── a source changed: plan its file again (SpreadRun+Sources)
//     sync   ───────────────────────────────►  all items durable
//     manifest ─────────────────────────────►  the same manifest everywhere, durable
//     commit  ──────────────────────────────►  one after the other: the set becomes visible
//
// A failure before the first commit goes back to `items`. One lock guards all state; it is never
// held while a device or a source is asked for anything. Memory: 73 bytes an item, the rows of the
// sources, and a buffer a device.

import CLinux
import DiskIO
import Foundation
import Synchronization

/// A device of a job: how it is planned for, and what does it.
public struct JobDevice: Sendable {
    public var device: BackupDevice
    /// Its capacity is what it can still take of this job.
    public var planned: SpreadDevice
    /// What the set calls it: 16 bytes; of an interrupted run the same again.
    public var id: [UInt8]
    /// Bytes that are free on it, where that is known.
    public var free: UInt64?
    /// Known before the run: it takes nothing.
    public var failure: DeviceFailure?

    public init(_ device: BackupDevice, _ planned: SpreadDevice) {
        (self.device, self.planned) = (device, planned)
        id = (0..<16).map { _ in UInt8.random(in: .min ... .max) }
    }
}

public struct RunOptions: Sendable {
    /// The most devices that are written to at once; nil: all.
    public var parallel: Int?
    /// What a failed device holds is written again even where another copy exists (S44, E6).
    public var alsoRewriteWritten = false
    /// A device that does not answer for so long is taken as offline.
    public var timeoutSeconds = 300.0
    /// How long a busy device is asked again.
    public var busySeconds = 30.0
    /// Items become durable, and known to a later run, after so many bytes, items or seconds.
    public var syncBytes: UInt64 = 512 << 20
    public var syncItems = 10_000
    public var syncSeconds = 5.0
    /// How often a file that changes while it is read is read.
    public var sourceAttempts = 3
    public var plan = SpreadOptions()

    public init() {}
}

/// One run. `run` is called once; `fail`, `cancel` and `progress` by any thread meanwhile.
public final class SpreadRun: @unchecked Sendable {
    // @unchecked: everything that changes is guarded by `lock`.
    public let identity: SetIdentity
    let options: RunOptions
    let lock = NSCondition()
    let workers: [DeviceWorker]
    let report: @Sendable (SpreadEvent) -> Void

    // Guarded by `lock`.
    var sources: ScannedSources
    var items: [StoredItem] = []
    /// The number of the first item: numbers of an interrupted run are not given again.
    private(set) var numberBase: UInt64 = 0
    var states: [ItemState] = []
    var missing: [SpreadReport.Missing] = []
    var troubled: Set<EntryOrigin> = []
    var changed: [EntryOrigin: Int] = [:]
    var phase = Phase.begin
    var isStopping = false
    /// Devices that could not store an item, by the item that took its place.
    var refusals: [Int: [Int]] = [:]
    /// Devices that write at once.
    let slots: DispatchSemaphore

    enum ItemState: UInt8 { case waiting, writing, written, dropped }
    enum Phase { case begin, items, sync, manifest, commit }

    /// Devices keep the order of the plan that `run` gets.
    public init(
        _ identity: SetIdentity, _ sources: ScannedSources, _ devices: [JobDevice],
        _ options: RunOptions = RunOptions(),
        report: @escaping @Sendable (SpreadEvent) -> Void = { _ in }
    ) {
        self.identity = identity
        self.sources = sources
        self.options = options
        self.report = report
        workers = devices.enumerated().map { DeviceWorker($0.offset, $0.element) }
        slots = DispatchSemaphore(value: max(1, options.parallel ?? devices.count))
    }

    // MARK: - by any thread

    /// Declares a device failed: an operator knows (S43). False where there is none of this name.
    public func fail(_ name: String, reason: String) -> Bool {
        lock.withLock {
            guard let worker = workers.first(where: { $0.device.name == name }) else {
                return false
            }
            if worker.failure == nil || worker.isFull { worker.setFailure(.offline(reason)) }
            lock.broadcast()
            return true
        }
    }

    /// Stops soon. What is durable stays for a later run to go on with.
    public func cancel() {
        lock.withLock {
            isStopping = true
            for worker in workers { worker.shouldStop.store(true, ordering: .relaxed) }
            lock.broadcast()
        }
    }

    public func progress() -> [DeviceProgress] {
        lock.withLock {
            workers.map {
                DeviceProgress(
                    name: $0.device.name,
                    doneBytes: $0.writtenBytes.load(ordering: .relaxed), plannedBytes: $0.fill,
                    isLost: $0.isLost)
            }
        }
    }

    // MARK: - the run

    /// Carries out `plan`, whose entries come from `origins`, on top of what `resumed` says is
    /// there already. Blocks. The set is complete, or nothing of it is visible.
    public func run(
        _ plan: SpreadPlan?, _ origins: [EntryOrigin], resuming resumed: ResumedItems? = nil
    ) -> SpreadReport {
        if let resumed {
            var known = lock.withLock { sources }
            known.readAttributes(of: resumed.known)
            lock.withLock { sources = known }
        }
        lock.withLock {
            load(plan, origins, resumed)
            // What it planned waits until the devices have begun.
            for worker in workers { worker.order = nil }
        }
        for worker in workers { worker.start(self) }
        begin()
        while !lock.withLock({ isStopping }) {
            guard hasLiveDevice else { break }
            order(.items)
            settle()
            if replanChanged() { continue }
            if lock.withLock({ isStopping }) { break }
            lock.withLock { phase = .sync }
            order(.sync)
            settle()
            if goesBack() { continue }
            lock.withLock { phase = .manifest }
            let manifest = self.manifest()
            for worker in workers { worker.manifest = manifest }
            order(.manifest)
            settle()
            for worker in workers { worker.manifest = nil }
            if goesBack() || lock.withLock({ isStopping }) { continue }
            if commit() { return end(isComplete: true) }
        }
        if lock.withLock({ isStopping }) {
            order(.sync)
            settle()
        }
        return end(isComplete: false)
    }

    var hasLiveDevice: Bool { lock.withLock { workers.contains { !$0.isLost } } }

    private func load(_ plan: SpreadPlan?, _ origins: [EntryOrigin], _ resumed: ResumedItems?) {
        let count = (plan?.items.count ?? 0) + (resumed?.items.count ?? 0)
        items.reserveCapacity(count)
        states.reserveCapacity(count)
        for item in resumed?.items ?? [] {
            items.append(item)
            states.append(.written)
            workers[item.device].fill += item.size
            workers[item.device].itemCount += 1
            workers[item.device].writtenBytes.add(item.size, ordering: .relaxed)
        }
        for (device, left) in resumed?.discards ?? [] { workers[device].discards.append(left) }
        // The place of item n is n + 1, or 0.
        let places =
            (resumed?.items ?? []).map(\.place) + (resumed?.discards ?? []).map(\.item.place)
        numberBase = places.max() ?? 0
        for item in plan?.items ?? SpreadItems() where item.rule != .link {
            let origin = origins[item.entry]
            add(origin, item.offset, item.size, to: item.device)
        }
        guard let resumed else { return }
        if options.plan.copies == 1 {
            place(resumed.open.map { Remaining($0.origin, $0.range, holders: []) })
        } else {
            for (origin, range, holders) in resumed.open {
                let chosen = items.indices.filter { self.origin(of: $0) == origin }
                let all = Set(holders + chosen.map { items[$0].device }).sorted()
                place([Remaining(origin, range, holders: all)])
            }
        }
    }

    /// Adds an item to a device's queue.
    func add(_ origin: EntryOrigin, _ offset: UInt64, _ size: UInt64, to device: Int) {
        workers[device].queue.append(UInt32(items.count))
        workers[device].fill += size
        workers[device].itemCount += 1
        items.append(
            StoredItem(
                source: Int(origin.source), row: Int(origin.row), offset: offset, size: size,
                digest: ContentDigest(), device: device, place: 0))
        states.append(.waiting)
    }

    private func begin() {
        order(.begin)
        settle()
        lock.withLock { phase = .items }
    }

    /// Gives an order to every device that is still there.
    func order(_ order: DeviceWorker.Order) {
        lock.withLock {
            for worker in workers
            where !worker.isLost && (worker.failure == nil || worker.isFull) {
                worker.order = order
            }
            lock.broadcast()
        }
    }

    /// Waits until no device has anything to do, and deals with each failure as it comes.
    func settle() {
        lock.lock()
        defer { lock.unlock() }
        while true {
            checkTimeouts()
            if let worker = workers.first(where: { $0.failure != nil && !$0.isHandled }) {
                handleFailure(of: worker)
                continue
            }
            handleRefusals()
            if workers.allSatisfy({ $0.isLost || $0.order == nil }) { return }
            _ = lock.wait(until: Date(timeIntervalSinceNow: 0.1))
        }
    }

    /// After a failure behind the items: there may be new ones.
    private func goesBack() -> Bool {
        lock.withLock {
            let isBack =
                states.contains(.waiting) || workers.contains { !$0.isComplete && $0.isNew }
            for worker in workers { worker.isNew = false }
            if isBack || isStopping { phase = .items }
            return isBack
        }
    }

    /// One device after the other. False where the first one could not: then all is planned again.
    private func commit() -> Bool {
        lock.withLock { phase = .commit }
        for worker in workers where !lock.withLock({ worker.isLost }) {
            lock.withLock {
                worker.order = .commit
                lock.broadcast()
            }
            settle()
            if !lock.withLock({ workers.contains { $0.isComplete } }) {
                lock.withLock {
                    phase = .items
                    for worker in workers { worker.isNew = false }
                }
                return false
            }
        }
        return true
    }

    private func manifest() -> Manifest {
        lock.withLock {
            var kept: [StoredItem] = []
            kept.reserveCapacity(items.count)
            for i in items.indices where states[i] == .written && !workers[items[i].device].isLost {
                kept.append(items[i])
            }
            return Manifest(
                identity: identity, completed: clinux_wall_ns(),
                devices: workers.map {
                    ManifestDevice(
                        name: $0.device.name, id: $0.deviceID, site: $0.planned.site,
                        hasFailed: $0.isLost)
                }, sources: sources.sources, items: kept)
        }
    }

    private func end(isComplete: Bool) -> SpreadReport {
        order(.end)
        lock.lock()
        defer { lock.unlock() }
        // One that was lost and does not come back is left alone: its thread ends with the process.
        let patience = Date(timeIntervalSinceNow: 5)
        while !workers.allSatisfy({ $0.hasEnded || $0.isLost && Date() > patience }) {
            _ = lock.wait(until: Date(timeIntervalSinceNow: 0.1))
        }
        return SpreadReport(
            devices: workers.map {
                .init(
                    name: $0.device.name, items: $0.writtenItems,
                    bytes: $0.writtenBytes.load(ordering: .relaxed), failure: $0.failure,
                    isComplete: $0.isComplete)
            }, missing: missing, isComplete: isComplete,
            totalBytes: sources.sources.reduce(0) { sum, source in
                sum + source.table.rows.reduce(0) { $1.isFile ? $0 + $1.size : $0 }
            }, files: sources.sources.reduce(0) { $0 + $1.table.rows.count { $0.isFile } })
    }
}
