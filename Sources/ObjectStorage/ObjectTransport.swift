// HTTP requests to one store, over connections that async-http-client keeps. It carries; it does
// not sign, repeat or understand. A request is begun without blocking and its answer waited for by
// a thread that may block: futures of the library end in an Exchange, which has a lock and a
// condition. So nobody waits on an event loop or a cooperative thread.

import AsyncHTTPClient
import NIOCore
import NIOHTTP1
import NIOPosix
import Shipping
import Synchronization

/// Sends to one endpoint. Any thread may call.
final class ObjectTransport: Sendable {
    private let http: HTTPClient
    private static let connectionsMax = 32
    /// Bodies are handed over in pieces of this size: each is a sign of life.
    static let pieceBytes = 256 << 10

    init(_ access: ObjectAccess, isSecure: Bool) throws(RemoteSetupError) {
        var settings = HTTPClient.Configuration()
        if isSecure {
            settings.tlsConfiguration = try RemoteAccess.tlsConfiguration(access.caFiles)
        }
        settings.redirectConfiguration = .disallow
        // Whether something moves is watched by whoever waits for the answer.
        settings.timeout = .init(connect: .seconds(access.connectSeconds), read: nil)
        settings.connectionPool = .init(
            idleTimeout: .seconds(20),
            concurrentHTTP1ConnectionsPerHostSoftLimit: Self.connectionsMax)
        settings.connectionPool.retryConnectionEstablishment = false
        settings.httpVersion = .http1Only
        settings.decompression = .disabled
        if let bind = access.bind {
            let end = LocalEnd(bind)
            try end.check()
            settings.localAddress = end.sourceAddress
        }
        http = HTTPClient(
            eventLoopGroupProvider: .shared(MultiThreadedEventLoopGroup.singleton),
            configuration: settings)
    }

    /// Connections that are idle close at once, others with their requests.
    deinit { http.shutdown { _ in } }

    /// Sends the request; with `isFed` its body comes by `feed`. A good answer's body fills
    /// `target`, which must live until `answer` returns.
    func begin(
        _ method: HTTPMethod, url: String, _ headers: HTTPHeaders, body: ByteBuffer?, isFed: Bool,
        into target: UnsafeMutableRawBufferPointer?
    ) -> PendingAnswer {
        let exchange = Exchange(into: target)
        var feed: BodyFeed?
        var content: HTTPClient.Body?
        if let body, isFed || body.readableBytes > Self.pieceBytes {
            let made = BodyFeed(exchange, on: http.eventLoopGroup.any())
            if !isFed {
                made.add(body)
                made.end()
            }
            feed = made
            content = .stream(contentLength: Int64(body.readableBytes)) { made.start($0) }
        } else if let body {
            content = .byteBuffer(body)
        }
        let request: HTTPClient.Request
        do {
            request = try HTTPClient.Request(
                url: url, method: method, headers: headers, body: content)
        } catch {
            exchange.fail(.broken("\(url) is no address"))
            return PendingAnswer(exchange, nil, feed)
        }
        let task = http.execute(request: request, delegate: AnswerDelegate(exchange))
        // What fails before it begins is not told to the delegate.
        task.futureResult.whenFailure { exchange.fail(WireFailure(http: $0)) }
        return PendingAnswer(exchange, task, feed)
    }
}

/// An answer that is on its way. One thread waits for it.
final class PendingAnswer: Sendable {
    private let exchange: Exchange
    private let task: HTTPClient.Task<Void>?
    /// Takes the body of a request that is fed.
    let feed: BodyFeed?

    init(_ exchange: Exchange, _ task: HTTPClient.Task<Void>?, _ feed: BodyFeed?) {
        (self.exchange, self.task, self.feed) = (exchange, task, feed)
    }

    /// Whether waiting is over already.
    var isAnswered: Bool { exchange.isOver }

    /// Blocks until it is there or nothing moved for so long. Whatever comes after a throw is
    /// dropped.
    func answer(
        idleSeconds: Int64, isCancelled: () -> Bool
    ) throws(WireFailure) -> WireAnswer {
        do throws(WireFailure) {
            return try exchange.answer(idleSeconds: idleSeconds, isCancelled: isCancelled)
        } catch {
            cancel()
            throw error
        }
    }

