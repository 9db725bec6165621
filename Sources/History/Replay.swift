// Writes a view out: each block once, in address order. The data to be written is cut into windows
// of memory; workers read the segments in large pieces, decompress each block once per window and
// copy what is visible of it to its place, while other threads write the window before.
//
//   view ─► ReplayWindow (runs + copies, by source and block) ─► workers ─► window memory
//                                                                             │ two threads
//                                                                 O_DIRECT writes by address
//
// What a view does not hold stays a hole in a file and is zeroed explicitly on a device. The
// window grows only as far as scattered history makes it worth it.

import BlockModel
import DiskIO
import LogFormat
import Synchronization

#if canImport(Glibc)
    import Glibc
#endif

/// What a replay did.
public struct ReplayResult: Hashable, Sendable {
    /// Bytes of data written; the rest of the volume is zeros.
    public var writtenBytes: UInt64
}

/// The writing-out of one view. A value; `write` may be called on any thread.
public struct Replay: Sendable {
    public struct Options: Sendable {
        /// Memory of one window, at most; two are in use. 0 chooses by the machine's memory.
        public var windowBytesMax = 0
        /// Threads that read, decompress and check. 0: twice as many as there are processors, as
        /// some of them always wait for the disk.
        public var workers = 0

        public init() {}
    }

    private let view: PointInTimeView
    private let windowBytesMax: Int
    private let workers: Int
    private static let windowBytesMin = 16 << 20
    private static let writers = 2

    public init(_ view: PointInTimeView, options: Options = Options()) {
        self.view = view
        let memory = sysconf(Int32(_SC_PHYS_PAGES)) * sysconf(Int32(_SC_PAGESIZE))
        let byMachine = min(max(256 << 20, memory / 16), 1 << 30)
        windowBytesMax = max(
            options.windowBytesMax > 0 ? options.windowBytesMax : byMachine, 64 << 10)
        workers =
            options.workers > 0
            ? options.workers : max(4, 2 * sysconf(Int32(_SC_NPROCESSORS_ONLN)))
    }

    /// Makes the file `path`: whole, synced and under its name, or not at all. Without `replacing`
    /// an existing file is refused (`.outputExists`).
    @discardableResult
    public func write(
        toFile path: String, in storage: Storage, replacing: Bool = false,
        monitor: WorkMonitor = .none
    ) throws(HistoryError) -> ReplayResult {
        guard replacing || !storage.exists(path) else { throw .outputExists(path) }
        do {
            let (file, temporary) = try Self.temporary(for: path, in: storage)
            var isDone = false
            defer {
                file.close()
                if !isDone { try? storage.remove(temporary) }
            }
            try file.truncate(to: view.byteCount)
            let result = try write(to: file, monitor: monitor)
            try file.truncate(to: view.byteCount)  // the last write may have been padded
            try file.sync()
            guard !monitor.isCancelled() else { throw HistoryError.cancelled }
            try storage.name(temporary, path, replacing: replacing)
            isDone = true
            return result
        } catch let error as IOError {
            throw .output(error)
        } catch let error as HistoryError {
            throw error
        } catch {
            throw .source(error)
        }
    }

    /// Overwrites the block device `path` with the whole volume, zeros included, and syncs it.
    @discardableResult
    public func write(
        toDevice path: String, in storage: Storage, monitor: WorkMonitor = .none
    ) throws(HistoryError) -> ReplayResult {
        do {
            let file = try storage.open(path, OpenOptions(.readWrite, isDirect: true))
            defer { file.close() }
            let bytes = try file.size()
            guard bytes >= view.byteCount else {
                throw HistoryError.outputTooSmall(
                    path: path, bytes: bytes, needed: view.byteCount)
            }
            let result = try write(to: file, monitor: monitor)
            try file.sync()
            return result
        } catch let error as IOError {
            throw .output(error)
        } catch let error as HistoryError {
            throw error
        } catch {
            throw .source(error)
        }
    }

