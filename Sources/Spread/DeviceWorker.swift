// A device's writer: one thread that carries out the coordinator's orders on its device. What other
// threads see of it is guarded by the run's lock, but for the three atomics.

import CLinux
import Crypto
import DiskIO
import Foundation
import Synchronization

final class DeviceWorker: @unchecked Sendable {
    // @unchecked: guarded by the lock of the run, as said above.
    enum Order { case begin, items, sync, manifest, commit, end }

    let index: Int
    let device: BackupDevice
    let planned: SpreadDevice
    let deviceID: [UInt8]
    var order: Order?
    /// Indexes of the run's items, in the order of the list, and the next one.
    var queue: [UInt32] = []
    var next = 0
    /// The first failure; it stays.
    private(set) var failure: DeviceFailure?
    var isHandled = false
    /// A failure that the coordinator has dealt with and the phases not yet.
    var isNew = false
    /// Takes no more items; what it holds is good.
    var isFull = false
    /// Gone: what it holds does not count.
    var isLost = false
    var isComplete = false
    var hasEnded = false
    var holdsSlot = false
    /// Bytes and items that it holds or will get.
    var fill: UInt64 = 0
    var itemCount = 0
    var writtenItems = 0
    var discards: [RememberedItem] = []
    /// Items that this device cannot store, although it is well.
    var refused: [(item: Int, reason: String)] = []
    var manifest: Manifest?
    /// Since when the device has been asked something, monotonic nanoseconds; 0: it is not.
    let askedSince = Atomic<Int64>(0)
    let writtenBytes = Atomic<UInt64>(0)
    let shouldStop = Atomic<Bool>(false)

    // The thread's own.
    private var pace: Pace?
    private var unsyncedBytes: UInt64 = 0
    private var unsyncedItems = 0
    private var syncedAt = clinux_monotonic_ns()
    /// One is hashed and written while the other is read into.
    let buffers = [
        AlignedBuffer(count: DeviceWorker.pieceBytes),
        AlignedBuffer(count: DeviceWorker.pieceBytes),
    ]
    let hash = HashThread()
    static let pieceBytes = 1 << 20

    init(_ index: Int, _ device: JobDevice) {
        self.index = index
        self.device = device.device
        planned = device.planned
        deviceID = device.id
        failure = device.failure
        pace = device.planned.rate.map { Pace(bytesPerSecond: $0) }
    }

    /// Under the run's lock.
    func setFailure(_ new: DeviceFailure) {
        failure = new
        isHandled = false
        shouldStop.store(true, ordering: .relaxed)
    }

    func start(_ run: SpreadRun) {
        let thread = Thread { [self] in
            clinux_thread_name("spread-\(index)")
            work(run)
        }
        thread.stackSize = 1 << 20
        thread.start()
    }

    private func work(_ run: SpreadRun) {
        while true {
            let order = run.lock.withLock { () -> Order? in
                while self.order == nil, !isLost { run.lock.wait() }
                return isLost ? nil : self.order
            }
            guard let order, order != .end else { break }
            var failed: DeviceFailure?
            do throws(DeviceFailure) { try perform(order, run) } catch { failed = error }
            run.lock.withLock {
                // A full device may fail once more, when it is to end its part of the set.
                if let failed, failure == nil || (isFull && order != .items) { setFailure(failed) }
                // A queue that grew meanwhile is worked off first.
                if self.order == order, failed != nil || order != .items || !hasWork(run) {
                    self.order = nil
                }
                run.lock.broadcast()
            }
        }
        hash.end()
        device.suspend()
        run.lock.withLock {
            hasEnded = true
            order = nil
            run.lock.broadcast()
        }
    }

    private func hasWork(_ run: SpreadRun) -> Bool {
        next < queue.count && !isFull && !isLost && !run.isStopping
    }

    private func perform(_ order: Order, _ run: SpreadRun) throws(DeviceFailure) {
        switch order {
        case .begin: try begin(run)
        case .items:
            while let item = nextItem(run) { try write(item, run) }
        case .sync: try sync()
        case .manifest:
            guard let manifest else { return }
            try asked { () throws(DeviceFailure) in
                try device.writeManifest { sink in
                    try ManifestEncoder.encode(manifest, into: sink)
                }
            }
            run.report(.manifestWritten(device: device.name))
        case .commit:
            try asked { () throws(DeviceFailure) in try device.commit() }
            run.lock.withLock { isComplete = true }
            run.report(.deviceComplete(device: device.name))
        case .end: break
        }
    }

