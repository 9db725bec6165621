// Makes durable what lies in an unfinished set, beside the device's own work: first the files
// (syncfs), then the journal's records that tell of them, which a crash in between only forgets.
//
// Threads: one of its own from `init` to its end, which nobody has to wait for; the caller's calls
// `hasEnded` and `wait`. The lock guards all that changes; nobody else writes the journal.

import CLinux
import DiskIO
import Foundation

final class FolderSync: @unchecked Sendable {
    // @unchecked: what changes is guarded by `lock`.
    private let lock = NSCondition()
    private var outcome: Result<Void, IOError>?
    /// nil when it has ended: the set's lock goes with the last who has its folder open.
    private var work: Work?

    private struct Work {
        var folder: Folder
        var journal: StorageFile
        var records: [UInt8]
        var position: UInt64
    }

    /// `records` are of items that are written, and go to `position` of the journal.
    init(_ folder: Folder, _ journal: StorageFile, _ records: [UInt8], at position: UInt64) {
        work = Work(folder: folder, journal: journal, records: records, position: position)
        let thread = Thread { [self] in
            clinux_thread_name("spread-sync")
            var result: Result<Void, IOError> = .success(())
            do throws(IOError) { try perform() } catch { result = .failure(error) }
            lock.withLock {
                work = nil
                outcome = result
                lock.broadcast()
            }
        }
        thread.stackSize = 256 << 10
        thread.start()
    }

    private func perform() throws(IOError) {
        guard let work = lock.withLock({ work }) else { return }
        try work.folder.syncFileSystem()
        try FolderDevice.write(work.records, to: work.journal, at: work.position)
        try work.journal.sync()
    }

    var hasEnded: Bool { lock.withLock { outcome != nil } }

    /// Waits for the end.
    func wait() throws(IOError) {
        let result = lock.withLock { () -> Result<Void, IOError> in
            while true {
                if let outcome { return outcome }
                lock.wait()
            }
        }
        try result.get()
    }
}
