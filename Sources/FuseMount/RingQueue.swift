// What the entries of one queue are doing, so that the supervisor (RingSupervisor.swift) sees when
// all of them are held up. Counted by the threads of the entries, two additions for each request.

import CLinux
import Synchronization

#if canImport(Glibc)
    import Glibc
#endif

/// What the supervisor sleeps on. In memory of its own, because the kernel needs its address.
final class RingAlarm: Sendable {
    private static let calm: UInt32 = 0
    /// Some queue has no free entry.
    private static let watchful: UInt32 = 1
    private static let period: Int64 = 2_000_000

    /// A futex word. @unchecked: only used as an atomic.
    nonisolated(unsafe) private let word: UnsafeMutablePointer<Atomic<UInt32>>
    private let hasEnded = Atomic<Bool>(false)

    init() {
        word = .allocate(capacity: 1)
        word.initialize(to: Atomic(Self.calm))
    }

    deinit {
        word.deinitialize(count: 1)
        word.deallocate()
    }

    private var address: UnsafePointer<UInt32> {
        UnsafeRawPointer(word).assumingMemoryBound(to: UInt32.self)
    }

    var isEnded: Bool { hasEnded.load(ordering: .sequentiallyConsistent) }

    /// A call of the system only from calm.
    @inline(__always)
    func raise() {
        if word.pointee.load(ordering: .sequentiallyConsistent) == Self.calm { wake() }
    }

    @inline(never)
    private func wake() {
        if word.pointee.exchange(Self.watchful, ordering: .sequentiallyConsistent) == Self.calm {
            _ = clinux_futex_wake(address, 1)
        }
    }

    func beCalm() { word.pointee.store(Self.calm, ordering: .sequentiallyConsistent) }

    /// No more looks.
    func end() {
        hasEnded.store(true, ordering: .sequentiallyConsistent)
        word.pointee.store(Self.watchful, ordering: .sequentiallyConsistent)
        _ = clinux_futex_wake(address, 1)
    }

    /// Until somebody raises it, or from then on for one period. Without a timer while calm.
    func wait() {
        let value = word.pointee.load(ordering: .sequentiallyConsistent)
        guard !isEnded else { return }
        _ = clinux_futex_wait(address, value, value == Self.calm ? -1 : Self.period)
    }
}

/// One queue. Any thread may call.
final class RingQueue: Sendable {
    private static let oneAnswered: UInt64 = 1 << 32

    let number: Int
    private let alarm: RingAlarm
    /// Low half: entries with a request. High half: how many were answered; wraps.
    private let state = Atomic<UInt64>(0)
    /// Registered with the kernel.
    private let entries = Atomic<UInt32>(0)
    /// The thread that is bound to the queue's processor; 0: none.
    private let bound = Atomic<pid_t>(0)
    /// Two queues never share a cache line.
    private let padding: (UInt64, UInt64, UInt64, UInt64, UInt64, UInt64) = (0, 0, 0, 0, 0, 0)

    init(_ number: Int, _ alarm: RingAlarm) { (self.number, self.alarm) = (number, alarm) }

    // MARK: for its entries

    func isRegistered() { entries.wrappingAdd(1, ordering: .sequentiallyConsistent) }

    /// An entry got a request. Returns how many have one now. Sequentially consistent with the
    /// supervisor, which becomes calm first and looks then.
    @inline(__always)
    func begins() -> UInt32 {
        let now = state.wrappingAdd(1, ordering: .sequentiallyConsistent).newValue
        let count = UInt32(truncatingIfNeeded: now)
        if count >= entries.load(ordering: .relaxed) { alarm.raise() }
        return count
    }

    /// Its answer goes back with the next commit.
    @inline(__always)
    func ends() { state.wrappingAdd(Self.oneAnswered &- 1, ordering: .relaxed) }

    /// Binds the calling thread to the queue's processor, and frees the one that was bound. Where
    /// the processor is offline or not for this process, another one does, only slower.
    @inline(never)
    func bind() {
        let thread = clinux_thread_id()
        let before = bound.exchange(thread, ordering: .relaxed)
        guard before != thread else { return }
        if before != 0 { _ = clinux_free_thread(before) }
        _ = clinux_bind_thread(thread, Int32(number))
    }

    // MARK: for the supervisor

    var entryCount: UInt32 { entries.load(ordering: .sequentiallyConsistent) }
    var look: (isFull: Bool, answered: UInt32) {
        let now = state.load(ordering: .sequentiallyConsistent)
        return (
            UInt32(truncatingIfNeeded: now) >= entryCount, UInt32(truncatingIfNeeded: now >> 32)
        )
    }
}
