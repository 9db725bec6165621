// Records of a running log, read back in order: what the archiver, and a redo of the image, take.

import BlockModel
import DiskIO
import LogFormat

/// Reads durable records `first ... last` from the WAL files of a running log. Pins what it reads.
/// One thread.
public final class WALReader: RecordSource {
    private let files: WALFiles
    private let last: LSN
    private var expected: LSN
    private let pin: Int
    private let window: AlignedBuffer
    private var cursor: WALFileCursor?

    /// The caller knows that `first ... last` are durable and not released.
    init(files: WALFiles, first: LSN, last: LSN, window: AlignedBuffer? = nil) {
        self.files = files
        self.last = last
        expected = first
        pin = files.pin(from: first)
        self.window = window ?? AlignedBuffer(count: WALFileCursor.windowBytes)
    }

    deinit { files.unpin(pin) }

    public func next() throws -> LogRecord? {
        while expected <= last {
            if cursor == nil {
                guard let found = files.file(holding: expected) else {
                    throw LogDamage(lsn: expected, path: files.directory)
                }
                let file = try files.storage.open(
                    found.path, OpenOptions(.readOnly, isDirect: true))
                cursor = WALFileCursor(file: file, header: found.header, window: window)
            }
            guard let record = try cursor?.next() else {
                // End of this file; a file that was asked for must begin with or hold the record.
                guard let path = cursor?.file.path, files.file(holding: expected)?.path != path
                else { throw LogDamage(lsn: expected, path: cursor?.file.path ?? "") }
                cursor = nil
                continue
            }
            let lsn = record.header.stamp.lsn
            if lsn < expected { continue }
            guard lsn == expected else {
                throw LogDamage(lsn: expected, path: cursor?.file.path ?? "")
            }
            expected = lsn.next
            return record
        }
        return nil
    }
}

/// A record that must be in the log cannot be read from it.
public struct LogDamage: Error, Sendable, Hashable, CustomStringConvertible {
    public let lsn: LSN
    public let path: String

    public init(lsn: LSN, path: String) {
        self.lsn = lsn
        self.path = path
    }

    public var description: String { "record \(lsn) is missing or damaged in \(path)" }
}

/// The records `first ... last` of the log of an unmounted volume, as recovery found them.
public final class WALFolderReader: RecordSource {
    private let storage: Storage
    private var files: ArraySlice<LogContents.File>
    private var expected: LSN
    private let last: LSN
    private let window = AlignedBuffer(count: WALFileCursor.windowBytes)
    private var cursor: WALFileCursor?

    public init(_ contents: LogContents, from first: LSN, on storage: Storage) {
        self.storage = storage
        files = contents.files.drop { $0.last < first }
        expected = first
        last = contents.files.last?.last ?? .zero
    }

    public func next() throws -> LogRecord? {
        while expected <= last {
            if cursor == nil {
                guard let found = files.popFirst() else {
                    throw LogDamage(lsn: expected, path: "the log")
                }
                let file = try storage.open(found.path, OpenOptions(.readOnly, isDirect: true))
                cursor = WALFileCursor(file: file, header: found.header, window: window)
            }
            guard let record = try cursor?.next(), record.header.stamp.lsn <= last else {
                cursor = nil
                continue
            }
            let lsn = record.header.stamp.lsn
            if lsn < expected { continue }
            if lsn > expected { throw LogDamage(lsn: expected, path: cursor?.file.path ?? "") }
            expected = lsn.next
            return record
        }
        return nil
    }
}
