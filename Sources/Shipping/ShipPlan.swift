// What has to go to a remote next, from the local history and where the remote stands. Pure but for
// reading indexes. The order:
//
//   nothing there yet          the oldest snapshot that history begins with
//   records after the head     in order, whole segments; thinned where the remote's ladder would
//   begins inside a log        a snapshot at the head first, said to be a gap: behind it the chain
//                              of digests may begin anew
//   a gap in local history     the next snapshot, as a gap; history goes on behind it
//   snapshots up to the head   that were not sent yet, once the records have passed them

import BlockModel
import History
import LogFormat
import ServerAPI

/// One thing to send.
public enum ShipStep: Sendable {
    /// A segment of the local store.
    case segment(CataloguedSegment, after: SegmentDigest?, isGap: Bool)
    /// An interval that is merged first.
    case merge(IntervalMerge, after: SegmentDigest?)
    /// A snapshot that is made first: the volume as it was at this LSN.
    case snapshot(LSN, isGap: Bool)
}

/// Why nothing can be planned.
public enum ShipPlanError: Error, Sendable {
    /// The remote holds other records than we do, up to its head.
    case diverged(LSN)
    /// The remote holds records that we do not have.
    case ahead(LSN)
    /// Records behind this LSN are damaged or missing here, and no snapshot follows.
    case broken(LSN)
    case history(HistoryError)
}

/// Makes plans for one remote. A value; one thread.
public struct ShipPlan {
    public var head: VolumeReply.Head?
    public var memory: ShipMemory
    /// The remote's ladder, at the present time; nil: everything goes as it is.
    public var rule: RetentionRule?
    /// What stands for a digest at the remote: itself, but for sealed volumes.
    public var outside: (SegmentDigest) -> SegmentDigest = { $0 }
    /// The oldest snapshot in the local store: history may begin with it because what came before
    /// was pruned. nil: it is like the others.
    public var oldestSnapshot: LSN?
    /// Whether the local store holds history from its beginning on.
    public var holdsBeginning = true
    /// The newest record that we have.
    public var newest: LSN

    public init(head: VolumeReply.Head?, memory: ShipMemory, newest: LSN) {
        self.head = head
        self.memory = memory
        self.newest = newest
    }

    /// The next step; nil when the remote has all that is in segments.
    public func next(_ history: HistoryCatalogue) throws(ShipPlanError) -> ShipStep? {
        guard let head else {
            guard let base = history.snapshots.first else {
                // What began there once is gone; only a new snapshot can begin anew.
                if !holdsBeginning, !history.records.isEmpty { throw .broken(.zero) }
                return nil
            }
            return send(base, isGap: false, history)
        }
        let lsn = LSN(head.lsn)
        guard lsn <= newest else { throw .ahead(lsn) }
        if let theirs = head.digest, let ours = history.chainDigest(at: lsn),
            "\(outside(ours))" != theirs
        {
            throw .diverged(lsn)
        }
        let isOurs: Bool
        do throws(HistoryError) {
            // LSNs are used again by a volume that was set back; times are not.
            isOurs = try history.wallNanoseconds(at: lsn).map { $0 == head.wallNanoseconds } ?? true
        } catch { throw .history(error) }
        guard isOurs else { throw .diverged(lsn) }
        if let step = try nextRecords(history, head) { return step }
        return nextSnapshot(history, through: lsn)
    }

    private func send(
        _ snapshot: CataloguedSegment, isGap: Bool, _ history: HistoryCatalogue
    ) -> ShipStep {
        // A branch's own base is empty: it stands on another volume, which is not there.
        history.isBranch && snapshot.first.lsn == .zero
            ? .snapshot(.zero, isGap: isGap) : .segment(snapshot, after: nil, isGap: isGap)
    }

    private func nextRecords(
        _ history: HistoryCatalogue, _ head: VolumeReply.Head
    ) throws(ShipPlanError) -> ShipStep? {
        let lsn = LSN(head.lsn)
        let next: NextRecords
        do throws(HistoryError) {
            next = try history.nextRecords(
                after: lsn, rule: rule,
                mergingThrough: memory.dropThroughLSN.map { LSN($0) })
        } catch { throw .history(error) }
        switch next {
        case .nothing: return nil
        case .broken: throw .broken(lsn)
        case .gap(let snapshot): return send(snapshot, isGap: true, history)
        case .across(let segment): return .snapshot(segment.last.lsn, isGap: true)
        case .clipped(let segment):
            return memory.restartLSN == head.lsn && head.digest == nil
                ? .segment(segment, after: nil, isGap: false) : .snapshot(lsn, isGap: true)
        case .merge(let merge):
            return .merge(merge, after: head.digest.flatMap { SegmentDigest(hexadecimal: $0) })
        case .segment(let segment):
            guard let digest = head.digest else {
                return .segment(segment, after: nil, isGap: false)
            }
            let known = SegmentDigest(hexadecimal: digest)
            if segment.name.kind == .merged {
                return .segment(segment, after: known, isGap: false)
            }
            let predecessor = outside(segment.footer.header.predecessor)
            if segment.footer.header.predecessor != .none, predecessor == known {
                return .segment(segment, after: known, isGap: false)
            }
            // The chain of digests begins anew here, so it does at the remote, behind a snapshot.
            return .snapshot(lsn, isGap: true)
        }
    }

    private func nextSnapshot(_ history: HistoryCatalogue, through lsn: LSN) -> ShipStep? {
        let sent = memory.snapshotLSN.map { LSN($0) }
        let next = history.snapshots.first { snapshot in
            snapshot.first.lsn <= lsn && snapshot.first.lsn != oldestSnapshot
                && (sent.map { snapshot.first.lsn > $0 } ?? true)
        }
        return next.map { send($0, isGap: false, history) }
    }
}

/// The part of a store that a remote may still need: what ends at its head or behind it, and
/// snapshots that it was not sent. Planning reads the tails of all that is listed.
final class UnshippedSegments: SegmentStore {
    private let store: any SegmentStore
    private let head: LSN?
    private let snapshot: LSN?

    /// nil: everything.
    init(_ store: any SegmentStore, head: LSN?, snapshot: LSN?) {
        self.store = store
        self.head = head
        self.snapshot = snapshot
    }

    var label: String { store.label }

    func list() throws(StoreError) -> [StoredSegment] {
        let all = try store.list()
        guard let head else { return all }
        return all.filter { segment in
            if segment.name.kind != .snapshot { return segment.name.last >= head }
            return segment.name.last > head || snapshot.map { segment.name.last > $0 } ?? true
        }
    }

    func read(
        _ name: SegmentName, into target: UnsafeMutableRawBufferPointer, at offset: UInt64
    ) throws(StoreError) { try store.read(name, into: target, at: offset) }

    func upload() throws(StoreError) -> any SegmentUpload { try store.upload() }

    func delete(_ name: SegmentName) throws(StoreError) { try store.delete(name) }
}
