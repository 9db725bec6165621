// The history of a volume of which a part lies at a remote: its own segments, and those there up to
// some LSN: the state that it was adopted at, or what its store has acknowledged. Writes go to its
// own.

import BlockModel
import History
import LogFormat

/// Two stores as one. Any thread may call.
final class JoinedStore: SegmentStore {
    private let own: any SegmentStore
    private let remote: any SegmentStore
    private let reach: @Sendable () -> LSN

    /// Of `remote` what ends at or before `reach`, which may rise.
    init(
        own: any SegmentStore, remote: any SegmentStore,
        through reach: @escaping @Sendable () -> LSN
    ) {
        (self.own, self.remote, self.reach) = (own, remote, reach)
    }

    var label: String { own.label }

    func list() throws(StoreError) -> [StoredSegment] {
        // Ours first: what goes away here after that is there, and counts by then.
        let ours = try own.list()
        let last = reach()
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
            guard error.cause == .missing, name.last <= reach() else { throw error }
            do throws(StoreError) {
                try remote.read(name, into: target, at: offset)
            } catch {
                // It may have come there after it was listed, and gone here.
                guard error.cause == .missing else { throw error }
                _ = try remote.list()
                try remote.read(name, into: target, at: offset)
            }
        }
    }

    func expect(_ ranges: [SegmentRange]) {
        let last = reach()
        remote.expect(ranges.filter { $0.name.last <= last })
    }

    func upload() throws(StoreError) -> any SegmentUpload { try own.upload() }

    func delete(_ name: SegmentName) throws(StoreError) { try own.delete(name) }
}
