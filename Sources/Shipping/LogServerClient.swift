// The client's half of Sources/ServerAPI: a blocking call for each request. What goes wrong comes
// out as a ShipError that says whether waiting, the user, or nobody can help.
//
// Any thread may call but a cooperative one or an event loop: calls block until the answer is there
// or nothing moved for `RemoteAccess.idleSeconds`. A request that met a connection which the server
// had closed meanwhile is sent once more on a new one; all requests may be repeated.

import Foundation
import NIOCore
import NIOHTTP1
import ServerAPI
import Synchronization

/// A client of one volume, or one backup device, at one log server. Keeps connections open for a
/// while.
public final class LogServerClient: Sendable {
    public let url: RemoteURL
    let access: RemoteAccess
    /// Who writes, for what changes the volume; nil for readers.
    let writer: String?
    private let connections: ServerConnections
    private let place: ServerPlace
    private struct State {
        var token: String?
        var load: Double?
    }
    private let state: Mutex<State>

    /// Reads the token and the certificates; connects to nothing yet.
    public init(
        _ url: RemoteURL, access: RemoteAccess, writer: String? = nil
    ) throws(RemoteSetupError) {
        self.url = url
        self.access = access
        self.writer = writer
        let token: String? =
            if let file = access.tokenFile { try RemoteAccess.token(in: file) } else { nil }
        state = Mutex(State(token: token))
        if let bind = access.bind { try LocalEnd(bind).check() }
        place = ServerPlace(
            url: url, tls: url.isSecure ? try access.tlsContext() : nil, access: access)
        connections = ServerConnections(place)
    }

    /// How busy the server said it was in its last answer that told, 0 to 1.
    public var load: Double? { state.withLock { $0.load } }

    /// Closes what is not in use.
    public func closeIdleConnections() { connections.closeAll() }

    // MARK: - Volumes

    /// Whether the server is there and well. Needs no token.
    public func health() throws(ShipError) -> HealthReply { try get("/v1/health") }

    /// The volumes that the token may see.
    public func volumes() throws(ShipError) -> VolumeListing { try get("/v1/volumes") }

    /// Where the volume stands; nil when there is none.
    public func volume() throws(ShipError) -> VolumeReply? {
        do throws(ShipError) {
            return try get(volumePath)
        } catch {
            if case .rejected(let reply) = error, reply.code == .noVolume { return nil }
            throw error
        }
    }

    /// Makes the volume, or confirms that it is the one that is there.
    public func attach(_ request: VolumeRequest) throws(ShipError) -> VolumeReply {
        try send(.PUT, volumePath, request)
    }

    /// Makes this client's writer the one that may write.
    public func takeOver(_ request: WriterRequest) throws(ShipError) -> VolumeReply {
        try send(.POST, volumePath + "/writer", request)
    }

    /// Changes the ladder at the server.
    public func setRetention(_ request: RetentionRequest) throws(ShipError) -> VolumeReply {
        try send(.PUT, volumePath + "/retention", request)
    }

    // MARK: - Leases

    public func lease(_ request: LeaseRequest) throws(ShipError) -> LeaseReply {
        try send(.POST, volumePath + "/leases", request)
    }

    public func renewLease(_ id: String) throws(ShipError) -> LeaseReply {
        try decoded(call(Request(.PUT, volumePath + "/leases/\(id)")))
    }

    /// A lease that is gone already is no error.
    public func endLease(_ id: String) throws(ShipError) {
        try deleteIfThere(volumePath + "/leases/\(id)")
    }

    // MARK: - Requests

    /// What a request is made of, but for a body that is streamed.
    struct Request {
        var method: HTTPMethod
        var path: String
        var headers: [(String, String)] = []
        var body: [UInt8]?
        /// nil: as `access` says.
        var idleSeconds: Int64?

        init(_ method: HTTPMethod, _ path: String, _ headers: [(String, String)] = []) {
            (self.method, self.path, self.headers) = (method, path, headers)
        }
    }

