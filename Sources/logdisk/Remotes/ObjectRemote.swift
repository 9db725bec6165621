// A volume on object storage: a bucket of somebody's, with no server of ours in between.

import BlockModel
import CommandText
import Foundation
import History
import ObjectStorage
import ServerAPI
import Shipping
import Synchronization

/// Any thread may call; calls block.
final class ObjectRemote: VolumeRemote {
    private let volume: ObjectVolume
    let target: any ShipTarget
    let retention: (any RemoteRetention)?

    /// Reads keys and certificates; connects to nothing yet.
    init(
        _ url: ObjectURL, _ place: RemotePlace, writer: String?, traffic: OwnTraffic?,
        isCancelled: @escaping @Sendable () -> Bool
    ) throws(RemoteSetupError) {
        let client = try ObjectClient(
            url, access: place.objectAccess(traffic: traffic, isCancelled: isCancelled))
        volume = ObjectVolume(client, writer: writer)
        target = ObjectTarget(volume)
        retention = writer == nil ? nil : ObjectPruning(volume)
    }

    /// Who answers for the bucket.
    static func host(_ place: RemotePlace) -> String {
        let region = place.object.region ?? "us-east-1"
        let host = place.object.endpoint.flatMap { URLComponents(string: $0)?.host }
        return host ?? "s3.\(region).amazonaws.com"
    }

    func store() -> any SegmentStore { ObjectStore(volume) }

    func takeOver(_ request: WriterRequest) throws(ShipError) -> VolumeReply {
        try volume.takeOver(request)
    }

    func lease(_ request: LeaseRequest) throws(ShipError) -> any ReadingLease {
        guard let lease = try volume.lease(request) else {
            throw .refused("the keys may not write at \(volume.label)")
        }
        return BucketLease(lease)
    }

    /// Connections that nobody uses close by themselves.
    func rest() {}

    var usage: RemoteReport.Usage? {
        let counters = volume.client.counters
        var usage = RemoteReport.Usage()
        usage.requests = counters.requests
        usage.repeats = counters.repeats
        (usage.sentBytes, usage.receivedBytes) = (counters.sentBytes, counters.receivedBytes)
        return usage
    }
}

/// A lease that this process waits for when it ends.
private final class BucketLease: ReadingLease {
    private let lease: ObjectLease

    init(_ lease: ObjectLease) { self.lease = lease }

    func release() {
        lease.release()
        LeaseEnds.add(lease)
    }
}

/// The leases that were given back, and of which the store may not have heard yet.
enum LeaseEnds {
    private static let released = Mutex<[ObjectLease]>([])
    private static let secondsMax = 5.0

    fileprivate static func add(_ lease: ObjectLease) { released.withLock { $0.append(lease) } }

    /// Before the process ends. What a store does not answer by then runs out there.
    static func wait() {
        let leases = released.withLock { leases in
            defer { leases = [] }
            return leases
        }
        let start = ContinuousClock.now
        for lease in leases {
            lease.waitForEnd(seconds: secondsMax - start.seconds(to: .now))
        }
    }
}

/// Thins a volume on object storage, and deletes what was pruned long enough ago.
private final class ObjectPruning: RemoteRetention {
    private let volume: ObjectVolume
    private let retention: ObjectRetention

    init(_ volume: ObjectVolume) {
        self.volume = volume
        retention = ObjectRetention(ObjectStore(volume))
    }

    func run(
        keep: String?, pins: Set<LSN>, leases: @escaping @Sendable () throws -> [Lease],
        monitor: WorkMonitor
    ) throws -> RemoteReport.Retention {
        if let keep { _ = try volume.setKeep(keep) }
        let now = VolumeHistory.clock()
        var report = RemoteReport.Retention()
        let thinned = try retention.run(now: now, pins: pins, leases: leases, monitor: monitor)
        report.pruned = thinned?.deleted.count ?? 0
        report.written = thinned?.written.count ?? 0
        let swept = try volume.sweep(now: now)
        report.deletedObjects = swept.deletedObjects
        report.waitingObjects = swept.waiting
        report.undeletable = try volume.keptObjects().map { "\($0.object): \($0.reason)" }
        return report
    }
}

extension RemotePlace {
    /// The same in the words of the library.
    func objectAccess(
        traffic: OwnTraffic? = nil, isCancelled: @escaping @Sendable () -> Bool
    ) -> ObjectAccess {
        var access = ObjectAccess(isCancelled: isCancelled)
        access.endpoint = object.endpoint
        if let region = object.region { access.region = region }
        access.isPathStyle = object.isPathStyle
        access.caFiles = caFiles
        access.credentialsFile = object.credentialsFile
        access.bind = bind
        access.isSingleWriter = object.isSingleWriter
        access.objectBytes = object.objectBytes.map { Int(clamping: $0) }
        access.traffic = traffic
        return access
    }
}
