// The newest records of a volume that is not mounted, straight from its WAL files and read only, so
// that history reaches up to the last durable record without changing anything.
//
// Nothing keeps another process from mounting the volume meanwhile and recycling the files. Then a
// record is not where it was, its checksum says so, and the reader fails: never a wrong byte.

import BlockModel
import CLinux
import DiskIO
import History
import LogFormat
import ProtectedVolume
import Synchronization
import WriteLog

final class WALTail: TailLog {
    /// What the log holds; records end with `contents.last`.
    let contents: LogContents
    private let storage: Storage
    private let index = Mutex(Index())

    /// Where each record lies that was read; LSNs are contiguous from `first`.
    private struct Index {
        var first = LSN.zero
        var places: [Place] = []
        var files: [OpenFile] = []
    }

    private struct Place {
        var file: Int
        var offset: UInt64
    }

    private struct OpenFile {
        var file: StorageFile
        var salt: UInt32
    }

    init(directory: String, superblock: Superblock, on storage: Storage) throws {
        self.storage = storage
        contents = try readLog(in: directory, on: storage, superblock: superblock) {
            _ throws(IOError) in
        }
    }

    func records(after archived: LSN) throws -> any RecordSource {
        Reader(self, after: archived)
    }

    func payload(
        of lsn: LSN, offset: Int, into target: UnsafeMutableRawBufferPointer
    ) throws {
        let found = index.withLock { index -> (OpenFile, UInt64)? in
            guard lsn >= index.first else { return nil }
            let number = lsn.rawValue - index.first.rawValue
            guard number < UInt64(index.places.count) else { return nil }
            let place = index.places[Int(number)]
            return (index.files[place.file], place.offset)
        }
        guard let (open, position) = found else { throw LogDamage(lsn: lsn, path: "the log") }
        let failure = LogDamage(lsn: lsn, path: open.file.path)
        let head = AlignedBuffer(count: RecordHeader.byteCount)
        guard try open.file.read(into: head.bytes, at: position) >= RecordHeader.byteCount,
            let header = RecordHeader.decode(head.base, salt: open.salt), header.stamp.lsn == lsn,
            offset + target.count <= header.payloadBytes
        else { throw failure }
        let whole = AlignedBuffer(count: header.payloadBytes)
        let bytes = UnsafeMutableRawBufferPointer(start: whole.base, count: header.payloadBytes)
        let start = position + UInt64(RecordHeader.byteCount)
        guard try open.file.read(into: bytes, at: start) == bytes.count,
            clinux_crc32c(0, whole.base, bytes.count) == header.payloadCRC
        else { throw failure }
        target.copyMemory(
            from: UnsafeRawBufferPointer(rebasing: bytes[offset..<offset + target.count]))
    }

    /// Reads front to back and notes where records lie.
    private final class Reader: RecordSource {
        private let tail: WALTail
        private var files: ArraySlice<LogContents.File>
        private var expected: LSN
        private let window = AlignedBuffer(count: WALFileCursor.windowBytes)
        private var cursor: WALFileCursor?
        private var fileNumber = 0

        init(_ tail: WALTail, after archived: LSN) {
            self.tail = tail
            expected = archived.next
            files = tail.contents.files.drop { $0.last <= archived }
        }

        func next() throws -> LogRecord? {
            while expected <= tail.contents.last.lsn {
                guard var open = try cursor ?? nextFile() else {
                    throw LogDamage(lsn: expected, path: "the log")
                }
                let offset = open.offset
                let record = try open.next()
                cursor = open
                guard let record, record.header.stamp.lsn <= tail.contents.last.lsn else {
                    cursor = nil
                    continue
                }
                let lsn = record.header.stamp.lsn
                if lsn < expected { continue }
                if lsn > expected { throw LogDamage(lsn: expected, path: open.file.path) }
                note(lsn, offset)
                expected = lsn.next
                return record
            }
            if tail.contents.end == .damaged {
                throw AcknowledgedLost(after: tail.contents.last.lsn)
            }
            return nil
        }

        private func nextFile() throws -> WALFileCursor? {
            guard let found = files.popFirst() else { return nil }
            let file = try tail.storage.open(found.path, OpenOptions(.readOnly))
            fileNumber = tail.index.withLock {
                $0.files.append(OpenFile(file: file, salt: found.header.salt))
                return $0.files.count - 1
            }
            return WALFileCursor(file: file, header: found.header, window: window)
        }

        private func note(_ lsn: LSN, _ offset: UInt64) {
            tail.index.withLock { index in
                if index.places.isEmpty { index.first = lsn }
                // An earlier reader may have noted it already.
                guard lsn.rawValue == index.first.rawValue + UInt64(index.places.count) else {
                    return
                }
                index.places.append(Place(file: fileNumber, offset: offset))
            }
        }
    }
}

/// The log ends before records that were acknowledged.
struct AcknowledgedLost: Error, CustomStringConvertible {
    var after: LSN
    var description: String { "acknowledged records after lsn \(after) are damaged or missing" }
}
