// The volume's threads: writer, applier, keeper, and one that makes WAL files ready. Each sleeps
// without end when the volume is idle, ticks while there is work, and is woken early when much of
// it has gathered.
//
//   state 2 idle     -- first publish (applier: first append) after a pause --> 0
//   state 1 ticking  -- a batch is full --------------------------------------> 0
//   state 0 at work
// A producer pays a system call only for the first of these, and once per batch.

import BlockModel
import CLinux
import DiskIO
import Synchronization
import WriteLog

#if canImport(Glibc)
    import Glibc
#endif

/// A thread with a name, joined once.
final class WorkerThread: @unchecked Sendable {
    // @unchecked: `handle` is set before `init` returns and read by `join` only.
    private final class Start {
        let name: String
        let body: () -> Void
        init(_ name: String, _ body: @escaping () -> Void) {
            self.name = name
            self.body = body
        }
    }
    private var handle = pthread_t()

    init(_ name: String, _ body: @escaping @Sendable () -> Void) {
        let start = Unmanaged.passRetained(Start(name, body))
        let result = pthread_create(
            &handle, nil,
            { argument in
                guard let argument else { return nil }
                let start = Unmanaged<Start>.fromOpaque(argument).takeRetainedValue()
                clinux_thread_name(start.name)
                start.body()
                return nil
            }, start.toOpaque())
        precondition(result == 0, "no thread to be had (\(result))")
    }

    func join() { pthread_join(handle, nil) }
}

extension ProtectedVolume {
    private static let tick: Int64 = 50_000_000
    private static let applierTick: Int64 = 200_000_000
    private static let keeperTick: Int64 = 500_000_000
    /// Ticks without work until a thread goes idle.
    private static let quietTicks = 20
    /// Applied bytes after which a checkpoint is due; bounds recovery.
    private static let checkpointBytes: UInt64 = 1 << 30
    /// Applied bytes after which it must not take its time any more.
    static let checkpointBytesMax: UInt64 = 2 << 30

    private var batchBytes: UInt64 { min(ring.capacity / 8, 8 << 20) }
    private var applyBytes: UInt64 { ring.capacity / 4 }

    func startThreads() {
        threads = [
            WorkerThread("log-writer") { [unowned self] in runWriter() },
            WorkerThread("applier") { [unowned self] in runApplier() },
            WorkerThread("keeper") { [unowned self] in runKeeper() },
            WorkerThread("log-files") { [unowned self] in runFileMaker() },
        ]
    }

    func stopThreads() {
        isStopping.store(true, ordering: .sequentiallyConsistent)
        wakeWriterFully()
        applierWake.signal()
        keeperWake.signal()
        archiverWake.signal()
        log.files.wanted.signal()
        room.signal()
        for thread in threads { thread.join() }
        threads = []
    }

    private var stopping: Bool { isStopping.load(ordering: .sequentiallyConsistent) }

    // MARK: writer

    /// From a producer that found the writer not at work.
    @inline(never)
    func wakeWriter(_ state: UInt32, pending: UInt64) {
        guard state == 2 || pending >= batchBytes else { return }
        if writerState.compareExchange(
            expected: state, desired: 0, ordering: .sequentiallyConsistent
        ).exchanged {
            writerWake.signal()
        }
    }

    func wakeWriterFully() {
        writerState.store(0, ordering: .sequentiallyConsistent)
        writerWake.signal()
    }

    private func runWriter() {
        var quiet = Self.quietTicks
        while !stopping {
            let ticket = writerWake.ticket()
            let isIdle = quiet >= Self.quietTicks
            writerState.store(isIdle ? 2 : 1, ordering: .sequentiallyConsistent)
            let pending = ring.published &- log.durable
            if pending < (isIdle ? 1 : batchBytes), !stopping {
                writerWake.wait(ticket, timeoutNanoseconds: isIdle ? -1 : Self.tick)
                if isIdle {
                    quiet = 0
                    // The others' work begins with this.
                    keeperWake.signal()
                    log.files.wanted.signal()
                    continue
                }
            }
            writerState.store(0, ordering: .sequentiallyConsistent)
            guard ring.published != log.durable else {
                quiet += 1
                continue
            }
            quiet = 0
            if !stepWriter() { writerRefused() }
        }
    }

