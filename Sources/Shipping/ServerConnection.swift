// One connection to a log server: TCP, TLS, HTTP/1.1, one request at a time. Made with an own
// bootstrap, as only that can bind the socket to an interface before it connects, and can ask the
// kernel to give up on a peer that does not acknowledge (half-open connections).
//
// One thread uses a connection at a time; the event loop carries the bytes.

import Foundation
import NIOCore
import NIOHTTP1
import NIOPosix
import NIOSSL
import Synchronization

#if canImport(Glibc)
    import Glibc
#endif

/// Where and how to connect. Immutable.
struct ServerPlace: Sendable {
    let url: RemoteURL
    /// nil: plain HTTP, on this machine.
    let tls: NIOSSLContext?
    let access: RemoteAccess
    static let group = MultiThreadedEventLoopGroup.singleton
}

final class ServerConnection: Sendable {
    /// Whether it has carried a request: then the server may have closed it meanwhile.
    let isUsed = Atomic<Bool>(false)
    private let channel: any Channel
    private let handler: ExchangeHandler
    private let place: ServerPlace
    /// Bytes of a body that are handed over and not yet with the system.
    static let bytesUnderWayMax = 1 << 20

    private init(_ channel: any Channel, _ handler: ExchangeHandler, _ place: ServerPlace) {
        (self.channel, self.handler, self.place) = (channel, handler, place)
    }

    deinit { channel.close(promise: nil) }

    var isActive: Bool { channel.isActive }

    func close() { channel.close(promise: nil) }

    /// Connects; TLS is agreed on with the first request.
    static func open(_ place: ServerPlace) throws(WireFailure) -> ServerConnection {
        guard let bind = place.access.bind, LocalEnd(bind).address != nil else {
            let bootstrap = try bootstrap(place)
            let (host, port) = (place.url.host, place.url.port)
            return try connected(place) { bootstrap($0).connect(host: host, port: port) }
        }
        // A local address fits remote ones of its family only.
        let local = LocalEnd(bind)
        let bootstrap = try bootstrap(place)
        var failure = WireFailure.broken("\(place.url.host) has no address of the kind of \(bind)")
        for remote in local.peers(place.url.host, place.url.port) {
            do throws(WireFailure) {
                return try connected(place) { bootstrap($0).connect(to: remote) }
            } catch {
                if case .cancelled = error { throw error }
                failure = error
            }
        }
        throw failure
    }

    private static func connected(
        _ place: ServerPlace,
        _ connect: (ExchangeHandler) -> EventLoopFuture<any Channel>
    ) throws(WireFailure) -> ServerConnection {
        let handler = ExchangeHandler()
        let opening = Pending<any Channel>()
        connect(handler).whenComplete { result in
            if !opening.set(result), case .success(let channel) = result {
                channel.close(promise: nil)  // nobody waits any more
            }
        }
        // Both families in turn, and the look-up of the name.
        let seconds = 3 * place.access.connectSeconds
        let channel = try opening.wait(seconds: seconds, place.access.isCancelled)
        return ServerConnection(channel, handler, place)
    }

