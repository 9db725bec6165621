// The joint to records that are durable in the write-ahead log but not in a segment yet. With it
// a catalogue reaches up to the last durable record.

import BlockModel
import DiskIO
import LogFormat

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
}
