// The pipeline of one connection: TLS, HTTP/1.1, then what bounds it. Two handlers of our own:
//
//   ConnectionGuard  closes a connection whose client is too slow: with the head of a request, with
//                    a body, with taking an answer, with closing. A connection never waits for
//                    ever: not for a handshake, and not on one whose other end is gone.
//   BodyGatherer     gathers the pieces of a body, so that each hand-over to a disk thread is
//                    worth it.
//
// Threads: handlers run on the event loop of their channel.

import HTTPTypes
import HummingbirdCore
import Logging
import NIOCore
import NIOHTTP1
import NIOHTTPTypes
import NIOHTTPTypesHTTP1
import NIOSSL
import Synchronization

typealias ServedConnection = NIOAsyncChannel<HTTPRequestPart, HTTPResponsePart>

/// Sets up connections, and hands them over.
struct ConnectionSetup: ServerChildChannel {
    typealias Value = ServedConnection

    /// nil: plain HTTP. Looked up for each connection, so a new certificate counts at once.
    let security: @Sendable () -> NIOSSLContext?
    let limits: LogServerConfiguration.Limits
    let serve: @Sendable (ServedConnection) async -> Void

    /// Bytes that are read from a socket at once, at the most.
    private static let receiveBytesMax = 128 << 10

    func setup(channel: any Channel, logger: Logger) -> EventLoopFuture<Value> {
        channel.eventLoop.makeCompletedFuture {
            let options = channel.syncOptions
            try options?.setOption(
                .recvAllocator,
                value: AdaptiveRecvByteBufferAllocator(
                    minimum: 2048, initial: 8192, maximum: Self.receiveBytesMax))
            try options?.setOption(
                .writeBufferWaterMark, value: .init(low: 128 << 10, high: 512 << 10))
            try options?.setOption(.socketOption(.so_keepalive), value: 1)
            try options?.setOption(.tcpOption(.tcp_nodelay), value: 1)
            let pipeline = channel.pipeline.syncOperations
            if let context = security() {
                try pipeline.addHandler(NIOSSLServerHandler(context: context))
            }
            var bounds = NIOHTTPDecoderLimitConfiguration()
            bounds.maxHeaderFieldSize = limits.headerBytes
            bounds.maxHeaderListSize = limits.headerBytes
            bounds.maxHeaderFieldCount = 100
            try pipeline.configureHTTPServerPipeline(
                withPipeliningAssistance: false, withErrorHandling: false,
                withOutboundHeaderValidation: false, withEncoderConfiguration: .init(),
                withDecoderLimitConfiguration: bounds)
            try pipeline.addHandler(HTTP1ToHTTPServerCodec(secure: true))
            try pipeline.addHandler(ConnectionGuard(limits))
            try pipeline.addHandler(BodyGatherer())
            return try ServedConnection(
                wrappingChannelSynchronously: channel,
                configuration: .init(
                    backPressureStrategy: .init(lowWatermark: 1, highWatermark: 2),
                    isOutboundHalfClosureEnabled: true))
        }
    }

    func handle(value: Value, logger: Logger) async { await serve(value) }
}

/// Puts small pieces of a body together.
final class BodyGatherer: ChannelInboundHandler {
    typealias InboundIn = HTTPRequestPart
    typealias InboundOut = HTTPRequestPart

    /// Bytes of a piece that goes on.
    static let pieceBytes = 512 << 10
    private var gathered: ByteBuffer?

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard case .body(let piece) = unwrapInboundIn(data) else {
            flush(context)
            context.fireChannelRead(data)
            return
        }
        if var whole = gathered {
            gathered = nil
            if whole.capacity < Self.pieceBytes {
                var larger = context.channel.allocator.buffer(
                    capacity: Self.pieceBytes + piece.readableBytes)
                larger.writeImmutableBuffer(whole)
                whole = larger
            }
            whole.writeImmutableBuffer(piece)
            gathered = whole
        } else {
            gathered = piece
        }
        if gathered?.readableBytes ?? 0 >= Self.pieceBytes { flush(context) }
    }

    private func flush(_ context: ChannelHandlerContext) {
        guard let whole = gathered else { return }
        gathered = nil
        if whole.readableBytes > 0 { context.fireChannelRead(wrapInboundOut(.body(whole))) }
    }

    // A connection that is cut leaves what it has brought.

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        flush(context)
        context.fireErrorCaught(error)
    }

    func channelInactive(context: ChannelHandlerContext) {
        flush(context)
        context.fireChannelInactive()
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if let event = event as? ChannelEvent, event == .inputClosed { flush(context) }
        context.fireUserInboundEventTriggered(event)
    }
}

