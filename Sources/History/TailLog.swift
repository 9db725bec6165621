// The joint to records that are durable in the write-ahead log but not in a segment yet. With it
// a catalogue reaches up to the last durable record.

import BlockModel
import LogFormat
import Synchronization

/// Read access to a log's newest records. It must stay readable as long as the catalogue or a view
/// made of it is in use: keep the volume locked (not mounted), or the WAL files from recycling.
/// `payload` may be called by several threads at once.
public protocol TailLog: AnyObject, Sendable {
    /// A fresh reader that begins at or before the record after `archived` and ends with the last
    /// durable record. Called once per catalogue.
    func records(after archived: LSN) throws -> any RecordSource

    /// Fills `target` with the bytes of the payload of record `lsn`, from its byte `offset` on. The
    /// range lies inside the payload. Bytes whose checksum was not verified are an error, not an
    /// answer: an implementation checks the whole payload against its header.
    func payload(
        of lsn: LSN, offset: Int, into target: UnsafeMutableRawBufferPointer
    ) throws

    /// Whether payloads cost the same in any order; otherwise a replay reads them in one pass, by
    /// one thread. True unless an implementation says otherwise.
    var isRandomAccess: Bool { get }
}

extension TailLog {
    public var isRandomAccess: Bool { true }
}

/// A TailLog over anything that can read records from an LSN on. Payloads are found by reading
/// forward, so reads in LSN order cost one pass; one that goes back reopens the reader.
public final class SequentialTail: TailLog {
    private struct State: ~Copyable {
        var source: (any RecordSource)?
        /// The record read last, and its payload.
        var current = LSN.zero
        var payload: [UInt8] = []
    }
    private let open: @Sendable (LSN) throws -> any RecordSource
    private let state: Mutex<State>

    /// `open` gives a reader that begins at or before the record with the given LSN and checks
    /// payloads against their headers.
    public init(_ open: @escaping @Sendable (LSN) throws -> any RecordSource) {
        self.open = open
        state = Mutex(State())
    }

    public var isRandomAccess: Bool { false }

    public func records(after archived: LSN) throws -> any RecordSource {
        try open(archived.next)
    }

    public func payload(
        of lsn: LSN, offset: Int, into target: UnsafeMutableRawBufferPointer
    ) throws {
        try state.withLock { state in
            if state.current != lsn { try seek(lsn, &state) }
            guard state.current == lsn, offset + target.count <= state.payload.count else {
                throw HistoryError.sourceEnds(expected: lsn)
            }
            state.payload.withUnsafeBytes {
                target.copyMemory(
                    from: UnsafeRawBufferPointer(rebasing: $0[offset..<offset + target.count]))
            }
        }
    }

    private func seek(_ lsn: LSN, _ state: inout State) throws {
        if state.source == nil || state.current > lsn {
            state.source = nil
            state.source = try open(lsn)
        }
        while let record = try state.source?.next() {
            guard record.header.stamp.lsn >= lsn else { continue }
            guard Checksum.crc32c(record.payload) == record.header.payloadCRC else {
                throw HistoryError.payload(record.header.stamp.lsn)
            }
            state.current = record.header.stamp.lsn
            state.payload = Array(record.payload)
            return
        }
    }
}