    /// The log takes nothing now: wait for the archiver, for space, or for the end.
    private func writerRefused() {
        room.signal()  // those who wait must look at the health
        guard log.health != .failed else {
            writerWake.wait(writerWake.ticket(), timeoutNanoseconds: 1_000_000_000)
            return
        }
        archiverWake.signal()
        keeperWake.signal()
        // Space may come back without anybody telling: look again from time to time.
        let pause: Int64 = log.health == .full ? 1_000_000_000 : 250_000_000
        writerWake.wait(writerWake.ticket(), timeoutNanoseconds: pause)
    }

    // MARK: applier

    /// Whoever appended wakes the applier when it is idle, or a good part of the ring waits for it.
    @inline(__always)
    func afterAppend() {
        // The durable mark moved before this look; an applier that goes idle looks at it after it
        // said so: one of the two sees the other.
        atomicMemoryFence(ordering: .sequentiallyConsistent)
        let state = applierState.load(ordering: .relaxed)
        if state == 2 || (state == 1 && log.durable &- ring.freed >= applyBytes) {
            applierState.store(0, ordering: .relaxed)
            applierWake.signal()
        }
    }

    private func runApplier() {
        var quiet = Self.quietTicks
        while !stopping {
            let ticket = applierWake.ticket()
            let isIdle = quiet >= Self.quietTicks
            applierState.store(isIdle ? 2 : 1, ordering: .relaxed)
            atomicMemoryFence(ordering: .sequentiallyConsistent)
            let waiting = log.durable &- ring.freed
            if waiting < (isIdle ? 1 : applyBytes), heldNow.load(ordering: .relaxed) == 0,
                !stopping
            {
                applierWake.wait(ticket, timeoutNanoseconds: isIdle ? -1 : Self.applierTick)
            }
            if isIdle { quiet = 0 }
            applierState.store(0, ordering: .relaxed)
            guard log.durable != ring.freed else {
                quiet += 1
                // Held writers with nothing durable to apply: the writer has to go on first. Where
                // it cannot, it looks again by itself.
                if heldNow.load(ordering: .relaxed) > 0, !stopping {
                    if log.health == .good { wakeWriterFully() }
                    applierWake.wait(applierWake.ticket(), timeoutNanoseconds: 10_000_000)
                }
                continue
            }
            quiet = 0
            if !stepApplier() {
                room.signal()  // those who wait must look at the image's health
                applierWake.wait(applierWake.ticket(), timeoutNanoseconds: 1_000_000_000)
            }
            if imageLock.withLock({ applier.bytesSinceCheckpoint }) >= Self.checkpointBytes {
                keeperWake.signal()
            }
        }
    }

    // MARK: WAL files

    private func runFileMaker() {
        var ticket = log.files.wanted.ticket()
        while !stopping {
            log.files.wanted.wait(ticket)
            ticket = log.files.wanted.ticket()
            if stopping { return }
            log.files.prepareAhead()
            wakeWriterBehind()
            archiverWake.signal()
        }
    }

    // MARK: keeper

    private func runKeeper() {
        // After a recovery there is a checkpoint to make, whether anyone writes or not.
        var quiet = needsCheckpoint ? 0 : Self.quietTicks
        var sinceCheckpoint = 0
        var lastApplied = appliedLSN
        while !stopping {
            let isIdle = quiet >= Self.quietTicks
            keeperWake.wait(
                keeperWake.ticket(), timeoutNanoseconds: isIdle ? -1 : Self.keeperTick)
            if stopping { return }
            if isIdle { quiet = 0 }
            sinceCheckpoint += 1
            let applied = appliedLSN
            let isStill = applied == lastApplied && ring.published == ring.freed
            lastApplied = applied
            let dirty = imageLock.withLock { applier.bytesSinceCheckpoint }
            let isDue =
                dirty >= Self.checkpointBytes || isStill || sinceCheckpoint >= 60
                || log.health == .behind
            if needsCheckpoint, isDue {
                if !((isStill || writeBackImage()) && checkpoint(isClean: false)) {
                    keeperWake.wait(keeperWake.ticket(), timeoutNanoseconds: 1_000_000_000)
                }
                sinceCheckpoint = 0
            }
            releaseFiles()
            wakeWriterBehind()
            archiverWake.signal()
            quiet = isStill && !needsCheckpoint ? quiet + 1 : 0
        }
    }
}
