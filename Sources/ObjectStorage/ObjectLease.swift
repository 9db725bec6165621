// Who reads what in a bucket: an object per lease, put again by its holder as long as it is held.
// It is in force for an hour after its last put, by the store's own clock (the time in the listing
// against the Date of the answer), so nobody's clock matters. A reader whose keys may not write has
// none, and relies on the grace time of pruned segments.

import BlockModel
import Foundation
import History
import LogFormat
import NIOCore
import ServerAPI
import Shipping
import Synchronization

/// A lease in a bucket; ends with `release` or when dropped. Any thread may call.
public final class ObjectLease: Sendable {
    /// So long it lives without being renewed.
    public static let seconds: Int64 = 3600
    private let renewal: LeaseRenewal

    init(_ renewal: LeaseRenewal) { self.renewal = renewal }

    deinit { renewal.stop() }

    /// Idempotent. The store hears of it soon; the caller does not wait for that.
    public func release() { renewal.stop() }

    /// After `release`: until the store has heard of it, but no longer than that. For processes
    /// that end: otherwise the lease would be there for its hour.
    public func waitForEnd(seconds: Double) { renewal.waitForEnd(seconds: seconds) }
}

extension ObjectVolume {
    /// Keeps segments from deletion while they are read; nil where the keys may not write. Blocks
    /// for the first put.
    public func lease(_ request: LeaseRequest) throws(ShipError) -> ObjectLease? {
        let id = String(UInt64.random(in: .min ... .max), radix: 16)
        let key = client.url.key("leases/\(id)")
        // Plain values of our own: they always encode.
        let bytes = Array((try? JSONEncoder().encode(request)) ?? Data())
        let client = self.client
        let put: @Sendable () throws(ShipError) -> Int64 = { () throws(ShipError) in
            _ = try client.put(
                key, bytes, ObjectClient.PutOptions(contentType: "application/json"))
            return ObjectLease.seconds
        }
        let seconds: Int64
        do throws(ShipError) {
            seconds = try put()
        } catch {
            if case .refused = error { return nil }
            throw error
        }
        let renewal = LeaseRenewal(seconds: seconds, renew: put) {
            _ = try? client.delete(key)  // otherwise it runs out
        }
        Thread.detachNewThread { renewal.run() }
        return ObjectLease(renewal)
    }

    /// The leases in force now.
    public func leases() throws(ShipError) -> [Lease] { try currentLeases(dropping: false) }

    /// With `dropping`, those that ran out are deleted.
    func currentLeases(dropping: Bool) throws(ShipError) -> [Lease] {
        let listing = try client.list(client.url.key("leases/"))
        let now = listing.storeSeconds ?? ObjectClient.now()
        var found: [Lease] = []
        for object in listing.objects {
            if let modified = object.modified, modified + ObjectLease.seconds < now {
                if dropping { _ = try client.delete(object.key) }
                continue
            }
            guard let bytes = try client.get(object.key) else { continue }
            guard let request = try? JSONDecoder().decode(LeaseRequest.self, from: Data(bytes))
            else {
                // Somebody means something by it: everything stays.
                found.append(Lease(purpose: "not understood", holder: object.key))
                continue
            }
            found.append(
                Lease(
                    purpose: request.purpose, holder: request.holder,
                    at: request.at.map { LSN($0) },
                    segments: request.segments.map { Set($0.compactMap { SegmentName($0) }) }))
        }
        return found
    }
}
