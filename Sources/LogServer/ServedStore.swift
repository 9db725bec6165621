// All volumes of a store, and what is done to them on request. No HTTP here: a request's values go
// in, an answer's value or an ErrorReply comes out.
//
// Threads: any that may block.

import BlockModel
import DiskIO
import Foundation
import History
import LogFormat
import Logging
import ServerAPI
import Synchronization

/// A store that is served.
final class ServedStore: Sendable {
    let paths: ServerPaths
    let storage: Storage
    let access: AccessFolder
    let leases: LeaseTable
    let backups: ServedBackups
    let log: Logger
    /// The ladder of new volumes that come without one.
    private let keep: Ladder?
    /// Bytes that stay free on the file system.
    private let reserveBytes: UInt64
    private let clock: @Sendable () -> Int64
    private let lock: StorageFile
    private let volumes: Mutex<Volumes>
    /// Serialises the making of volumes, with the disk.
    private let making = Mutex(())

    private struct Volumes: Sendable {
        var served: [String: ServedVolume] = [:]
        /// Folders that could not be opened, and why.
        var broken: [String: String] = [:]
    }

    init(_ configuration: LogServerConfiguration) throws(ServerStoreError) {
        let store = try ServerStore(
            openingOrMaking: configuration.store, in: configuration.storage)
        lock = try store.lock()
        paths = store.paths
        storage = store.storage
        log = configuration.log
        keep = configuration.keep
        reserveBytes = configuration.reserveBytes
        clock = configuration.clock
        access = AccessFolder(store)
        leases = LeaseTable(storage: store.storage)
        volumes = Mutex(Volumes())
        do throws(IOError) {
            backups = try ServedBackups(store.paths, store.storage, log: log)
        } catch {
            lock.close()
            throw .io(error)
        }
        do throws(IOError) {
            try openAll()
        } catch {
            lock.close()
            throw .io(error)
        }
    }

    private func openAll() throws(IOError) {
        for name in try storage.list(paths.store) where ServerAPI.isVolumeName(name) {
            let directory = paths.volume(name)
            guard storage.isDirectory(directory) else { continue }
            do throws(VolumeOpenError) {
                let volume = try ServedVolume(opening: name, at: directory, storage: storage)
                if let volume { volumes.withLock { $0.served[name] = volume } }
            } catch {
                log.error("volume \(name) is not served: \(error)")
                volumes.withLock { $0.broken[name] = "\(error)" }
            }
        }
    }

    /// For the end: closes everything and gives the store free.
    func close() {
        leases.releaseAll()
        for volume in all { volume.close() }
        backups.close()
        lock.close()
    }

    var now: Int64 { clock() }
    var all: [ServedVolume] {
        volumes.withLock { Array($0.served.values) }.sorted { $0.name < $1.name }
    }

    // MARK: volumes

    func volume(_ name: String) throws(ErrorReply) -> ServedVolume {
        let (served, isBroken) = volumes.withLock { ($0.served[name], $0.broken[name] != nil) }
        if let served { return served }
        if isBroken {
            throw ErrorReply(.failed, "the server cannot read this volume; its log says why")
        }
        throw ErrorReply(.noVolume, "there is no volume \(name) here")
    }

    /// Makes the volume, or confirms that it is the one that is there and `writer` writes it.
    func make(_ name: String, _ request: VolumeRequest) throws(ErrorReply) -> VolumeReply {
        guard let uuid = VolumeID(request.uuid) else {
            throw ErrorReply(.malformed, "uuid is no UUID")
        }
        guard request.sizeBytes > 0, request.sizeBytes % UInt64(Sector.bytes) == 0,
            request.sizeBytes <= 1 << 63
        else { throw ErrorReply(.malformed, "size_bytes is no size of a volume") }
        try Self.mustBeWriterName(request.writer, request.host)
        let asked = try Self.ladder(request.keep)
        return try making.withLock { _ throws(ErrorReply) in
            if let known = try existing(name) {
                let record = known.record
                guard record.uuid == uuid.description, record.sizeBytes == request.sizeBytes,
                    record.isSealed == request.isSealed
                else {
                    throw ErrorReply(
                        .otherVolume, "\(name) is another volume here (UUID \(record.uuid))",
                        hint: "choose another name")
                }
                try ServedVolume.mustBeWriter(request.writer, record)
                return known.reply
            }
            try mustHaveRoom()
            let keep = asked ?? self.keep
            let record = VolumeRecord(
                uuid: uuid.description, sizeBytes: request.sizeBytes, isSealed: request.isSealed,
                keep: keep.map { "\($0)" }, writer: request.writer, generation: 1,
                host: request.host, head: nil)
            let volume = try makeFolder(name, record)
            volumes.withLock { $0.served[name] = volume }
            log.notice("volume \(name) made for \(Self.word(request.host))")
            return volume.reply
        }
    }

    private func existing(_ name: String) throws(ErrorReply) -> ServedVolume? {
        do throws(ErrorReply) {
            return try volume(name)
        } catch {
            if error.code == .noVolume { return nil }
            throw error
        }
    }

