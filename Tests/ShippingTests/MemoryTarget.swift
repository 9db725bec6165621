// A remote in memory that follows the log server's chain rules, with the troubles of a network:
// outages, cuts in the middle of an upload, answers that get lost.

import BlockModel
import DiskIO
import History
import HistoryModel
import LogFormat
import ServerAPI
import Shipping
import Synchronization

final class MemoryTarget: ShipTarget {
    struct State {
        var head: VolumeReply.Head?
        var writer: String?
        var uploads: [String: [UInt8]] = [:]
        var isDown = false
        var load: Double?
        /// Chances in a request.
        var cutRatio = 0.0
        var lostAnswerRatio = 0.0
        var random = SeededRandom(seed: 1)
        /// What happens to the next requests, the first one first.
        var refusals: [ShipError] = []
        var requests = 0
        var commits: [SegmentName] = []
        var receivedBytes = 0
        var keep: String?
    }
    private let inner = Mutex(State())
    let store = MemoryStore()

    var label: String { "memory" }
    var load: Double? { inner.withLock { $0.load } }
    var head: VolumeReply.Head? { inner.withLock { $0.head } }
    var commits: [SegmentName] { inner.withLock { $0.commits } }
    var receivedBytes: Int { inner.withLock { $0.receivedBytes } }
    var requests: Int { inner.withLock { $0.requests } }

    private func begin() throws(ShipError) {
        let refusal = inner.withLock { state -> ShipError? in
            state.requests += 1
            if state.isDown { return .unreachable("it is down") }
            return state.refusals.isEmpty ? nil : state.refusals.removeFirst()
        }
        if let refusal { throw refusal }
    }

    func state() throws(ShipError) -> VolumeReply? {
        try begin()
        return inner.withLock { $0.writer == nil ? nil : Self.reply($0) }
    }

    private static func reply(_ state: State) -> VolumeReply {
        VolumeReply(
            name: "memory", uuid: "", sizeBytes: 0, isSealed: false, keep: state.keep,
            writer: state.writer ?? "", generation: 1, host: "", head: state.head,
            snapshotCount: 0, segmentCount: 0, segmentBytes: 0)
    }

    func attach(_ request: VolumeRequest) throws(ShipError) -> VolumeReply {
        try begin()
        let reply = inner.withLock { state -> VolumeReply? in
            if let writer = state.writer, writer != request.writer { return nil }
            state.writer = request.writer
            return Self.reply(state)
        }
        guard let reply else { throw .fenced("another writer") }
        return reply
    }

    func put(
        _ shipment: Shipment, pace: (Int) throws(ShipError) -> Void
    ) throws(ShipError) -> CommitReply {
        try begin()
        var bytes = inner.withLock { $0.uploads[shipment.uploadID] ?? [] }
        while bytes.count < Int(shipment.byteCount) {
            let count = min(4096, Int(shipment.byteCount) - bytes.count)
            try pace(count)
            var piece = [UInt8](repeating: 0, count: count)
            let offset = UInt64(bytes.count)
            do throws(StoreError) {
                try Self.read(shipment, into: &piece, at: offset)
            } catch { throw .source(error) }
            bytes += piece
            let isCut = inner.withLock { state in
                state.uploads[shipment.uploadID] = bytes
                state.receivedBytes += count
                return state.isDown || state.random.chance(state.cutRatio)
            }
            if isCut { throw .unreachable("cut") }
        }
        let whole = bytes
        let (outcome, isLost) = inner.withLock { state in
            (commit(shipment, whole, &state), state.random.chance(state.lostAnswerRatio))
        }
        if isLost { throw .unreachable("the answer got lost") }
        switch outcome {
        case .success(let reply): return reply
        case .failure(let refusal): throw .rejected(refusal)
        }
    }

    private static func read(
        _ shipment: Shipment, into piece: inout [UInt8], at offset: UInt64
    ) throws(StoreError) {
        var failure: StoreError?
        piece.withUnsafeMutableBytes { target in
            do throws(StoreError) {
                try shipment.source.read(shipment.name, into: target, at: offset)
            } catch { failure = error }
        }
        if let failure { throw failure }
    }

    // MARK: - the server's rules

    private func commit(
        _ shipment: Shipment, _ bytes: [UInt8], _ state: inout State
    ) -> Result<CommitReply, ErrorReply> {
        state.uploads[shipment.uploadID] = nil
        let name = shipment.name
        if let there = store.content[name] {
            return there == bytes
                ? .success(CommitReply(wasThere: true, head: state.head))
                : .failure(ErrorReply(.exists, "\(name) is there"))
        }
        guard let footer = Self.verified(name, bytes) else {
            return .failure(ErrorReply(.damaged, "\(name) is damaged"))
        }
        if let refusal = refusal(shipment, footer, state) { return .failure(refusal) }
        store.content[name] = bytes
        state.commits.append(name)
        if name.kind != .snapshot
            || state.head.map({
                name.last.rawValue > $0.lsn || (shipment.isGap && name.last.rawValue == $0.lsn)
            }) ?? true
        {
            let digest: SegmentDigest =
                switch name.kind {
                case .log: footer.digest
                case .merged: footer.header.predecessor
                case .snapshot: .none
                }
            state.head = VolumeReply.Head(
                lsn: name.last.rawValue, wallNanoseconds: footer.last.wallNanoseconds,
                digest: digest == .none ? nil : "\(digest)")
        }
        return .success(CommitReply(wasThere: false, head: state.head))
    }

    private static func verified(_ name: SegmentName, _ bytes: [UInt8]) -> SegmentFooter? {
        let one = MemoryStore([name: bytes])
        let stored = StoredSegment(name: name, byteCount: UInt64(bytes.count))
        // Its bytes are checked when they are read.
        return try? SegmentReader.footer(of: stored, in: one)
    }

    private func refusal(
        _ shipment: Shipment, _ footer: SegmentFooter, _ state: State
    ) -> ErrorReply? {
        let name = shipment.name
        guard let head = state.head else {
            return name.kind == .snapshot ? nil : ErrorReply(.gap, "no snapshot yet")
        }
        let at = LSN(head.lsn)
        if name.kind == .snapshot {
            return name.last <= at || shipment.isGap ? nil : ErrorReply(.gap, "beyond the head")
        }
        let after = shipment.after.map { "\($0)" }
        let fits =
            name.kind == .merged || after == nil
            || "\(footer.header.predecessor)" == after
        if name.first == at.next, after == head.digest, fits { return nil }
        let begins = store.content.keys.contains {
            $0.kind == .snapshot && $0.last >= at && name.first <= $0.last.next
                && $0.last <= name.last
        }
        if after == nil, head.digest == nil, begins { return nil }
        if name.first > at.next { return ErrorReply(.gap, "\(name) after \(at)") }
        return ErrorReply(name.last <= at ? .old : .fork, "\(name) after \(at)")
    }

    // MARK: - for tests

    func change(_ body: (inout State) -> Void) { inner.withLock { body(&$0) } }

    /// Thins what is there, as the server does.
    func prune(_ rule: RetentionRule) throws {
        _ = try Thinning(store: store, volume: nil, leases: { [] }).run(rule)
    }
}
