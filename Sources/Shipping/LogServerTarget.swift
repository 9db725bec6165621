// Carries segments to a log server. An upload goes on at the byte where the server says that it
// stands, after a cut, a restart of either side, or a change of mind; a commit whose answer was
// lost is asked again. So a segment arrives once, and whole, or not.
//
//   how far? ─► PATCH the rest, 64 MiB at a time ─► POST commit with SHA-256 over all
//      ▲                │ cut                             │ answer lost: once more
//      └────────────────┘                                 │ damaged: discard, all anew (once)

import Crypto
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
        var hash = SourceHash(shipment)
        var isSecondTry = false
        while true {
            do throws(ShipError) {
                if try !isThere(shipment) { try send(shipment, &hash, pace) }
                let reply = try commit(shipment, &hash)
                mayKnowMore.withLock { $0 = false }
                return reply
            } catch {
                mayKnowMore.withLock { $0 = true }
                // What was sent in former lives may be other bytes than ours.
                guard case .rejected(let reply) = error, reply.code == .damaged, !isSecondTry
                else { throw error }
                try client.abandon(shipment.uploadID)
                (hash, isSecondTry) = (SourceHash(shipment), true)
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
        _ shipment: Shipment, _ hash: inout SourceHash, _ pace: (Int) throws(ShipError) -> Void
    ) throws(ShipError) {
        var offset = try position(of: shipment)
        var vainCuts = 0
        while offset < shipment.byteCount {
            let before = offset
            do throws(ShipError) {
                try send(shipment, from: offset, &hash, pace)
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
        _ shipment: Shipment, from offset: UInt64, _ hash: inout SourceHash,
        _ pace: (Int) throws(ShipError) -> Void
    ) throws(ShipError) {
        try hash.read(to: offset)
        var position = offset
        let count = min(requestBytesMax, shipment.byteCount - offset)
        try client.append(to: shipment.uploadID, at: offset, count: count) {
            (piece) throws(ShipError) in
            try pace(piece.count)
            do throws(StoreError) {
                try shipment.source.read(shipment.name, into: piece, at: position)
            } catch { throw .source(error) }
            hash.saw(UnsafeRawBufferPointer(piece), at: position)
            position += UInt64(piece.count)
        }
    }

    private func commit(
        _ shipment: Shipment, _ hash: inout SourceHash
    ) throws(ShipError) -> CommitReply {
        let request = CommitRequest(
            name: "\(shipment.name)", bytes: shipment.byteCount, sha256: try hash.finish(),
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

/// SHA-256 over a segment, from the bytes as they are sent. What was sent before is read again. A
/// source that seals has the digest of what it sealed.
private struct SourceHash {
    private let shipment: Shipment
    private let sealing: SealingSource?
    private var hash = SHA256()
    private var position: UInt64 = 0

    init(_ shipment: Shipment) {
        self.shipment = shipment
        sealing = shipment.source as? SealingSource
    }

    /// Takes what it has not seen of the bytes at `offset`, where they go on from what it has.
    mutating func saw(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) {
        guard sealing == nil, offset <= position, position - offset < UInt64(bytes.count) else {
            return
        }
        let new = UnsafeRawBufferPointer(rebasing: bytes[Int(position - offset)...])
        hash.update(bufferPointer: new)
        position += UInt64(new.count)
    }

    /// Reads what it has not seen before `end`.
    mutating func read(to end: UInt64) throws(ShipError) {
        guard sealing == nil, position < end else { return }
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 16)
        defer { memory.deallocate() }
        while position < end {
            let count = Int(min(UInt64(memory.count), end - position))
            let piece = UnsafeMutableRawBufferPointer(rebasing: memory[..<count])
            do throws(StoreError) {
                try shipment.source.read(shipment.name, into: piece, at: position)
            } catch { throw .source(error) }
            saw(UnsafeRawBufferPointer(piece), at: position)
        }
    }

    /// The digest of all in hexadecimal. May be called again.
    mutating func finish() throws(ShipError) -> String {
        if let sealing {
            do throws(StoreError) {
                return "\(try sealing.digest(shipment.name))"
            } catch { throw .source(error) }
        }
        try read(to: shipment.byteCount)
        return hash.finalize().hexadecimal
    }
}

extension SHA256.Digest {
    /// 64 digits.
    var hexadecimal: String {
        map { byte in
            let digits = String(byte, radix: 16)
            return byte < 16 ? "0" + digits : digits
        }.joined()
    }
}
