// One set of backups at the server: its files, what of them is on its way, and who writes. While it
// is not visible it lies in `.NAME.unfinished`; then in `NAME`, where nothing changes any more.
//
//   files     segments/NUMBER (items), MANIFEST, journal-NUMBER: whole, durable
//   uploads   uploads/FILE.HEAD@SECONDS: bytes of a file that is not whole, behind room for a head
//             of so many bytes
//
// Threads: any that may block. `state` orders who does what, and is held while a file is found or
// made, never while bytes are written or hashed: that is the upload's own lock.

import DiskIO
import ServerAPI
import Synchronization

final class ServedSet: Sendable {
    let id: String
    let name: String
    let storage: Storage
    private let device: String
    private let state: Mutex<State>

    private struct State: Sendable {
        var record: SetRecord
        var isComplete: Bool
        var isGone = false
        var writer: String?
        /// When the writer was last heard of, by the server's clock.
        var heard: Int64 = 0
        /// Of a set that is not visible; nil until somebody asks.
        var files: [String: UInt64]?
        var uploads: [String: Upload]?
    }
    /// Files under way of one set.
    static let uploadsMax = 16

    /// A set whose folder is there, below the device's folder.
    init(_ record: SetRecord, isComplete: Bool, device: String, storage: Storage) {
        id = record.id
        name = record.name
        self.device = device
        self.storage = storage
        state = Mutex(State(record: record, isComplete: isComplete))
    }

    var isComplete: Bool { state.withLock { $0.isComplete } }
    var record: SetRecord { state.withLock { $0.record } }
    /// Where it lies now.
    var directory: String { state.withLock { directory($0) } }

    private func directory(_ state: State) -> String {
        "\(device)/\(state.record.folderName(isComplete: state.isComplete))"
    }

    /// Where a file lies below the set's folder.
    private static func place(_ name: String) -> String {
        ServerAPI.itemNumber(name) == nil ? name : "segments/\(name)"
    }

    var reply: SetReply {
        let (record, isComplete, directory) = state.withLock {
            ($0.record, $0.isComplete, self.directory($0))
        }
        return SetReply(
            id: id, name: name, deviceID: record.deviceID,
            createdNanoseconds: record.createdNanoseconds, isComplete: isComplete,
            hasManifest: storage.exists("\(directory)/\(ServerAPI.manifestFile)"),
            fileCount: record.fileCount, bytes: record.bytes)
    }

    // MARK: who writes

    /// `writer` is the one from now on. Throws `.busy` while another one is about.
    func claim(_ writer: String, now: Int64) throws(ErrorReply) {
        guard ServerAPI.isUploadID(writer) else {
            throw ErrorReply(.malformed, "Logdisk-Writer is missing, or no id")
        }
        try state.withLock { (state) throws(ErrorReply) in
            if state.isComplete || state.isGone { return }
            let silent = now - state.heard
            let isAbout = (0..<ServerAPI.writerSeconds * 1_000_000_000).contains(silent)
            if let other = state.writer, other != writer, isAbout {
                throw ErrorReply(.busy, "another run writes the set \(name)")
            }
            (state.writer, state.heard) = (writer, now)
        }
    }

    /// Throws where somebody else writes, or nobody may.
    func mustBeWriter(_ writer: String, now: Int64) throws(ErrorReply) {
        try state.withLock { (state) throws(ErrorReply) in
            try mustBeWriter(writer, &state, now)
        }
    }

    private func mustBeWriter(
        _ writer: String, _ state: inout State, _ now: Int64
    ) throws(ErrorReply) {
        guard !state.isGone else { throw Self.gone }
        guard !state.isComplete else {
            throw ErrorReply(.complete, "the set \(name) is complete: it does not change any more")
        }
        guard ServerAPI.isUploadID(writer) else {
            throw ErrorReply(.malformed, "Logdisk-Writer is missing, or no id")
        }
        // Nobody is known after a restart of the server: the first one who comes goes on.
        if state.writer != nil, state.writer != writer {
            throw ErrorReply(.fenced, "another run writes the set \(name) now")
        }
        (state.writer, state.heard) = (writer, now)
    }

    func release(_ writer: String) {
        state.withLock { if $0.writer == writer { $0.writer = nil } }
    }

    // MARK: files

