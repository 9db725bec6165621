// Stands between a client and a server, and does to the bytes what networks do.

import Foundation
import Synchronization

#if canImport(Glibc)
    import Glibc
#endif

public final class Proxy: Sendable {
    /// What happens to each connection. Byte counts are of one direction of one connection.
    public struct Trouble: Sendable {
        /// Cut when so many bytes have come from the client (`up`) or the server.
        public var cutUp: Int?
        public var cutDown: Int?
        /// From so many bytes on nothing is passed on, and nothing closed.
        public var stallUp: Int?
        public var stallDown: Int?
        /// The byte with this number arrives changed.
        public var flipUp: Int?
        public var flipDown: Int?
        /// Each way.
        public var delaySeconds: Double

        public init(
            cutUp: Int? = nil, cutDown: Int? = nil, stallUp: Int? = nil, stallDown: Int? = nil,
            flipUp: Int? = nil, flipDown: Int? = nil, delaySeconds: Double = 0
        ) {
            (self.cutUp, self.cutDown) = (cutUp, cutDown)
            (self.stallUp, self.stallDown) = (stallUp, stallDown)
            (self.flipUp, self.flipDown) = (flipUp, flipDown)
            self.delaySeconds = delaySeconds
        }

        public static let none = Trouble()
    }

    private final class Shared: Sendable {
        let trouble = Mutex(Trouble.none)
        let up = Atomic<Int>(0)
        let requests = Atomic<Int>(0)
    }
    private let shared = Shared()
    private let server: RawServer

    public var port: Int { server.port }
    public var trouble: Trouble {
        get { shared.trouble.withLock { $0 } }
        set { shared.trouble.withLock { $0 = newValue } }
    }
    /// Bytes from clients that were passed on.
    public var bytesUp: Int { shared.up.load(ordering: .relaxed) }

    /// Requests of clients that were passed on, where they can be read: over plain HTTP.
    public var requests: Int { shared.requests.load(ordering: .relaxed) }

    public func cutAll() { server.cutAll() }

    public init(toPort port: Int) throws {
        server = try RawServer { [shared] client in
            guard let upstream = try? RawConnection(toPort: port) else { return }
            let trouble = shared.trouble.withLock { $0 }
            let done = DispatchSemaphore(value: 0)
            Thread.detachNewThread {
                Self.pump(
                    upstream, client, cut: trouble.cutDown, stall: trouble.stallDown,
                    flip: trouble.flipDown, delay: trouble.delaySeconds, nil)
                done.signal()
            }
            Self.pump(
                client, upstream, cut: trouble.cutUp, stall: trouble.stallUp,
                flip: trouble.flipUp, delay: trouble.delaySeconds, shared)
            done.wait()
        }
    }

    /// Until one of both ends: then both do.
    private static func pump(
        _ source: RawConnection, _ target: RawConnection, cut: Int?, stall: Int?, flip: Int?,
        delay: Double, _ counting: Shared?
    ) {
        defer {
            source.cut()
            target.cut()
        }
        var seen = 0
        var finder = RequestFinder()
        let line = delay > 0 ? DelayLine(delay, to: target) : nil
        while true {
            var bytes = source.read()
            if bytes.isEmpty { break }
            if let flip, (seen..<seen + bytes.count).contains(flip) { bytes[flip - seen] ^= 0x10 }
            var isEnd = false
            if let cut, seen + bytes.count >= cut {
                bytes = Array(bytes.prefix(cut - seen))
                isEnd = true
            }
            if let stall, seen + bytes.count >= stall {
                bytes = Array(bytes.prefix(max(0, stall - seen)))
            }
            seen += bytes.count
            counting?.up.add(bytes.count, ordering: .relaxed)
            counting?.requests.add(finder.count(in: bytes), ordering: .relaxed)
            if let line { line.send(bytes) } else if !target.write(bytes) { break }
            if isEnd { break }
        }
        line?.finish()
    }
}

/// Finds the ends of request lines in a stream of bytes.
private struct RequestFinder {
    private static let end = Array(" HTTP/1.1\r\n".utf8)
    /// How much of the end the bytes so far are. No beginning of it is within it but the first.
    private var matched = 0

    mutating func count(in bytes: [UInt8]) -> Int {
        var found = 0
        for byte in bytes {
            if byte == Self.end[matched] {
                matched += 1
            } else {
                matched = byte == Self.end[0] ? 1 : 0
            }
            if matched == Self.end.count { (found, matched) = (found + 1, 0) }
        }
        return found
    }
}

/// Passes bytes on after a time, in order, without holding up what comes behind.
private final class DelayLine: @unchecked Sendable {
    // @unchecked: the list is used under `condition` only.
    private let condition = NSCondition()
    private var waiting: [(due: Date, bytes: [UInt8])] = []
    private var isFinished = false
    private let seconds: Double
    private let done = DispatchSemaphore(value: 0)

    init(_ seconds: Double, to target: RawConnection) {
        self.seconds = seconds
        Thread.detachNewThread {
            while let (due, bytes) = self.next() {
                Thread.sleep(until: due)
                target.write(bytes)
            }
            self.done.signal()
        }
    }

    func send(_ bytes: [UInt8]) {
        condition.lock()
        waiting.append((Date(timeIntervalSinceNow: seconds), bytes))
        condition.signal()
        condition.unlock()
    }

    func finish() {
        condition.lock()
        isFinished = true
        condition.signal()
        condition.unlock()
        done.wait()
    }

    private func next() -> (due: Date, bytes: [UInt8])? {
        condition.lock()
        defer { condition.unlock() }
        while waiting.isEmpty, !isFinished { condition.wait() }
        return waiting.isEmpty ? nil : waiting.removeFirst()
    }
}
