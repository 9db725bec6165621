// Bytes on their way to become a segment, or a file of a set: one file in the folder `uploads` of
// the volume or set, named `ID@SECONDS` after the client's id and the time when it was begun.
// Appended to at its end only; hashed while it grows. After a restart the file is found again and
// hashed once, at the commit. In front of the bytes room may be kept for a head, which is written
// before the commit and counts nowhere.
//
// Threads: any; a lock orders the calls on one upload, which block on the disk. Of several requests
// that write to one upload the last one counts: a connection that was cut may look alive here for
// minutes, and must not keep its successor out.

import DiskIO
import History
import ServerAPI
import Synchronization

/// One upload.
final class Upload: Sendable {
    let id: String
    let path: String
    /// When it was begun, seconds since 1970-01-01 UTC.
    let begunSeconds: Int64
    /// Where the bytes begin in the file.
    let headBytes: UInt64
    private let state: Mutex<State>
    private let storage: Storage
    /// Whether it is to be a container.
    private let isSealed: Bool
    private static let writeBackBytes: UInt64 = 8 << 20
    /// Requests that write to it.
    private let writers = Atomic<Int>(0)

    private struct State: Sendable {
        var file: StorageFile?
        var byteCount: UInt64 = 0
        /// Lags behind after a restart.
        var hasher: TailHasher
        /// The disk was told to begin with the bytes before.
        var begunBytes: UInt64 = 0
        /// Rises with each request that writes.
        var turn: UInt64 = 0
        /// Committed or given up: nothing is taken any more.
        var isGone = false
    }

    /// A new one, or one that is there (its file's name tells since when).
    private init(
        id: String, path: String, begunSeconds: Int64, headBytes: UInt64, file: StorageFile,
        byteCount: UInt64, isSealed: Bool, storage: Storage
    ) {
        self.id = id
        self.path = path
        self.begunSeconds = begunSeconds
        self.headBytes = headBytes
        self.storage = storage
        self.isSealed = isSealed
        state = Mutex(
            State(file: file, byteCount: byteCount, hasher: TailHasher(isSealed: isSealed)))
    }

    static func make(
        id: String, in directory: String, nowSeconds: Int64, headBytes: UInt64 = 0,
        isSealed: Bool = false, storage: Storage
    ) throws(IOError) -> Upload {
        let path = "\(directory)/\(id)@\(nowSeconds)"
        // What could not be removed when it was given up.
        if storage.exists(path) { try storage.remove(path) }
        let file = try storage.open(path, OpenOptions(.readWrite, creation: .exclusively))
        return Upload(
            id: id, path: path, begunSeconds: nowSeconds, headBytes: headBytes, file: file,
            byteCount: 0, isSealed: isSealed, storage: storage)
    }

    /// `headBytes`: how an id tells of the head.
    static func find(
        _ fileName: String, in directory: String, isSealed: Bool = false, storage: Storage,
        headBytes: (String) -> UInt64? = { _ in 0 }
    ) throws(IOError) -> Upload? {
        guard let (id, seconds) = parse(fileName), let head = headBytes(id) else { return nil }
        let path = "\(directory)/\(fileName)"
        let file = try storage.open(path, OpenOptions(.readWrite))
        let size = try file.size()
        return Upload(
            id: id, path: path, begunSeconds: seconds, headBytes: head, file: file,
            byteCount: max(size, head) - head, isSealed: isSealed, storage: storage)
    }

    /// Id and time of a file's name; nil where it is no upload.
    static func parse(_ fileName: String) -> (id: String, seconds: Int64)? {
        let parts = fileName.split(separator: "@", omittingEmptySubsequences: false)
        guard parts.count == 2, ServerAPI.isUploadID(parts[0]), let seconds = Int64(parts[1]) else {
            return nil
        }
        return (String(parts[0]), seconds)
    }

    var byteCount: UInt64 { state.withLock { $0.byteCount } }
    /// Whether it was committed or given up.
    var isGone: Bool { state.withLock { $0.isGone } }
    /// Whether a request writes to it.
    var isBusy: Bool { writers.load(ordering: .relaxed) > 0 }

    /// Begins a request that writes at `offset`; what it gives back names the request. Whoever
    /// wrote before is refused from now on.
    func begin(at offset: UInt64) throws(ErrorReply) -> UInt64 {
        try state.withLock { (state) throws(ErrorReply) in
            guard !state.isGone else { throw Self.gone }
            guard state.byteCount == offset else {
                throw ErrorReply(
                    .offset, "the upload has \(state.byteCount) bytes", bytes: state.byteCount)
            }
            state.turn += 1
            // A lone count: nothing else is published by it.
            writers.add(1, ordering: .relaxed)
            return state.turn
        }
    }

