// Carries segments to object storage for the shipper. Bytes are read a part at a time, handed over as
// `pace` allows, several parts under way at once; what was cut goes on with the parts that the store
// has. When all is there and right, one entry of the chain makes it history.

import History
import LogFormat
import NIOCore
import ServerAPI
import Shipping
import Synchronization

/// A volume in a bucket as the shipper sees it. Any thread may call; calls block.
public final class ObjectTarget: ShipTarget {
    public let volume: ObjectVolume
    /// Parts of what is sent may be there from a life before.
    private let mayResume = Mutex(true)

    public init(_ volume: ObjectVolume) { self.volume = volume }

    public var label: String { volume.label }
    /// Object stores do not tell.
    public var load: Double? { nil }

    public func state() throws(ShipError) -> VolumeReply? { try volume.state() }

    public func attach(_ request: VolumeRequest) throws(ShipError) -> VolumeReply {
        try volume.attach(request)
    }

    public func put(
        _ shipment: Shipment, pace: (Int) throws(ShipError) -> Void
    ) throws(ShipError) -> CommitReply {
        guard let state = try volume.chain.opened() else { throw volume.noVolume }
        if let there = state.segments["\(shipment.name)"] {
            return try same(there, shipment, state)
        }
        let put = SegmentPut(
            volume, name: "\(shipment.name)", tag: shipment.uploadID, isSealed: state.isSealed,
            isPaced: true, mayResume: mayResume.withLock { $0 })
        do throws(ShipError) {
            let facts = try send(shipment, put, state, pace)
            let after = shipment.after.map { "\($0)" }
            let reply = try put.enter(facts, mayBeThere: true) { _ in
                (after, shipment.isGap, false)
            }
            mayResume.withLock { $0 = false }
            return reply
        } catch {
            mayResume.withLock { $0 = true }
            var isDamaged = false
            if case .rejected(let reply) = error { isDamaged = reply.code == .damaged }
            put.upload.abandon(keepingParts: !isDamaged)
            throw error
        }
    }

    /// The history has a segment of that name.
    private func same(
        _ there: ChainState.Segment, _ shipment: Shipment, _ state: ChainState
    ) throws(ShipError) -> CommitReply {
        if let writer = volume.writer { try ObjectVolume.mustWrite(writer, state) }
        guard there.bytes == shipment.byteCount, there.digest == "\(try Self.digest(shipment))"
        else { throw SegmentPut.exists(shipment.name) }
        return CommitReply(wasThere: true, head: state.head)
    }

    private static func digest(_ shipment: Shipment) throws(ShipError) -> SegmentDigest {
        do throws(StoreError) { return try shipment.digest() } catch { throw .source(error) }
    }

    private func send(
        _ shipment: Shipment, _ put: SegmentPut, _ state: ChainState,
        _ pace: (Int) throws(ShipError) -> Void
    ) throws(ShipError) -> SegmentFacts {
        let size = partBytes(shipment.byteCount)
        let isWhole = shipment.byteCount <= UInt64(size)
        var offset: UInt64 = 0
        var part = ByteBuffer()
        while offset < shipment.byteCount {
            let count = Int(min(UInt64(size), shipment.byteCount - offset))
            part = try read(shipment, at: offset, count)
            part.withUnsafeReadableBytes { put.pass($0) }
            offset += UInt64(count)
            if !isWhole { try put.upload.add(part, pace) }
        }
        let facts: SegmentFacts
        do throws(ErrorReply) {
            facts = try put.facts(state)
            guard facts.name == shipment.name, facts.digest == "\(try announced(shipment))" else {
                throw ErrorReply(.damaged, "the segment is not the one that was announced")
            }
        } catch { throw .rejected(error) }
        if isWhole {
            try put.upload.put(part, sha256: put.sha256, pace)
        } else {
            try put.upload.complete()
        }
        return facts
    }

    private func announced(_ shipment: Shipment) throws(ErrorReply) -> SegmentDigest {
        do throws(StoreError) {
            return try shipment.digest()
        } catch { throw ErrorReply(.damaged, "\(error)") }
    }

    /// The same for the same object, so that parts fit those of a life before.
    private func partBytes(_ total: UInt64) -> Int {
        let mebibytes = total / 9000 / (1 << 20) + 1
        return max(volume.client.access.partBytes, Int(clamping: mebibytes << 20))
    }

    private func read(
        _ shipment: Shipment, at offset: UInt64, _ count: Int
    ) throws(ShipError) -> ByteBuffer {
        var bytes = ByteBufferAllocator().buffer(capacity: count)
        var failure: StoreError?
        bytes.writeWithUnsafeMutableBytes(minimumWritableBytes: count) { memory in
            do throws(StoreError) {
                try shipment.source.read(
                    shipment.name, into: UnsafeMutableRawBufferPointer(rebasing: memory[..<count]),
                    at: offset)
            } catch { failure = error }
            return count
        }
        if let failure { throw .source(failure) }
        return bytes
    }
}
