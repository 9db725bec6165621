// Sleeping and waking on one word (futex): the event count that threads of the log wait on.

import CLinux
import Synchronization

/// An event count. A waiter takes a ticket, checks its condition and sleeps only if nothing was
/// signalled since. A signal without sleepers costs one atomic addition and no system call.
public final class WaitWord: @unchecked Sendable {
    // @unchecked: two words reached only by atomic operations and the futex call.
    private let words: UnsafeMutablePointer<UInt32>

    public init() {
        words = .allocate(capacity: 32)
        words.initialize(repeating: 0, count: 32)
    }

    deinit { words.deallocate() }

    // Word 0 counts signals, word 16 (another cache line) the sleepers.
    private var sleepers: UnsafeMutablePointer<UInt32> { words + 16 }

    /// Call before checking the condition.
    public func ticket() -> UInt32 { clinux_load_acquire(words) }

    /// Sleeps until a signal after `ticket`; returns at once where there was one.
    /// A negative timeout waits without end. Returns false when the time ran out.
    @discardableResult
    public func wait(_ ticket: UInt32, timeoutNanoseconds: Int64 = -1) -> Bool {
        _ = clinux_fetch_add(sleepers, 1)
        let result = clinux_futex_wait(words, ticket, timeoutNanoseconds)
        _ = clinux_fetch_add(sleepers, UInt32.max)
        return result != timedOut
    }

    /// Wakes every sleeper. Whatever was stored before the call is seen by them.
    public func signal() {
        _ = clinux_fetch_add(words, 1)
        if clinux_load_seq(sleepers) != 0 { clinux_futex_wake(words, Int32.max) }
    }

    private let timedOut: Int32 = 110  // ETIMEDOUT
}
