// The digest of an item, worked out beside reading and writing: a device's writer hands a piece
// over and writes it meanwhile. Small pieces are not worth the hand-over and are hashed at once.
//
// Threads: one caller, and a thread of its own from the first large piece to `end`. The semaphores
// order what both touch: `piece` and `hasher` are the caller's while `isBusy` is false.

import CLinux
import Crypto
import Foundation

final class HashThread: @unchecked Sendable {
    // @unchecked: as said above.
    private let isReady = DispatchSemaphore(value: 0)
    private let isDone = DispatchSemaphore(value: 0)
    private var hasher = SHA256()
    private var piece: UnsafeRawBufferPointer?
    private var isBusy = false
    private var isStarted = false
    private static let handOverBytes = 256 << 10

    /// Begins another item.
    func reset() {
        wait()
        hasher = SHA256()
    }

    /// Counts `bytes` in. They must stay as they are until the next call of anything here returns.
    func update(_ bytes: UnsafeRawBufferPointer) {
        wait()
        guard bytes.count >= Self.handOverBytes else { return hasher.update(bufferPointer: bytes) }
        if !isStarted { start() }
        piece = bytes
        isBusy = true
        isReady.signal()
    }

    /// Returns when no memory of the caller is looked at any more.
    func wait() {
        guard isBusy else { return }
        isDone.wait()
        isBusy = false
    }

    func finish() -> ContentDigest {
        wait()
        return ContentDigest(hasher.finalize())
    }

    /// Ends the thread.
    func end() {
        wait()
        guard isStarted else { return }
        isStarted = false
        piece = nil
        isReady.signal()
    }

    private func start() {
        isStarted = true
        Thread.detachNewThread { [self] in
            clinux_thread_name("spread-hash")
            while true {
                isReady.wait()
                guard let piece else { return }
                hasher.update(bufferPointer: piece)
                isDone.signal()
            }
        }
    }
}
