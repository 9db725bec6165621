// The one bridge from the synchronous commands to asynchronous libraries.

import CommandText
import Dispatch
import Synchronization

/// Runs `body` on the cooperative threads and blocks this one until it ends. Only for threads of
/// our own (the main thread of a command), never from asynchronous code. Gives up when the command
/// is interrupted, if it `isInterruptible`; what was begun then ends with the process.
func waiting<T: Sendable>(
    isInterruptible: Bool = true, _ body: @escaping @Sendable () async throws -> T
) throws -> T {
    let outcome = Outcome<T>()
    Task.detached {
        do {
            outcome.set(.success(try await body()))
        } catch {
            outcome.set(.failure(error))
        }
    }
    return try outcome.wait(isInterruptible)
}

private final class Outcome<T: Sendable>: Sendable {
    private let value = Mutex<Result<T, any Error>?>(nil)
    private let isSet = DispatchSemaphore(value: 0)

    func set(_ result: Result<T, any Error>) {
        value.withLock { $0 = result }
        isSet.signal()
    }

    func wait(_ isInterruptible: Bool) throws -> T {
        while isSet.wait(timeout: .now() + .milliseconds(100)) == .timedOut {
            if isInterruptible { try Interruption.check() }
        }
        return try value.withLock { try $0!.get() }  // set before the signal
    }
}
