// The index of the records that are not in segments yet, read once from a TailLog. Behaves like
// the index of one more log segment.

import BlockModel
import LogFormat

/// What a TailLog gave. Immutable.
struct TailIndex: Sendable {
    let archived: LSN
    let index: RecordIndex
    /// Places of the writes among the entries.
    private let writes: [UInt32]
    /// Why reading stopped before the end; what was read until then counts.
    let failure: String?
    let flushCount: UInt64
    let markCount: UInt64

    var first: Stamp? { index.entries.first?.stamp }
    var last: Stamp? { index.entries.last?.stamp }

    /// Reads the headers of all records after `archived`.
    init(_ tail: any TailLog, after archived: LSN) {
        self.archived = archived
        var entries: [SegmentEntry] = []
        var names: [UInt8] = []
        var writes: [UInt32] = []
        var (dataBytes, flushes, marks): (UInt64, UInt64, UInt64) = (0, 0, 0)
        var failure: String?
        do {
            let source = try tail.records(after: archived)
            while let record = try source.next() {
                let header = record.header
                guard header.stamp.lsn > archived else { continue }
                if let last = entries.last, header.stamp.lsn != last.stamp.lsn.next {
                    failure = "record \(header.stamp.lsn) after \(last.stamp.lsn)"
                    break
                }
                var entry = SegmentEntry(
                    stamp: header.stamp, kind: header.kind, extent: header.extent,
                    payloadOffset: 0, payloadBytes: UInt32(header.payloadBytes),
                    payloadCRC: header.payloadCRC)
                switch header.kind {
                case .write:
                    entry.payloadOffset = dataBytes
                    dataBytes += UInt64(header.payloadBytes)
                    writes.append(UInt32(entries.count))
                case .mark:
                    entry.payloadOffset = UInt64(names.count)
                    names.append(contentsOf: record.payload)
                    marks += 1
                case .flush: flushes += 1
                default: break
                }
                entries.append(entry)
            }
        } catch {
            failure = "\(error)"
        }
        index = RecordIndex(entries: entries, names: names)
        self.failure = failure
        self.writes = writes
        (flushCount, markCount) = (flushes, marks)
    }

    /// The write whose payload holds byte `position` of all payloads laid end to end.
    func write(at position: UInt64) -> SegmentEntry? {
        let entries = index.entries
        let i = writes.partitioningIndex { entries[Int($0)].payloadOffset > position }
        guard i > 0 else { return nil }
        let entry = entries[Int(writes[i - 1])]
        return position < entry.payloadOffset + UInt64(entry.payloadBytes) ? entry : nil
    }
}
