// The history of a volume whose base is not here yet: its own segments, and those of a log server
// up to the state that it was adopted at. Writes go to its own.

import BlockModel
import History
import LogFormat

/// Two stores as one. Any thread may call.
final class JoinedStore: SegmentStore {
    private let own: any SegmentStore
    private let remote: any SegmentStore
    private let last: LSN

    /// Of `remote` what ends at or before `last`.
    init(own: any SegmentStore, remote: any SegmentStore, through last: LSN) {
        (self.own, self.remote, self.last) = (own, remote, last)
    }

    var label: String { own.label }

    func list() throws(StoreError) -> [StoredSegment] {
        let ours = try own.list()
        let names = Set(ours.map(\.name))
        let theirs = try remote.list().filter {
            $0.name.last <= last && !names.contains($0.name)
        }
        return (ours + theirs).sorted { $0.name < $1.name }
    }

    func read(
        _ name: SegmentName, into target: UnsafeMutableRawBufferPointer, at offset: UInt64
    ) throws(StoreError) {
        do throws(StoreError) {
            try own.read(name, into: target, at: offset)
        } catch {
            guard error.cause == .missing, name.last <= last else { throw error }
            try remote.read(name, into: target, at: offset)
        }
    }

    func expect(_ ranges: [SegmentRange]) {
        remote.expect(ranges.filter { $0.name.last <= last })
    }

    func upload() throws(StoreError) -> any SegmentUpload { try own.upload() }

    func delete(_ name: SegmentName) throws(StoreError) { try own.delete(name) }
}
