// One item's way from its source to its device: read, hashed and written in pieces, with the
// source's stamp looked at before and after. A source that changed meanwhile is never taken for
// what it was.

import CLinux
import DiskIO
import Synchronization

struct ItemCopy {
    private let worker: DeviceWorker
    private let run: SpreadRun
    private let index: Int
    private(set) var size: UInt64 = 0

    init(_ worker: DeviceWorker, _ run: SpreadRun, _ index: Int) {
        (self.worker, self.run, self.index) = (worker, run, index)
    }

    private enum Outcome {
        case written
        case stopped
        case changed
        case unreadable(String)
    }

    private struct Task {
        var item: StoredItem
        var row: TreeRow
        var source: SpreadSource
        var sourceName: [UInt8]
        var path: [UInt8]
        /// The only item of its file: the file may be another one than when it was planned.
        var isAlone: Bool
        /// The item's in the set, and how many there are.
        var number: UInt64
        var count: UInt64

        var origin: EntryOrigin {
            EntryOrigin(source: UInt16(item.source), row: UInt32(item.row))
        }
        var text: String { PathText.text(sourceName + (path.isEmpty ? [] : [0x2F] + path)) }
    }

    /// Writes it, or says in the run why not. Throws what the device failed with.
    mutating func perform() throws(DeviceFailure) {
        let task = run.lock.withLock { self.task() }
        run.report(
            .itemStarted(
                device: worker.device.name, path: task.text, offset: task.item.offset,
                size: task.item.size))
        var attempt = 1
        while true {
            switch try copy(task) {
            case .written:
                run.report(
                    .itemWritten(
                        device: worker.device.name, path: task.text, offset: task.item.offset,
                        size: size))
                return
            case .stopped:
                // Unless the device is lost: then the item is planned elsewhere already.
                run.lock.withLock {
                    if run.states[index] == .writing { run.states[index] = .waiting }
                }
                return
            case .unreadable(let reason):
                run.giveUp(task.origin, task.text, task.item, reason)
                return
            case .changed:
                run.report(.sourceChanged(path: task.text, attempt: attempt))
                if !task.isAlone {
                    run.noteChanged(task.origin, index)
                    return
                }
                if attempt >= run.options.sourceAttempts {
                    run.giveUp(
                        task.origin, task.text, task.item, "it changes while it is read")
                    return
                }
                clinux_sleep_ns(Int64(attempt) * 20_000_000)
                attempt += 1
            }
        }
    }

    private func task() -> Task {
        let item = run.items[index]
        let source = run.sources.sources[item.source]
        let row = source.table.rows[item.row]
        return Task(
            item: item, row: row, source: run.sources.opened[item.source],
            sourceName: source.name, path: source.table.path(item.row),
            isAlone: item.offset == 0 && item.size == row.size && run.options.plan.copies == 1,
            number: run.numberBase + UInt64(index),
            count: run.numberBase + UInt64(run.items.count))
    }

    private mutating func copy(_ task: Task) throws(DeviceFailure) -> Outcome {
        let file: StorageFile
        let before: FileStatus?
        let attributes: [TreeExtra.Attribute]?
        do throws(IOError) {
            file = try task.source.open(task.path)
            before = try SpreadSource.status(file)
            attributes = before == nil ? nil : try task.source.attributes(file)
        } catch {
            return .unreadable(error.reason)
        }
        defer { file.close() }
        if let before, !before.isFile { return .changed }
        let stamp = before.map { FileStamp($0) } ?? FileStamp(task.row)
        if !task.isAlone, stamp != FileStamp(task.row) { return .changed }
        var item = task.item
        if task.isAlone { item.size = stamp.size }
        var stored = ItemToStore(
            header: SegmentHeader(
                setName: Array(run.identity.name.utf8), setID: run.identity.id,
                source: task.sourceName, path: task.path, offset: item.offset, size: item.size,
                total: stamp.size, position: task.number, count: task.count),
            source: item.source, row: item.row, metadata: task.row, attributes: attributes ?? [],
            stamp: stamp)
        if let before { stored.metadata = TreeRow(before, parent: 0) }
        try worker.asked { () throws(DeviceFailure) in try worker.device.start(stored) }
        worker.hash.reset()
        defer { worker.hash.wait() }
        let mayHaveHoles = before.map { $0.allocated < $0.size } ?? true
        let outcome = try pump(file, item, mayHaveHoles)
        guard case .written = outcome else {
            try worker.asked { () throws(DeviceFailure) in try worker.device.drop() }
            return outcome
        }
        if let before {
            guard let after = try? SpreadSource.status(file), FileStamp(after) == stamp else {
                try worker.asked { () throws(DeviceFailure) in try worker.device.drop() }
                return .changed
            }
            note(task, before, attributes, mayHaveHoles ? Self.dataRanges(file) : nil)
        }
        let digest = worker.hash.finish()
        if let expected = task.source.expectedDigest, task.isAlone, digest.bytes != expected {
            try worker.asked { () throws(DeviceFailure) in try worker.device.drop() }
            return .unreadable("its content does not have the digest that names it")
        }
        stored.header.digest = digest.bytes
        let place = try worker.asked { () throws(DeviceFailure) in
            try worker.device.finish(stored)
        }
        size = item.size
        run.lock.withLock {
            run.items[index] = StoredItem(
                source: item.source, row: item.row, offset: item.offset, size: item.size,
                digest: digest, device: item.device, place: place)
            if run.states[index] == .writing { run.states[index] = .written }
            worker.writtenItems += 1
        }
        return .written
    }

