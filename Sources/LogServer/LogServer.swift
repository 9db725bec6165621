// The log server: start, serve, stop. HummingbirdCore's server accepts connections; each is served
// by one task on the event loop of its channel (LogServer+Requests.swift); everything that touches
// the disk runs on a pool of threads. Nothing runs on the cooperative threads.
//
//   connections -> event loops: TLS, HTTP -> task per connection -> disk threads: ServedStore
//                                                                   retention thread

import DiskIO
import Foundation
import HummingbirdCore
import Logging
import NIOCore
import NIOPosix
import NIOSSL
import ServerAPI
import Synchronization

/// A log server. `start`, `stop` and `reloadCertificate` block; never call them on an event loop.
public final class LogServer: Sendable {
    let configuration: LogServerConfiguration
    let store: ServedStore
    let load: LoadMeter
    let counters = ServerCounters()
    let pool: NIOThreadPool
    private let loops: MultiThreadedEventLoopGroup
    private let executors: [ObjectIdentifier: LoopExecutor]
    private let security: Mutex<NIOSSLContext?>
    private let running = Mutex(Running())
    private let connections = Mutex<[ObjectIdentifier: any Channel]>([:])
    private let draining = Atomic<Bool>(false)
    let retention: RetentionThread

    private struct Running: Sendable {
        var server: Server<ConnectionSetup>?
        var ended: EventLoopFuture<Void>?
        var isStopped = false
    }

    /// Opens the store, or makes it in an empty or missing folder. Blocks on the disk.
    public init(_ configuration: LogServerConfiguration) throws(LogServerError) {
        self.configuration = configuration
        if configuration.certificate == nil,
            !LogServerConfiguration.isLoopback(configuration.host)
        {
            throw .insecure(host: configuration.host)
        }
        security = Mutex(try configuration.certificate.map(Self.context))
        do throws(ServerStoreError) {
            store = try ServedStore(configuration)
        } catch { throw .store(error) }
        let limits = configuration.limits
        load = LoadMeter(threads: limits.diskThreads, places: limits.uploads)
        pool = NIOThreadPool(numberOfThreads: limits.diskThreads)
        loops = MultiThreadedEventLoopGroup(
            numberOfThreads: max(1, min(System.coreCount, 4)))
        executors = Dictionary(
            uniqueKeysWithValues: loops.makeIterator().map {
                (ObjectIdentifier($0), LoopExecutor($0))
            })
        retention = RetentionThread(store, limits, log: configuration.log)
    }

    /// Serves from when it returns on, until `stop`. Gives back the port.
    @discardableResult
    public func start() throws(LogServerError) -> Int {
        pool.start()
        retention.start()
        let loop = loops.next()
        let started = loop.makePromise(of: Int.self)
        let ended = loop.makePromise(of: Void.self)
        var quiet = configuration.log
        quiet.logLevel = .error
        let limits = configuration.limits
        let server = Server(
            childChannelSetup: ConnectionSetup(
                security: { [self] in security.withLock { $0 } }, limits: limits,
                serve: { [self] in await serve($0) }),
            configuration: ServerConfiguration(
                address: .hostname(configuration.host, port: configuration.port), backlog: 1024,
                availableConnectionsDelegate: MaximumAvailableConnections(limits.connections)),
            onServerRunning: { started.succeed($0.localAddress?.port ?? 0) },
            eventLoopGroup: loops, logger: quiet)
        running.withLock { $0.server = server }
        Task.detached(executorPreference: executors[ObjectIdentifier(loop)]) {
            do {
                try await server.run()
            } catch {
                started.fail(error)
            }
            ended.succeed(())
        }
        running.withLock { $0.ended = ended.futureResult }
        do {
            return try started.futureResult.wait()
        } catch {
            stop(graceSeconds: 0)
            throw .address("\(error)")
        }
    }

    /// Takes no new connections, lets requests under way end for up to `graceSeconds`, then cuts
    /// them, and gives the store free. Idempotent.
    public func stop(graceSeconds: Int64 = 30) {
        draining.store(true, ordering: .sequentiallyConsistent)
        let (server, ended, isFirst) = running.withLock { running in
            defer { running.isStopped = true }
            return (running.server, running.ended, !running.isStopped)
        }
        guard isFirst else { return }
        retention.stop()
        if let server, let ended {
            let loop = loops.next()
            Task.detached(executorPreference: executors[ObjectIdentifier(loop)]) {
                try? await server.shutdownGracefully()
            }
            if !Self.wait(for: ended, on: loop, seconds: graceSeconds) {
                for channel in connections.withLock({ Array($0.values) }) {
                    channel.close(promise: nil)
                }
                _ = Self.wait(for: ended, on: loop, seconds: 30)
            }
        }
        try? pool.syncShutdownGracefully()
        try? loops.syncShutdownGracefully()
        store.close()
    }

    /// Whether `future` was done in time.
    private static func wait(
        for future: EventLoopFuture<Void>, on loop: any EventLoop, seconds: Int64
    ) -> Bool {
        let promise = loop.makePromise(of: Bool.self)
        let timer = loop.scheduleTask(in: .seconds(seconds)) { promise.succeed(false) }
        future.whenComplete { _ in promise.succeed(true) }
        defer { timer.cancel() }
        return (try? promise.futureResult.wait()) ?? false
    }

    var isDraining: Bool { draining.load(ordering: .relaxed) }

    // MARK: certificate

    /// Reads the certificate again, for connections from now on. Throws, and keeps the one before,
    /// where the new one cannot be used.
    public func reloadCertificate() throws(LogServerError) {
        guard let files = configuration.certificate else { return }
        let context = try Self.context(files)
        security.withLock { $0 = context }
    }

    private static func context(
        _ files: LogServerConfiguration.Certificate
    ) throws(LogServerError) -> NIOSSLContext {
        do {
            let chain = try NIOSSLCertificate.fromPEMFile(files.chain)
            guard !chain.isEmpty else {
                throw LogServerError.certificate("\(files.chain) holds no certificate")
            }
            let key = try NIOSSLPrivateKey(file: files.key, format: .pem)
            var settings = TLSConfiguration.makeServerConfiguration(
                certificateChain: chain.map { .certificate($0) }, privateKey: .privateKey(key))
            settings.minimumTLSVersion = .tlsv12
            settings.applicationProtocols = ["http/1.1"]
            return try NIOSSLContext(configuration: settings)
        } catch let error as LogServerError {
            throw error
        } catch {
            throw .certificate("\(files.chain), \(files.key): \(error)")
        }
    }

    // MARK: connections

    private func serve(_ connection: ServedConnection) async {
        let channel = connection.channel
        connections.withLock { $0[ObjectIdentifier(channel)] = channel }
        let executor = executors[ObjectIdentifier(channel.eventLoop)]
        await withTaskExecutorPreference(executor) { [self] in
            await converse(connection)
        }
        connections.withLock { _ = $0.removeValue(forKey: ObjectIdentifier(channel)) }
    }

    var connectionCount: Int { connections.withLock { $0.count } }

    /// Runs `body` on a disk thread. Throws what it throws; `.busy` when the server is stopping.
    func disk<R: Sendable>(
        _ body: @escaping @Sendable () throws -> R
    ) async throws(ErrorReply) -> R {
        do {
            return try await pool.runIfActive { [load] in
                load.workBegins(now: Self.monotonic)
                defer { load.workEnds(now: Self.monotonic) }
                return try body()
            }
        } catch let error as ErrorReply {
            throw error
        } catch {
            throw ErrorReply(.busy, "the server is shutting down")
        }
    }
}
