// A segment that is written front to back straight to a log server: what RemoteStore.upload gives.
// The last megabytes stay in memory until the server has them, so a cut costs nothing.

import Crypto
import History
import LogFormat
import ServerAPI

final class RemoteUpload: SegmentUpload {
    private let client: LogServerClient
    private let store: RemoteStore
    private let id: String
    private var hash = SHA256()
    /// Bytes that the server has not acknowledged; the first lies at `acknowledged`.
    private var pending: [UInt8] = []
    private var acknowledged: UInt64 = 0
    /// The first bytes: the header says what the segment follows.
    private var head: [UInt8] = []
    private var isDone = false
    private var isBegun = false
    private static let requestBytes = 4 << 20
    private static let attemptsMax = 3

    init(_ client: LogServerClient, _ store: RemoteStore) {
        self.client = client
        self.store = store
        let words = (0..<2).map { _ in String(UInt64.random(in: 0...UInt64.max), radix: 16) }
        id = "u" + words.joined()
    }

    deinit { abort() }

    func append(_ bytes: UnsafeRawBufferPointer) throws(StoreError) {
        guard !isDone else { throw StoreError(.put, store.label, .refused("given up")) }
        hash.update(bufferPointer: bytes)
        if head.count < SegmentFormat.headerBytes {
            head += bytes.prefix(SegmentFormat.headerBytes - head.count)
        }
        pending += bytes
        while pending.count >= Self.requestBytes { try flush(store.label) }
    }

    func commit(as name: SegmentName) throws(StoreError) {
        precondition(!isDone)
        defer { abort() }
        let total = acknowledged + UInt64(pending.count)
        let sum = hash.finalize().withUnsafeBytes { SegmentDigest($0.baseAddress!) }
        while !pending.isEmpty { try flush("\(name)") }
        do throws(ShipError) {
            if total == 0 { try client.append(to: id, at: 0, count: 0) { _ in } }
            let request = CommitRequest(
                name: "\(name)", bytes: total, sha256: "\(sum)",
                after: try predecessor(name), isGap: false)
            var attempts = 0
            let reply = try trying { () throws(ShipError) in
                attempts += 1
                return try client.commit(id, request)
            }
            isDone = true
            store.forget(name)
            // What a second attempt finds is what the first one made.
            if reply.wasThere, attempts == 1 {
                throw .rejected(ErrorReply(.exists, "\(name) was there"))
            }
        } catch { throw StoreError(.put, "\(name)", error, remote: store.label) }
    }

    func abort() {
        guard !isDone else { return }
        isDone = true
        pending = []
        if isBegun { try? client.abandon(id) }  // what stays is no segment, and goes with time
    }

    /// Sends up to one request's worth of what is pending.
    private func flush(_ object: String) throws(StoreError) {
        isBegun = true
        let end = acknowledged + UInt64(min(pending.count, Self.requestBytes))
        do throws(ShipError) {
            var position = acknowledged
            try trying { () throws(ShipError) in
                do throws(ShipError) {
                    try send(from: position, to: end)
                } catch {
                    guard isRepeatable(error) else { throw error }
                    position = try client.uploadedBytes(id)
                    guard (acknowledged...end).contains(position) else {
                        throw .rejected(ErrorReply(.damaged, "the server has lost an upload"))
                    }
                    if position < end { throw error }
                }
            }
        } catch {
            abort()
            throw StoreError(.put, object, error, remote: store.label)
        }
        pending.removeFirst(Int(end - acknowledged))
        acknowledged = end
    }

    private func send(from start: UInt64, to end: UInt64) throws(ShipError) {
        var position = Int(start - acknowledged)
        try client.append(to: id, at: start, count: end - start) { target in
            pending.withUnsafeBytes {
                target.copyMemory(
                    from: UnsafeRawBufferPointer(
                        rebasing: $0[position..<position + target.count]))
            }
            position += target.count
        }
    }

    private func isRepeatable(_ error: ShipError) -> Bool {
        switch error {
        case .unreachable: true
        case .rejected(let reply): reply.code == .offset
        default: false
        }
    }

    private func trying<T>(_ body: () throws(ShipError) -> T) throws(ShipError) -> T {
        var attempts = 1
        while true {
            do throws(ShipError) {
                return try body()
            } catch {
                guard isRepeatable(error), attempts < Self.attemptsMax else { throw error }
                attempts += 1
            }
        }
    }

    /// The digest of the head that it goes on from; nil for what begins anew.
    private func predecessor(_ name: SegmentName) throws(ShipError) -> String? {
        guard name.kind != .snapshot else { return nil }
        guard let digest = try client.volume()?.head?.digest else { return nil }
        let header = head.withUnsafeBytes { bytes -> SegmentHeader? in
            do throws(SegmentError) { return try SegmentHeader.decode(bytes) } catch { return nil }
        }
        guard let header, header.kind == .log else { return digest }
        return "\(header.predecessor)" == digest ? digest : nil
    }
}