    /// Nobody wants it any more.
    func cancel() {
        exchange.abandon()
        task?.cancel()
    }
}

private final class AnswerDelegate: HTTPClientResponseDelegate {
    typealias Response = Void
    private let exchange: Exchange

    init(_ exchange: Exchange) { self.exchange = exchange }

    func didReceiveHead(
        task: HTTPClient.Task<Void>, _ head: HTTPResponseHead
    ) -> EventLoopFuture<Void> {
        exchange.received(head)
        return task.eventLoop.makeSucceededVoidFuture()
    }

    func didReceiveBodyPart(
        task: HTTPClient.Task<Void>, _ buffer: ByteBuffer
    ) -> EventLoopFuture<Void> {
        exchange.received(buffer)
        return task.eventLoop.makeSucceededVoidFuture()
    }

    func didSendRequest(task: HTTPClient.Task<Void>) { exchange.moved() }

    func didReceiveError(task: HTTPClient.Task<Void>, _ error: any Error) {
        exchange.fail(WireFailure(http: error))
    }

    func didFinishRequest(task: HTTPClient.Task<Void>) { exchange.end() }
}

/// A request's body on its way: whoever has the bytes adds them when they may go, the event loop
/// takes the next ones when the connection has taken those before.
final class BodyFeed: Sendable {
    private struct State {
        var writer: HTTPClient.Body.StreamWriter?
        var waiting: [ByteBuffer] = []
        var isWriting = false
        var isEnded = false
        var isDone = false
    }
    private let state = Mutex(State())
    private let exchange: Exchange
    private let done: EventLoopPromise<Void>

    init(_ exchange: Exchange, on loop: any EventLoop) {
        self.exchange = exchange
        done = loop.makePromise(of: Void.self)
    }

    /// A promise must be kept, also when the connection never came about.
    deinit { done.fail(WireFailure.cancelled) }

    /// Bytes that may go now.
    func add(_ bytes: ByteBuffer) {
        state.withLock { state in
            var rest = bytes
            while let piece = rest.readSlice(
                length: min(rest.readableBytes, ObjectTransport.pieceBytes)),
                piece.readableBytes > 0
            {
                state.waiting.append(piece)
            }
        }
        pump()
    }

    /// There are no more.
    func end() {
        state.withLock { $0.isEnded = true }
        pump()
    }

    /// The connection is there.
    func start(_ writer: HTTPClient.Body.StreamWriter) -> EventLoopFuture<Void> {
        state.withLock { $0.writer = writer }
        pump()
        return done.futureResult
    }

    private enum Step {
        case write(HTTPClient.Body.StreamWriter, ByteBuffer)
        case finish
        case wait
    }

    private func pump() {
        let step = state.withLock { state -> Step in
            guard let writer = state.writer, !state.isWriting, !state.isDone else { return .wait }
            if !state.waiting.isEmpty {
                state.isWriting = true
                return .write(writer, state.waiting.removeFirst())
            }
            guard state.isEnded else { return .wait }
            state.isDone = true
            return .finish
        }
        switch step {
        case .wait: return
        case .finish: done.succeed()
        case .write(let writer, let bytes):
            let written = writer.write(.byteBuffer(bytes))
            written.whenComplete { result in
                self.exchange.moved()
                if case .failure(let error) = result { return self.fail(error) }
                self.state.withLock { $0.isWriting = false }
                // Not at once: each write would stand on the stack of the one before.
                written.eventLoop.execute { self.pump() }
            }
        }
    }

    private func fail(_ error: any Error) {
        state.withLock {
            $0.isDone = true
            $0.waiting = []
        }
        done.fail(error)
    }
}

extension WireFailure {
    /// From what the HTTP client throws.
    init(http error: any Error) {
        guard let failure = error as? HTTPClientError else {
            self.init(error)
            return
        }
        switch failure {
        case .connectTimeout, .tlsHandshakeTimeout, .getConnectionFromPoolTimeout:
            self = .broken("no connection in time")
        case .remoteConnectionClosed: self = .broken("the connection was closed")
        case .cancelled: self = .cancelled
        default: self = .broken(failure.shortDescription)
        }
    }
}