    /// Writes to an open file. A regular file must be empty or all holes, a device is overwritten;
    /// the caller syncs.
    public func write(
        to file: StorageFile, monitor: WorkMonitor = .none
    ) throws(HistoryError) -> ReplayResult {
        let planner = ReplayPlanner(view: view, padsEnd: !file.isBlockDevice)
        let windowBytes = planner.windowBytes(min: Self.windowBytesMin, max: windowBytesMax)
        let job = ReplayJob(view: view, total: view.dataBytes, monitor: monitor)
        var next = planner.windows(of: windowBytes)
        var ready: ReplayWindow?
        var zeroed: UInt64 = 0
        var spare: [AlignedBuffer] = []
        var plan = next.next()
        repeat {
            let window = plan.map { next.window($0, recycling: &spare) }
            if plan != nil { plan = next.next() }
            let writing = ready
            if let writing, file.isBlockDevice {
                for run in writing.runs {
                    try zero(file, from: zeroed, to: run.offset)
                    zeroed = run.offset + UInt64(run.count)
                }
            }
            runInParallel((writing == nil ? 0 : Self.writers) + (window == nil ? 0 : workers)) {
                number in
                job.attempt { () throws(HistoryError) in
                    if let writing, number < Self.writers {
                        try writing.write(to: file, job)
                    } else {
                        try window?.fill(job)
                    }
                }
            }
            try job.check()
            if let writing { spare.append(writing.buffer) }
            ready = window
        } while ready != nil
        try zero(file, from: zeroed, to: view.byteCount)
        monitor.report(WorkProgress(doneBytes: job.total, totalBytes: job.total))
        return ReplayResult(writtenBytes: job.done)
    }

    private func zero(_ file: StorageFile, from: UInt64, to end: UInt64) throws(HistoryError) {
        guard file.isBlockDevice, from < end else { return }
        do throws(IOError) {
            try file.punchHole(offset: from, count: end - from)
        } catch { throw .output(error) }
    }

    /// A new file beside `path` that is renamed to it when it is whole.
    static func temporary(
        for path: String, in storage: Storage, isDirect: Bool = true
    ) throws(IOError) -> (StorageFile, String) {
        var number = 1
        while true {
            let temporary = "\(path).unfinished-\(number)"
            if !storage.exists(temporary) {
                let file = try storage.open(
                    temporary,
                    OpenOptions(.readWrite, creation: .exclusively, isDirect: isDirect))
                return (file, temporary)
            }
            number += 1
        }
    }

    static func parent(of path: String) -> String {
        guard let slash = path.lastIndex(of: "/") else { return "." }
        return slash == path.startIndex ? "/" : String(path[..<slash])
    }
}

/// What the threads of one replay share: the first error, progress, cancellation.
final class ReplayJob: Sendable {
    let view: PointInTimeView
    let total: UInt64
    private let monitor: WorkMonitor
    private let failure = Mutex<HistoryError?>(nil)
    private let doneBytes = Mutex<UInt64>(0)

    init(view: PointInTimeView, total: UInt64, monitor: WorkMonitor) {
        self.view = view
        self.total = total
        self.monitor = monitor
    }

    var done: UInt64 { doneBytes.withLock { $0 } }

    func advance(by count: Int) {
        // Reported under the lock, so that the numbers never fall.
        doneBytes.withLock {
            $0 += UInt64(count)
            monitor.report(WorkProgress(doneBytes: min($0, total), totalBytes: total))
        }
    }

    /// Throws what any thread failed with, or that the work was cancelled.
    func check() throws(HistoryError) {
        if let error = failure.withLock({ $0 }) { throw error }
        if monitor.isCancelled() { throw .cancelled }
    }

    /// Runs `body`; the first error of all is kept for `check`.
    func attempt(_ body: () throws(HistoryError) -> Void) {
        do throws(HistoryError) {
            try body()
        } catch {
            failure.withLock { $0 = $0 ?? error }
        }
    }
}

/// Runs `body(0) ... body(count - 1)`, each on a thread of its own, and waits for all.
func runInParallel(_ count: Int, _ body: @escaping @Sendable (Int) -> Void) {
    final class Start: Sendable {
        let number: Int
        let body: @Sendable (Int) -> Void
        init(_ number: Int, _ body: @escaping @Sendable (Int) -> Void) {
            (self.number, self.body) = (number, body)
        }
    }
    var threads: [pthread_t] = []
    for number in 1..<max(1, count) {
        var thread = pthread_t()
        let start = Unmanaged.passRetained(Start(number, body))
        let result = pthread_create(
            &thread, nil,
            { argument in
                let start = Unmanaged<Start>.fromOpaque(argument!).takeRetainedValue()
                start.body(start.number)
                return nil
            }, start.toOpaque())
        if result == 0 {
            threads.append(thread)
        } else {
            start.release()
            body(number)  // no thread to be had: in turn, then
        }
    }
    body(0)
    for thread in threads { pthread_join(thread, nil) }
}
