// A clock that tests set, and a count that threads share.

import Synchronization

final class TestClock: Sendable {
    private let value: Mutex<Int64>

    init(_ start: Int64 = 1_800_000_000_000_000_000) { value = Mutex(start) }

    var now: Int64 { value.withLock { $0 } }
    func advance(days: Int64) { value.withLock { $0 += days * 86_400_000_000_000 } }
    func advance(seconds: Int64) { value.withLock { $0 += seconds * 1_000_000_000 } }
}

/// A count that threads share.
final class Count: Sendable {
    private let count = Atomic<Int>(0)

    func add() { count.add(1, ordering: .relaxed) }
    var value: Int { count.load(ordering: .relaxed) }
}
