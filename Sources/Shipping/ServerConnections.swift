// The connections of one client: kept for the next request, and closed when they were not used for
// a while, before the server or something between would do it.

import Synchronization

final class ServerConnections: Sendable {
    private struct Idle {
        var connection: ServerConnection
        var since: Int64
    }
    private let idle = Mutex<[Idle]>([])
    private let place: ServerPlace
    private static let idleMax = 24
    private static let idleNanosecondsMax: Int64 = 15_000_000_000

    init(_ place: ServerPlace) { self.place = place }

    /// A connection that nobody else uses; `isNew` wants one that carried nothing before.
    func take(isNew: Bool) throws(WireFailure) -> ServerConnection {
        while !isNew, let connection = popIdle() {
            if connection.isActive { return connection }
        }
        return try .open(place)
    }

    /// For a connection whose last request was answered in whole.
    func give(_ connection: ServerConnection) {
        connection.isUsed.store(true, ordering: .relaxed)  // its next user comes by the lock below
        idle.withLock { idle in
            if idle.count >= Self.idleMax { idle.removeFirst() }
            idle.append(Idle(connection: connection, since: Exchange.now()))
        }
    }

    func closeAll() { idle.withLock { $0.removeAll() } }

    /// The one used last. Those unused for long go, and close as they do.
    private func popIdle() -> ServerConnection? {
        let limit = Exchange.now() - Self.idleNanosecondsMax
        return idle.withLock { idle in
            idle.removeAll { $0.since < limit }
            return idle.popLast()?.connection
        }
    }
}
