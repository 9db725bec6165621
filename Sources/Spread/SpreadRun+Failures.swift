// A device fails in mid-run: what it was to get, and what it held and nobody else holds, is planned
// again over the others (S43 to S45, E6). Everything here runs under the run's lock.

import CLinux
import DiskIO

extension SpreadRun {
    /// Devices that have been asked something for too long count as gone. The thread that asked may
    /// stay behind in the system: it is not waited for.
    func checkTimeouts() {
        let limit = Int64(options.timeoutSeconds * 1e9)
        let now = clinux_monotonic_ns()
        for worker in workers where worker.failure == nil && !worker.isLost {
            let since = worker.askedSince.load(ordering: .relaxed)
            guard since != 0, now - since > limit else { continue }
            worker.setFailure(.offline("no answer for \(Int(options.timeoutSeconds)) seconds"))
            if worker.holdsSlot {
                worker.holdsSlot = false
                slots.signal()
            }
        }
    }

    func handleFailure(of worker: DeviceWorker) {
        worker.isHandled = true
        let isEarly = phase == .begin || phase == .items
        guard let failure = worker.failure, !isStopping || !isEarly else { return }
        report(
            .deviceFailed(
                device: worker.device.name, word: failure.word, reason: failure.reason))
        if case .full = failure, phase == .items, !worker.isFull {
            // What it holds is good, and it ends with the others.
            worker.isFull = true
            worker.shouldStop.store(false, ordering: .relaxed)
        } else {
            worker.isLost = true
            worker.isNew = true
        }
        let lost = remainders(of: worker)
        guard phase != .commit || !workers.contains(where: { $0.isComplete }) else {
            // Others are visible already: nothing can be added to the set any more.
            for remainder in lost { setMissing(remainder, "its device failed at the very end") }
            return
        }
        place(lost)
    }

    /// An item that a device cannot store goes to another one.
    func handleRefusals() {
        for worker in workers where !worker.refused.isEmpty {
            var again: [Remaining] = []
            for (index, reason) in worker.refused where states[index] == .waiting {
                states[index] = .dropped
                worker.fill -= min(worker.fill, items[index].size)
                var holders = refusals[index] ?? []
                holders.append(worker.index)
                if workers.contains(where: { !$0.isLost && !holders.contains($0.index) }) {
                    again.append(Remaining(items[index], holders: holders, refusedBy: holders))
                } else {
                    setMissing(
                        Remaining(items[index], holders: []), "no device can store it: \(reason)")
                }
            }
            worker.refused.removeAll()
            place(again)
        }
    }

    /// A range of a file that has to be written.
    struct Remaining {
        var origin: EntryOrigin
        var range: Range<UInt64>
        /// Devices that hold or will get another copy, or that cannot store it.
        var holders: [Int]
        var refusedBy: [Int] = []

        init(_ item: StoredItem, holders: [Int], refusedBy: [Int] = []) {
            origin = EntryOrigin(source: UInt16(item.source), row: UInt32(item.row))
            range = item.range
            self.holders = holders
            self.refusedBy = refusedBy
        }

        init(_ origin: EntryOrigin, _ range: Range<UInt64>, holders: [Int]) {
            (self.origin, self.range, self.holders) = (origin, range, holders)
        }
    }

    /// Takes away what a failed device had and was to get, and says what of it is needed elsewhere.
    private func remainders(of worker: DeviceWorker) -> [Remaining] {
        var own: [Int] = []
        for i in items.indices where items[i].device == worker.index && states[i] != .dropped {
            if states[i] != .written || worker.isLost { own.append(i) }
        }
        let rows = Set(own.map { origin(of: $0) })
        var others: [EntryOrigin: [(range: Range<UInt64>, device: Int)]] = [:]
        if options.plan.copies > 1 {
            for i in items.indices where items[i].device != worker.index && states[i] != .dropped {
                let origin = origin(of: i)
                guard rows.contains(origin), !workers[items[i].device].isLost else { continue }
                others[origin, default: []].append((items[i].range, items[i].device))
            }
        }
        var result: [Remaining] = []
        for i in own {
            let item = items[i]
            let wasWritten = states[i] == .written
            states[i] = .dropped
            worker.fill -= min(worker.fill, item.size)
            let copies = (others[origin(of: i)] ?? []).filter {
                $0.range.overlaps(item.range) || item.size == 0
            }
            if !wasWritten || options.alsoRewriteWritten {
                result.append(Remaining(item, holders: Set(copies.map(\.device)).sorted()))
            } else {
                // Written here: needed again where no other copy exists.
                for range in Ranges.subtracting(copies.map(\.range), from: item.range)
                where !range.isEmpty || (item.size == 0 && copies.isEmpty) {
                    result.append(Remaining(origin(of: i), range, holders: []))
                }
            }
        }
        return result
    }