    /// Keeps what the system says of the file now.
    private func note(
        _ task: Task, _ status: FileStatus, _ attributes: [TreeExtra.Attribute]?,
        _ ranges: [Range<UInt64>]?
    ) {
        let (source, row) = (task.item.source, task.item.row)
        run.lock.withLock {
            run.sources.sources[source].table.update(row, status)
            let old = run.sources.sources[source].table.extra(row)
            var new = old
            if let attributes { new.attributes = attributes }
            new.dataRanges = ranges
            if new != old { run.sources.sources[source].table.setExtra(row, new) }
        }
    }

    private static let rangesMax = 1 << 20

    /// Where a sparse file has data; nil where that cannot be told.
    private static func dataRanges(_ file: StorageFile) -> [Range<UInt64>]? {
        var ranges: [Range<UInt64>] = []
        var position: UInt64 = 0
        guard let size = try? file.size() else { return nil }
        while position < size, ranges.count < rangesMax {
            guard let found = try? file.nextData(from: position) else { return ranges }
            let range = found.lowerBound..<min(found.upperBound, size)
            if range.isEmpty { return ranges }
            ranges.append(range)
            position = range.upperBound
        }
        return ranges.count < rangesMax ? ranges : nil
    }

    // MARK: - bytes

    private func pump(
        _ file: StorageFile, _ item: StoredItem, _ mayHaveHoles: Bool
    ) throws(DeviceFailure) -> Outcome {
        var position = item.offset
        let end = item.offset + item.size
        var dataEnd = mayHaveHoles ? position : end
        var turn = 0
        while position < end {
            if worker.shouldStop.load(ordering: .relaxed) { return .stopped }
            if position >= dataEnd {
                let found: Range<UInt64>?
                do throws(IOError) {
                    found = try file.nextData(from: position)
                } catch {
                    return .unreadable(error.reason)
                }
                // What lies behind the end of a file that shrank: its stamp tells.
                let next = min(max(found?.lowerBound ?? end, position), end)
                if next > position {
                    try hole(next - position)
                    position = next
                    if worker.shouldStop.load(ordering: .relaxed) { return .stopped }
                }
                dataEnd = min(found?.upperBound ?? end, end)
                if position >= end { break }
            }
            let buffer = worker.buffers[turn]
            turn = 1 - turn
            let count = Int(min(UInt64(buffer.count), dataEnd - position))
            let piece = UnsafeMutableRawBufferPointer(rebasing: buffer.bytes[..<count])
            do throws(IOError) {
                guard try file.read(into: piece, at: position) == count else { return .changed }
            } catch {
                return .unreadable(error.reason)
            }
            worker.hash.update(UnsafeRawBufferPointer(piece))
            try worker.asked { () throws(DeviceFailure) in
                try worker.device.append(UnsafeRawBufferPointer(piece))
            }
            worker.writtenBytes.add(UInt64(count), ordering: .relaxed)
            position += UInt64(count)
            if !worker.keepPace(count) { return .stopped }
        }
        return .written
    }

    /// Zeros that need not be read or written; the digest counts them all the same.
    private func hole(_ count: UInt64) throws(DeviceFailure) {
        var left = count
        worker.hash.wait()
        let zeros = worker.buffers[0].bytes
        zeros.initializeMemory(as: UInt8.self, repeating: 0)
        while left > 0, !worker.shouldStop.load(ordering: .relaxed) {
            let piece = Int(min(left, UInt64(zeros.count)))
            worker.hash.update(UnsafeRawBufferPointer(rebasing: zeros[..<piece]))
            left -= UInt64(piece)
        }
        worker.hash.wait()
        try worker.asked { () throws(DeviceFailure) in try worker.device.skip(count) }
        worker.writtenBytes.add(count, ordering: .relaxed)
    }
}
