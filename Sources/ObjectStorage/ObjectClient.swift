// A store in S3's language: a blocking call per request, signed, repeated with back-off where the
// answer was lost or asked for it, and told as ShipError where it says no. What a verb means is in
// ObjectClient+Verbs.swift and +Parts.swift; what a volume is, nobody knows here.
//
// Every request may be sent again: bodies are whole in memory, and what is made is made once
// (create-only) or the same again. A request that failed may have been carried out all the same;
// whoever makes something reads back before it says that it is not there.
//
// Any thread may call but a cooperative one or an event loop; calls block.

import Foundation
import NIOCore
import NIOHTTP1
import ServerAPI
import Shipping
import Synchronization

/// A client of one bucket. Keeps connections open for a while.
public final class ObjectClient: Sendable {
    public let url: ObjectURL
    public let access: ObjectAccess
    let endpoint: ObjectEndpoint
    private let transport: ObjectTransport
    private let isPathStyle: Bool

    private struct State {
        var credentials: ObjectCredentials
        var counters = ObjectCounters()
        /// Their clock minus ours, in seconds.
        var clockDifference: Int64?
        var jitter = SystemRandomNumberGenerator()
    }
    private let state: Mutex<State>

    /// Reads keys and certificates; connects to nothing yet.
    public init(_ url: ObjectURL, access: ObjectAccess) throws(RemoteSetupError) {
        self.url = url
        self.access = access
        endpoint = try access.place()
        let credentials = try ObjectCredentials.resolve(
            file: access.credentialsFile, environment: access.environment)
        state = Mutex(State(credentials: credentials))
        isPathStyle =
            access.isPathStyle || endpoint.isAddress || endpoint.host.lowercased() == "localhost"
            || endpoint.isSecure && url.bucket.contains(".")
        transport = try ObjectTransport(access, isSecure: endpoint.isSecure)
    }

    /// What is in messages.
    public var label: String { "\(url)" }
    /// HOST:PORT of the store.
    public var place: String { endpoint.authority() }
    public var counters: ObjectCounters { state.withLock { $0.counters } }
    /// Their clock minus ours in seconds, in the last answer that told; nil: none yet.
    public var clockDifference: Int64? { state.withLock { $0.clockDifference } }

    // MARK: - requests

    /// One request.
    struct Request: Sendable {
        var method: HTTPMethod
        var kind: ObjectCounters.Kind
        /// Below the bucket; nil: the bucket itself.
        var key: String?
        var query: [(name: String, value: String)] = []
        var headers: [(name: String, value: String)] = []
        var body: ByteBuffer?
        /// SHA-256 of the body; nil: it is not signed, which only TLS makes good.
        var bodyHash: String? = SignedRequest.emptyHash
        /// nil: as `access` says.
        var idleSeconds: Int64?
        /// Its bytes are told to `pace`, not counted as traffic here.
        var isPaced = false
        /// A "no" to the keys is an answer like others.
        var mayBeDenied = false

        init(_ method: HTTPMethod, _ kind: ObjectCounters.Kind, key: String?) {
            (self.method, self.kind, self.key) = (method, kind, key)
        }
    }

    /// A request that was sent.
    struct Started {
        var request: Request
        var pending: PendingAnswer
        fileprivate var target: UnsafeMutableRawBufferPointer?
    }

    /// Sends without waiting. With `isFed` the body goes by the feed, piece by piece.
    func begin(
        _ request: Request, isFed: Bool = false, into target: UnsafeMutableRawBufferPointer? = nil
    ) -> Started {
        let pending = send(request, isFed: isFed, into: target)
        return Started(request: request, pending: pending, target: target)
    }

    /// Sends and waits.
    func call(
        _ request: Request, into target: UnsafeMutableRawBufferPointer? = nil
    ) throws(ShipError) -> WireAnswer {
        try settle(begin(request, into: target))
    }