    /// The whole files. Reads the folder.
    func files() throws(ErrorReply) -> [String: UInt64] {
        try state.withLock { (state) throws(ErrorReply) in try files(&state) }
    }

    private func files(_ state: inout State) throws(ErrorReply) -> [String: UInt64] {
        if let known = state.files { return known }
        let directory = directory(state)
        do throws(IOError) {
            var found: [String: UInt64] = [:]
            for (folder, holdsItems) in [(directory, false), ("\(directory)/segments", true)]
            where storage.isDirectory(folder) {
                for name in try storage.list(folder)
                where ServerAPI.isSetFile(name)
                    && (ServerAPI.itemNumber(name) != nil) == holdsItems
                {
                    let file = try storage.open("\(folder)/\(name)", OpenOptions(.readOnly))
                    defer { file.close() }
                    found[name] = try file.size()
                }
            }
            if !state.isComplete { state.files = found }
            return found
        } catch { throw ErrorReply(error) }
    }

    /// A whole file, opened for reading.
    func open(_ name: String) throws(ErrorReply) -> (file: StorageFile, size: UInt64) {
        let path = "\(directory)/\(Self.place(name))"
        guard storage.exists(path) else { throw Self.noFile }
        do throws(IOError) {
            let file = try storage.open(path, OpenOptions(.readOnly))
            return (file, try file.size())
        } catch {
            if error.isMissing { throw Self.noFile }
            throw ErrorReply(error)
        }
    }

    /// The upload of a file, begun where there is none and `offset` is 0.
    func upload(
        _ name: String, headBytes: UInt64, offset: UInt64, writer: String, now: Int64
    ) throws(ErrorReply) -> Upload {
        try state.withLock { (state) throws(ErrorReply) in
            try mustBeWriter(writer, &state, now)
            if try files(&state)[name] != nil {
                throw ErrorReply(.exists, "the file \(name) is there already")
            }
            let id = Self.uploadID(name, headBytes)
            var uploads = try uploads(&state)
            if let known = uploads[id] {
                if !known.isGone { return known }
                uploads[id] = nil
            }
            guard offset == 0 else {
                throw ErrorReply(.offset, "there is no such upload yet", bytes: 0)
            }
            guard uploads.count < Self.uploadsMax else {
                throw ErrorReply(.busy, "the set has \(uploads.count) unfinished files")
            }
            do throws(IOError) {
                let upload = try Upload.make(
                    id: id, in: "\(directory(state))/uploads", nowSeconds: now / 1_000_000_000,
                    headBytes: headBytes, storage: storage)
                uploads[id] = upload
                state.uploads = uploads
                return upload
            } catch { throw ErrorReply(error) }
        }
    }

    private static func uploadID(_ name: String, _ headBytes: UInt64) -> String {
        "\(name).\(headBytes)"
    }

    private func uploads(_ state: inout State) throws(ErrorReply) -> [String: Upload] {
        if let known = state.uploads { return known }
        let folder = "\(directory(state))/uploads"
        do throws(IOError) {
            var found: [String: Upload] = [:]
            for fileName in try storage.list(folder) {
                let upload = try Upload.find(fileName, in: folder, storage: storage) { id in
                    id.split(separator: ".").last.flatMap { UInt64($0) }
                }
                guard let upload else { continue }
                found[upload.id]?.abort()
                found[upload.id] = upload
            }
            state.uploads = found
            return found
        } catch { throw ErrorReply(error) }
    }

    /// Makes an upload of `byteCount` bytes the file `name`, with `head` in front: its digest is
    /// checked, it is synced, renamed, and its folder synced.
    func finish(
        _ upload: Upload, as name: String, head: [UInt8], byteCount: UInt64, sha256: String
    ) throws(ErrorReply) {
        let target = "\(directory)/\(Self.place(name))"
        let folder = target.prefix(upTo: target.lastIndex(of: "/") ?? target.endIndex)
        try upload.complete(byteCount: byteCount, sha256: sha256) {
            (file, _) throws(ErrorReply) in
            try Self.write(head, to: file)
        } place: { _ throws(ErrorReply) in
            guard !storage.exists(target) else {
                throw ErrorReply(.failed, "the file's place is taken on the server's disk")
            }
            do throws(IOError) {
                try storage.rename(upload.path, to: target)
            } catch { throw ErrorReply(error) }
            do throws(IOError) {
                try storage.syncDirectory(String(folder))
            } catch {
                // Nobody knows whether the name will last: it must not be taken for there.
                try? storage.rename(target, to: upload.path)
                throw ErrorReply(error)
            }
        }
        state.withLock { state in
            state.files?[name] = UInt64(head.count) + byteCount
            state.uploads?[upload.id] = nil
        }
    }