    var volumePath: String { "/v1/volumes/\(url.volume)" }

    func get<Reply: Decodable>(_ path: String) throws(ShipError) -> Reply {
        try decoded(call(Request(.GET, path)))
    }

    func send<Reply: Decodable>(
        _ method: HTTPMethod, _ path: String, _ value: some Encodable, idleSeconds: Int64? = nil
    ) throws(ShipError) -> Reply {
        var request = Request(method, path, [("Content-Type", "application/json")])
        request.idleSeconds = idleSeconds
        do {
            request.body = Array(try JSONEncoder().encode(value))
        } catch {
            throw .rejected(ErrorReply(.malformed, "the request cannot be written (\(error))"))
        }
        return try decoded(call(request))
    }

    func deleteIfThere(_ path: String, idleSeconds: Int64? = nil) throws(ShipError) {
        var request = Request(.DELETE, path)
        request.idleSeconds = idleSeconds
        do throws(ShipError) {
            _ = try call(request)
        } catch {
            if case .rejected(let reply) = error, reply.code == .missing { return }
            throw error
        }
    }

    func decoded<Reply: Decodable>(_ answer: WireAnswer) throws(ShipError) -> Reply {
        do {
            return try JSONDecoder().decode(Reply.self, from: Data(answer.body))
        } catch {
            throw .unreachable("\(url.authority) does not answer like a log server")
        }
    }

    /// Sends a request and waits for its answer. Throws for every answer that is not 2xx. A body
    /// of 200 or 206 fills `target`, if there is one.
    func call(
        _ request: Request, into target: UnsafeMutableRawBufferPointer? = nil
    ) throws(ShipError) -> WireAnswer {
        try good(answer(to: request, into: target))
    }

    /// The same for any answer.
    func answer(
        to request: Request, into target: UnsafeMutableRawBufferPointer? = nil
    ) throws(ShipError) -> WireAnswer {
        let answer = try callOnce(request, into: target)
        // The token's file may hold a new one since the client was made.
        if answer.status == 401, renewToken() { return try callOnce(request, into: target) }
        return answer
    }

    private func callOnce(
        _ request: Request, into target: UnsafeMutableRawBufferPointer?
    ) throws(ShipError) -> WireAnswer {
        var isNew = false
        while true {
            let connection: ServerConnection
            do throws(WireFailure) {
                connection = try connections.take(isNew: isNew)
            } catch { throw failure(error) }
            let isUsed = connection.isUsed.load(ordering: .relaxed)  // see `give`
            do throws(WireFailure) {
                return try exchange(request, into: target, on: connection)
            } catch {
                connection.close()
                // One that the server had closed: only a new one tells whether it is there.
                if case .broken = error, isUsed {
                    isNew = true
                    continue
                }
                throw failure(error)
            }
        }
    }

    private func exchange(
        _ request: Request, into target: UnsafeMutableRawBufferPointer?,
        on connection: ServerConnection
    ) throws(WireFailure) -> WireAnswer {
        let exchange = Exchange(into: target)
        defer { exchange.abandon() }
        connection.begin(
            head(of: request, bodyBytes: request.body?.count), exchange,
            hasBody: request.body != nil)
        if let body = request.body {
            if !body.isEmpty { connection.send(ByteBuffer(bytes: body), exchange) }
            connection.sendEnd(exchange)
        }
        let answer = try exchange.answer(
            idleSeconds: request.idleSeconds ?? access.idleSeconds,
            isCancelled: access.isCancelled)
        finish(connection, answer, isSent: true)
        return answer
    }

