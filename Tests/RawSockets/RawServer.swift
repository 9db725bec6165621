// Bare sockets for tests: a listener with a thread per connection, and what a connection can do
// wrong; for the tests of all rooms that talk over a network. All ports are chosen by the system,
// all addresses are loopback.

import Foundation
import Synchronization

#if canImport(Glibc)
    import Glibc
#endif

public struct SocketFailure: Error { public var code: Int32 }

/// A connected socket. One thread reads, one writes.
public final class RawConnection: Sendable {
    public let descriptor: Int32
    private let isOpen = Mutex(true)

    public init(_ descriptor: Int32) { self.descriptor = descriptor }

    deinit { close() }

    /// Connects to a port of this machine.
    public convenience init(toPort port: Int) throws {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        self.init(descriptor)
        var address = Self.loopback(port)
        let result = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        if result != 0 { throw SocketFailure(code: errno) }
    }

    public static func loopback(_ port: Int) -> sockaddr_in {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = in_port_t(port).bigEndian
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        return address
    }

    /// Some bytes; empty at the end or after a failure.
    public func read(_ countMax: Int = 64 << 10) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: countMax)
        let count = recv(descriptor, &bytes, countMax, 0)
        return count > 0 ? Array(bytes[..<count]) : []
    }

    /// A read that waits for longer ends with nothing, as if the other side had closed.
    public func limitReading(toSeconds seconds: Int) {
        var limit = timeval(tv_sec: seconds, tv_usec: 0)
        setsockopt(
            descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
    }

    /// Whether all of it went out.
    @discardableResult
    public func write(_ bytes: some Collection<UInt8>) -> Bool {
        var rest = Array(bytes)[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes {
                send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
            }
            guard count > 0 else { return false }
            rest = rest.dropFirst(count)
        }
        return true
    }

    /// Wakes whoever reads or writes; nothing goes on here.
    public func cut(abruptly: Bool = false) {
        if abruptly {
            var linger = linger(l_onoff: 1, l_linger: 0)
            setsockopt(
                descriptor, SOL_SOCKET, SO_LINGER, &linger,
                socklen_t(MemoryLayout<linger>.size))
        }
        shutdown(descriptor, Int32(SHUT_RDWR))
    }

    private func close() {
        let wasOpen = isOpen.withLock { isOpen in
            defer { isOpen = false }
            return isOpen
        }
        if wasOpen { Glibc.close(descriptor) }
    }
}

/// Listens until it goes.
public final class RawServer: Sendable {
    public let port: Int
    private let listener: Int32
    private struct State {
        var connections: [RawConnection] = []
        var isStopped = false
        var accepted = 0
    }
    private let state: Shared

    private final class Shared: Sendable { let value = Mutex(State()) }

    /// `serve` is called on a thread of its own for each connection, which is cut after it.
    public init(_ serve: @escaping @Sendable (RawConnection) -> Void) throws {
        listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = RawConnection.loopback(0)
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let listener = listener
        let result = withUnsafeMutablePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(listener, $0, length) == 0 && listen(listener, 64) == 0
                    && getsockname(listener, $0, &length) == 0
            }
        }
        guard result else { throw SocketFailure(code: errno) }
        port = Int(in_port_t(bigEndian: address.sin_port))
        let state = Shared()
        self.state = state
        Thread.detachNewThread {
            while true {
                let descriptor = accept(listener, nil, nil)
                guard descriptor >= 0 else { break }
                let connection = RawConnection(descriptor)
                let isWanted = state.value.withLock {
                    if $0.isStopped { return false }
                    $0.accepted += 1
                    $0.connections.append(connection)
                    return true
                }
                guard isWanted else { break }
                Thread.detachNewThread {
                    serve(connection)
                    connection.cut()
                    state.value.withLock { $0.connections.removeAll { $0 === connection } }
                }
            }
            Glibc.close(listener)
        }
    }

    /// Connections so far.
    public var accepted: Int { state.value.withLock { $0.accepted } }

    public func cutAll() { state.value.withLock { $0.connections }.forEach { $0.cut() } }

    deinit {
        let connections = state.value.withLock {
            $0.isStopped = true
            return $0.connections
        }
        connections.forEach { $0.cut() }
        shutdown(listener, Int32(SHUT_RDWR))
    }
}