    private static func write(_ head: [UInt8], to file: StorageFile) throws(ErrorReply) {
        var failure: IOError?
        head.withUnsafeBytes { bytes in
            do throws(IOError) { try file.write(bytes, at: 0) } catch { failure = error }
        }
        if let failure { throw ErrorReply(failure) }
    }

    /// Removes a file, whole or not, of a set that is not visible.
    func removeFile(_ name: String, writer: String, now: Int64) throws(ErrorReply) {
        try state.withLock { (state) throws(ErrorReply) in
            try mustBeWriter(writer, &state, now)
            let isThere = try files(&state)[name] != nil
            let mine = try uploads(&state).filter {
                $0.key.prefix(upTo: $0.key.lastIndex(of: ".") ?? $0.key.endIndex) == name
            }
            guard isThere || !mine.isEmpty else { throw Self.noFile }
            for (id, upload) in mine {
                upload.abort()
                state.uploads?[id] = nil
            }
            guard isThere else { return }
            do throws(IOError) {
                try storage.remove("\(directory(state))/\(Self.place(name))")
            } catch { throw ErrorReply(error) }
            state.files?[name] = nil
        }
    }

    // MARK: the end

    /// Makes it visible: everything else is durable. `hasOther`: whether a set of this name is
    /// visible already.
    func commit(writer: String, now: Int64, hasOther: Bool) throws(ErrorReply) {
        try state.withLock { (state) throws(ErrorReply) in
            if state.isComplete { return }
            try mustBeWriter(writer, &state, now)
            let files = try files(&state)
            guard files[ServerAPI.manifestFile] != nil else {
                throw ErrorReply(.missing, "the set has no manifest yet")
            }
            guard !hasOther else {
                throw ErrorReply(.exists, "there is a set of the name \(name)")
            }
            let old = directory(state)
            let counted = files.filter { ServerAPI.journalNumber($0.key) == nil }
            var record = state.record
            record.fileCount = counted.count
            record.bytes = counted.reduce(0) { $0 + $1.value }
            do throws(IOError) {
                try storage.replace(SetRecord.fileName, in: old, bytes: record.encoded())
                try storage.syncDirectory("\(old)/segments")
                try storage.rename(old, to: "\(device)/\(record.folderName(isComplete: true))")
                try storage.syncDirectory(device)
            } catch { throw ErrorReply(error) }
            for upload in state.uploads.map({ Array($0.values) }) ?? [] { upload.abort() }
            (state.record, state.isComplete) = (record, true)
            (state.uploads, state.files, state.writer) = (nil, nil, nil)
            Self.tidy(directory(state), storage)
        }
    }

    /// What a visible set does not need; best effort.
    static func tidy(_ directory: String, _ storage: Storage) {
        try? storage.removeTree("\(directory)/uploads")
        for name in (try? storage.list(directory)) ?? [] where ServerAPI.journalNumber(name) != nil
        {
            try? storage.remove("\(directory)/\(name)")
        }
    }

    /// Nothing is taken any more; its folder's new name is `place`.
    func moveAway(to place: String) throws(ErrorReply) {
        try state.withLock { (state) throws(ErrorReply) in
            guard !state.isGone else { return }
            for upload in state.uploads.map({ Array($0.values) }) ?? [] { upload.close() }
            do throws(IOError) {
                try storage.rename(directory(state), to: place)
                try storage.syncDirectory(device)
            } catch { throw ErrorReply(error) }
            state.isGone = true
        }
    }

    /// Closes what is open; for the end of the server.
    func close() {
        for upload in state.withLock({ $0.uploads.map { Array($0.values) } ?? [] }) {
            upload.close()
        }
    }

    private static let gone = ErrorReply(.missing, "there is no such set any more")
    private static let noFile = ErrorReply(.missing, "there is no file of that name")
}
