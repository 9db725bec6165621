// A segment store in memory whose bytes tests may damage: shows that the joint asks for nothing
// local, and makes damage cheap.

import BlockModel
import History
import LogFormat
import Synchronization

package final class MemoryStore: SegmentStore {
    private let segments = Mutex<[SegmentName: [UInt8]]>([:])

    package init(_ content: [SegmentName: [UInt8]] = [:]) { segments.withLock { $0 = content } }

    package var label: String { "memory" }

    package var content: [SegmentName: [UInt8]] {
        get { segments.withLock { $0 } }
        set { segments.withLock { $0 = newValue } }
    }

    package func list() throws(StoreError) -> [StoredSegment] {
        segments.withLock { $0.map { StoredSegment(name: $0, byteCount: UInt64($1.count)) } }
            .sorted { $0.name < $1.name }
    }

    package func read(
        _ name: SegmentName, into target: UnsafeMutableRawBufferPointer, at offset: UInt64
    ) throws(StoreError) {
        guard let bytes = segments.withLock({ $0[name] }) else {
            throw StoreError(.read, "\(name)", .missing)
        }
        guard offset <= UInt64(bytes.count), target.count <= bytes.count - Int(offset) else {
            throw StoreError(.read, "\(name)", .short)
        }
        let start = Int(offset)
        bytes.withUnsafeBytes {
            target.copyMemory(
                from: UnsafeRawBufferPointer(rebasing: $0[start..<start + target.count]))
        }
    }

    package func upload() throws(StoreError) -> any SegmentUpload { MemoryUpload(self) }

    package func delete(_ name: SegmentName) throws(StoreError) {
        let old = segments.withLock { $0.removeValue(forKey: name) }
        if old == nil { throw StoreError(.delete, "\(name)", .missing) }
    }

    fileprivate func put(_ bytes: [UInt8], _ name: SegmentName) throws(StoreError) {
        let isNew = segments.withLock { segments in
            if segments[name] != nil { return false }
            segments[name] = bytes
            return true
        }
        if !isNew { throw StoreError(.put, "\(name)", .exists) }
    }
}

private final class MemoryUpload: SegmentUpload {
    private let store: MemoryStore
    private var bytes: [UInt8] = []

    init(_ store: MemoryStore) { self.store = store }

    package func append(_ bytes: UnsafeRawBufferPointer) throws(StoreError) {
        self.bytes.append(contentsOf: bytes)
    }
    package func commit(as name: SegmentName) throws(StoreError) { try store.put(bytes, name) }
    package func abort() { bytes = [] }
}
