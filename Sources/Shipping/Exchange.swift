// One HTTP request and its answer, between the thread that asks and the event loop that carries.
// The thread blocks on a condition; the event loop never does. When the thread has given up,
// nothing that still arrives touches its memory.

import Foundation
import NIOCore
import NIOHTTP1

/// Why a request got no answer.
package enum WireFailure: Error {
    /// Not connected, cut, or an answer that is no HTTP; whether the request was carried out is
    /// not known.
    case broken(String)
    /// Nothing moved for so long.
    case silent(seconds: Int64)
    /// The server's certificate is not good; in words as far as it is known.
    case certificate(String?)
    /// The caller wants to stop.
    case cancelled
}

/// An answer as it came.
package struct WireAnswer {
    package var status: Int
    package var headers: HTTPHeaders
    /// What was not asked into the caller's memory.
    package var body: [UInt8]
    /// Bytes in the caller's memory.
    package var filled: Int
    /// Whether the connection can carry another request.
    var isKeptAlive: Bool
}

package final class Exchange: @unchecked Sendable {
    // @unchecked: every variable is read and written under `condition`.
    private let condition = NSCondition()
    private var head: HTTPResponseHead?
    private var body: [UInt8] = []
    private let bodyBytesMax: Int
    /// Where a good answer's bytes go; nil when they are collected, or not wanted any more.
    private var target: UnsafeMutableRawBufferPointer?
    private var filled = 0
    private var isEnded = false
    private var failure: WireFailure?
    /// Bytes of the request's body that are not with the system yet.
    private var bytesUnderWay = 0
    private var lastMove = Exchange.now()

    /// `target` is filled with the body of an answer 200 or 206 and must live until the wait for
    /// the answer ends.
    package init(
        into target: UnsafeMutableRawBufferPointer? = nil, bodyBytesMax: Int = 256 << 20
    ) {
        self.target = target
        self.bodyBytesMax = bodyBytesMax
    }

    package static func now() -> Int64 {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
    }

    // MARK: - From the event loop

    package func received(_ head: HTTPResponseHead) {
        change {
            self.head = head
            if head.status.code != 200 && head.status.code != 206 { target = nil }
        }
    }

    package func received(_ bytes: ByteBuffer) {
        change {
            guard failure == nil else { return }
            if let target {
                guard bytes.readableBytes <= target.count - filled else {
                    failure = .broken("more bytes than were asked for")
                    return
                }
                bytes.withUnsafeReadableBytes {
                    UnsafeMutableRawBufferPointer(rebasing: target[filled...]).copyMemory(from: $0)
                }
                filled += bytes.readableBytes
            } else if body.count + bytes.readableBytes > bodyBytesMax {
                failure = .broken("an answer of more than \(bodyBytesMax) bytes")
            } else {
                body.append(contentsOf: bytes.readableBytesView)
            }
        }
    }

    package func end() { change { isEnded = true } }

    package func fail(_ failure: WireFailure) {
        change { if !isEnded { self.failure = self.failure ?? failure } }
    }

    func sent(_ count: Int) { change { bytesUnderWay -= count } }

    /// Bytes of the request's body went on their way.
    package func moved() { change {} }

    private func change(_ body: () -> Void) {
        condition.lock()
        body()
        lastMove = Self.now()
        condition.broadcast()
        condition.unlock()
    }

    // MARK: - From the thread that asks

    /// Waits until `count` more bytes may be handed over; false when the answer is there already.
    func makeRoom(
        for count: Int, bytesMax: Int, idleSeconds: Int64, isCancelled: () -> Bool
    ) throws(WireFailure) -> Bool {
        condition.lock()
        defer { condition.unlock() }
        lastMove = Self.now()  // the caller may have waited long before it had these bytes
        try wait(idleSeconds, isCancelled) {
            isEnded || bytesUnderWay == 0 || bytesUnderWay + count <= bytesMax
        }
        if isEnded { return false }
        bytesUnderWay += count
        return true
    }

    /// Whether the end of the answer is there, or a failure.
    package var isOver: Bool {
        condition.lock()
        defer { condition.unlock() }
        return isEnded || failure != nil
    }

    /// Waits for the end of the answer.
    package func answer(
        idleSeconds: Int64, isCancelled: () -> Bool
    ) throws(WireFailure) -> WireAnswer {
        condition.lock()
        defer {
            target = nil
            condition.unlock()
        }
        lastMove = max(lastMove, Self.now())
        try wait(idleSeconds, isCancelled) { isEnded }
        guard let head else { throw .broken("an answer without a status") }
        return WireAnswer(
            status: Int(head.status.code), headers: head.headers, body: body, filled: filled,
            isKeptAlive: head.isKeepAlive)
    }

    /// The caller's memory goes away: nothing is written to it from here on.
    package func abandon() {
        condition.lock()
        target = nil
        condition.unlock()
    }

    /// Under the lock. Throws when nothing moved for `idleSeconds`.
    private func wait(
        _ idleSeconds: Int64, _ isCancelled: () -> Bool, until isReady: () -> Bool
    ) throws(WireFailure) {
        while true {
            if let failure { throw failure }
            if isReady() { return }
            if Self.now() - lastMove > idleSeconds * 1_000_000_000 {
                throw .silent(seconds: idleSeconds)
            }
            if isCancelled() { throw .cancelled }
            _ = condition.wait(until: Date(timeIntervalSinceNow: 0.1))
        }
    }
}