    /// Calls into the device, which may hang: the coordinator sees since when.
    func asked<R>(_ body: () throws(DeviceFailure) -> R) throws(DeviceFailure) -> R {
        askedSince.store(clinux_monotonic_ns(), ordering: .relaxed)
        defer { askedSince.store(0, ordering: .relaxed) }
        return try body()
    }

    /// As `asked`, again and again while somebody else uses the device.
    private func patiently(
        _ run: SpreadRun, _ body: () throws(DeviceFailure) -> Void
    ) throws(DeviceFailure) {
        let end = clinux_monotonic_ns() + Int64(run.options.busySeconds * 1e9)
        while true {
            do throws(DeviceFailure) {
                return try asked(body)
            } catch {
                guard case .busy(let reason) = error else { throw error }
                if clinux_monotonic_ns() > end { throw .offline("busy: \(reason)") }
                if shouldStop.load(ordering: .relaxed) { throw error }
                clinux_sleep_ns(100_000_000)
            }
        }
    }

    private func begin(_ run: SpreadRun) throws(DeviceFailure) {
        let (taken, reserve) = run.lock.withLock {
            (discards, run.reserveBytes)
        }
        try patiently(run) { () throws(DeviceFailure) in
            try device.begin(run.identity, deviceID: deviceID, reserveBytes: reserve)
        }
        for item in taken {
            try asked { () throws(DeviceFailure) in try device.discard(item) }
        }
        run.lock.withLock { discards.removeAll() }
        run.report(
            .deviceReady(device: device.name, goesOnWith: run.lock.withLock { itemsThere(run) }))
    }

    private func itemsThere(_ run: SpreadRun) -> Int {
        run.items.indices.count { run.states[$0] == .written && run.items[$0].device == index }
    }

    private func nextItem(_ run: SpreadRun) -> Int? {
        run.lock.withLock {
            while next < queue.count, !run.isStopping, !isFull, failure == nil || isFull {
                let item = Int(queue[next])
                next += 1
                guard run.states[item] == .waiting else { continue }
                let stored = run.items[item]
                let origin = EntryOrigin(source: UInt16(stored.source), row: UInt32(stored.row))
                if run.troubled.contains(origin) {
                    run.states[item] = .dropped
                    continue
                }
                run.states[item] = .writing
                return item
            }
            return nil
        }
    }

    // MARK: - items

    private func write(_ item: Int, _ run: SpreadRun) throws(DeviceFailure) {
        run.slots.wait()
        run.lock.withLock { holdsSlot = true }
        defer {
            let isMine = run.lock.withLock { () -> Bool in
                defer { holdsSlot = false }
                return holdsSlot
            }
            if isMine { run.slots.signal() }
        }
        let taken = run.lock.withLock { () -> [RememberedItem] in
            defer { discards.removeAll() }
            return discards
        }
        for old in taken { try asked { () throws(DeviceFailure) in try device.discard(old) } }
        var copy = ItemCopy(self, run, item)
        do throws(DeviceFailure) {
            try copy.perform()
        } catch {
            run.lock.withLock { if run.states[item] == .writing { run.states[item] = .waiting } }
            if error.leavesDeviceWell {
                try asked { () throws(DeviceFailure) in try device.drop() }
            }
            guard case .item(let reason) = error else { throw error }
            run.lock.withLock { refused.append((item, reason)) }
            return
        }
        unsyncedBytes += copy.size
        unsyncedItems += 1
        let now = clinux_monotonic_ns()
        let isDue =
            unsyncedBytes >= run.options.syncBytes || unsyncedItems >= run.options.syncItems
            || Double(now - syncedAt) >= run.options.syncSeconds * 1e9
        guard isDue else { return }
        try asked { () throws(DeviceFailure) in try device.beginSync() }
        (unsyncedBytes, unsyncedItems) = (0, 0)
        syncedAt = now
    }

    private func sync() throws(DeviceFailure) {
        try asked { () throws(DeviceFailure) in try device.sync() }
        (unsyncedBytes, unsyncedItems) = (0, 0)
        syncedAt = clinux_monotonic_ns()
    }

    /// Rests as long as the device's rate asks for; false where the run or the device is to stop.
    func keepPace(_ count: Int) -> Bool {
        if var pace {
            var rest = pace.take(count, now: clinux_monotonic_ns())
            self.pace = pace
            while rest > 0, !shouldStop.load(ordering: .relaxed) {
                let slice = min(rest, 50_000_000)
                clinux_sleep_ns(slice)
                rest -= slice
            }
        }
        return !shouldStop.load(ordering: .relaxed)
    }
}
