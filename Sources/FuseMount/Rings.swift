// FUSE over io_uring (Linux 6.14; parameter enable_uring of the module fuse): the kernel hands a
// request to a thread on the processor on which it came up, and takes the reply and hands over the
// next one in a single call. Neither a wake-up across processors nor a second call is needed.
//
// Start:  INIT comes over the connection, with the offer ── prepare: all threads, each with its
//         io_uring ── the reply accepts ── begin: the entries go to the kernel. From the reply on
//         the kernel holds requests back until every queue has an entry; should that fail, it lets
//         them come over the connection again.
// Stays on the connection, and with it the workers: FORGET, INTERRUPT, what came before.
// End:    the connection's end gives every entry back (ENOTCONN), or `end` calls the threads back.
//
// Threads: one for each entry. A thread that waits for a disk keeps only its own entry. The kernel
// prefers the entry that came back last, so those in excess of what is under way at once sleep.
// One thread of each queue is bound to the queue's processor, where that may be, and its entry is
// the first to be used: requests that come one at a time are answered there without waking another
// processor. When many came at once and then one at a time, another entry is the first; its thread
// is bound instead. The others run where there is room, beside the program that asks. Few entries
// serve many requests with fewest wake-ups; where they are held up, a supervisor adds others.

import CFuse
import CLinux
import Synchronization

#if canImport(Glibc)
    import Glibc
#endif

/// The rings of one mount.
final class Rings: Sendable {
    /// At the start.
    private static let entriesPerQueue = 8
    /// More than the kernel lets run in the background, so that held-up writes do not stop reads.
    private static let entriesPerQueueMax = 32
    private static let backgroundMax: UInt16 = 24
    /// Each processor that may ever be there costs `entriesPerQueue` threads; beyond, the
    /// connection and its few threads serve as well.
    static let processorsMax = 32

    /// What the threads wait for after they are prepared.
    private enum Signal {
        static let wait: UInt32 = 0
        static let begin: UInt32 = 1
        static let giveUp: UInt32 = 2
    }

    let file: ServedFile
    let session: Session
    let largeBuffers = LargeBuffers()
    /// An eventfd that ends all waiting; -1 when there is none.
    let stop: Int32
    private let isWanted: Bool
    /// Whom to tell, once, on which way requests come.
    private let listener = Mutex<(@Sendable (FuseTransport) -> Void)?>(nil)
    let alarm = RingAlarm()
    let queues: [RingQueue]
    private let threads = Mutex<[pthread_t]>([])
    private let supervisor = Mutex<pthread_t?>(nil)
    private let failures = Atomic<Int>(0)
    private let isInUse = Atomic<Bool>(false)
    /// Four futex words: the signal, how many threads are prepared or have failed to, how many are
    /// to register before the bound ones, and how many additions have been tried. In memory of
    /// their own, because the kernel needs their address. @unchecked: only used as atomics.
    nonisolated(unsafe) private let words: UnsafeMutablePointer<Atomic<UInt32>>

    init(file: ServedFile, session: Session, isWanted: Bool) {
        self.file = file
        self.session = session
        self.isWanted = isWanted
        stop = isWanted ? clinux_event_open() : -1
        let alarm = alarm
        let count = isWanted ? PossibleProcessors.count ?? 0 : 0
        queues = (0..<count).map { RingQueue($0, alarm) }
        words = .allocate(capacity: 4)
        for index in 0..<4 { (words + index).initialize(to: Atomic(0)) }
    }

    deinit {
        words.deinitialize(count: 4)
        words.deallocate()
        if stop >= 0 { close(stop) }
    }

    /// Whether requests come this way.
    var areInUse: Bool {
        isInUse.load(ordering: .relaxed) && failures.load(ordering: .relaxed) == 0
    }

    func tell(_ body: @escaping @Sendable (FuseTransport) -> Void) {
        listener.withLock { $0 = body }
    }

