// Segments as files of one folder. A segment is written under a temporary name, synced, renamed
// and the folder synced, so whatever has a segment's name is complete. Files are written past the
// page cache, in order not to push the volume's own pages out of it.

import BlockModel
import DiskIO
import LogFormat
import Synchronization

#if canImport(Glibc)
    import Glibc
#endif

/// A store in a folder that exists already. Any thread may call.
public final class DirectoryStore: SegmentStore {
    public let directory: String
    private let storage: Storage
    private let owner: String
    private let state = Mutex(State())

    private struct State {
        /// Open files, the most recently used last.
        var open: [(name: SegmentName, file: StorageFile)] = []
        var uploads: UInt64 = 0
    }
    private static let openMax = 128
    static let temporarySuffix = ".unfinished"

    /// `owner` is part of the names of uploads: another process may be pruning here, and what one
    /// has given up must not become what another one commits.
    public init(storage: Storage, directory: String, owner: String = "\(getpid())") {
        self.storage = storage
        self.owner = owner
        self.directory = directory
    }

    public var label: String { directory }

    public func list() throws(StoreError) -> [StoredSegment] {
        do throws(IOError) {
            var found: [StoredSegment] = []
            for text in try storage.list(directory) {
                guard let name = SegmentName(text) else { continue }
                do throws(IOError) {
                    let file = try storage.open(path(name), OpenOptions(.readOnly))
                    defer { file.close() }
                    found.append(StoredSegment(name: name, byteCount: try file.size()))
                } catch  where error.isMissing {
                    continue  // deleted meanwhile
                }
            }
            forgetAll(but: Set(found.map(\.name)))
            return found.sorted { $0.name < $1.name }
        } catch {
            throw StoreError(.list, directory, .io(error))
        }
    }

    public func read(
        _ name: SegmentName, into target: UnsafeMutableRawBufferPointer, at offset: UInt64
    ) throws(StoreError) {
        let count: Int
        do throws(IOError) {
            count = try file(name).read(into: target, at: offset)
        } catch {
            throw StoreError(.read, "\(name)", error.isMissing ? .missing : .io(error))
        }
        guard count == target.count else { throw StoreError(.read, "\(name)", .short) }
    }

    public func upload() throws(StoreError) -> any SegmentUpload {
        while true {
            let number = state.withLock {
                $0.uploads += 1
                return $0.uploads
            }
            let path = "\(directory)/\(owner)-\(number)\(Self.temporarySuffix)"
            do throws(IOError) {
                let file = try storage.open(
                    path, OpenOptions(.readWrite, creation: .exclusively, isDirect: true))
                return DirectoryUpload(store: self, storage: storage, file: file, path: path)
            } catch {
                if storage.exists(path) { continue }
                throw StoreError(.put, path, .io(error))
            }
        }
    }

    public func delete(_ name: SegmentName) throws(StoreError) {
        forget(name)
        do throws(IOError) {
            try storage.remove(path(name))
            try storage.syncDirectory(directory)
        } catch {
            throw StoreError(.delete, "\(name)", error.isMissing ? .missing : .io(error))
        }
    }

    /// Renames a damaged segment so that it is no part of history any more; returns its new path.
    public func setAside(_ name: SegmentName) throws(StoreError) -> String {
        forget(name)
        var target = path(name) + ".damaged"
        var number = 1
        while storage.exists(target) {
            number += 1
            target = "\(path(name)).damaged-\(number)"
        }
        do throws(IOError) {
            try storage.rename(path(name), to: target)
            try storage.syncDirectory(directory)
        } catch {
            throw StoreError(.setAside, "\(name)", error.isMissing ? .missing : .io(error))
        }
        return target
    }

