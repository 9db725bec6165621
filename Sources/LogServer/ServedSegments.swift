// The segments of one volume, with their listing in memory: the server holds the store's lock, so
// nobody else changes the folder, and a listing need not open thousands of files.

import DiskIO
import History
import LogFormat
import Synchronization

/// A directory store whose listing is kept. Any thread may call.
final class ServedSegments: SegmentStore {
    let directory: String
    private let store: DirectoryStore
    private let sizes: Mutex<[SegmentName: UInt64]>

    /// Makes durable what an earlier process finished, and removes what it left half-made.
    init(storage: Storage, directory: String) throws(StoreError) {
        self.directory = directory
        store = DirectoryStore(storage: storage, directory: directory, owner: "server")
        try store.removeUnfinished()
        sizes = Mutex(
            Dictionary(
                try store.list().map { ($0.name, $0.byteCount) },
                uniquingKeysWith: { first, _ in first }))
    }

    var label: String { directory }

    func list() throws(StoreError) -> [StoredSegment] { sorted }

    var sorted: [StoredSegment] {
        sizes.withLock { $0.map { StoredSegment(name: $0.key, byteCount: $0.value) } }
            .sorted { $0.name < $1.name }
    }

    var summary: SegmentSummary {
        sizes.withLock { sizes in
            sizes.reduce(into: SegmentSummary()) { sum, entry in
                sum.count += 1
                sum.snapshotCount += entry.key.kind == .snapshot ? 1 : 0
                sum.byteCount += entry.value
            }
        }
    }

    func size(_ name: SegmentName) -> UInt64? { sizes.withLock { $0[name] } }

    func hasSnapshot(_ range: ClosedRange<UInt64>) -> Bool {
        sizes.withLock { sizes in
            sizes.keys.contains { $0.kind == .snapshot && range.contains($0.first.rawValue) }
        }
    }

    /// Where a segment lies, or will.
    func path(_ name: SegmentName) -> String { store.path(name) }

    /// A file of that name is durable in the folder now.
    func add(_ name: SegmentName, byteCount: UInt64) { sizes.withLock { $0[name] = byteCount } }

    func read(
        _ name: SegmentName, into target: UnsafeMutableRawBufferPointer, at offset: UInt64
    ) throws(StoreError) {
        try store.read(name, into: target, at: offset)
    }

    func upload() throws(StoreError) -> any SegmentUpload {
        ServedSegmentUpload(try store.upload(), of: self)
    }

    func delete(_ name: SegmentName) throws(StoreError) {
        do throws(StoreError) {
            try store.delete(name)
        } catch {
            if error.cause == .missing { forget(name) }
            throw error
        }
        forget(name)
    }

    private func forget(_ name: SegmentName) { sizes.withLock { _ = $0.removeValue(forKey: name) } }
}

/// Tells the listing what was written. One thread.
private final class ServedSegmentUpload: SegmentUpload {
    private let upload: any SegmentUpload
    private let segments: ServedSegments
    private var byteCount: UInt64 = 0

    init(_ upload: any SegmentUpload, of segments: ServedSegments) {
        self.upload = upload
        self.segments = segments
    }

    func append(_ bytes: UnsafeRawBufferPointer) throws(StoreError) {
        try upload.append(bytes)
        byteCount += UInt64(bytes.count)
    }

    func commit(as name: SegmentName) throws(StoreError) {
        try upload.commit(as: name)
        segments.add(name, byteCount: byteCount)
    }

    func abort() { upload.abort() }
}
