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
    /// Last LSN that counts in the file of the cursor.
    private var lastInFile = LSN.zero

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
            if expected > lastInFile { cursor = nil }
            if cursor == nil {
                guard let found = files.file(holding: expected) else {
                    throw LogDamage(lsn: expected, path: files.directory)
                }
                let file = try files.storage.open(
                    found.path, OpenOptions(.readOnly, isDirect: true))
                cursor = WALFileCursor(file: file, header: found.header, window: window)
                lastInFile = found.last
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

/// The records of the log of an unmounted volume from `first` to the end that recovery found. One
/// thread.
public final class WALFolderReader: RecordSource {
    /// Where a record lies.
    public struct Place {
        public let file: StorageFile
        public let salt: UInt32
        public let offset: UInt64
    }

    private let storage: Storage
    private var files: ArraySlice<LogContents.File>
    private var expected: LSN
    private let last: LSN
    private let window = AlignedBuffer(count: WALFileCursor.windowBytes)
    private var cursor: WALFileCursor?
    /// Last LSN that counts in the file of the cursor: behind it may lie records that an earlier
    /// recovery has cut off.
    private var lastInFile = LSN.zero
    /// Of the record that `next` returned last.
    public private(set) var place: Place?

    public init(_ contents: LogContents, from first: LSN, on storage: Storage) {
        self.storage = storage
        files = contents.files.drop { $0.last < first }
        expected = first
        last = contents.last.lsn
    }

    public func next() throws -> LogRecord? {
        while expected <= last {
            if expected > lastInFile { cursor = nil }
            guard var open = try cursor ?? nextFile() else {
                throw LogDamage(lsn: expected, path: "the log")
            }
            let offset = open.offset
            let record = try open.next()
            guard let record else {
                cursor = nil
                continue
            }
            cursor = open
            let lsn = record.header.stamp.lsn
            if lsn < expected { continue }
            if lsn > expected { throw LogDamage(lsn: expected, path: open.file.path) }
            place = Place(file: open.file, salt: open.header.salt, offset: offset)
            expected = lsn.next
            return record
        }
        return nil
    }

    private func nextFile() throws(IOError) -> WALFileCursor? {
        guard let found = files.popFirst() else { return nil }
        lastInFile = found.last
        let file = try storage.open(found.path, OpenOptions(.readOnly))
        return WALFileCursor(file: file, header: found.header, window: window)
    }
}