    /// Removes what uploads of a dead process left, and makes durable what they finished: it may
    /// have died between the rename and the sync of the folder, and the log is given free for
    /// what is listed here. Only for who holds the volume's lock.
    public func removeUnfinished() throws(StoreError) {
        do throws(IOError) {
            try storage.syncDirectory(directory)
            for name in try storage.list(directory) where name.hasSuffix(Self.temporarySuffix) {
                try storage.remove("\(directory)/\(name)")
            }
        } catch {
            throw StoreError(.delete, directory, .io(error))
        }
    }

    /// The path of a segment, whether or not it is there.
    public func path(_ name: SegmentName) -> String { "\(directory)/\(name)" }

    func exists(_ name: SegmentName) -> Bool { storage.exists(path(name)) }

    private func file(_ name: SegmentName) throws(IOError) -> StorageFile {
        let known: StorageFile? = state.withLock { state in
            guard let i = state.open.lastIndex(where: { $0.name == name }) else { return nil }
            let entry = state.open.remove(at: i)
            state.open.append(entry)
            return entry.file
        }
        if let known { return known }
        let file = try storage.open(path(name), OpenOptions(.readOnly))
        state.withLock { state in
            // A reader that still holds the dropped file keeps it open until it is done.
            if state.open.count >= Self.openMax { state.open.removeFirst() }
            state.open.append((name, file))
        }
        return file
    }

    /// What another process has deleted takes its space as long as it is open here.
    private func forgetAll(but names: Set<SegmentName>) {
        state.withLock { state in state.open.removeAll { !names.contains($0.name) } }
    }

    private func forget(_ name: SegmentName) {
        state.withLock { state in state.open.removeAll { $0.name == name } }
    }
}

/// A temporary file that becomes a segment. One thread.
private final class DirectoryUpload: SegmentUpload {
    private let store: DirectoryStore
    private let storage: Storage
    private let file: StorageFile
    private let path: String
    private let buffer = AlignedBuffer(count: 1 << 20)
    private var fill = 0
    private var written: UInt64 = 0
    private var isDone = false

    init(store: DirectoryStore, storage: Storage, file: StorageFile, path: String) {
        self.store = store
        self.storage = storage
        self.file = file
        self.path = path
    }

    deinit { abort() }

    func append(_ bytes: UnsafeRawBufferPointer) throws(StoreError) {
        var rest = bytes
        do throws(IOError) {
            while rest.count > 0 {
                let count = min(rest.count, buffer.count - fill)
                (buffer.base + fill).copyMemory(from: rest.baseAddress!, byteCount: count)
                fill += count
                rest = UnsafeRawBufferPointer(rebasing: rest[count...])
                if fill == buffer.count { try flush(fill) }
            }
        } catch {
            abort()
            throw StoreError(.put, path, .io(error))
        }
    }

    func commit(as name: SegmentName) throws(StoreError) {
        precondition(!isDone)
        defer { abort() }
        guard !store.exists(name) else { throw StoreError(.put, "\(name)", .exists) }
        do throws(IOError) {
            let size = written + UInt64(fill)
            if fill > 0 {
                let padded = (fill + AlignedBuffer.alignment - 1) & ~(AlignedBuffer.alignment - 1)
                (buffer.base + fill).initializeMemory(
                    as: UInt8.self, repeating: 0, count: padded - fill)
                try flush(padded)
            }
            try file.truncate(to: size)
            try file.sync()
            file.close()
            try storage.rename(path, to: store.path(name))
            isDone = true
            try storage.syncDirectory(store.directory)
        } catch {
            // Renamed, but nobody knows whether for good: it must not be taken for there.
            if isDone { try? storage.remove(store.path(name)) }
            throw StoreError(.put, "\(name)", .io(error))
        }
    }

    func abort() {
        guard !isDone else { return }
        isDone = true
        file.close()
        try? storage.remove(path)  // what cannot be removed goes at the next start
    }

    private func flush(_ count: Int) throws(IOError) {
        try file.write(UnsafeRawBufferPointer(rebasing: buffer.bytes[..<count]), at: written)
        written += UInt64(count)
        fill = 0
    }
}