    private func makeFolder(
        _ name: String, _ record: VolumeRecord
    ) throws(ErrorReply) -> ServedVolume {
        let directory = paths.volume(name)
        do throws(IOError) {
            for folder in [directory, "\(directory)/segments", "\(directory)/uploads"]
            where !storage.isDirectory(folder) {
                try storage.createDirectory(folder)
            }
            try storage.syncDirectory(paths.store)
            // Syncs the folder, too.
            try storage.replace(VolumeRecord.fileName, in: directory, bytes: record.encoded())
        } catch { throw ErrorReply(error) }
        do throws(VolumeOpenError) {
            if let volume = try ServedVolume(opening: name, at: directory, storage: storage) {
                return volume
            }
        } catch {
            log.error("volume \(name) cannot be made: \(error)")
        }
        throw ErrorReply(.failed, "the volume cannot be made")
    }

    func takeOver(_ name: String, _ request: WriterRequest) throws(ErrorReply) -> VolumeReply {
        try Self.mustBeWriterName(request.writer, request.host)
        let volume = try volume(name)
        let isNew = try volume.change { (record) throws(ErrorReply) in
            // The answer to the first try may have been lost.
            if record.writer == request.writer { return false }
            guard record.generation == request.generation else {
                throw ErrorReply(
                    .fenced, "somebody else took the volume over meanwhile: \(record.host)")
            }
            record.writer = request.writer
            record.host = request.host
            record.generation += 1
            return true
        }
        if isNew { log.notice("volume \(name) taken over by \(Self.word(request.host))") }
        return volume.reply
    }

    /// `isFull`: whether the token may change a ladder. Anybody may give one to a volume without
    /// records: nothing can be lost by it.
    func retain(
        _ name: String, _ request: RetentionRequest, isFull: Bool
    ) throws(ErrorReply) -> VolumeReply {
        let ladder = try Self.ladder(request.keep)
        let volume = try volume(name)
        let isEmpty = volume.segments.summary.count == 0
        try volume.change { (record) throws(ErrorReply) in
            let keep = ladder.map { "\($0)" }
            if keep == record.keep { return }
            guard isFull || (isEmpty && record.head == nil) else {
                throw ErrorReply(.forbidden, "this token may not change a ladder")
            }
            record.keep = keep
        }
        log.notice("volume \(name) keeps \(volume.record.keep ?? "everything")")
        return volume.reply
    }

    /// Removes a segment that nobody reads.
    func delete(_ name: String, segment: SegmentName) throws(ErrorReply) {
        let volume = try volume(name)
        try volume.locked { _ throws(ErrorReply) in
            guard volume.segments.size(segment) != nil else {
                throw ErrorReply(.missing, "there is no segment of that name")
            }
            let held: [Lease]
            do throws(IOError) {
                held = try leases.current(volume, now: now)
            } catch { throw ErrorReply(error) }
            if let holder = held.first(where: { $0.segments?.contains(segment) ?? true }) {
                throw ErrorReply(.leased, "it is read: \(Self.word(holder.purpose))")
            }
            do throws(StoreError) {
                try volume.segments.delete(segment)
            } catch { throw ErrorReply(error) }
        }
        log.notice("segment \(segment) of \(name) deleted on request")
    }

    // MARK: rules

    /// Throws `.full` when no more may be taken. What ends a set that is there (`isEnding`) may use
    /// half of the reserve.
    func mustHaveRoom(isEnding: Bool = false) throws(ErrorReply) {
        let reserve = isEnding ? reserveBytes / 2 : reserveBytes
        guard try freeBytes() > reserve else { throw ErrorReply(.full, "the server has no room") }
    }

    private func freeBytes() throws(ErrorReply) -> UInt64 {
        do throws(IOError) {
            return try storage.freeBytes(paths.store)
        } catch { throw ErrorReply(error) }
    }

    /// Bytes that may be taken before there is no room.
    func room() throws(ErrorReply) -> UInt64 {
        let free = try freeBytes()
        return free > reserveBytes ? free - reserveBytes : 0
    }

    private static func mustBeWriterName(_ writer: String, _ host: String) throws(ErrorReply) {
        guard ServerAPI.isUploadID(writer) else {
            throw ErrorReply(
                .malformed, "writer takes 1 to 160 letters, digits, dots, dashes, underscores")
        }
        guard host.utf8.count <= 255, !host.unicodeScalars.contains(where: { $0.value < 32 }) else {
            throw ErrorReply(.malformed, "host is too long, or no text")
        }
    }

    private static func ladder(_ text: String?) throws(ErrorReply) -> Ladder? {
        guard let text else { return nil }
        guard text.utf8.count <= 1000 else { throw ErrorReply(.malformed, "keep is too long") }
        do throws(LadderError) {
            return try Ladder(parsing: text)
        } catch { throw ErrorReply(.malformed, "keep is no ladder: \(error)") }
    }

    /// What a client said, for one line of the log.
    static func word(_ text: String) -> String {
        String(text.prefix(80).map { $0.isASCII && !$0.isNewline && $0 >= " " ? $0 : "?" })
    }
}
