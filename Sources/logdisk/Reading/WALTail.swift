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
        private let records: WALFolderReader
        /// The file that was read last, and its place in the index.
        private var open: (file: StorageFile, number: Int)?

        init(_ tail: WALTail, after archived: LSN) {
            self.tail = tail
            records = WALFolderReader(tail.contents, from: archived.next, on: tail.storage)
        }

        func next() throws -> LogRecord? {
            if let record = try records.next() {
                if let place = records.place { note(record.header.stamp.lsn, place) }
                return record
            }
            if tail.contents.end == .damaged {
                throw AcknowledgedLost(after: tail.contents.last.lsn)
            }
            return nil
        }

        private func note(_ lsn: LSN, _ place: WALFolderReader.Place) {
            tail.index.withLock { index in
                let number: Int
                if let open, open.file === place.file {
                    number = open.number
                } else {
                    number = index.files.count
                    index.files.append(OpenFile(file: place.file, salt: place.salt))
                    open = (place.file, number)
                }
                if index.places.isEmpty { index.first = lsn }
                // An earlier reader may have noted it already.
                guard lsn.rawValue == index.first.rawValue + UInt64(index.places.count) else {
                    return
                }
                index.places.append(Place(file: number, offset: place.offset))
            }
        }
    }
}

/// The log ends before records that were acknowledged.
struct AcknowledgedLost: Error, CustomStringConvertible {
    var after: LSN
    var description: String { "acknowledged records after lsn \(after) are damaged or missing" }
}
