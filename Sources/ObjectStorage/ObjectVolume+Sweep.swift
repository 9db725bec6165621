// How segments go. In two steps: pruning hides them at once (an entry of the chain), their objects
// are deleted when the grace time is over and nobody has leased them. What a store does not let go
// (no rights, object lock) is written down and not tried again. Objects that no entry names, from
// uploads that did not end, go too, once they are older than the grace time, and so do old
// checkpoints, leases that ran out and uploads in parts that nobody finished for a week.
//
// Only the writer sweeps, and with the same object that ships: it knows what is under way.

import Foundation
import History
import LogFormat
import ServerAPI
import Shipping

/// What a sweep did.
public struct SweepResult: Hashable, Sendable {
    public var deletedObjects = 0
    public var deletedBytes: UInt64 = 0
    /// What the store does not let go, found out now: object and reason.
    public var kept: [String] = []
    /// Objects that are to be deleted later, and the first time when there is something to do;
    /// nanoseconds since 1970-01-01 UTC.
    public var waiting = 0
    public var nextDue: Int64?

    public init() {}
}

extension ObjectVolume {
    /// Hides segments; `.rejected(.missing)` when none of them is there. What takes their place
    /// must be there before.
    public func prune(_ names: [SegmentName]) throws(ShipError) {
        let texts = names.map { "\($0)" }
        var isFirst = true
        _ = try change { (state) throws(ShipError) in
            let there = texts.filter { state.segments[$0] != nil }
            guard !there.isEmpty else {
                if isFirst {
                    throw .rejected(ErrorReply(.missing, "there is no segment of that name"))
                }
                return nil  // our own entry, its answer was lost
            }
            isFirst = false
            return .prune(there)
        }
    }

    /// What could not be deleted and will not be tried again.
    public func keptObjects() throws(ShipError) -> [(object: String, bytes: UInt64, reason: String)]
    {
        try chain.opened()?.kept.map { ($0.object, $0.bytes, $0.reason) } ?? []
    }

    private static let batchMax = 500

    /// Deletes what is due at `now`, nanoseconds since 1970-01-01 UTC.
    public func sweep(now: Int64) throws(ShipError) -> SweepResult {
        let seconds = now / 1_000_000_000
        var result = SweepResult()
        guard let state = try chain.refresh() else { throw noVolume }
        guard let writer else { throw .refused("\(label) is open for reading only") }
        try Self.mustWrite(writer, state)
        let due = state.tombstones.filter { $0.seconds + graceSeconds <= seconds }
        let later = state.tombstones.filter { $0.seconds + graceSeconds > seconds }
        result.waiting = later.count
        result.nextDue = later.map { ($0.seconds + graceSeconds) * 1_000_000_000 }.min()
        let mayClean = mayLookForOrphans(nowSeconds: seconds)
        guard !due.isEmpty || mayClean else { return result }
        let leases = try currentLeases(dropping: true)
        let free = due.filter { tombstone in
            !leases.contains { $0.protects(tombstone.name) }
        }
        result.waiting += due.count - free.count
        if free.count < due.count {
            result.nextDue = min(result.nextDue ?? .max, now + ObjectLease.seconds * 1_000_000_000)
        }
        for start in stride(from: 0, to: free.count, by: Self.batchMax) {
            try purge(Array(free[start..<min(start + Self.batchMax, free.count)]), &result)
        }
        if mayClean { try clean(&result) }
        return result
    }

    private func purge(
        _ tombstones: [ChainState.Tombstone], _ result: inout SweepResult
    ) throws(ShipError) {
        var facts = PurgedFacts(gone: [], kept: [])
        var failure: ShipError?
        for tombstone in tombstones {
            do throws(ShipError) {
                switch try client.delete(client.url.key(tombstone.object)) {
                case .gone:
                    facts.gone.append(tombstone.object)
                    result.deletedObjects += 1
                    result.deletedBytes += tombstone.bytes
                case .kept(let reason):
                    facts.kept.append(
                        KeptObject(
                            object: tombstone.object, bytes: tombstone.bytes, reason: reason))
                    result.kept.append("\(tombstone.object): \(reason)")
                }
            } catch {
                failure = error
                break
            }
        }
        let done = facts
        if !done.gone.isEmpty || !done.kept.isEmpty {
            _ = try change { (state) throws(ShipError) in
                let left = Set(state.tombstones.map(\.object))
                let isNews = (done.gone + done.kept.map(\.object)).contains { left.contains($0) }
                return isNews ? .purged(done) : nil
            }
        }
        if let failure { throw failure }
    }

    // MARK: - what nobody names

    private static let uploadSecondsMax: Int64 = 7 * 86_400

    /// Ages are by the store's clock alone.
    private func clean(_ result: inout SweepResult) throws(ShipError) {
        let prefix = client.url.key("segments/")
        let listing = try client.list(prefix)
        guard let state = try chain.refresh(), let now = listing.storeSeconds else { return }
        let named = state.objects
        for object in listing.objects {
            let name = "segments/" + object.key.dropFirst(prefix.count)
            guard !named.contains(name), !isUnderWay(name), let modified = object.modified,
                modified + graceSeconds <= now
            else { continue }
            switch try client.delete(object.key) {
            case .gone:
                result.deletedObjects += 1
                result.deletedBytes += object.byteCount
            case .kept(let reason): result.kept.append("\(name): \(reason)")
            }
        }
        for upload in try client.uploads(prefix) {
            let name = "segments/" + upload.key.dropFirst(prefix.count)
            guard let initiated = upload.initiated, initiated + Self.uploadSecondsMax <= now,
                !isUnderWay(name)
            else { continue }
            try client.abort(upload.key, upload.id)
        }
        for object in try client.list(client.url.key("probe/")).objects {
            guard let modified = object.modified, modified + graceSeconds <= now else { continue }
            _ = try client.delete(object.key)
        }
        try chain.dropOldCheckpoints()
    }
}

extension Lease {
    /// Whether a segment of that name must stay.
    func protects(_ name: String) -> Bool {
        guard let segments else { return true }
        return SegmentName(name).map { segments.contains($0) } ?? true
    }
}
