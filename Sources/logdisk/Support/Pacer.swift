// Keeps background work on a history out of the way of a mount under load: while the volume is
// written to, the work rests nine tenths of the time; when it is quiet the work goes on as it can.

import CLinux
import Synchronization

/// Shared by the threads of one piece of work.
final class Pacer: Sendable {
    /// A tenth of the time is for the work.
    private static let restFactor: Int64 = 9
    private static let lookNanoseconds: Int64 = 500_000_000
    private static let restMax: Int64 = 500_000_000
    /// Worth a pause; what is shorter is done in one go.
    private static let workMin: Int64 = 5_000_000
    /// Writes in a second from which on the volume is under load.
    private static let writesMin: UInt64 = 100

    private struct State {
        var lookedAt: Int64
        var writes: UInt64
        var isBusy = false
        /// When the work went on after the last rest.
        var workedFrom: Int64
    }
    private let state: Mutex<State>
    private let writes: @Sendable () -> UInt64?

    /// `writes` counts those to the volume since its mount; asked twice a second. nil: not known.
    init(writes: @escaping @Sendable () -> UInt64?) {
        self.writes = writes
        let now = clinux_monotonic_ns()
        state = Mutex(State(lookedAt: now, writes: writes() ?? 0, workedFrom: now))
    }

    /// Called by the work between its pieces; may rest.
    func pace() {
        let now = clinux_monotonic_ns()
        if state.withLock({ now - $0.lookedAt >= Self.lookNanoseconds }) {
            let count = writes() ?? 0
            state.withLock { state in
                let seconds = Double(now - state.lookedAt) / 1e9
                let new = count > state.writes ? count - state.writes : 0
                state.isBusy = Double(new) >= Double(Self.writesMin) * seconds
                state.lookedAt = now
                state.writes = count
            }
        }
        let rest = state.withLock { state -> Int64 in
            let worked = now - state.workedFrom
            guard state.isBusy else {
                state.workedFrom = now
                return 0
            }
            return worked < Self.workMin ? 0 : min(worked * Self.restFactor, Self.restMax)
        }
        guard rest > 0 else { return }
        clinux_sleep_ns(rest)
        state.withLock { $0.workedFrom = clinux_monotonic_ns() }
    }
}
