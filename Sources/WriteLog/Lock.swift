// The lock of the hot path. Mutex<State> cannot hand its state to a helper as `inout` across a
// closure that also uses `self`; this one guards plain stored properties of its owner instead.

import CLinux

/// A mutual exclusion lock on a cache line of its own. Not recursive. Held for short work only,
/// except the append lock, whose holder writes to the disk while others sleep on it.
public final class Lock: @unchecked Sendable {
    // @unchecked: one word, reached only by the atomic operations of the lock.
    private let word: UnsafeMutablePointer<UInt32>

    public init() {
        word = .allocate(capacity: 16)
        word.initialize(repeating: 0, count: 16)
    }

    deinit { word.deallocate() }

    @inline(__always) public func lock() { clinux_lock(word) }
    @inline(__always) public func unlock() { clinux_unlock(word) }

    @inlinable @inline(__always)
    public func withLock<R: ~Copyable, E: Error>(_ body: () throws(E) -> R) throws(E) -> R {
        lock()
        defer { unlock() }
        return try body()
    }
}