    /// Sends once, whatever comes of it; any answer comes back.
    func callOnce(_ request: Request) throws(ShipError) -> WireAnswer {
        do throws(WireFailure) {
            let answer = try send(request, isFed: false, into: nil).answer(
                idleSeconds: access.idleSeconds, isCancelled: access.isCancelled)
            note(answer)
            return answer
        } catch {
            if case .cancelled = error { throw .stopped }
            throw .unreachable("\(place): \(error.words)")
        }
    }

    /// Waits for the answer; sends again as long as it makes sense. Answers that are not 2xx come
    /// back where the one who asked must decide; others are thrown.
    func settle(_ started: Started) throws(ShipError) -> WireAnswer {
        let request = started.request
        var pending = started.pending
        var attempt = 1
        var hasNewKeys = false
        while true {
            let outcome = outcome(of: pending, request)
            switch outcome {
            case .good(let answer): return answer
            case .failed(let error): throw error
            case .keys(let error):
                guard !hasNewKeys, renewCredentials() else { throw error }
                hasNewKeys = true
            case .again(let error, let seconds, let isAtOnce):
                guard attempt < access.attemptsMax, seconds ?? 0 <= Self.waitSecondsMax else {
                    throw error
                }
                if !(isAtOnce && attempt == 1) { try pause(attempt, atLeast: seconds ?? 0) }
                attempt += 1
            }
            state.withLock { $0.counters.repeats += 1 }
            pending = send(request, isFed: false, into: started.target)
        }
    }

    /// Longer waits that a store asks for are the caller's.
    private static let waitSecondsMax: Int64 = 5

    private enum Outcome {
        case good(WireAnswer)
        case failed(ShipError)
        case keys(ShipError)
        case again(ShipError, seconds: Int64?, isAtOnce: Bool)
    }

    private func outcome(of pending: PendingAnswer, _ request: Request) -> Outcome {
        let answer: WireAnswer
        do throws(WireFailure) {
            answer = try pending.answer(
                idleSeconds: request.idleSeconds ?? access.idleSeconds,
                isCancelled: access.isCancelled)
        } catch {
            switch error {
            case .cancelled: return .failed(.stopped)
            case .certificate(let text): return .failed(.refused(certificate(text)))
            // A connection that the store had closed costs nothing but another one.
            case .broken(let text):
                let failure = ShipError.unreachable("\(place): \(text)")
                return .again(failure, seconds: nil, isAtOnce: true)
            case .silent:
                let failure = ShipError.unreachable("\(place): \(error.words)")
                return .again(failure, seconds: nil, isAtOnce: true)
            }
        }
        note(answer)
        if (200...299).contains(answer.status) { return .good(answer) }
        let refusal = ObjectRefusal(answer)
        let words = refusal.words(place, bucket: url.bucket, now: Self.now())
        switch refusal.meaning {
        case .asked: return .good(answer)
        case .full: return .failed(.full(seconds: refusal.retryAfterSeconds ?? 60, words))
        case .keys: return request.mayBeDenied ? .good(answer) : .keys(.refused(words))
        case .user:
            if refusal.code == "NoSuchBucket" {
                return .failed(.rejected(ErrorReply(.noVolume, words)))
            }
            let isDenied = request.mayBeDenied && refusal.code == "AccessDenied"
            if isDenied { return .good(answer) }
            return refusal.code == "AccessDenied"
                ? .keys(.refused(words)) : .failed(.refused(words))
        case .again:
            let isBusy = [429, 503].contains(refusal.status)
            let seconds = refusal.retryAfterSeconds
            return .again(
                isBusy ? .busy(seconds: max(1, seconds ?? 5), words) : .unreachable(words),
                seconds: seconds, isAtOnce: false)
        }
    }

    private func certificate(_ text: String?) -> String {
        let url = try? RemoteURL("https://\(endpoint.authority())/store")
        var access = RemoteAccess(caFiles: self.access.caFiles)
        access.connectSeconds = self.access.connectSeconds
        let why = text ?? url.map { CertificateProblem.words($0, access) } ?? "it is not valid"
        return "the certificate of \(place) is not good: \(why)"
    }

