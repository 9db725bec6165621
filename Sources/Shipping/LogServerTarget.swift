// Carries segments to a log server. An upload goes on at the byte where the server says that it
// stands, after a cut, a restart of either side, or a change of mind; a commit whose answer was
// lost is asked again. So a segment arrives once, and whole, or not.
//
//   how far? ─► PATCH the rest, 64 MiB at a time ─► POST commit with the digest
//      ▲                │ cut                             │ answer lost: once more
//      └────────────────┘                                 │ damaged: discard, all anew (once)

import History
import LogFormat
import ServerAPI
import Synchronization

/// A volume at a log server as the shipper sees it. Any thread may call; calls block.
public final class LogServerTarget: ShipTarget {
    public let client: LogServerClient
    private let requestBytesMax: UInt64
    /// Whether the server may have a segment that we do not know to be there.
    private let mayKnowMore = Mutex(true)
    /// Cuts in a row without a byte of progress after which it is left for later.
    private static let vainCutsMax = 2

    /// `requestBytesMax` bounds one request's body: what a proxy on the way has to bear.
    public init(_ client: LogServerClient, requestBytesMax: UInt64 = 64 << 20) {
        self.client = client
        self.requestBytesMax = max(1, requestBytesMax)
    }

    public var label: String { "\(client.url)" }
    public var load: Double? { client.load }

    public func state() throws(ShipError) -> VolumeReply? { try client.volume() }

    public func attach(_ request: VolumeRequest) throws(ShipError) -> VolumeReply {
        try client.attach(request)
    }

    public func put(
        _ shipment: Shipment, pace: (Int) throws(ShipError) -> Void
    ) throws(ShipError) -> CommitReply {
        var isSecondTry = false
        while true {
            do throws(ShipError) {
                if try !isThere(shipment) { try send(shipment, pace) }
                let reply = try commit(shipment)
                mayKnowMore.withLock { $0 = false }
                return reply
            } catch {
                mayKnowMore.withLock { $0 = true }
                // What was sent in former lives may be other bytes than ours.
                guard case .rejected(let reply) = error, reply.code == .damaged, !isSecondTry
                else { throw error }
                try client.abandon(shipment.uploadID)
                isSecondTry = true
            }
        }
    }

    /// Whether a segment of that name and size is there: then a commit alone tells the rest.
    private func isThere(_ shipment: Shipment) throws(ShipError) -> Bool {
        guard mayKnowMore.withLock({ $0 }) else { return false }
        return try client.segmentBytes(shipment.name) == shipment.byteCount
    }

    /// Sends what the server does not have.
    private func send(
        _ shipment: Shipment, _ pace: (Int) throws(ShipError) -> Void
    ) throws(ShipError) {
        var offset = try position(of: shipment)
        var vainCuts = 0
        while offset < shipment.byteCount {
            let before = offset
            do throws(ShipError) {
                try send(shipment, from: offset, pace)
                offset = min(offset + requestBytesMax, shipment.byteCount)
                vainCuts = 0
            } catch {
                switch error {
                case .unreachable: break
                case .rejected(let reply) where reply.code == .offset: break
                default: throw error
                }
                do throws(ShipError) { offset = try position(of: shipment) } catch { throw error }
                vainCuts = offset > before ? 0 : vainCuts + 1
                if vainCuts > Self.vainCutsMax { throw error }
            }
        }
    }

    /// How much of it the server has. More than there is to send is not ours: away with it.
    private func position(of shipment: Shipment) throws(ShipError) -> UInt64 {
        let count = try client.uploadedBytes(shipment.uploadID)
        if count <= shipment.byteCount { return count }
        try client.abandon(shipment.uploadID)
        return 0
    }

    /// One request.
    private func send(
        _ shipment: Shipment, from offset: UInt64, _ pace: (Int) throws(ShipError) -> Void
    ) throws(ShipError) {
        var position = offset
        let count = min(requestBytesMax, shipment.byteCount - offset)
        try client.append(to: shipment.uploadID, at: offset, count: count) {
            (piece) throws(ShipError) in
            try pace(piece.count)
            do throws(StoreError) {
                try shipment.source.read(shipment.name, into: piece, at: position)
            } catch { throw .source(error) }
            position += UInt64(piece.count)
        }
    }

    private func commit(_ shipment: Shipment) throws(ShipError) -> CommitReply {
        let digest: SegmentDigest
        do throws(StoreError) { digest = try shipment.digest() } catch { throw .source(error) }
        let request = CommitRequest(
            name: "\(shipment.name)", bytes: shipment.byteCount, digest: "\(digest)",
            after: shipment.after.map { "\($0)" }, isGap: shipment.isGap)
        var attempts = 0
        while true {
            do throws(ShipError) {
                return try client.commit(shipment.uploadID, request)
            } catch {
                attempts += 1
                guard case .unreachable = error, attempts <= Self.vainCutsMax else { throw error }
            }
        }
    }
}
