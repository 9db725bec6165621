// How busy the server is: the share of its disk threads at work and of its places for uploads in
// use, whichever is greater, smoothed over some seconds. The time is handed in.

import Synchronization

/// A smoothed share. Any thread may call.
final class LoadMeter: Sendable {
    private let state = Mutex(State())
    private let threads: Double
    private let places: Double
    /// The weight of what was sinks to 1/e in this time.
    private static let memoryNanoseconds = 5e9

    private struct State: Sendable {
        var working = 0
        var uploads = 0
        var smoothed = 0.0
        var last: UInt64?
    }

    init(threads: Int, places: Int) {
        self.threads = Double(threads)
        self.places = Double(places)
    }

    /// `now`: monotonic nanoseconds.
    func workBegins(now: UInt64) { change(now) { $0.working += 1 } }
    func workEnds(now: UInt64) { change(now) { $0.working -= 1 } }
    func uploadEnds(now: UInt64) { change(now) { $0.uploads -= 1 } }

    /// False when all places are taken.
    func uploadBegins(now: UInt64) -> Bool {
        change(now) { state in
            guard Double(state.uploads) < places else { return false }
            state.uploads += 1
            return true
        }
    }

    /// From 0 to 1.
    func load(now: UInt64) -> Double { change(now) { $0.smoothed } }
    var uploads: Int { state.withLock { $0.uploads } }

    private func change<R: Sendable>(_ now: UInt64, _ body: (inout State) -> R) -> R {
        state.withLock { state in
            let share = max(Double(state.working) / threads, Double(state.uploads) / places)
            let past = state.last.map { now > $0 ? Double(now - $0) : 0 } ?? 0
            state.smoothed += (min(1, share) - state.smoothed) * (1 - weight(past))
            state.last = max(now, state.last ?? 0)
            return body(&state)
        }
    }

    /// e^(-past/memory), to four digits, without a mathematics library.
    private func weight(_ past: Double) -> Double {
        let x = past / Self.memoryNanoseconds
        if x > 20 { return 0 }
        // (1 - x/n)^n with n = 1024
        var value = 1 / (1 + x / 1024)
        for _ in 0..<10 { value *= value }
        return value
    }
}
