// Sources that change or cannot be read while a run goes on.

import DiskIO

extension SpreadRun {
    /// The item's file cannot be had: it is named in the set without content, and in the report.
    func giveUp(_ origin: EntryOrigin, _ text: String, _ item: StoredItem, _ reason: String) {
        report(.sourceUnreadable(path: text, reason: reason))
        lock.withLock { giveUpLocked(origin, text, reason) }
    }

    private func giveUpLocked(_ origin: EntryOrigin, _ text: String, _ reason: String) {
        guard troubled.insert(origin).inserted else { return }
        let size = sources.sources[Int(origin.source)].table.rows[Int(origin.row)].size
        sources.sources[Int(origin.source)].table.rows[Int(origin.row)].isIncomplete = true
        missing.append(.init(path: text, offset: 0, size: size, reason: reason))
        takeBack(origin)
    }

    /// Forgets all items of a file; what is written of it already is removed from the devices.
    private func takeBack(_ origin: EntryOrigin) {
        let source = sources.sources[Int(origin.source)]
        let path = source.table.path(Int(origin.row))
        for i in items.indices where states[i] != .dropped && self.origin(of: i) == origin {
            let worker = workers[items[i].device]
            worker.fill -= min(worker.fill, items[i].size)
            if states[i] == .written, !worker.isLost {
                worker.discards.append(
                    RememberedItem(
                        source: source.name, path: path, offset: items[i].offset,
                        size: items[i].size,
                        stamp: FileStamp(source.table.rows[Int(origin.row)]),
                        digest: items[i].digest, place: items[i].place))
            }
            states[i] = .dropped
        }
    }

    /// A part of a file that is not the file any more that was planned: the whole of it again,
    /// when the others are through.
    func noteChanged(_ origin: EntryOrigin, _ item: Int) {
        lock.withLock {
            states[item] = .dropped
            changed[origin, default: 0] |= 1 << 32
        }
    }

    /// Plans the files again that changed. True where there was one.
    func replanChanged() -> Bool {
        let due = lock.withLock { changed.filter { $0.value >> 32 != 0 }.map(\.key) }
        guard !due.isEmpty else { return false }
        for origin in due.sorted(by: { ($0.source, $0.row) < ($1.source, $1.row) }) {
            let (source, path, text) = lock.withLock {
                (
                    sources.opened[Int(origin.source)],
                    sources.sources[Int(origin.source)].table.path(Int(origin.row)),
                    self.text(origin)
                )
            }
            var status: FileStatus?
            var reason = "it is not a file any more"
            do throws(IOError) {
                let file = try source.open(path)
                status = try SpreadSource.status(file)
                file.close()
            } catch {
                reason = error.reason
            }
            lock.withLock { plan(origin, status, text, reason) }
        }
        return true
    }

    private func plan(
        _ origin: EntryOrigin, _ status: FileStatus?, _ text: String, _ reason: String
    ) {
        let attempts = (changed[origin] ?? 0) & 0xFFFF_FFFF + 1
        changed[origin] = attempts
        guard let status, status.isFile else { return giveUpLocked(origin, text, reason) }
        guard attempts < options.sourceAttempts else {
            return giveUpLocked(origin, text, "it changes while it is read")
        }
        takeBack(origin)
        sources.sources[Int(origin.source)].table.update(Int(origin.row), status)
        var holders: [Int] = []
        for _ in 0..<options.plan.copies {
            let first = items.count
            place([Remaining(origin, 0..<status.size, holders: holders)])
            holders += items[first...].map(\.device)
        }
    }
}
