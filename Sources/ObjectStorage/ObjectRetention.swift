// Retention in a bucket: the ladder of the volume over the store, with the same code as everywhere
// (History/Thinning.swift). Nobody runs there, so the writer's process does it, now and then, on a
// thread of its own. All deletions of a run are one entry of the chain.

import BlockModel
import Foundation
import History
import LogFormat
import ServerAPI
import Shipping
import Synchronization

/// Thins a volume in a bucket. A value; each call on one thread.
public struct ObjectRetention: Sendable {
    private let store: ObjectStore
    /// Bounds the memory of a merge to some 50 MiB.
    private static let entriesMax: UInt64 = 1 << 18

    public init(_ store: ObjectStore) { self.store = store }

    /// One run at `now`, nanoseconds since 1970-01-01 UTC; nil where there is no ladder. `pins`
    /// stay whatever their age; `others` tells what is in use besides the leases in the bucket.
    public func run(
        now: Int64, pins: Set<LSN> = [],
        leases others: @escaping @Sendable () throws -> [Lease] = { [] },
        monitor: WorkMonitor = .none
    ) throws(HistoryError) -> ThinningResult? {
        let volume = store.volume
        let state: ChainState?
        do throws(ShipError) {
            state = try volume.chain.refresh()
        } catch {
            throw .store(StoreError(.list, volume.label, error, remote: volume.label))
        }
        guard let state, let keep = state.keep, let identity = state.volume else { return nil }
        let ladder: Ladder
        do throws(LadderError) { ladder = try Ladder(parsing: keep) } catch { return nil }
        var rule = RetentionRule(ladder, now: now)
        rule.entriesMax = Self.entriesMax
        rule.pins = pins
        // Cut back by an eighth of the history at a time: each cut can cost a full snapshot.
        rule.slack = ladder.lastSpan / 8
        let leases: @Sendable () throws -> [Lease] = {
            try volume.leases() + others()
        }
        let gathered = GatheredDeletes(store)
        let result: ThinningResult
        if state.isSealed {
            // Nothing can be looked into: whole chains only.
            result = try SealedThinning(store: gathered, volume: identity, leases: leases).run(rule)
        } else {
            result = try Thinning(store: gathered, volume: identity, leases: leases)
                .run(rule, monitor: monitor)
        }
        do throws(StoreError) { try gathered.flush() } catch { throw .store(error) }
        return result
    }
}

/// A store whose deletions take effect together, at the end. Until then they only seem to be gone;
/// what is not reached is done again by the next run.
private final class GatheredDeletes: SegmentStore {
    private let store: ObjectStore
    private let gone = Mutex<Set<SegmentName>>([])

    init(_ store: ObjectStore) { self.store = store }

    var label: String { store.label }

    func list() throws(StoreError) -> [StoredSegment] {
        let gone = gone.withLock { $0 }
        return try store.list().filter { !gone.contains($0.name) }
    }

    func read(
        _ name: SegmentName, into target: UnsafeMutableRawBufferPointer, at offset: UInt64
    ) throws(StoreError) {
        try store.read(name, into: target, at: offset)
    }

    func expect(_ ranges: [SegmentRange]) { store.expect(ranges) }

    func upload() throws(StoreError) -> any SegmentUpload { try store.upload() }

    func delete(_ name: SegmentName) throws(StoreError) {
        let isNew = gone.withLock { $0.insert(name).inserted }
        if !isNew { throw StoreError(.delete, "\(name)", .missing) }
    }

    func flush() throws(StoreError) {
        let names = gone.withLock { Array($0) }.sorted()
        if !names.isEmpty { try store.delete(names) }
    }
}