    private static func bootstrap(
        _ place: ServerPlace
    ) throws(WireFailure) -> (ExchangeHandler) -> ClientBootstrap {
        let (tls, url) = (place.tls, place.url)
        let common = try boundBootstrap(place)
        return { handler in
            common.channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    let pipeline = channel.pipeline.syncOperations
                    if let tls {
                        try pipeline.addHandler(
                            NIOSSLClientHandler(
                                context: tls, serverHostname: url.isAddress ? nil : url.host))
                    }
                    try pipeline.addHTTPClientHandlers()
                    try pipeline.addHandler(handler)
                }
            }
        }
    }

    /// Without handlers; bound to the address or interface that the user wants.
    static func boundBootstrap(_ place: ServerPlace) throws(WireFailure) -> ClientBootstrap {
        let access = place.access
        let idle = Int(clamping: min(access.idleSeconds, 1_000_000))
        let common = ClientBootstrap(group: ServerPlace.group)
            .connectTimeout(.seconds(access.connectSeconds))
            .channelOption(.socketOption(.so_keepalive), value: 1)
            .channelOption(.tcpOption(.tcp_nodelay), value: 1)
            .channelOption(tcp(TCP_USER_TIMEOUT), value: idle * 1000)
            .channelOption(tcp(TCP_KEEPIDLE), value: max(1, idle / 2))
            .channelOption(tcp(TCP_KEEPINTVL), value: max(1, idle / 6))
            .channelOption(
                .recvAllocator,
                value: AdaptiveRecvByteBufferAllocator(
                    minimum: 4096, initial: 64 << 10, maximum: 256 << 10))
        guard let bind = access.bind else { return common }
        let local = LocalEnd(bind)
        if let address = local.address { return common.bind(to: address) }
        guard let index = local.interfaceIndex else {
            throw .broken("there is no interface \(bind) now")
        }
        return common.channelOption(
            ChannelOptions.socket(Int(SOL_SOCKET), SO_BINDTOIFINDEX), value: index)
    }

    private static func tcp(_ name: CInt) -> ChannelOptions.Types.SocketOption {
        ChannelOptions.socket(Int(IPPROTO_TCP), name)
    }

    // MARK: - Requests

    /// Sends the head of a request and, without a body to follow, its end.
    func begin(_ head: HTTPRequestHead, _ exchange: Exchange, hasBody: Bool) {
        if let failure = handler.begin(exchange) { return exchange.fail(failure) }
        send(.head(head), flushing: hasBody, exchange)
        if !hasBody { send(.end(nil), flushing: true, exchange) }
    }

    /// Hands over bytes for which the exchange has made room.
    func send(_ bytes: ByteBuffer, _ exchange: Exchange) {
        let count = bytes.readableBytes
        send(.body(.byteBuffer(bytes)), flushing: true, exchange, count: count)
    }

    func sendEnd(_ exchange: Exchange) { send(.end(nil), flushing: true, exchange) }

    private func send(
        _ part: HTTPClientRequestPart, flushing: Bool, _ exchange: Exchange, count: Int = 0
    ) {
        let promise = channel.eventLoop.makePromise(of: Void.self)
        promise.futureResult.whenComplete { result in
            switch result {
            case .success: exchange.sent(count)
            // The cause comes by the handler; this is for a channel that was closed before.
            case .failure(let error): exchange.fail(WireFailure(error))
            }
        }
        if flushing {
            channel.writeAndFlush(part, promise: promise)
        } else {
            channel.write(part, promise: promise)
        }
    }
}

/// Passes what arrives to the exchange under way.
private final class ExchangeHandler: ChannelInboundHandler, Sendable {
    typealias InboundIn = HTTPClientResponsePart

    private struct State {
        var exchange: Exchange?
        var failure: WireFailure?
    }
    private let state = Mutex(State())

    /// Why it cannot begin: the connection has failed before.
    func begin(_ exchange: Exchange) -> WireFailure? {
        state.withLock {
            $0.exchange = exchange
            return $0.failure
        }
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let exchange = state.withLock { $0.exchange }
        switch unwrapInboundIn(data) {
        case .head(let head):
            // What nobody asked for: the server closes, and says so.
            if exchange == nil { context.close(promise: nil) }
            exchange?.received(head)
        case .body(let bytes): exchange?.received(bytes)
        case .end:
            state.withLock { $0.exchange = nil }
            exchange?.end()
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        fail(WireFailure(error))
        context.close(promise: nil)
    }

    func channelInactive(context: ChannelHandlerContext) {
        fail(.broken("the connection was closed"))
        context.fireChannelInactive()
    }

    private func fail(_ failure: WireFailure) {
        let exchange = state.withLock {
            $0.failure = $0.failure ?? failure
            return $0.exchange
        }
        exchange?.fail(failure)
    }
}

/// A result that a thread waits for.
private final class Pending<Value: Sendable>: @unchecked Sendable {
    // @unchecked: both variables are used under `condition` only.
    private let condition = NSCondition()
    private var result: Result<Value, any Error>?
    private var isGivenUp = false

    /// Whether anybody waits for it.
    func set(_ result: Result<Value, any Error>) -> Bool {
        condition.lock()
        defer { condition.unlock() }
        self.result = result
        condition.broadcast()
        return !isGivenUp
    }

    func wait(seconds: Int64, _ isCancelled: () -> Bool) throws(WireFailure) -> Value {
        let end = Exchange.now() + seconds * 1_000_000_000
        condition.lock()
        defer { condition.unlock() }
        while true {
            switch result {
            case .success(let value): return value
            case .failure(let error): throw WireFailure(error)
            case nil: break
            }
            if isCancelled() || Exchange.now() > end {
                isGivenUp = true
                throw isCancelled() ? .cancelled : .silent(seconds: seconds)
            }
            _ = condition.wait(until: Date(timeIntervalSinceNow: 0.1))
        }
    }
}
