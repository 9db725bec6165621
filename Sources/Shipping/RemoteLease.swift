// Keeps segments at a log server from being pruned while they are read. The server forgets a lease
// that nobody renews, so a thread renews it as long as it is held; a reader that dies costs the
// server a minute.

import Foundation
import History
import ServerAPI
import Synchronization

/// A lease at a log server; ends with `release` or when dropped. Any thread may call.
public final class RemoteLease: Sendable {
    private let renewal: LeaseRenewal

    /// Takes a lease: blocks for the server's answer. Nil `segments` protects everything.
    public init(
        _ client: LogServerClient, purpose: String, holder: String, at: UInt64? = nil,
        segments: [String]? = nil
    ) throws(ShipError) {
        let request = LeaseRequest(
            purpose: purpose, holder: holder, at: at, segments: segments)
        let first = try client.lease(request)
        let held = HeldID(first.id)
        renewal = LeaseRenewal(seconds: first.seconds) { () throws(ShipError) in
            do throws(ShipError) {
                return try client.renewLease(held.value).seconds
            } catch {
                // After a restart of the server, or a long silence, it is a new one.
                guard case .rejected(let reply) = error, reply.code == .missing else { throw error }
                let new = try client.lease(request)
                held.value = new.id
                return new.seconds
            }
        } end: {
            try? client.endLease(held.value)  // otherwise it runs out
        }
        Thread.detachNewThread { [renewal] in renewal.run() }
    }

    deinit { renewal.stop() }

    /// Idempotent. The server hears of it soon; the caller does not wait for that.
    public func release() { renewal.stop() }
}

/// What the server calls the lease at present.
private final class HeldID: Sendable {
    private let id: Mutex<String>

    init(_ id: String) { self.id = Mutex(id) }

    var value: String {
        get { id.withLock { $0 } }
        set { id.withLock { $0 = newValue } }
    }
}

/// The thread's part of a lease: it does not keep the lease alive, but the lease the thread.
package final class LeaseRenewal: @unchecked Sendable {
    // @unchecked: `isStopped` and `hasEnded` are used under `condition`, `seconds` by the thread
    // only.
    private let renew: @Sendable () throws(ShipError) -> Int64
    private let end: @Sendable () -> Void
    private let condition = NSCondition()
    private var isStopped = false
    private var hasEnded = false
    private var seconds: Int64

    /// `renew` gives the seconds that it lives from then on.
    package init(
        seconds: Int64, renew: @escaping @Sendable () throws(ShipError) -> Int64,
        end: @escaping @Sendable () -> Void
    ) {
        (self.seconds, self.renew, self.end) = (seconds, renew, end)
    }

    package func stop() {
        condition.lock()
        isStopped = true
        condition.broadcast()
        condition.unlock()
    }

    package func run() {
        var pause = max(1, seconds / 3)
        while !wait(pause) {
            do throws(ShipError) {
                seconds = try renew()
                pause = max(1, seconds / 3)
            } catch { pause = max(1, seconds / 12) }
        }
        end()
        condition.lock()
        hasEnded = true
        condition.broadcast()
        condition.unlock()
    }

    /// Returns when a lease that was stopped is gone there, or after so long.
    package func waitForEnd(seconds: Double) {
        let end = Exchange.now() + Int64(seconds * 1e9)
        condition.lock()
        defer { condition.unlock() }
        while !hasEnded, Exchange.now() < end {
            _ = condition.wait(until: Date(timeIntervalSinceNow: 0.1))
        }
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
