// Serves the control socket of a mount (messages: ControlMessages.swift). Hummingbird's server
// without its Application, whose clock ticks every second: an idle mount shall be quiet.
//
// Threads: one event loop; each request that may block runs on a small pool of its own threads.
// The socket can be used by the owner of the mount only (mode 0600).

import BlockModel
import CommandText
import Foundation
import HTTPTypes
import Hummingbird
import HummingbirdCore
import Logging
import NIOCore
import NIOPosix
import Synchronization

/// What the socket controls. Calls may block and come from many threads.
protocol ControlTarget: AnyObject, Sendable {
    func status() -> StatusReport
    func mark(_ name: String) throws(CommandFailure) -> PointReply
    func snapshot(name: String?) throws(CommandFailure) -> SnapshotReply
    func archive() throws(CommandFailure) -> PointReply
    /// Brings the volume back to the state after `lsn`; fails when somebody has its file open.
    func revert(to lsn: LSN) throws(CommandFailure) -> RevertReply
    func remotes() -> [RemoteReport]
    /// The settings of remotes changed.
    func reloadRemotes() throws(CommandFailure)
    /// Ships what is there now at once, to one remote or all; answers with the newest point.
    func ship(_ name: String?) throws(CommandFailure) -> PointReply
    /// Stops a revert that is under way, soon.
    func stopRevert()
    /// Starts the unmount; fails when the mount is busy.
    func unmount() throws(CommandFailure)
}

final class ControlServer: Sendable {
    private let target: any ControlTarget
    private let socket: ControlSocket
    private let pool = NIOThreadPool(numberOfThreads: 4)
    private let loops = MultiThreadedEventLoopGroup(numberOfThreads: 1)
    private let log: Logger
    /// Requests whose answer is not written yet.
    private let inFlight = Atomic<Int>(0)

    init(
        target: any ControlTarget, volume: String, socketName: String = ControlSocket.fileName,
        log: Logger
    ) throws(CommandFailure) {
        self.target = target
        self.log = log
        socket = try ControlSocket(volume: volume, name: socketName)
    }

    /// Returns when the socket answers; throws when it cannot be made. Serves until the process
    /// ends or `removeSocket`.
    func start() throws {
        pool.start()
        let responder = routes().buildResponder()
        try waiting { [self] in
            try await withCheckedThrowingContinuation { (started: Continuation) in
                Task.detached {
                    do {
                        try await self.serve(responder, started)
                    } catch {
                        started.resume(throwing: error)
                    }
                }
            }
        }
    }

    private typealias Continuation = CheckedContinuation<Void, any Error>

    private func serve(
        _ responder: RouterResponder<BasicRequestContext>, _ started: Continuation
    ) async throws {
        var quiet = log
        let log = self.log
        let path = socket.path
        quiet.logLevel = .error
        let server = try HTTPServerBuilder.http1().buildServer(
            configuration: ServerConfiguration(address: .unixDomainSocket(path: path)),
            eventLoopGroup: loops, logger: quiet
        ) { [self] request, writer, channel in
            let context = BasicRequestContext(
                source: ApplicationRequestContextSource(channel: channel, logger: log))
            inFlight.add(1, ordering: .acquiringAndReleasing)
            defer { inFlight.subtract(1, ordering: .acquiringAndReleasing) }
            var response = try await responder.respond(to: request, context: context)
            if response.status == .notFound {
                let failure = CommandFailure(
                    .usage, "", "there is no such request: \(request.method) \(request.uri.path)")
                response = Self.response(failure, .notFound)
            }
            try await writer.write(response: response.head, body: response.body)
        } onServerRunning: { _ in
            // The folder is the owner's already; this closes it for members of the group, too.
            chmod(path, 0o600)
            started.resume()
        }
        try await server.run()
    }

    /// Takes the socket's name away, so that nobody can connect any more, and waits a moment for
    /// the answers that are under way: the process ends soon after.
    func stop() {
        unlink(socket.path)
        for _ in 0..<200 where inFlight.load(ordering: .acquiring) > 0 { usleep(10_000) }
    }