    // MARK: the start, by the worker that got INIT

    /// Whether `buffer`, the kernel's INIT, offers rings, and they are wanted.
    func areOffered(in buffer: fuse_buf) -> Bool {
        let headerBytes = MemoryLayout<fuse_in_header>.size
        guard isWanted, stop >= 0, let memory = buffer.mem,
            buffer.size >= headerBytes + MemoryLayout<fuse_init_in>.size
        else { return false }
        let offer = (memory + headerBytes).load(as: fuse_init_in.self)
        return offer.flags & UInt32(FUSE_INIT_EXT) != 0
            && offer.flags2 & CLINUX_FUSE_OVER_IO_URING_2 != 0
    }

    /// Puts the acceptance into the reply to INIT.
    static func accept(in reply: UnsafeMutablePointer<fuse_init_out>) {
        reply.pointee.flags |= UInt32(FUSE_INIT_EXT)
        reply.pointee.flags2 |= CLINUX_FUSE_OVER_IO_URING_2
        reply.pointee.max_background = backgroundMax
        reply.pointee.congestion_threshold = backgroundMax * 3 / 4
    }

    /// Starts a thread with an io_uring for every entry; false, and nothing is left, when that
    /// cannot be.
    func prepare() -> Bool {
        guard 1...Self.processorsMax ~= queues.count else { return false }
        let count = queues.count * Self.entriesPerQueue
        words[2].store(UInt32(count - queues.count), ordering: .relaxed)
        for entry in 0..<count {
            let queue = queues[entry / Self.entriesPerQueue]
            guard start(queue, entry % Self.entriesPerQueue == 0 ? .bound : .free) else {
                failures.wrappingAdd(1, ordering: .relaxed)
                break
            }
        }
        let started = UInt32(threads.withLock { $0.count })
        while case let ready = words[1].load(ordering: .acquiring), ready < started {
            _ = clinux_futex_wait(address(1), ready, -1)
        }
        if failures.load(ordering: .relaxed) == 0, startSupervisor() { return true }
        send(Signal.giveUp)
        join()
        return false
    }

    /// After the reply to INIT: the threads go to work.
    func begin() {
        isInUse.store(true, ordering: .relaxed)
        send(Signal.begin)
    }

    /// INIT is answered, with or without rings.
    func isDecided() {
        let body = listener.withLock { $0 }
        body?(areInUse ? .rings : .connection)
    }

    /// Returns when no thread is left. After the workers; also when nothing was begun.
    func end() {
        alarm.end()
        if let thread = supervisor.withLock({ $0 }) { pthread_join(thread, nil) }
        if stop >= 0 { clinux_event_raise(stop) }
        join()
    }

    private func join() {
        let all = threads.withLock { threads in
            defer { threads = [] }
            return threads
        }
        for thread in all { pthread_join(thread, nil) }
    }

    private func send(_ signal: UInt32) {
        words[0].store(signal, ordering: .releasing)
        _ = clinux_futex_wake(address(0), Int32.max)
    }

    private func address(_ word: Int) -> UnsafePointer<UInt32> {
        UnsafeRawPointer(words + word).assumingMemoryBound(to: UInt32.self)
    }

    // MARK: the threads

    /// How an entry came to be.
    private enum Kind {
        /// At the start; its thread is bound to the queue's processor.
        case bound
        /// At the start.
        case free
        /// Later, by the supervisor.
        case added
    }

    /// What a thread begins with.
    private final class Work: Sendable {
        let body: @Sendable () -> Void
        init(_ body: @escaping @Sendable () -> Void) { self.body = body }
    }

    /// nil when the system gives no thread.
    private static func thread(_ body: @escaping @Sendable () -> Void) -> pthread_t? {
        var thread = pthread_t()
        let work = Unmanaged.passRetained(Work(body))
        let code = pthread_create(
            &thread, nil,
            { argument in
                guard let argument else { return nil }
                Unmanaged<Work>.fromOpaque(argument).takeRetainedValue().body()
                return nil
            }, work.toOpaque())
        guard code == 0 else {
            work.release()
            return nil
        }
        return thread
    }

