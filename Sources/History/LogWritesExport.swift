// History as a log of dm-log-writes (layout: LogFormat/LogWritesFormat.swift): the records between
// two points, in LSN order, so that any tool that replays such logs can walk through them.
//
// A write is an entry with its data, a flush an entry FLUSH without, a discard an entry DISCARD, a
// mark an entry MARK with the name as its data. Zeroing is not discarding: its zeros are written
// out, in pieces of at most 1 MiB (as holes of the file).

import BlockModel
import DiskIO
import LogFormat

/// How much was exported.
public struct LogWritesTotals: Hashable, Sendable {
    public var entries: UInt64 = 0
    public var fileBytes: UInt64 = 0
}

/// The records of one history between two points. A value.
public struct LogWritesExport: Sendable {
    /// The state that the log begins after.
    public let base: Stamp
    public let last: Stamp
    /// Part of the history is thinned: states between its kept points are not what was.
    public let isThinned: Bool
    private let history: HistoryCatalogue
    private let runs: [RecordRun]
    private static let zerosMax: UInt64 = 1 << 20

    /// `from` nil: the oldest snapshot from which an unbroken chain leads to `last`. Throws
    /// `.notRestorable` where records between the two are missing.
    public init(
        _ catalogue: HistoryCatalogue, from: Stamp?, to last: Stamp
    ) throws(HistoryError) {
        history = catalogue
        self.last = last
        let starts = from.map { [$0] } ?? catalogue.snapshots.map(\.first)
        for start in starts where start.lsn <= last.lsn {
            guard let runs = catalogue.chain(from: start, to: last.lsn) else { continue }
            (base, self.runs) = (start, runs)
            isThinned = runs.contains(where: \.isMerged)
            return
        }
        let gap = catalogue.gaps.first { $0.first > from?.lsn ?? .zero && $0.first <= last.lsn }
        throw .notRestorable(
            NotRestorable(
                target: .lsn(last.lsn),
                reason: gap.map { .gap($0) } ?? .noSuchSnapshot(from?.lsn ?? last.lsn)))
    }

    /// Writes the log: whole, synced and under its name, or not at all.
    public func write(
        toFile path: String, in storage: Storage, replacing: Bool = false,
        monitor: WorkMonitor = .none
    ) throws(HistoryError) -> LogWritesTotals {
        let file = try UnfinishedFile(path, in: storage, replacing: replacing)
        var totals = LogWritesTotals()
        try file.append(LogWritesSuper(entryCount: 0).encode())
        let payload = RawMemory(count: RecordHeader.payloadBytesMax)
        let count = last.lsn.rawValue - base.lsn.rawValue
        for run in runs {
            let index = try history.index(of: run)
            let source = try source(of: run)
            let cache = BlockCache(capacity: 4)
            for entry in index.entries
            where entry.stamp.lsn > base.lsn && entry.stamp.lsn <= last.lsn {
                if monitor.isCancelled() { throw .cancelled }
                var data = UnsafeRawBufferPointer(
                    rebasing: UnsafeRawBufferPointer(payload.bytes)[..<0])
                if entry.kind == .write {
                    data = try self.payload(of: entry, source, cache, payload)
                }
                totals.entries += try Self.put(entry, data, Array(index.nameBytes(of: entry)), file)
                let done = entry.stamp.lsn.rawValue - base.lsn.rawValue
                if done % 256 == 0 {
                    monitor.report(WorkProgress(doneBytes: done, totalBytes: count))
                }
            }
        }
        try file.overwriteStart(LogWritesSuper(entryCount: totals.entries).encode())
        try file.commit()
        totals.fileBytes = file.byteCount
        return totals
    }

    private func source(of run: RecordRun) throws(HistoryError) -> ViewSource {
        switch run.origin {
        case .segment(let segment):
            return .segment(
                try SegmentReader(segment.name, footer: segment.footer, in: history.store))
        case .tail:
            guard let tail = history.tail, let log = history.tailLog else {
                preconditionFailure("a run of the tail without a tail")
            }
            return .tail(tail, log)
        }
    }

    private func payload(
        of entry: SegmentEntry, _ source: ViewSource, _ cache: BlockCache, _ memory: RawMemory
    ) throws(HistoryError) -> UnsafeRawBufferPointer {
        guard Int(entry.payloadBytes) <= memory.count else { throw .payload(entry.stamp.lsn) }
        let target = UnsafeMutableRawBufferPointer(
            rebasing: memory.bytes[..<Int(entry.payloadBytes)])
        try source.read(into: target, at: entry.payloadOffset, source: 0, cache: cache)
        let bytes = UnsafeRawBufferPointer(target)
        guard Checksum.crc32c(bytes) == entry.payloadCRC else { throw .payload(entry.stamp.lsn) }
        return bytes
    }

    /// Appends what stands for one record; returns the number of entries.
    private static func put(
        _ entry: SegmentEntry, _ data: UnsafeRawBufferPointer, _ name: [UInt8],
        _ file: UnfinishedFile
    ) throws(HistoryError) -> UInt64 {
        let extent = entry.extent
        switch entry.kind {
        case .write:
            try file.append(
                LogWritesEntry([], sector: extent.start, sectorCount: extent.count).encode())
            try file.append(data)
            return 1
        case .zero:
            var (start, entries): (UInt64, UInt64) = (extent.start, 0)
            while start < extent.end {
                let count = min(extent.end - start, zerosMax >> Sector.shift)
                try file.append(LogWritesEntry([], sector: start, sectorCount: count).encode())
                try file.appendZeros(count << Sector.shift)
                start += count
                entries += 1
            }
            return entries
        case .discard:
            try file.append(
                LogWritesEntry(.discard, sector: extent.start, sectorCount: extent.count).encode())
            return 1
        case .flush:
            try file.append(LogWritesEntry(.flush).encode())
            return 1
        case .mark:
            try file.append(LogWritesEntry(.mark, name: name).encode())
            return 1
        case .pad: return 0
        }
    }
}