    /// Sends a request whose body comes piece by piece: `next` fills each, and may wait or throw.
    /// The body is cut where it throws. No second try here.
    func stream(
        _ request: Request, count: UInt64, pieceBytes: Int,
        _ next: (UnsafeMutableRawBufferPointer) throws(ShipError) -> Void
    ) throws(ShipError) -> WireAnswer {
        let connection: ServerConnection
        do throws(WireFailure) {
            connection = try connections.take(isNew: false)
        } catch { throw failure(error) }
        var isDone = false
        defer { if !isDone { connection.close() } }
        let exchange = Exchange()
        connection.begin(
            head(of: request, bodyBytes: Int(count)), exchange, hasBody: true)
        let (seconds, isCancelled) = (access.idleSeconds, access.isCancelled)
        var left = count
        while left > 0 {
            let size = Int(min(UInt64(pieceBytes), left))
            var bytes = ByteBufferAllocator().buffer(capacity: size)
            try fill(&bytes, size, next)
            do throws(WireFailure) {
                let isWanted = try exchange.makeRoom(
                    for: size, bytesMax: ServerConnection.bytesUnderWayMax, idleSeconds: seconds,
                    isCancelled: isCancelled)
                guard isWanted else { break }  // it has answered: that says why
            } catch { throw failure(error) }
            connection.send(bytes, exchange)
            left -= UInt64(size)
        }
        if left == 0 { connection.sendEnd(exchange) }
        let answer: WireAnswer
        do throws(WireFailure) {
            answer = try exchange.answer(
                idleSeconds: request.idleSeconds ?? seconds, isCancelled: isCancelled)
        } catch { throw failure(error) }
        isDone = true
        finish(connection, answer, isSent: left == 0)
        return try good(answer)
    }

    private func fill(
        _ bytes: inout ByteBuffer, _ count: Int,
        _ next: (UnsafeMutableRawBufferPointer) throws(ShipError) -> Void
    ) throws(ShipError) {
        var failure: ShipError?
        bytes.writeWithUnsafeMutableBytes(minimumWritableBytes: count) { memory in
            do throws(ShipError) {
                try next(UnsafeMutableRawBufferPointer(rebasing: memory[..<count]))
            } catch { failure = error }
            return count
        }
        if let failure { throw failure }
    }

    private func finish(_ connection: ServerConnection, _ answer: WireAnswer, isSent: Bool) {
        if let text = answer.headers.first(name: ServerAPI.loadHeader), let load = Double(text),
            load.isFinite
        {
            state.withLock { $0.load = min(max(load, 0), 1) }
        }
        if answer.isKeptAlive && isSent { connections.give(connection) } else { connection.close() }
    }

    private func head(of request: Request, bodyBytes: Int?) -> HTTPRequestHead {
        var headers = HTTPHeaders([("Host", url.authority), ("User-Agent", "logdisk")])
        if let token = state.withLock({ $0.token }) {
            headers.add(name: "Authorization", value: "Bearer \(token)")
        }
        if let writer { headers.add(name: ServerAPI.writerHeader, value: writer) }
        for (name, value) in request.headers { headers.add(name: name, value: value) }
        let needsLength = request.method != .GET && request.method != .HEAD
        if bodyBytes != nil || needsLength {
            headers.add(name: "Content-Length", value: "\(bodyBytes ?? 0)")
        }
        return HTTPRequestHead(
            version: .http1_1, method: request.method, uri: request.path, headers: headers)
    }

    /// Whether the file holds another token than the one in use.
    private func renewToken() -> Bool {
        guard let file = access.tokenFile, let token = try? RemoteAccess.token(in: file) else {
            return false
        }
        return state.withLock {
            guard $0.token != token else { return false }
            $0.token = token
            return true
        }
    }

    func good(_ answer: WireAnswer) throws(ShipError) -> WireAnswer {
        guard (200...299).contains(answer.status) else {
            throw ShipError(answer, from: url.authority)
        }
        return answer
    }

    private func failure(_ failure: WireFailure) -> ShipError {
        switch failure {
        case .cancelled: .stopped
        case .certificate(let text):
            .refused(
                "the certificate of \(url.authority) is not good: "
                    + (text ?? CertificateProblem.words(place)))
        case .broken, .silent: .unreachable("\(url.authority): \(failure.words)")
        }
    }
}