    private func start(_ queue: RingQueue, _ kind: Kind) -> Bool {
        guard let thread = Self.thread({ [self] in run(queue, kind) }) else { return false }
        threads.withLock { $0.append(thread) }
        return true
    }

    private func startSupervisor() -> Bool {
        let thread = Self.thread { [self] in
            clinux_thread_name("fuse-rings")
            var supervisor = RingSupervisor(self)
            supervisor.run()
        }
        supervisor.withLock { $0 = thread }
        return thread != nil
    }

    /// One entry more, for the supervisor; false when there are enough, or no more can be had.
    func addEntry(to queue: RingQueue) -> Bool {
        let before = queue.entryCount
        guard before < Self.entriesPerQueueMax else { return false }
        let tried = words[3].load(ordering: .acquiring)
        guard start(queue, .added) else { return false }
        while words[3].load(ordering: .acquiring) == tried {
            _ = clinux_futex_wait(address(3), tried, -1)
        }
        return queue.entryCount > before
    }

    private func run(_ queue: RingQueue, _ kind: Kind) {
        clinux_thread_name("fuse-ring")
        switch kind {
        case .bound: queue.bind()
        case .free: break
        // The supervisor is bound, and what it starts with it.
        case .added: _ = clinux_free_thread(clinux_thread_id())
        }
        // Whoever sends several requests at once is not interrupted by the first.
        _ = clinux_thread_batch()
        guard var worker = RingWorker(self, queue) else {
            guard kind != .added else { return count(3) }
            failures.wrappingAdd(1, ordering: .relaxed)
            return count(1)
        }
        if kind != .added { waitForSignal() }
        guard words[0].load(ordering: .acquiring) == Signal.begin else { return }
        // Of two new entries the kernel takes the newer first.
        while kind == .bound, case let others = words[2].load(ordering: .acquiring), others > 0 {
            _ = clinux_futex_wait(address(2), others, -1)
        }
        let end = worker.serve {
            switch kind {
            case .bound: break
            case .free:
                words[2].wrappingSubtract(1, ordering: .releasing)
                _ = clinux_futex_wake(address(2), Int32.max)
            case .added: count(3)
            }
        }
        switch end {
        // As long as a queue has none, the kernel sends its requests over the connection.
        case .refused where kind != .added: failures.wrappingAdd(1, ordering: .relaxed)
        case .refused, .ended(0): break
        // Whoever waits for that entry's reply would wait for ever.
        case .ended(let code): file.pool.end(code)
        }
    }

    private func waitForSignal() {
        count(1)
        while words[0].load(ordering: .acquiring) == Signal.wait {
            _ = clinux_futex_wait(address(0), Signal.wait, -1)
        }
    }

    private func count(_ word: Int) {
        words[word].wrappingAdd(1, ordering: .releasing)
        _ = clinux_futex_wake(address(word), 1)
    }
}

/// The processors that may ever be there, online or not: the kernel has a queue for each.
package enum PossibleProcessors {
    static var count: Int? {
        SystemText.contents(of: "/sys/devices/system/cpu/possible").flatMap(count(of:))
    }

    /// Of a list such as 0-3,8; nil when it is none.
    package static func count(of list: String) -> Int? {
        var sum = 0
        for range in list.split(whereSeparator: { $0 == "," || $0 == "\n" }) {
            let ends = range.split(separator: "-", omittingEmptySubsequences: false).map { Int($0) }
            guard let first = ends.first ?? nil, let last = ends.last ?? nil, ends.count <= 2,
                first <= last
            else { return nil }
            sum += last - first + 1
        }
        return sum > 0 ? sum : nil
    }
}
