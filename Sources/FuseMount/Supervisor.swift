// Decides how many workers there are (the rules stand in WorkerPool.swift) and waits for their end.

import CLinux
import Synchronization

#if canImport(Glibc)
    import Glibc
#endif

/// The supervisor's memory between two looks; only its own thread uses it.
struct Supervisor {
    private static let looksPerWindow = 16
    private static let windowNanoseconds = 32_000_000.0

    private let worker: Worker
    private let pool: WorkerPool
    private var threads: [pthread_t] = []
    private var looks = 0
    /// Looks of this window at which nobody waited.
    private var busyLooks = 0
    private var roundsAtLastLook: UInt32 = 0
    private var roundsAtWindow: UInt32 = 0
    private var processorAtWindow = 0.0

    /// All threads run the same `worker`.
    init(_ worker: Worker) {
        self.worker = worker
        pool = worker.file.pool
    }

    /// Serves until the session ends.
    mutating func run() throws(MountError) {
        let code = startWorker()
        guard code == 0 else { throw .failed("no thread to serve the mount (\(text(of: code)))") }
        while !pool.isEnded {
            let alarm = pool.alarm
            if alarm != WorkerPool.Alarm.shortOfThreads { pool.waitForAlarm(other: alarm) }
            if pool.isEnded { break }
            if pool.alarm == WorkerPool.Alarm.shortOfThreads {
                pool.alarm = WorkerPool.Alarm.watchful
                if pool.waiting == 0 { addReader() }
            } else if alarm == WorkerPool.Alarm.calm {
                beginWindow()
                roundsAtLastLook = roundsAtWindow
            } else {
                look()
            }
        }
        for thread in threads { pthread_join(thread, nil) }  // orders the load below after them
        let failure = pool.failure.load(ordering: .relaxed)
        guard failure == 0 else {
            throw .failed("the connection to the kernel broke (\(text(of: failure)))")
        }
    }

    private mutating func look() {
        let rounds = pool.rounds
        let isBusy = pool.waiting == 0
        if isBusy, rounds == roundsAtLastLook { addReader() }
        roundsAtLastLook = rounds
        if isBusy { busyLooks += 1 }
        looks += 1
        guard looks == Self.looksPerWindow else { return }
        steer()
        if rounds == roundsAtWindow, !isBusy {
            pool.alarm = WorkerPool.Alarm.calm
            // A worker that took a request just before saw no calm to end.
            if pool.waiting == 0 { pool.alarm = WorkerPool.Alarm.watchful }
        }
        beginWindow()
    }

    /// More or fewer readers, by how the window went.
    private mutating func steer() {
        let wanted = pool.readersWanted.load(ordering: .relaxed)
        if busyLooks >= Self.looksPerWindow - 1 {
            let active = threads.count - pool.parkedCount
            let share = (Self.processorNanoseconds() - processorAtWindow) / Self.windowNanoseconds
            // Threads that use less than a fifth of a processor each are waiting for something.
            if active < Int(pool.readersMax) || share < 0.2 * Double(active) { addReader() }
            if wanted < pool.readersMax {
                pool.readersWanted.store(wanted + 1, ordering: .relaxed)
            }
        } else if busyLooks <= Self.looksPerWindow / 4, wanted > 1 {
            pool.readersWanted.store(wanted - 1, ordering: .relaxed)
        }
    }

    private mutating func beginWindow() {
        looks = 0
        busyLooks = 0
        roundsAtWindow = pool.rounds
        processorAtWindow = Self.processorNanoseconds()
    }

    /// A parked thread if there is one, else a new one. When the system gives no more, those that
    /// there are must do.
    private mutating func addReader() {
        if !pool.unpark(), threads.count < pool.threadsMax { _ = startWorker() }
    }

    /// 0 or an errno.
    private mutating func startWorker() -> Int32 {
        var thread = pthread_t()
        let argument = Unmanaged.passUnretained(worker).toOpaque()  // outlives the thread: joined
        let code = pthread_create(
            &thread, nil,
            { argument in
                guard let argument else { return nil }
                Unmanaged<Worker>.fromOpaque(argument).takeUnretainedValue().run()
                return nil
            }, argument)
        if code == 0 { threads.append(thread) }
        return code
    }

    /// CPU time of the whole process.
    private static func processorNanoseconds() -> Double {
        var time = timespec()
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
        return Double(time.tv_sec) * 1e9 + Double(time.tv_nsec)
    }
}