    private func routes() -> Router<BasicRequestContext> {
        let router = Router()
        let target = self.target
        router.get("/metrics") { [self] _, _ in
            let text = try await blocking { target.status().metrics }
            return Response(
                status: .ok, headers: [.contentType: "text/plain; version=0.0.4; charset=utf-8"],
                body: ResponseBody(byteBuffer: ByteBuffer(string: text)))
        }
        router.get("/v1/status") { [self] _, _ in await reply { target.status() } }
        router.post("/v1/mark") { [self] request, _ in
            await reply(to: request) { try target.mark($0 ?? "") }
        }
        router.post("/v1/snapshot") { [self] request, _ in
            await reply(to: request) { try target.snapshot(name: $0) }
        }
        router.post("/v1/archive") { [self] _, _ in await reply { try target.archive() } }
        router.get("/v1/remotes") { [self] _, _ in await reply { target.remotes() } }
        router.post("/v1/remotes/reload") { [self] _, _ in
            await reply {
                try target.reloadRemotes()
                return target.remotes()
            }
        }
        router.post("/v1/ship") { [self] request, _ in
            await reply(to: request) { try target.ship($0) }
        }
        router.post("/v1/revert") { [self] request, _ in await revert(request) }
        router.post("/v1/revert/stop") { [self] _, _ in
            await reply {
                target.stopRevert()
                return AcceptedReply(pid: getpid())
            }
        }
        router.post("/v1/unmount") { [self] _, _ in
            await reply {
                try target.unmount()
                return AcceptedReply(pid: getpid())
            }
        }
        return router
    }

    private func revert(_ request: Request) async -> Response {
        guard let bytes = try? await request.body.collect(upTo: 64 << 10),
            let wanted = try? JSONDecoder().decode(
                RevertRequest.self, from: Data(bytes.readableBytesView))
        else {
            let failure = CommandFailure(
                .usage, "", "the body is not understood", hint: "send {\"lsn\": NUMBER}")
            return Self.response(failure, .badRequest)
        }
        return await reply { [target] in try target.revert(to: LSN(wanted.lsn)) }
    }

    /// Answers a request whose body is JSON with a name, or empty.
    private func reply<Reply: Encodable & Sendable>(
        to request: Request, _ body: @escaping @Sendable (String?) throws -> Reply
    ) async -> Response {
        var name: String?
        do {
            let bytes = try await request.body.collect(upTo: 64 << 10)
            if bytes.readableBytes > 0 {
                let data = Data(bytes.readableBytesView)
                name = try JSONDecoder().decode(NameRequest.self, from: data).name
            }
        } catch {
            let failure = CommandFailure(
                .usage, "", "the body is not understood", hint: "send {\"name\": \"NAME\"}")
            return Self.response(failure, .badRequest)
        }
        return await reply { [name] in try body(name) }
    }

    private func reply<Reply: Encodable & Sendable>(
        _ body: @escaping @Sendable () throws -> Reply
    ) async -> Response {
        do {
            return Self.response(try await blocking(body), .ok)
        } catch let failure as CommandFailure {
            log.notice("refused a control request: \(failure.text(verb: ""))")
            return Self.response(failure, failure.status == .inUse ? .conflict : .badRequest)
        } catch {
            let failure = CommandFailure(.failed, "", "the request failed", cause: "\(error)")
            return Self.response(failure, .internalServerError)
        }
    }

    private func blocking<T: Sendable>(
        _ body: @escaping @Sendable () throws -> T
    ) async throws -> T {
        try await pool.runIfActive { try body() }
    }

    private static func response(
        _ failure: CommandFailure, _ status: HTTPResponse.Status
    ) -> Response {
        response(FailureReply(failure), status)
    }

    private static func response(
        _ value: some Encodable, _ status: HTTPResponse.Status
    ) -> Response {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        // Plain values of our own: they always encode.
        let data = (try? encoder.encode(value)) ?? Data("{}".utf8)
        return Response(
            status: status, headers: [.contentType: "application/json"],
            body: ResponseBody(byteBuffer: ByteBuffer(bytes: data + Data("\n".utf8))))
    }
}