    func origin(of item: Int) -> EntryOrigin {
        EntryOrigin(source: UInt16(items[item].source), row: UInt32(items[item].row))
    }

    /// Plans ranges over the devices that are there, and puts them at the end of their queues.
    func place(_ remainders: [Remaining]) {
        let remainders = remainders.filter { !troubled.contains($0.origin) }
        guard !remainders.isEmpty else { return }
        var list = SourceList()
        for source in sources.sources { _ = list.addSource(source.origin) }
        for remainder in remainders {
            let table = sources.sources[Int(remainder.origin.source)].table
            list.add(
                source: Int(remainder.origin.source), path: table.path(Int(remainder.origin.row)),
                size: table.rows[Int(remainder.origin.row)].size)
        }
        let devices = workers.map { worker in
            var device = worker.planned
            device.isAvailable = !worker.isLost && !worker.isFull
            device.fill = worker.fill
            device.itemCount = worker.itemCount
            return device
        }
        let plan = SpreadPlanner.replan(
            remainders.enumerated().map { index, remainder in
                .init(
                    entry: index, offset: remainder.range.lowerBound,
                    size: remainder.range.upperBound - remainder.range.lowerBound,
                    holders: remainder.holders)
            }, of: list, over: devices, options.plan)
        var bytes: UInt64 = 0
        for item in plan.items {
            bytes += item.size
            let remainder = remainders[item.entry]
            if !remainder.refusedBy.isEmpty { refusals[items.count] = remainder.refusedBy }
            add(remainder.origin, item.offset, item.size, to: item.device)
            if workers[item.device].order == nil, phase == .items {
                workers[item.device].order = .items
            }
        }
        if !plan.items.isEmpty {
            let names = Set(plan.items.map(\.device)).sorted().map { workers[$0].device.name }
            report(.replanned(items: plan.items.count, bytes: bytes, devices: names))
        }
        if !plan.unplaced.isEmpty {
            report(
                .unplaced(
                    items: plan.unplaced.count, bytes: plan.unplaced.reduce(0) { $0 + $1.size }))
        }
        for unplaced in plan.unplaced {
            let remainder = remainders[unplaced.entry]
            setMissing(
                Remaining(
                    remainder.origin, unplaced.offset..<unplaced.offset + unplaced.size,
                    holders: remainder.holders),
                workers.contains { !$0.isLost && !$0.isFull }
                    ? "no device has room for it" : "no device is left")
        }
        lock.broadcast()
    }

    private func setMissing(_ remainder: Remaining, _ reason: String) {
        let origin = remainder.origin
        let hasCopy = !remainder.holders.filter { !remainder.refusedBy.contains($0) }.isEmpty
        if !hasCopy {
            sources.sources[Int(origin.source)].table.rows[Int(origin.row)].isIncomplete = true
        }
        missing.append(
            .init(
                path: text(origin), offset: remainder.range.lowerBound,
                size: remainder.range.upperBound - remainder.range.lowerBound,
                reason: hasCopy ? "one copy fewer than asked for: \(reason)" : reason))
    }

    func text(_ origin: EntryOrigin) -> String {
        let source = sources.sources[Int(origin.source)]
        let path = source.table.path(Int(origin.row))
        return PathText.text(source.name + (path.isEmpty ? [] : [0x2F] + path))
    }

    /// Room for the manifest, kept free on each device.
    var reserveBytes: UInt64 {
        let rows = sources.sources.reduce(0) { $0 + $1.table.count * 24 + $1.table.names.count }
        return UInt64(rows + items.count * 64 + (64 << 10))
    }
}

/// Arithmetic of byte ranges.
enum Ranges {
    /// What of `range` none of `others` covers, in order; an empty `range` is covered by nothing.
    static func subtracting(
        _ others: [Range<UInt64>], from range: Range<UInt64>
    ) -> [Range<UInt64>] {
        if range.isEmpty { return [range] }
        var left: [Range<UInt64>] = []
        var position = range.lowerBound
        for other in others.sorted(by: { $0.lowerBound < $1.lowerBound }) {
            if other.upperBound <= position { continue }
            if other.lowerBound >= range.upperBound { break }
            if other.lowerBound > position { left.append(position..<other.lowerBound) }
            position = other.upperBound
        }
        if position < range.upperBound { left.append(position..<range.upperBound) }
        return left
    }
}
