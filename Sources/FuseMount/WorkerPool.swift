// The threads that answer requests, and how many of them.
//
// A worker waits in read(2) on the connection, runs the operation, and replies before it reads
// again. The kernel hands requests to waiting threads in turn, so every thread too many makes each
// request wake another one with cold caches: with 16 waiting threads, single 4 KiB writes take
// twice as long as with one. But operations may block (a flush, a disk, a full ring), and others
// must go on meanwhile. So:
//
//  1. About `readersWanted` threads wait for requests; who finds so many waiting parks.
//  2. Who is about to flush lets a parked thread read, if nobody else waits.
//  3. A supervisor (the thread that called `run`) looks every 2 ms while requests come: when nobody
//     waits and nobody has finished since the last look, all are held up: one thread more reads.
//     When for 16 looks nearly always nobody waits, there is a queue: one thread more, and up to
//     `readersMax` are wanted; beyond that only if the threads block rather than compute.
//  4. With nothing to do the supervisor sleeps too: an idle mount uses no CPU.
//
// A missed wake-up costs at most one look of the supervisor; nothing waits for ever.

import CLinux
import Synchronization

#if canImport(Glibc)
    import Glibc
#endif

/// What the workers of one mount and their supervisor share.
final class WorkerPool: Sendable {
    /// What the supervisor sleeps on.
    enum Alarm {
        /// No requests; sleeps.
        static let calm: UInt32 = 0
        /// Requests come; looks every 2 ms.
        static let watchful: UInt32 = 1
        /// Somebody asks for one more reader.
        static let shortOfThreads: UInt32 = 2
    }
    /// Added to `state` for every time a worker begins to wait, with 1 for the waiting.
    private static let answered: UInt64 = 1 << 32

    let threadsMax: Int
    /// Threads that compute at once with profit.
    let readersMax = UInt32(min(max(sysconf(Int32(_SC_NPROCESSORS_ONLN)), 1), 4))

    /// Low half: threads waiting in read. High half: how often one began to (wraps). Sequentially
    /// consistent with `parked` and `alarm`, where a thread looks at one after changing the other.
    private let state = Atomic<UInt64>(0)
    private let parked = Atomic<Int>(0)
    /// Only a number to steer by: relaxed.
    let readersWanted = Atomic<UInt32>(1)
    /// When the newest flush began.
    private let lastFlush = Atomic<Int64>(0)
    private static let flushPeriod: Int64 = 10_000_000
    private let hasEnded = Atomic<Bool>(false)
    /// The first errno that ended a worker, other than by the unmount; 0 for none.
    let failure = Atomic<Int32>(0)
    /// Two futex words: the alarm, and how many parked threads were let go. In memory of their own,
    /// because the kernel needs their address. @unchecked: only used as atomics.
    nonisolated(unsafe) private let words: UnsafeMutablePointer<Atomic<UInt32>>

    init(threadsMax: Int) {
        self.threadsMax = threadsMax
        words = .allocate(capacity: 2)
        words.initialize(to: Atomic(Alarm.calm))
        (words + 1).initialize(to: Atomic(0))
    }

    deinit {
        words.deinitialize(count: 2)
        words.deallocate()
    }

    // MARK: for workers

    /// Called by a worker before it reads: parks while enough others wait. False: stop working.
    func mayRead() -> Bool {
        if UInt32(truncatingIfNeeded: state.load(ordering: .relaxed))
            >= readersWanted.load(ordering: .relaxed)
        {
            park()
        }
        return !hasEnded.load(ordering: .relaxed)
    }

    /// Returns how many wait now.
    func beginsToWait() -> UInt32 {
        let now = state.wrappingAdd(Self.answered | 1, ordering: .sequentiallyConsistent).newValue
        return UInt32(truncatingIfNeeded: now)
    }

    func endsToWait() {
        let now = state.wrappingSubtract(1, ordering: .sequentiallyConsistent).newValue
        if UInt32(truncatingIfNeeded: now) == 0,
            words[0].load(ordering: .sequentiallyConsistent) == Alarm.calm
        {
            raise(Alarm.watchful)
        }
    }

    /// The caller is about to flush.
    func beginsFlush() {
        lastFlush.store(clinux_monotonic_ns(), ordering: .relaxed)
        if waiting == 0, !unpark() { raise(Alarm.shortOfThreads) }
    }

    /// No more requests: everybody stops. `code` is 0 for the unmount.
    func end(_ code: Int32) {
        if code != 0 {
            _ = failure.compareExchange(expected: 0, desired: code, ordering: .relaxed)
        }
        hasEnded.store(true, ordering: .sequentiallyConsistent)
        while unpark() {}
        raise(Alarm.shortOfThreads)
    }

    private func park() {
        let word = words + 1
        parked.wrappingAdd(1, ordering: .sequentiallyConsistent)
        while !hasEnded.load(ordering: .sequentiallyConsistent) {
            let tickets = word.pointee.load(ordering: .relaxed)
            if tickets > 0 {
                if word.pointee.compareExchange(
                    expected: tickets, desired: tickets - 1, ordering: .acquiring
                ).exchanged {
                    return
                }
                continue
            }
            sleep(on: 1, while: 0, milliseconds: -1)
        }
    }

    /// Whether a look-out for the next request is worth it: not between flushes, where two threads
    /// take turns.
    var mayLookOut: Bool {
        clinux_monotonic_ns() - lastFlush.load(ordering: .relaxed) > Self.flushPeriod
    }

    // MARK: for the supervisor

    /// Threads in read.
    var waiting: UInt32 {
        UInt32(truncatingIfNeeded: state.load(ordering: .sequentiallyConsistent))
    }
    /// How often a worker began to wait.
    var rounds: UInt32 {
        UInt32(truncatingIfNeeded: state.load(ordering: .sequentiallyConsistent) >> 32)
    }
    var parkedCount: Int { parked.load(ordering: .relaxed) }
    var isEnded: Bool { hasEnded.load(ordering: .sequentiallyConsistent) }
    var alarm: UInt32 {
        get { words[0].load(ordering: .sequentiallyConsistent) }
        set { words[0].store(newValue, ordering: .sequentiallyConsistent) }
    }

    /// Sleeps until the alarm is no longer `value`, or for 2 ms unless calm.
    func waitForAlarm(other value: UInt32) {
        sleep(on: 0, while: value, milliseconds: value == Alarm.calm ? -1 : 2)
    }

    /// Lets one parked thread go on; false when there is none.
    func unpark() -> Bool {
        var count = parked.load(ordering: .sequentiallyConsistent)
        while count > 0 {
            let (exchanged, original) = parked.compareExchange(
                expected: count, desired: count - 1, ordering: .sequentiallyConsistent)
            if exchanged {
                words[1].wrappingAdd(1, ordering: .releasing)
                wake(1)
                return true
            }
            count = original
        }
        return false
    }

    private func raise(_ kind: UInt32) {
        if words[0].exchange(kind, ordering: .sequentiallyConsistent) != kind { wake(0) }
    }

    private func sleep(on word: Int, while value: UInt32, milliseconds: Int64) {
        let address = UnsafeRawPointer(words + word).assumingMemoryBound(to: UInt32.self)
        _ = clinux_futex_wait(address, value, milliseconds < 0 ? -1 : milliseconds * 1_000_000)
    }

    private func wake(_ word: Int) {
        let address = UnsafeRawPointer(words + word).assumingMemoryBound(to: UInt32.self)
        _ = clinux_futex_wake(address, 1)
    }
}
