// Who has the file open, counted by the kernel's own open and release requests, and a gate that
// keeps new users out while the content is changed under everybody's feet.

import Synchronization

#if canImport(Glibc)
    import Glibc
#endif

/// Opens of one file. Any thread.
final class OpenGate: Sendable {
    private struct State {
        var opens = 0
        var isShut = false
    }
    private let state = Mutex(State())

    /// Counts one more open; false: the gate is shut.
    func enter() -> Bool {
        state.withLock { state in
            if state.isShut { return false }
            state.opens += 1
            return true
        }
    }

    func leave() {
        state.withLock { state in
            precondition(state.opens > 0, "a release without an open")
            state.opens -= 1
        }
    }

    /// Shuts the gate, if nobody is inside and it is not shut already.
    func shut() -> Bool {
        state.withLock { state in
            guard state.opens == 0, !state.isShut else { return false }
            state.isShut = true
            return true
        }
    }

    var isShut: Bool { state.withLock { $0.isShut } }

    func unshut() { state.withLock { $0.isShut = false } }
}

extension FuseMount {
    private static let attempts = 100
    private static let attemptMicroseconds: UInt32 = 20_000

    /// Runs `body`, which may change what the device holds, while nobody has the file open; who
    /// opens it meanwhile gets EBUSY. Before anybody can open it again the kernel forgets what it
    /// has kept of the file. Throws `.busy` at once when somebody has it open. Not for a thread
    /// that serves the mount.
    public func withFileClosed<R>(_ body: () throws -> R) throws -> R {
        try shutGate()
        defer { file.gate.unshut() }
        let result = Result { try body() }
        // Also after a failure: something may have been changed.
        try forgetPages()
        return try result.get()
    }

    /// Whether `withFileClosed` is at work.
    public var keepsFileClosed: Bool { file.gate.isShut }

    /// The kernel tells of a close a little later than close(2) returns to its caller.
    private func shutGate() throws(MountError) {
        for _ in 0..<Self.attempts {
            if file.gate.shut() { return }
            let holders = Self.holders(of: mountPoint)
            if !holders.isEmpty { throw .busy(holders) }
            usleep(Self.attemptMicroseconds)
        }
        throw .busy([])
    }

    private func forgetPages() throws(MountError) {
        file.noteWritten()
        let code = session.forgetPages(of: Inode.file)
        guard code == 0 else {
            throw .failed("the kernel keeps what it had read before (\(text(of: code)))")
        }
    }
}
