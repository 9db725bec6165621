// Turns durable records into `log` segments: contiguous LSN ranges of about 64 MiB of payload,
// each naming the digest of the one before. Only whole segments are committed, so whenever it
// stops, by an error or by power, it goes on after the last committed record.

import BlockModel
import LogFormat
import Synchronization

/// The one archiver of a volume. `archive` is called by one thread at a time; `archivedLSN` may be
/// read by any.
public final class Archiver: Sendable {
    /// When a segment is full.
    public struct Limits: Sendable {
        public var payloadBytesMax: UInt64 = 64 << 20
        /// Bounds the memory of the index while the segment is written.
        public var recordsMax: UInt64 = 1 << 18
        public var blockBytes = SegmentFormat.blockBytesDefault

        public init() {}
    }

    private struct State {
        var archived: LSN
        var digest: SegmentDigest
    }
    private let store: any SegmentStore
    private let identity: SegmentIdentity
    private let limits: Limits
    private let state: Mutex<State>

    /// Finds out from the store how far the archive reaches. Where the newest log segment cannot
    /// be read its name is believed, and the chain of digests begins anew behind it.
    public init(
        store: any SegmentStore, identity: SegmentIdentity, limits: Limits = Limits()
    ) throws(HistoryError) {
        self.store = store
        self.identity = identity
        self.limits = limits
        let segments: [StoredSegment]
        do throws(StoreError) { segments = try store.list() } catch { throw .store(error) }
        var state = State(archived: .zero, digest: .none)
        let newest = segments.filter { $0.name.kind != .snapshot }.max {
            $0.name.last < $1.name.last
        }
        if let newest {
            state.archived = newest.name.last
            do throws(HistoryError) {
                let footer = try SegmentReader.footer(of: newest, in: store)
                // A merged segment carries on the digest of the log that it took the place of.
                state.digest =
                    newest.name.kind == .log ? footer.digest : footer.header.predecessor
            } catch {
                guard case .damaged = error else { throw error }
            }
        } else if let base = segments.first {
            state.archived = base.name.first
            // A base that was brought from elsewhere carries on the digest of the log there.
            do throws(HistoryError) {
                state.digest = try SegmentReader.footer(of: base, in: store).header.predecessor
            } catch {
                guard case .damaged = error else { throw error }
            }
        }
        self.state = Mutex(state)
    }

    /// The newest record in the store.
    public var archivedLSN: LSN { state.withLock { $0.archived } }

    /// Archives the records after `archivedLSN` up to and including `last`, which `source` must
    /// reach; earlier records are skipped. `didCommit` is called as soon as a segment is durable;
    /// false ends the work there.
    /// A jump in the LSNs after `archivedLSN` is refused unless `acceptingGap`; then the history
    /// has a gap there, up to the next snapshot.
    @discardableResult
    public func archive(
        from source: any RecordSource, through last: LSN, acceptingGap: Bool = false,
        didCommit: (SegmentName) -> Bool = { _ in true }
    ) throws(HistoryError) -> [SegmentName] {
        var names: [SegmentName] = []
        var open: OpenSegment?
        var expected = archivedLSN.next
        var mayJump = acceptingGap
        while expected <= last {
            guard let record = try next(source) else { throw .sourceEnds(expected: expected) }
            let lsn = record.header.stamp.lsn
            if lsn < expected, open == nil { continue }
            guard lsn == expected || (mayJump && lsn > expected && lsn <= last) else {
                throw .order(expected: expected, found: lsn)
            }
            mayJump = false
            try check(record)
            let segment: OpenSegment
            if let open { segment = open } else { segment = try begin(record.header.stamp) }
            open = segment
            try segment.append(record)
            expected = lsn.next
            if lsn == last || segment.isFull(limits) {
                open = nil
                names.append(try commit(segment))
                guard didCommit(names[names.count - 1]) else { break }
            }
        }
        return names
    }

    private func next(_ source: any RecordSource) throws(HistoryError) -> LogRecord? {
        do { return try source.next() } catch { throw .source(error) }
    }

    /// What the format demands of a record, and that its payload is the one that was accepted.
    private func check(_ record: LogRecord) throws(HistoryError) {
        let header = record.header
        let sectors = identity.volumeBytes >> Sector.shift
        guard header.extent.start <= sectors, header.extent.count <= sectors - header.extent.start
        else { throw .outsideVolume(header.stamp.lsn) }
        guard record.payload.count == header.payloadBytes else {
            throw .payload(header.stamp.lsn)
        }
        guard Checksum.crc32c(record.payload) == header.payloadCRC else {
            throw .payload(header.stamp.lsn)
        }
    }

    private func begin(_ first: Stamp) throws(HistoryError) -> OpenSegment {
        try OpenSegment(
            header: SegmentHeader(
                kind: .log, volume: identity.volume, epoch: identity.epoch,
                volumeBytes: identity.volumeBytes, first: first,
                predecessor: state.withLock { $0.digest }, blockBytes: limits.blockBytes),
            in: store)
    }

    private func commit(_ segment: OpenSegment) throws(HistoryError) -> SegmentName {
        let (name, footer) = try segment.commit()
        state.withLock { $0 = State(archived: name.last, digest: footer.digest) }
        return name
    }
}

/// A segment being written into a store: encoder and upload. Given up when dropped. One thread.
final class OpenSegment {
    private let encoder: SegmentEncoder<StoreError>
    private let upload: any SegmentUpload

    init(header: SegmentHeader, in store: any SegmentStore) throws(HistoryError) {
        do throws(StoreError) {
            let upload = try store.upload()
            self.upload = upload
            encoder = try SegmentEncoder(header: header) { bytes throws(StoreError) in
                try upload.append(bytes)
            }
        } catch { throw .store(error) }
    }

    deinit { upload.abort() }

    func isFull(_ limits: Archiver.Limits) -> Bool {
        encoder.dataBytes >= limits.payloadBytesMax || encoder.entryCount >= limits.recordsMax
    }

    func append(_ record: LogRecord) throws(HistoryError) {
        do throws(StoreError) { try encoder.append(record) } catch { throw .store(error) }
    }

    func beginExtent(_ extent: Extent) { encoder.beginExtent(extent) }

    func appendData(_ bytes: UnsafeRawBufferPointer) throws(HistoryError) {
        do throws(StoreError) { try encoder.appendData(bytes) } catch { throw .store(error) }
    }

    /// `last` as in `SegmentEncoder.finish`.
    func commit(last: Stamp? = nil) throws(HistoryError) -> (SegmentName, SegmentFooter) {
        do throws(StoreError) {
            let footer = try encoder.finish(last: last)
            let name = SegmentName(
                first: footer.header.first.lsn, last: footer.last.lsn, kind: footer.header.kind)
            try upload.commit(as: name)
            return (name, footer)
        } catch { throw .store(error) }
    }
}
