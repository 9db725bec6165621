// Keeps segments at a log server from being pruned while they are read. The server forgets a lease
// that nobody renews, so a thread renews it as long as it is held; a reader that dies costs the
// server a minute.

import Foundation
import History
import ServerAPI

/// A lease at a log server; ends with `release` or when dropped. Any thread may call.
public final class RemoteLease: Sendable {
    private let renewal: Renewal

    /// Takes a lease: blocks for the server's answer. Nil `segments` protects everything.
    public init(
        _ client: LogServerClient, purpose: String, holder: String, at: UInt64? = nil,
        segments: [String]? = nil
    ) throws(ShipError) {
        let request = LeaseRequest(
            purpose: purpose, holder: holder, at: at, segments: segments)
        renewal = Renewal(client, request, try client.lease(request))
        Thread.detachNewThread { [renewal] in renewal.run() }
    }

    deinit { renewal.stop() }

    /// Idempotent. The server hears of it soon; the caller does not wait for that.
    public func release() { renewal.stop() }
}

/// The thread's part: it does not keep the lease alive, but the lease the thread.
private final class Renewal: @unchecked Sendable {
    // @unchecked: the variables are used under `condition`, `id` and `seconds` by the thread only.
    private let client: LogServerClient
    private let request: LeaseRequest
    private let condition = NSCondition()
    private var isStopped = false
    private var id: String
    private var seconds: Int64

    init(_ client: LogServerClient, _ request: LeaseRequest, _ reply: LeaseReply) {
        (self.client, self.request) = (client, request)
        (id, seconds) = (reply.id, reply.seconds)
    }

    func stop() {
        condition.lock()
        isStopped = true
        condition.broadcast()
        condition.unlock()
    }

    func run() {
        var pause = max(1, seconds / 3)
        while !wait(pause) {
            pause = max(1, seconds / 3)
            do throws(ShipError) {
                seconds = try client.renewLease(id).seconds
            } catch {
                // After a restart of the server, or a long silence, it is a new one.
                if case .rejected(let reply) = error, reply.code == .missing,
                    let reply = try? client.lease(request)
                {
                    (id, seconds) = (reply.id, reply.seconds)
                } else {
                    pause = max(1, seconds / 12)
                }
            }
        }
        try? client.endLease(id)  // otherwise it runs out
    }

    /// Whether it is stopped.
    private func wait(_ seconds: Int64) -> Bool {
        let end = Exchange.now() + seconds * 1_000_000_000
        condition.lock()
        defer { condition.unlock() }
        while !isStopped, Exchange.now() < end {
            // In small steps: the clock of the condition may be set meanwhile.
            _ = condition.wait(until: Date(timeIntervalSinceNow: Double(min(seconds, 5))))
        }
        return isStopped
    }
}
