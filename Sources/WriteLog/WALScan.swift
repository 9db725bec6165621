// Reading WAL files back: one file's records in order, all checks of RecordHeader.swift applied.
// Read-only; used by recovery, by the archiver's reader and by inspection.

import BlockModel
import CLinux
import DiskIO
import LogFormat

/// Reads the records of one WAL file front to back through one window of memory.
///
/// The window is a borrowed buffer of at least `windowBytes`; payloads point into it and are valid
/// until the next call. Not for several threads.
public struct WALFileCursor {
    /// One record and room to read ahead.
    public static let windowBytes = 4 << 20

    public let file: StorageFile
    public let header: WALFileHeader
    /// Offset in the file of the next record.
    public private(set) var offset = UInt64(WALFileHeader.byteCount)
    private let window: AlignedBuffer
    /// Bytes to read at a time, if a record does not need more.
    private let readAhead: Int
    private var windowStart: UInt64 = 0
    private var windowCount = 0

    public init(
        file: StorageFile, header: WALFileHeader, window: AlignedBuffer,
        readAhead: Int = WALFileCursor.windowBytes
    ) {
        precondition(window.count >= Self.windowBytes)
        self.file = file
        self.header = header
        self.window = window
        self.readAhead = readAhead
    }

    /// Forgets what was read ahead: the file may have grown.
    public mutating func refresh() { windowCount = 0 }

    /// The record at `offset` if every check but the order of LSNs passes, and moves past it. Nil
    /// where the bytes at `offset` are no valid record: the cursor stays.
    public mutating func next() throws(IOError) -> LogRecord? {
        guard offset + UInt64(RecordHeader.byteCount) <= header.fileBytes,
            let start = try load(RecordHeader.byteCount),
            let record = RecordHeader.decode(start, salt: header.salt), record.kind != .pad
        else { return nil }
        let bytes = record.logBytes
        guard offset + UInt64(bytes) <= header.fileBytes, let base = try load(bytes) else {
            return nil
        }
        let payload = UnsafeRawBufferPointer(
            start: base + RecordHeader.byteCount, count: record.payloadBytes)
        if record.payloadBytes > 0, !Fault.payloadUnchecked.isOn {
            let crc = clinux_crc32c(0, payload.baseAddress, payload.count)
            guard crc == record.payloadCRC else { return nil }
        }
        offset += UInt64(bytes)
        return LogRecord(header: record, payload: payload)
    }

    /// Whether any readable header at or after `offset` is of a record with an LSN of at least
    /// `lsn` and below `limit`: the highest durable LSN that such headers declare; nil where there
    /// are none.
    public mutating func claimedDurable(from lsn: LSN, below limit: LSN) throws(IOError) -> LSN? {
        var claimed: LSN?
        var position = offset
        while position + UInt64(RecordHeader.byteCount) <= header.fileBytes {
            let count = try fill(at: position, Self.windowBytes)
            if count < RecordHeader.byteCount { break }
            let sectors = count / Sector.bytes
            for sector in 0..<sectors {
                let start = UnsafeRawPointer(window.base + sector * Sector.bytes)
                guard start.load(as: UInt32.self) == RecordHeader.magic.littleEndian,
                    let record = RecordHeader.decode(start, salt: header.salt),
                    record.stamp.lsn >= lsn, record.stamp.lsn < limit
                else { continue }
                claimed = max(claimed ?? .zero, record.durableLSN)
            }
            position += UInt64(sectors * Sector.bytes)
        }
        windowCount = 0
        return claimed
    }

    /// Memory of `count` bytes at `offset`; nil at the end of the file.
    private mutating func load(_ count: Int) throws(IOError) -> UnsafeRawPointer? {
        let end = offset + UInt64(count)
        if offset < windowStart || end > windowStart + UInt64(windowCount) {
            guard try fill(at: offset, max(count, readAhead)) >= count else { return nil }
        }
        return UnsafeRawPointer(window.base + Int(offset - windowStart))
    }

    private mutating func fill(at position: UInt64, _ wanted: Int) throws(IOError) -> Int {
        windowStart = position
        let count = min(wanted, Int(clamping: header.fileBytes - position))
        windowCount = try file.read(
            into: UnsafeMutableRawBufferPointer(start: window.base, count: count), at: position)
        return windowCount
    }
}

/// A WAL file found in the folder.
public struct FoundWALFile: Sendable {
    public let path: String
    /// From its name.
    public let sequence: UInt64
    public let header: Result<WALFileHeader, WALFileHeader.DecodeFailure>
    /// LSN of its first record; nil when it holds none that counts.
    public var firstLSN: LSN?
    /// It lost its end: files have their full size before they get their name.
    public var isCutShort = false

    /// Whether header and name agree.
    public var isConsistent: Bool {
        if case .success(let header) = header { return header.sequence == sequence }
        return false
    }
}

/// The WAL files of a folder in the order of their sequence, with the LSN that each begins with.
public func findWALFiles(
    in directory: String, on storage: Storage, window: AlignedBuffer
) throws(IOError) -> [FoundWALFile] {
    var found: [FoundWALFile] = []
    for name in try storage.list(directory) {
        guard let sequence = WALFileHeader.sequence(fileName: name) else { continue }
        let path = "\(directory)/\(name)"
        let file = try storage.open(path, OpenOptions(.readOnly, isDirect: true))
        defer { file.close() }
        let head = UnsafeMutableRawBufferPointer(
            start: window.base, count: WALFileHeader.byteCount)
        try file.readZeroExtended(into: head, at: 0)
        let header = WALFileHeader.decode(UnsafeRawBufferPointer(head))
        var entry = FoundWALFile(path: path, sequence: sequence, header: header)
        if case .success(let header) = header, header.sequence == sequence {
            var cursor = WALFileCursor(
                file: file, header: header, window: window, readAhead: 16 << 10)
            entry.firstLSN = try cursor.next()?.header.stamp.lsn
            entry.isCutShort = try file.size() < header.fileBytes
        }
        found.append(entry)
    }
    return found.sorted { $0.sequence < $1.sequence }
}
