// One volume of a store: its record, its segments, its uploads. What changes the record or gives a
// segment its place is serialised by one lock per volume, held while the disk works; so commits of
// one volume follow each other, and those of others go on at once.
//
// Lock order: `changing`, then an upload's, then `shown` and `uploads` (never both). `shown` and
// `uploads` are never held while the disk works, but for making and finding uploads.
//
// Threads: any that may block.

import BlockModel
import DiskIO
import Foundation
import History
import LogFormat
import ServerAPI
import Synchronization

/// A volume that is served.
final class ServedVolume: Sendable {
    let name: String
    let directory: String
    let segments: ServedSegments
    let volume: VolumeID
    let storage: Storage
    /// The record as the disk has it, or is about to.
    private let shown: Mutex<VolumeRecord>
    private let changing = Mutex(Changing())
    private let uploads = Mutex<[String: Upload]>([:])

    /// What belongs to `changing`.
    struct Changing: Sendable {
        /// volume.json lags behind `shown`.
        var isStale = false
    }
    /// Uploads that are neither committed nor given up.
    static let uploadsMax = 64
    /// So old an unfinished upload is removed.
    static let uploadSecondsMax: Int64 = 7 * 86_400

    var record: VolumeRecord { shown.withLock { $0 } }
    var reply: VolumeReply { record.reply(name: name, segments.summary) }
    var uploadsDirectory: String { "\(directory)/uploads" }

    // MARK: start

    /// A volume whose folder is there; nil where its creation did not end.
    init?(
        opening name: String, at directory: String, storage: Storage
    ) throws(VolumeOpenError) {
        self.name = name
        self.directory = directory
        self.storage = storage
        let path = "\(directory)/\(VolumeRecord.fileName)"
        guard storage.exists(path) else { return nil }
        do throws(IOError) {
            let bytes = try storage.contents(of: path, limit: 1 << 20)
            guard let record = VolumeRecord.decode(bytes), let volume = VolumeID(record.uuid) else {
                throw IOError(.read, path, 74)  // EBADMSG
            }
            self.volume = volume
            shown = Mutex(record)
            // A crash can have come before their names were durable.
            let folders = ["segments", "uploads"].map { "\(directory)/\($0)" }
            for folder in folders where !storage.isDirectory(folder) {
                try storage.createDirectory(folder)
            }
        } catch { throw .io(error) }
        do throws(StoreError) {
            segments = try ServedSegments(storage: storage, directory: "\(directory)/segments")
        } catch { throw .store(error) }
        let found = try findUploads()
        uploads.withLock { $0 = found }
        try findHead()
    }

    /// Takes what was durable before a crash and not in volume.json yet.
    private func findHead() throws(VolumeOpenError) {
        var facts: [SegmentFacts] = []
        let head = record.head
        for segment in segments.sorted
        where head.map({ segment.name.last.rawValue > $0.lsn }) ?? true
            || segment.name.kind == .snapshot
        {
            // One that is damaged leads nowhere; verify tells of it.
            if let known = try? readFacts(segment) { facts.append(known) }
        }
        let found = ChainRule.head(from: head, facts)
        guard found != head else { return }
        do throws(ErrorReply) {
            try change { record throws(ErrorReply) in record.head = found }
        } catch { throw .reply(error) }
    }

    private func readFacts(_ segment: StoredSegment) throws -> SegmentFacts {
        let file = try storage.open(segments.path(segment.name), OpenOptions(.readOnly))
        defer { file.close() }
        return try SegmentFacts.read(
            file, byteCount: segment.byteCount, as: segment.name, isSealed: record.isSealed)
    }

    private func findUploads() throws(VolumeOpenError) -> [String: Upload] {
        var found: [String: Upload] = [:]
        do throws(IOError) {
            for fileName in try storage.list(uploadsDirectory) {
                let upload = try Upload.find(
                    fileName, in: uploadsDirectory, isSealed: record.isSealed, storage: storage)
                guard let upload else { continue }
                // Names sort by time as long as they have as many digits: the older one was given
                // up and could not be removed.
                found[upload.id]?.abort()
                found[upload.id] = upload
            }
        } catch { throw .io(error) }
        return found
    }

    /// Closes what is open; for the end of the server.
    func close() { for upload in uploads.withLock({ $0 }).values { upload.close() } }

    // MARK: the record

    /// Changes the record, durably. Throws without effect, or (`.failed`, `.full`) with an effect
    /// that the next change makes durable.
    func change<R: Sendable>(
        _ body: (inout VolumeRecord) throws(ErrorReply) -> R
    ) throws(ErrorReply) -> R {
        try changing.withLock { (changing) throws(ErrorReply) in
            var record = self.record
            let result = try body(&record)
            try write(record, &changing)
            return result
        }
    }

    func write(_ record: VolumeRecord, _ changing: inout Changing) throws(ErrorReply) {
        guard record != self.record || changing.isStale else { return }
        shown.withLock { $0 = record }
        changing.isStale = true
        do throws(IOError) {
            try storage.replace(VolumeRecord.fileName, in: directory, bytes: record.encoded())
        } catch { throw ErrorReply(error) }
        changing.isStale = false
    }

    func locked<R: Sendable>(
        _ body: (inout Changing) throws(ErrorReply) -> R
    ) throws(ErrorReply) -> R {
        try changing.withLock { (changing) throws(ErrorReply) in try body(&changing) }
    }

    // MARK: uploads

    /// The upload, made where it is missing and `isNew` allows it.
    func upload(_ id: String, isNew: Bool, nowSeconds: Int64) throws(ErrorReply) -> Upload {
        try uploads.withLock { (uploads) throws(ErrorReply) in
            if let known = uploads[id] { return known }
            guard isNew else { throw ErrorReply(.missing, "there is no upload of that name") }
            guard uploads.count < Self.uploadsMax else {
                throw ErrorReply(.busy, "the volume has \(uploads.count) unfinished uploads")
            }
            do throws(IOError) {
                let upload = try Upload.make(
                    id: id, in: uploadsDirectory, nowSeconds: nowSeconds,
                    isSealed: record.isSealed, storage: storage)
                uploads[id] = upload
                return upload
            } catch { throw ErrorReply(error) }
        }
    }

    func upload(_ id: String) -> Upload? { uploads.withLock { $0[id] } }

    func forget(_ upload: Upload) {
        uploads.withLock { uploads in
            if uploads[upload.id] === upload { uploads[upload.id] = nil }
        }
    }

    /// Removes what nobody finished for long.
    func removeOldUploads(nowSeconds: Int64) {
        let old = uploads.withLock { $0 }.values.filter {
            nowSeconds - $0.begunSeconds > Self.uploadSecondsMax && !$0.isBusy
        }
        for upload in old {
            upload.abort()
            forget(upload)
        }
    }
}

/// Why a volume's folder cannot be served.
enum VolumeOpenError: Error, CustomStringConvertible {
    case io(IOError)
    case store(StoreError)
    case reply(ErrorReply)

    var description: String {
        switch self {
        case .io(let error): "\(error)"
        case .store(let error): "\(error)"
        case .reply(let error): error.what
        }
    }
}
