// SIGINT and SIGTERM as a question that long work asks itself, so that it can clean up.

import CommandText
import Foundation
import Synchronization

enum Interruption {
    private static let requested = Atomic<Bool>(false)

    /// From here on the two signals do not end the process; `isRequested` turns true instead. Call
    /// before other threads start: they inherit the mask, so only the waiting thread is told.
    static func begin() {
        // Whoever started us may ignore it; then children could not be waited for.
        signal(SIGCHLD, SIG_DFL)
        SignalMask.block([SIGINT, SIGTERM])
        let thread = Thread {
            _ = SignalMask.wait(for: [SIGINT, SIGTERM])
            requested.store(true, ordering: .relaxed)  // a lone flag: nothing else is published
        }
        thread.start()
    }

    static var isRequested: Bool { requested.load(ordering: .relaxed) }

    /// Throws the failure of an interrupted command once a signal came.
    static func check() throws(CommandFailure) {
        if isRequested { throw .interrupted }
    }
}

/// Signal masks and waiting, for threads of this process.
enum SignalMask {
    /// Blocks the signals in this thread and in those it starts from now on.
    static func block(_ signals: [Int32]) {
        var set = set(of: signals)
        pthread_sigmask(SIG_BLOCK, &set, nil)
    }

    /// Waits for one of the signals, which must be blocked in all threads.
    static func wait(for signals: [Int32]) -> Int32 {
        var set = set(of: signals)
        var signal: Int32 = 0
        while sigwait(&set, &signal) != 0 {}
        return signal
    }

    static func set(of signals: [Int32]) -> sigset_t {
        var set = sigset_t()
        sigemptyset(&set)
        for signal in signals { sigaddset(&set, signal) }
        return set
    }
}
