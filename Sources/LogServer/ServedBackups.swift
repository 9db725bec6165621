// Backup devices at the server: STORE/.backups/DEVICE with a folder for each set, laid out as a
// folder that is a device itself (Spread/FolderDevice.swift, all items as segments), so that
// `dir:STORE/.backups/DEVICE` reads the same sets in place. A device needs no making: it is there
// with its first set.
//
//   begin    .NAME.unfinished/{DEVICE, set.json, segments/, uploads/}, set.json last
//   commit   set.json tells the sums · the folder gets its name · the device's folder is synced
//   remove   the folder becomes .ID.forgotten · synced · its files go; the next start ends that
//
// Threads: any that may block. `changing` orders what makes, shows and removes sets.

import DiskIO
import Logging
import ServerAPI
import Synchronization

final class ServedBackups: Sendable {
    private let storage: Storage
    private let paths: ServerPaths
    private let log: Logger
    /// By device and id.
    private let sets: Mutex<[String: [String: ServedSet]]>
    private let changing = Mutex(())
    /// Sets of one device; unfinished ones count.
    private static let setsMax = 10_000

    init(_ paths: ServerPaths, _ storage: Storage, log: Logger) throws(IOError) {
        (self.paths, self.storage, self.log) = (paths, storage, log)
        sets = Mutex([:])
        guard storage.isDirectory(paths.backups) else { return }
        for device in try storage.list(paths.backups) where ServerAPI.isVolumeName(device) {
            for entry in try storage.list(paths.backup(device)) { open(entry, of: device) }
        }
    }

    private func open(_ entry: String, of device: String) {
        let folder = "\(paths.backup(device))/\(entry)"
        guard storage.isDirectory(folder) else { return }
        let path = "\(folder)/\(SetRecord.fileName)"
        let isCutShort = entry.hasSuffix(".unfinished") && !storage.exists(path)
        if entry.hasPrefix("."), entry.hasSuffix(".forgotten") || isCutShort {
            try? storage.removeTree(folder)
            return
        }
        let bytes = try? storage.contents(of: path, limit: 1 << 16)
        let isComplete = !entry.hasPrefix(".")
        guard let record = bytes.flatMap(SetRecord.decode),
            record.folderName(isComplete: isComplete) == entry
        else {
            log.error("the set \(ServedStore.word(entry)) of \(device) is not served")
            return
        }
        if isComplete { ServedSet.tidy(folder, storage) }
        let set = ServedSet(
            record, isComplete: isComplete, device: paths.backup(device), storage: storage)
        sets.withLock { $0[device, default: [:]][record.id] = set }
    }

    func close() { for set in all { set.close() } }

    private var all: [ServedSet] { sets.withLock { $0.values.flatMap(\.values) } }

    /// Sums for the metrics.
    var summary: (devices: Int, complete: Int, unfinished: Int, bytes: UInt64) {
        let devices = sets.withLock { $0.values.count { !$0.isEmpty } }
        let records = all.map { ($0.isComplete, $0.record.bytes ?? 0) }
        let complete = records.count { $0.0 }
        return (devices, complete, records.count - complete, records.reduce(0) { $0 + $1.1 })
    }

    /// By name, then id.
    func sets(of device: String) -> [ServedSet] {
        sets.withLock { Array(($0[device] ?? [:]).values) }
            .sorted { ($0.name, $0.id) < ($1.name, $1.id) }
    }

    func set(_ device: String, _ id: String) throws(ErrorReply) -> ServedSet {
        guard let set = sets.withLock({ $0[device]?[id] }) else {
            throw ErrorReply(.missing, "there is no such set")
        }
        return set
    }

    // MARK: verbs

    /// Begins the set, or goes on with the one that is there.
    func begin(
        _ device: String, _ id: String, _ request: SetRequest, writer: String, now: Int64
    ) throws(ErrorReply) -> SetReply {
        guard ServerAPI.isSetName(request.name) else {
            throw ErrorReply(.malformed, "this is no name of a set")
        }
        guard ServerAPI.isSetID(request.deviceID) else {
            throw ErrorReply(.malformed, "device_id takes 32 digits 0-9 a-f")
        }
        guard ServerAPI.isUploadID(writer) else {
            throw ErrorReply(.malformed, "Logdisk-Writer is missing, or no id")
        }
        return try changing.withLock { _ throws(ErrorReply) in
            let there = sets(of: device)
            if let known = there.first(where: { $0.id == id }) {
                let record = known.record
                guard record.name == request.name, record.deviceID == request.deviceID else {
                    throw ErrorReply(.exists, "there is another set of this id")
                }
                try known.claim(writer, now: now)
                return known.reply
            }
            guard !there.contains(where: { $0.name == request.name }) else {
                throw ErrorReply(.exists, "there is a set of the name \(request.name)")
            }
            guard there.count < Self.setsMax else {
                throw ErrorReply(.full, "the device has \(there.count) sets")
            }
            let record = SetRecord(
                id: id, name: request.name, deviceID: request.deviceID,
                createdNanoseconds: request.createdNanoseconds)
            let set = try make(record, device)
            try set.claim(writer, now: now)
            sets.withLock { $0[device, default: [:]][id] = set }
            return set.reply
        }
    }

    private func make(_ record: SetRecord, _ device: String) throws(ErrorReply) -> ServedSet {
        let parent = paths.backup(device)
        let folder = "\(parent)/\(record.folderName(isComplete: false))"
        do throws(IOError) {
            for (path, above) in [(paths.backups, paths.store), (parent, paths.backups)]
            where !storage.isDirectory(path) {
                try storage.createDirectory(path)
                try storage.syncDirectory(above)
            }
            // What a creation that was cut short has left.
            try storage.removeTree(folder)
            for path in [folder, "\(folder)/segments", "\(folder)/uploads"] {
                try storage.createDirectory(path)
            }
            try storage.replace(SetRecord.identityName, in: folder, bytes: record.identity)
            try storage.replace(SetRecord.fileName, in: folder, bytes: record.encoded())
            try storage.syncDirectory(parent)
        } catch { throw ErrorReply(error) }
        return ServedSet(record, isComplete: false, device: parent, storage: storage)
    }

    func commit(
        _ device: String, _ id: String, writer: String, now: Int64
    ) throws(ErrorReply) -> SetReply {
        try changing.withLock { _ throws(ErrorReply) in
            let set = try set(device, id)
            let wasComplete = set.isComplete
            let hasOther = sets(of: device).contains {
                $0.id != id && $0.name == set.name && $0.isComplete
            }
            try set.commit(writer: writer, now: now, hasOther: hasOther)
            if !wasComplete { log.notice("set \(ServedStore.word(set.name)) of \(device) made") }
            return set.reply
        }
    }

    /// Removes a set; `isFull`: whether the token may remove one that is visible.
    func remove(
        _ device: String, _ id: String, writer: String, isFull: Bool, now: Int64
    ) throws(ErrorReply) {
        let away = "\(paths.backup(device))/.\(id).forgotten"
        try changing.withLock { _ throws(ErrorReply) in
            let set = try set(device, id)
            if set.isComplete {
                guard isFull else {
                    throw ErrorReply(.forbidden, "this token may not remove a set")
                }
            } else {
                try set.claim(writer, now: now)
            }
            try set.moveAway(to: away)
            sets.withLock { _ = $0[device]?.removeValue(forKey: id) }
            log.notice("set \(ServedStore.word(set.name)) of \(device) removed on request")
        }
        // What stays goes when the server starts again.
        try? storage.removeTree(away)
    }
}