    /// The request is over. Never blocks.
    func end() { writers.subtract(1, ordering: .relaxed) }

    /// Appends; borrowed for the call.
    func append(_ bytes: UnsafeRawBufferPointer, turn: UInt64) throws(ErrorReply) {
        try state.withLock { (state) throws(ErrorReply) in
            guard !state.isGone, let file = state.file else { throw Self.gone }
            guard state.turn == turn else {
                throw ErrorReply(
                    .offset, "another request goes on with this upload", bytes: state.byteCount)
            }
            do throws(IOError) {
                try file.write(bytes, at: headBytes + state.byteCount)
            } catch { throw ErrorReply(error) }
            if state.hasher.byteCount == state.byteCount { state.hasher.append(bytes) }
            state.byteCount += UInt64(bytes.count)
            // The sync of the commit shall find little to do.
            let waiting = state.byteCount - state.begunBytes
            if waiting >= Self.writeBackBytes {
                file.startWriteBack(offset: headBytes + state.begunBytes, count: waiting)
                state.begunBytes = state.byteCount
            }
        }
    }

    /// Appends so many zeros, as a hole where the file system can.
    func appendZeros(_ count: UInt64, turn: UInt64) throws(ErrorReply) {
        try state.withLock { (state) throws(ErrorReply) in
            guard !state.isGone, let file = state.file else { throw Self.gone }
            guard state.turn == turn else {
                throw ErrorReply(
                    .offset, "another request goes on with this upload", bytes: state.byteCount)
            }
            do throws(IOError) {
                try file.truncate(to: headBytes + state.byteCount + count)
            } catch { throw ErrorReply(error) }
            if state.hasher.byteCount == state.byteCount { state.hasher.append(zeros: count) }
            state.byteCount += count
        }
    }

    /// Checks the bytes against the `sha256` that was announced, runs `check`, makes them durable
    /// in their file, then runs `place`, which gives the file its place; nobody writes meanwhile.
    /// Bytes that are not what was announced, or may not have reached the disk, are thrown away:
    /// the client begins anew.
    func complete<T, R: Sendable>(
        byteCount: UInt64, sha256: String?,
        check: (StorageFile, TailHasher) throws(ErrorReply) -> T,
        place: (T) throws(ErrorReply) -> R
    ) throws(ErrorReply) -> R {
        try state.withLock { (state) throws(ErrorReply) -> R in
            guard !state.isGone, let file = state.file else { throw Self.gone }
            state.turn += 1
            guard state.byteCount == byteCount else {
                throw ErrorReply(
                    .offset, "the upload has \(state.byteCount) bytes, not \(byteCount)",
                    bytes: state.byteCount)
            }
            if state.hasher.byteCount != byteCount {
                state.hasher = try TailHasher(
                    file, from: headBytes, to: headBytes + byteCount, isSealed: isSealed)
            }
            if let sha256, try allOf(file, state) != sha256.lowercased() {
                remove(&state)
                throw ErrorReply(.damaged, "the bytes are not those that were announced")
            }
            let checked: T
            do throws(ErrorReply) {
                checked = try check(file, state.hasher)
            } catch {
                if error.code == .damaged { remove(&state) }
                throw error
            }
            do throws(IOError) {
                try file.sync()
            } catch {
                // Nobody knows what the disk has of it.
                remove(&state)
                throw ErrorReply(error)
            }
            let result = try place(checked)
            state.isGone = true
            state.file = nil
            file.close()
            return result
        }
    }

    /// SHA-256 of all bytes.
    private func allOf(_ file: StorageFile, _ state: borrowing State) throws(ErrorReply) -> String?
    {
        if let known = state.hasher.sha256 { return known }
        return try TailHasher(
            file, from: headBytes, to: headBytes + state.byteCount, isSealed: false
        ).sha256
    }

    /// Gives up; its file goes. Idempotent.
    func abort() { state.withLock { remove(&$0) } }

    /// Closes its file, which stays for the next process.
    func close() {
        state.withLock { state in
            state.isGone = true
            state.file?.close()
            state.file = nil
        }
    }

    private func remove(_ state: inout State) {
        guard !state.isGone else { return }
        state.isGone = true
        state.file?.close()
        state.file = nil
        // What cannot be removed now is too old one day.
        try? storage.remove(path)
    }

    private static let gone = ErrorReply(.missing, "there is no such upload any more")
}