    /// Doubles with each attempt, with half of it by chance, so that many do not come back at once.
    private func pause(_ attempt: Int, atLeast seconds: Int64) throws(ShipError) {
        let base = access.pauseMilliseconds << Int64(min(attempt - 1, 6))
        let share = state.withLock { Double.random(in: 0.5...1.0, using: &$0.jitter) }
        let milliseconds = max(Int64(Double(base) * share), seconds * 1000)
        let end = Exchange.now() + milliseconds * 1_000_000
        while true {
            if access.isCancelled() { throw .stopped }
            let left = end - Exchange.now()
            guard left > 0 else { return }
            Thread.sleep(forTimeInterval: Double(min(left, 50_000_000)) / 1e9)
        }
    }

    // MARK: - one attempt

    private func send(
        _ request: Request, isFed: Bool, into target: UnsafeMutableRawBufferPointer?
    ) -> PendingAnswer {
        let credentials = state.withLock { state in
            state.counters.count(request.kind)
            state.counters.sentBytes += UInt64(request.body?.readableBytes ?? 0)
            return state.credentials
        }
        let body = request.body?.readableBytes ?? 0
        access.traffic?.add(body: request.isPaced ? 0 : body, isRequest: true)
        let authority = endpoint.authority(isPathStyle ? "" : "\(url.bucket).")
        let time = WireTime.stamp(Self.now())
        var signed = SignedRequest(
            method: request.method.rawValue,
            path: (isPathStyle ? "/\(url.bucket)" : "") + (request.key.map { "/\($0)" } ?? ""),
            query: request.query, payloadHash: request.bodyHash ?? SignedRequest.unsigned)
        if signed.path.isEmpty { signed.path = "/" }
        signed.headers =
            [
                ("host", authority), ("x-amz-date", time),
                ("x-amz-content-sha256", signed.payloadHash),
            ] + request.headers
        if let token = credentials.sessionToken {
            signed.headers.append(("x-amz-security-token", token))
        }
        let signer = Signer(credentials: credentials, region: access.region)
        var headers = HTTPHeaders(signed.headers.map { ($0.name, $0.value) })
        headers.add(name: "Authorization", value: signer.authorization(signed, at: time))
        headers.add(name: "User-Agent", value: "logdisk")
        let query = signed.encodedQuery
        let address =
            "http\(endpoint.isSecure ? "s" : "")://\(authority)\(signed.encodedPath)"
            + (query.isEmpty ? "" : "?\(query)")
        return transport.begin(
            request.method, url: address, headers, body: request.body, isFed: isFed, into: target)
    }

    private func note(_ answer: WireAnswer) {
        let count = answer.body.count + answer.filled
        let theirs = answer.headers.first(name: "Date").flatMap { WireTime.seconds(httpDate: $0) }
        state.withLock { state in
            state.counters.receivedBytes += UInt64(count)
            if let theirs { state.clockDifference = theirs - Self.now() }
        }
        access.traffic?.add(body: count, isRequest: false)
    }

    /// Whether there are other keys than those in use: files and session tokens are exchanged.
    private func renewCredentials() -> Bool {
        let found = try? ObjectCredentials.resolve(
            file: access.credentialsFile, environment: access.environment)
        guard let found else { return false }
        return state.withLock {
            guard $0.credentials != found else { return false }
            $0.credentials = found
            return true
        }
    }

    /// Seconds since 1970-01-01 UTC.
    static func now() -> Int64 { Int64(Date().timeIntervalSince1970.rounded(.down)) }

    /// An answer that fits nothing.
    func strange(_ answer: WireAnswer) -> ShipError {
        let refusal = ObjectRefusal(answer)
        let words = refusal.words(place, bucket: url.bucket, now: Self.now())
        if refusal.status == 501 || refusal.code == "NotImplemented" {
            return .refused("\(words): the store does not support what is needed")
        }
        if refusal.isForeign { return .unreachable(words) }
        return (400...499).contains(answer.status)
            ? .rejected(ErrorReply(.failed, words)) : .unreachable(words)
    }
}
