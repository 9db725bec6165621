// Carries segments to object storage for the shipper. Bytes are read a part at a time and handed
// over as `pace` allows. What fits into one put goes at once, and while its answer is on the way
// the bytes of the next segments go, too: objects without an entry are nothing, so only entries
// need an order. What is larger goes in parts, several at once, and goes on with the parts that the
// store has.
//
//   put(1, next: 2 3)   bytes of 1 ─► bytes of 2 … as long as the answer for 1 is on the way
//                       ─► answer for 1 ─► entry of 1
//   put(2, next: 3 4)   the rest of 2's bytes ─► …
//
// Memory: `connections` parts and a quarter at the most.

import Foundation
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
    private let begun = BegunShipments()

    public init(_ volume: ObjectVolume) { self.volume = volume }

    public var label: String { volume.label }
    /// Object stores do not tell.
    public var load: Double? { nil }
    public var nextMax: Int { max(0, volume.client.access.connections - 1) }

    public func state() throws(ShipError) -> VolumeReply? { try volume.state() }

    public func attach(_ request: VolumeRequest) throws(ShipError) -> VolumeReply {
        try volume.attach(request)
    }

    public func put(
        _ shipment: Shipment, pace: (Int) throws(ShipError) -> Void
    ) throws(ShipError) -> CommitReply { try put(shipment, next: [], pace: pace) }

    public func put(
        _ shipment: Shipment, next: [Shipment], pace: (Int) throws(ShipError) -> Void
    ) throws(ShipError) -> CommitReply {
        guard let state = try volume.chain.opened() else { throw volume.noVolume }
        if let there = state.segments["\(shipment.name)"] {
            return try same(there, shipment, state)
        }
        let reply: CommitReply
        do throws(ShipError) {
            let isWhole = shipment.byteCount <= volume.client.access.wholeBytesMax
            let (put, facts) =
                isWhole
                ? try sendWhole(shipment, next, state, pace)
                : try sendParts(shipment, state, pace)
            let after = shipment.after.map { "\($0)" }
            reply = try put.enter(facts, mayBeThere: true) { _ in (after, shipment.isGap, false) }
        } catch {
            mayResume.withLock { $0 = true }
            begun.cancel()
            throw error
        }
        mayResume.withLock { $0 = false }
        return reply
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

    /// What the bytes that passed are; throws where they are not what was announced.
    private func facts(
        _ put: SegmentPut, _ shipment: Shipment, _ state: ChainState
    ) throws(ShipError) -> SegmentFacts {
        let digest = try Self.digest(shipment)
        do throws(ErrorReply) {
            let facts = try put.facts(state)
            guard facts.name == shipment.name, facts.digest == "\(digest)" else {
                throw ErrorReply(.damaged, "the segment is not the one that was announced")
            }
            return facts
        } catch { throw .rejected(error) }
    }

    // MARK: - in one put

    private func sendWhole(
        _ shipment: Shipment, _ next: [Shipment], _ state: ChainState,
        _ pace: (Int) throws(ShipError) -> Void
    ) throws(ShipError) -> (SegmentPut, SegmentFacts) {
        var one: BegunShipment
        if let known = begun.take(shipment.uploadID) {
            one = known
        } else {
            begun.cancel()  // the plan has changed
            one = try begin(shipment, state)
        }
        do throws(ShipError) {
            while !one.whole.isFed { try one.whole.feed(pace) }
            try sendNext(next, while: one.whole, state, pace)
            try one.put.upload.finish(one.whole)
        } catch {
            one.whole.cancel()
            throw error
        }
        return (one.put, one.facts)
    }

    /// Reads all of it and begins to send it; nothing goes before it is fed.
    private func begin(
        _ shipment: Shipment, _ state: ChainState
    ) throws(ShipError) -> BegunShipment {
        let put = SegmentPut(
            volume, name: "\(shipment.name)", tag: shipment.uploadID, isSealed: state.isSealed,
            isPaced: true, mayResume: false)
        let body = try read(shipment, at: 0, Int(shipment.byteCount))
        body.withUnsafeReadableBytes { put.pass($0) }
        let facts = try facts(put, shipment, state)
        return BegunShipment(
            id: shipment.uploadID, put: put, facts: facts,
            whole: put.upload.begin(body, sha256: put.sha256))
    }

    /// Sends of what follows until the answer that is waited for is there.
    private func sendNext(
        _ next: [Shipment], while first: DataUpload.Whole, _ state: ChainState,
        _ pace: (Int) throws(ShipError) -> Void
    ) throws(ShipError) {
        for shipment in next.prefix(nextMax) {
            guard shipment.byteCount <= volume.client.access.wholeBytesMax,
                state.segments["\(shipment.name)"] == nil, !first.isAnswered
            else { return }
            var one: BegunShipment
            if let known = begun.take(shipment.uploadID) {
                one = known
            } else {
                do throws(ShipError) {
                    one = try begin(shipment, state)
                } catch { return }  // its own turn tells why
            }
            do throws(ShipError) {
                while !one.whole.isFed, !first.isAnswered { try one.whole.feed(pace) }
            } catch {
                one.whole.cancel()
                throw error
            }
            begun.add(one)
        }
    }

    // MARK: - in parts

    private func sendParts(
        _ shipment: Shipment, _ state: ChainState, _ pace: (Int) throws(ShipError) -> Void
    ) throws(ShipError) -> (SegmentPut, SegmentFacts) {
        begun.cancel()  // their memory is needed
        let put = SegmentPut(
            volume, name: "\(shipment.name)", tag: shipment.uploadID, isSealed: state.isSealed,
            isPaced: true, mayResume: mayResume.withLock { $0 })
        do throws(ShipError) {
            let size = partBytes(shipment.byteCount)
            var offset: UInt64 = 0
            while offset < shipment.byteCount {
                let count = Int(min(UInt64(size), shipment.byteCount - offset))
                let part = try read(shipment, at: offset, count)
                part.withUnsafeReadableBytes { put.pass($0) }
                offset += UInt64(count)
                try put.upload.add(part, pace)
            }
            let facts = try facts(put, shipment, state)
            try put.upload.complete()
            return (put, facts)
        } catch {
            var isDamaged = false
            if case .rejected(let reply) = error { isDamaged = reply.code == .damaged }
            put.abandon(keepingParts: !isDamaged)
            throw error
        }
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

/// A shipment whose bytes are on their way.
private struct BegunShipment {
    var id: String
    var put: SegmentPut
    var facts: SegmentFacts
    var whole: DataUpload.Whole
}

/// Those whose turn has not come yet.
private final class BegunShipments: @unchecked Sendable {
    // @unchecked: the list is used under `lock`; what is taken out belongs to who took it.
    private let lock = NSLock()
    private var list: [BegunShipment] = []

    deinit { for one in list { one.whole.cancel() } }

    func take(_ id: String) -> BegunShipment? {
        lock.lock()
        defer { lock.unlock() }
        return list.firstIndex { $0.id == id }.map { list.remove(at: $0) }
    }

    func add(_ one: BegunShipment) {
        lock.lock()
        list.append(one)
        lock.unlock()
    }

    /// They will not come.
    func cancel() {
        lock.lock()
        let old = list
        list = []
        lock.unlock()
        for one in old { one.whole.cancel() }
    }
}