/// Closes what waits too long. See the head of this file.
final class ConnectionGuard: ChannelDuplexHandler {
    typealias InboundIn = HTTPRequestPart
    typealias InboundOut = HTTPRequestPart
    typealias OutboundIn = HTTPResponsePart
    typealias OutboundOut = HTTPResponsePart

    private let limits: LogServerConfiguration.Limits
    private var timer: Scheduled<Void>?
    /// A request's head has come, its end has not.
    private var isReceiving = false
    /// A request's head has come, the end of its answer has not gone.
    private var isAnswering = false
    private var isFirst = true
    private var isClosing = false
    /// Bytes of bodies and pieces of answers since the timer was set.
    private var progress = 0
    /// Whether we wait for the client's bytes, not it for us.
    private var wantsBytes = false
    private static let closingSeconds: Int64 = 10

    init(_ limits: LogServerConfiguration.Limits) { self.limits = limits }

    func handlerAdded(context: ChannelHandlerContext) { restart(context) }
    func handlerRemoved(context: ChannelHandlerContext) { timer?.cancel() }

    func channelInactive(context: ChannelHandlerContext) {
        timer?.cancel()
        context.fireChannelInactive()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        wantsBytes = false
        switch unwrapInboundIn(data) {
        case .head:
            isReceiving = true
            isAnswering = true
            isFirst = false
            restart(context)
        case .body(let bytes):
            progress += bytes.readableBytes
        case .end:
            isReceiving = false
            restart(context)
        }
        context.fireChannelRead(data)
    }

    func read(context: ChannelHandlerContext) {
        wantsBytes = true
        context.read()
    }

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        progress += 1
        if case .end = unwrapOutboundIn(data) {
            isAnswering = false
            restart(context)
        }
        context.write(data, promise: promise)
    }

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        progress += 1
        context.fireChannelWritabilityChanged()
    }

    func close(
        context: ChannelHandlerContext, mode: CloseMode, promise: EventLoopPromise<Void>?
    ) {
        isClosing = true
        restart(context)
        context.close(mode: mode, promise: promise)
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if event is ChannelShouldQuiesceEvent, !isReceiving, !isAnswering {
            context.close(promise: nil)
        }
        context.fireUserInboundEventTriggered(event)
    }

    private func restart(_ context: ChannelHandlerContext) {
        timer?.cancel()
        progress = 0
        let isBusy = isReceiving || isAnswering
        let seconds =
            isClosing
            ? Self.closingSeconds
            : isBusy
                ? limits.stallSeconds : isFirst ? limits.firstHeadSeconds : limits.idleSeconds
        let box = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        timer = context.eventLoop.scheduleTask(in: .seconds(seconds)) {
            let (handler, context) = box.value
            handler.expire(context)
        }
    }

    private func expire(_ context: ChannelHandlerContext) {
        let isBusy = isReceiving || isAnswering
        let clientIsSlow = (isReceiving && wantsBytes) || !context.channel.isWritable
        if isBusy, !isClosing, progress > 0 || !clientIsSlow { return restart(context) }
        context.close(promise: nil)
    }
}

/// Runs tasks on an event loop, so that serving does not depend on the cooperative threads, which
/// others in the process may block.
final class LoopExecutor: TaskExecutor {
    private let loop: any EventLoop

    init(_ loop: any EventLoop) { self.loop = loop }

    func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        loop.execute { job.runSynchronously(on: self.asUnownedTaskExecutor()) }
    }
}
