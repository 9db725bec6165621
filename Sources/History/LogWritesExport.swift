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
        let memory = RawMemory(count: RecordHeader.payloadBytesMax)
        let total = try payloadBytes(monitor)
        var done: UInt64 = 0
        for run in runs {
            let index = try history.index(of: run)
            let source = try source(of: run)
            let cache = BlockCache(bytesMax: 1 << 20)
            for entry in index.entries where concerns(entry) {
                if monitor.isCancelled() { throw .cancelled }
                totals.entries += try Self.put(entry, Array(index.nameBytes(of: entry)), file)
                guard entry.kind == .write else { continue }
                try putPayload(of: entry, source, cache, memory, file)
                done += UInt64(entry.payloadBytes)
                monitor.report(WorkProgress(doneBytes: done, totalBytes: total))
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

    private func concerns(_ entry: SegmentEntry) -> Bool {
        entry.stamp.lsn > base.lsn && entry.stamp.lsn <= last.lsn
    }

    /// Bytes of all writes.
    private func payloadBytes(_ monitor: WorkMonitor) throws(HistoryError) -> UInt64 {
        var total: UInt64 = 0
        for run in runs {
            if monitor.isCancelled() { throw .cancelled }
            for entry in try history.index(of: run).entries
            where entry.kind == .write && concerns(entry) {
                total += UInt64(entry.payloadBytes)
            }
        }
        return total
    }

    /// Appends the payload of a write, checked; of thinned history it can be longer than `memory`.
    private func putPayload(
        of entry: SegmentEntry, _ source: ViewSource, _ cache: BlockCache, _ memory: RawMemory,
        _ file: UnfinishedFile
    ) throws(HistoryError) {
        var crc: UInt32 = 0
        var done = 0
        while done < Int(entry.payloadBytes) {
            let count = min(memory.count, Int(entry.payloadBytes) - done)
            let piece = UnsafeMutableRawBufferPointer(rebasing: memory.bytes[..<count])
            try source.read(
                into: piece, at: entry.payloadOffset + UInt64(done), source: 0, cache: cache)
            crc = Checksum.crc32c(UnsafeRawBufferPointer(piece), continuing: crc)
            try file.append(UnsafeRawBufferPointer(piece))
            done += count
        }
        guard crc == entry.payloadCRC else { throw .payload(entry.stamp.lsn) }
    }

    /// Appends what stands for one record, without the data of a write; returns the number of
    /// entries.
    private static func put(
        _ entry: SegmentEntry, _ name: [UInt8], _ file: UnfinishedFile
    ) throws(HistoryError) -> UInt64 {
        let extent = entry.extent
        switch entry.kind {
        case .write:
            try file.append(
                LogWritesEntry([], sector: extent.start, sectorCount: extent.count).encode())
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
