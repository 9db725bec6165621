// Leases that clients hold over the network. Each is one held lease in the volume's folder (so that
// retention finds it where it finds all others), released when it was not renewed in time. After a
// start of the server nothing is known of leases given before: for one such time nothing is pruned.

import BlockModel
import DiskIO
import History
import LogFormat
import ServerAPI
import Synchronization

/// The remote leases of a store. Any thread may call; calls block.
final class LeaseTable: Sendable {
    private let storage: Storage
    private let entries = Mutex<[String: Entry]>([:])

    private struct Entry: Sendable {
        var volume: String
        var lease: HeldLease
        /// By the server's clock, nanoseconds.
        var endsAt: Int64
    }
    private static let countMax = 4096
    static let nanoseconds = ServerAPI.leaseSeconds * 1_000_000_000

    init(storage: Storage) { self.storage = storage }

    func take(
        _ volume: ServedVolume, _ request: LeaseRequest, now: Int64
    ) throws(ErrorReply) -> LeaseReply {
        guard request.purpose.utf8.count <= 200, request.holder.utf8.count <= 1000 else {
            throw ErrorReply(.malformed, "purpose or holder is too long")
        }
        var lease = Lease(
            purpose: request.purpose, holder: request.holder, at: request.at.map { LSN($0) })
        if let texts = request.segments {
            lease.segments = []
            for text in texts {
                guard let name = SegmentName(text) else {
                    throw ErrorReply(.malformed, "'\(text.prefix(100))' is no name of a segment")
                }
                lease.segments?.insert(name)
            }
        }
        expire(now: now)
        guard entries.withLock({ $0.count }) < Self.countMax else {
            throw ErrorReply(.busy, "too many leases")
        }
        let held: HeldLease
        do throws(IOError) {
            held = try LeaseFolder(storage: storage, logDirectory: volume.directory).take(lease)
        } catch { throw ErrorReply(error) }
        let id =
            String(UInt64.random(in: .min ... .max), radix: 16) + "-"
            + String(UInt64.random(in: .min ... .max), radix: 16)
        entries.withLock {
            $0[id] = Entry(volume: volume.name, lease: held, endsAt: now + Self.nanoseconds)
        }
        return LeaseReply(id: id, seconds: ServerAPI.leaseSeconds)
    }

    func renew(_ volume: ServedVolume, _ id: String, now: Int64) throws(ErrorReply) -> LeaseReply {
        expire(now: now)
        let isKnown = entries.withLock { entries in
            guard entries[id]?.volume == volume.name else { return false }
            entries[id]?.endsAt = now + Self.nanoseconds
            return true
        }
        guard isKnown else {
            throw ErrorReply(.missing, "there is no such lease any more", hint: "take a new one")
        }
        return LeaseReply(id: id, seconds: ServerAPI.leaseSeconds)
    }

    func release(_ volume: ServedVolume, _ id: String) throws(ErrorReply) {
        let gone = entries.withLock { entries -> HeldLease? in
            guard entries[id]?.volume == volume.name else { return nil }
            return entries.removeValue(forKey: id)?.lease
        }
        guard let gone else { throw ErrorReply(.missing, "there is no such lease any more") }
        gone.release()
    }

    /// All leases in force on the volume, those of processes on this machine included.
    func current(_ volume: ServedVolume, now: Int64) throws(IOError) -> [Lease] {
        expire(now: now)
        return try LeaseFolder(storage: storage, logDirectory: volume.directory).current()
    }

    /// Whether a client leases anything of the volume.
    func holds(_ volume: ServedVolume, now: Int64) -> Bool {
        expire(now: now)
        return entries.withLock { $0.values.contains { $0.volume == volume.name } }
    }

    var count: Int { entries.withLock { $0.count } }

    func releaseAll() {
        let all = entries.withLock { entries in
            defer { entries = [:] }
            return Array(entries.values)
        }
        for entry in all { entry.lease.release() }
    }

    private func expire(now: Int64) {
        let ended = entries.withLock { entries in
            let ended = entries.filter { $0.value.endsAt < now }
            for id in ended.keys { entries[id] = nil }
            return Array(ended.values)
        }
        for entry in ended { entry.lease.release() }
    }
}
