// What each request does: who asks, may they, then the store. Bodies are read only after that.

import Foundation
import HTTPTypes
import History
import NIOCore
import NIOHTTPTypes
import ServerAPI

extension LogServer {
    /// The answer to a request; throws an ErrorReply for a refusal, anything else when there is
    /// nobody to answer any more.
    func reply(
        to head: HTTPRequest, _ reader: inout RequestReader, _ outbound: ReplyWriter
    ) async throws -> Reply {
        guard !isDraining else { throw ErrorReply(.busy, "the server is shutting down") }
        let call = try Call(method: head.method.rawValue, target: head.path ?? "")
        var access: Access?
        if let level = call.level { access = try await admit(head, level, call.volume) }
        if case .backup(let device, let call) = call, let access {
            return try await reply(to: call, of: device, head, &reader, outbound, access)
        }
        if let limit = call.bodyBytesMax {
            if head.contentLength ?? 0 > UInt64(limit) {
                throw ErrorReply(.tooLarge, "the body is larger than \(limit) bytes")
            }
            try await goOn(head, outbound)
            let bytes = try await reader.collect(limit: limit)
            return try await reply(to: call, head, bytes, access)
        }
        if case .append(let volume, let id) = call {
            return try await append(volume, id, head, &reader, outbound)
        }
        return try await reply(to: call, head, [], access)
    }

    /// Who asks; throws where they may not.
    func admit(
        _ head: HTTPRequest, _ level: AccessLevel, _ volume: String?
    ) async throws -> Access {
        guard let token = head.token else {
            throw ErrorReply(
                .unauthenticated, "this needs a token", hint: "Authorization: Bearer TOKEN")
        }
        let folder = store.access
        guard let access = try await disk({ folder.access(token: token) }) else {
            throw ErrorReply(.unauthenticated, "the token is unknown or revoked")
        }
        if let volume, !access.mayUse(volume) {
            throw ErrorReply(.forbidden, "the token is not for \(volume)")
        }
        guard access.level >= level else {
            throw ErrorReply(.forbidden, "a token that is \(access.level.rawValue) may not do this")
        }
        return access
    }

    /// Tells a client that waits to send its body.
    func goOn(_ head: HTTPRequest, _ outbound: ReplyWriter) async throws {
        guard head.hasBody, head.expectsContinue else { return }
        try await outbound.write(.head(HTTPResponse(status: .continue)))
    }

    private func reply(
        to call: Call, _ head: HTTPRequest, _ body: [UInt8], _ access: Access?
    ) async throws -> Reply {
        let (store, now) = (self.store, store.now)
        let writer = head.headerFields[.logdiskWriter] ?? ""
        switch call {
        case .health: return Reply(HealthReply(version: configuration.version))
        case .openAPI: return Reply(text: OpenAPI.text, "application/yaml")
        case .metrics:
            let text = try await disk { [self] in metrics() }
            return Reply(text: text, "text/plain; version=0.0.4; charset=utf-8")
        case .listVolumes:
            let volumes = store.all.filter { access?.mayUse($0.name) ?? false }
            return try await json { VolumeListing(volumes: volumes.map(\.reply)) }
        case .volume(let name): return try await json { try store.volume(name).reply }
        case .makeVolume(let name):
            let request: VolumeRequest = try Self.decode(body)
            return try await json { try store.make(name, request) }
        case .takeOver(let name):
            let request: WriterRequest = try Self.decode(body)
            return try await json { try store.takeOver(name, request) }
        case .retain(let name):
            let request: RetentionRequest = try Self.decode(body)
            let isFull = access?.level == .full
            defer { retention.wake() }
            return try await json { try store.retain(name, request, isFull: isFull) }
        case .listSegments(let name):
            return try await json {
                let segments = try store.volume(name).segments.sorted
                return SegmentListing(
                    segments: segments.map { .init(name: "\($0.name)", bytes: $0.byteCount) })
            }
        case .segment(let name, let segment): return try segmentReply(name, segment, head)
        case .deleteSegment(let name, let segment):
            return try await done { try store.delete(name, segment: segment) }
        case .upload(let name, let id):
            return try await json {
                guard let upload = try store.volume(name).upload(id) else {
                    throw ErrorReply(.missing, "there is no upload of that name")
                }
                return UploadReply(bytes: upload.byteCount)
            }
        case .commit(let name, let id):
            let request: CommitRequest = try Self.decode(body)
            return try await commit(name, id, request, writer: writer, by: access?.name ?? "")
        case .dropUpload(let name, let id):
            return try await done {
                let volume = try store.volume(name)
                try ServedVolume.mustBeWriter(writer, volume.record)
                guard let upload = volume.upload(id) else {
                    throw ErrorReply(.missing, "there is no upload of that name")
                }
                upload.abort()
                volume.forget(upload)
            }
        case .lease(let name):
            let request: LeaseRequest = try Self.decode(body)
            return try await json {
                try store.leases.take(store.volume(name), request, now: now)
            }
        case .renewLease(let name, let id):
            return try await json { try store.leases.renew(store.volume(name), id, now: now) }
        case .releaseLease(let name, let id):
            return try await done { try store.leases.release(store.volume(name), id) }
        case .append, .backup: preconditionFailure("these have ways of their own")
        }
    }

    func json<Value: Encodable & Sendable>(
        _ body: @escaping @Sendable () throws -> Value
    ) async throws -> Reply {
        Reply(try await disk(body))
    }

    func done(_ body: @escaping @Sendable () throws -> Void) async throws -> Reply {
        try await disk(body)
        return Reply(.noContent)
    }

    static func decode<Value: Decodable>(_ bytes: [UInt8]) throws -> Value {
        do {
            return try JSONDecoder().decode(Value.self, from: Data(bytes))
        } catch {
            throw ErrorReply(.malformed, "the body is not understood")
        }
    }

    // MARK: segments

    private func segmentReply(
        _ name: String, _ segment: SegmentName, _ head: HTTPRequest
    ) throws -> Reply {
        let segments = try store.volume(name).segments
        guard let size = segments.size(segment) else {
            throw ErrorReply(.missing, "there is no segment of that name")
        }
        let range = try RequestedRange(size: size, field: head.headerFields[.range])
        return Reply(range, .segment(segments, segment, range))
    }

    private func commit(
        _ name: String, _ id: String, _ request: CommitRequest, writer: String, by token: String
    ) async throws -> Reply {
        let store = self.store
        let reply = try await disk {
            let reply = try store.volume(name).commit(id, request, writer: writer, now: store.now)
            if !reply.wasThere {
                store.log.info("\(name): \(request.name), \(request.bytes) bytes, from \(token)")
            }
            return reply
        }
        counters.commits.add(1, ordering: .relaxed)
        retention.wake()
        return Reply(reply)
    }

    // MARK: uploads

    /// After so many bytes the token, the writer and the room are looked at again.
    private static let lookBytes = 64 << 20

    private func append(
        _ name: String, _ id: String, _ head: HTTPRequest, _ reader: inout RequestReader,
        _ outbound: ReplyWriter
    ) async throws -> Reply {
        guard let field = head.headerFields[.uploadOffset], let offset = UInt64(field) else {
            throw ErrorReply(.malformed, "Upload-Offset is missing, or no number")
        }
        let writer = head.headerFields[.logdiskWriter] ?? ""
        guard load.uploadBegins(now: Self.monotonic) else {
            throw ErrorReply(.busy, "too many uploads at once")
        }
        defer { load.uploadEnds(now: Self.monotonic) }
        let store = self.store
        let (upload, turn) = try await disk {
            try store.mustHaveRoom()
            let volume = try store.volume(name)
            try ServedVolume.mustBeWriter(writer, volume.record)
            if offset > 0, volume.upload(id) == nil {
                throw ErrorReply(.offset, "there is no such upload yet", bytes: 0)
            }
            let upload = try volume.upload(
                id, isNew: true, nowSeconds: store.now / 1_000_000_000)
            return (upload, try upload.begin(at: offset))
        }
        defer { upload.end() }
        try await goOn(head, outbound)
        try await take(upload, turn, &reader) { [self] in
            _ = try await admit(head, .appendOnly, name)
            try await disk {
                try store.mustHaveRoom()
                try ServedVolume.mustBeWriter(writer, store.volume(name).record)
            }
        }
        return Reply(UploadReply(bytes: try await disk { upload.byteCount }))
    }

    /// Takes the rest of a body into an upload; now and then `look` looks at the rights again.
    func take(
        _ upload: Upload, _ turn: UInt64, _ reader: inout RequestReader,
        _ look: () async throws -> Void
    ) async throws {
        var untilLook = Self.lookBytes
        while let piece = try await reader.next() {
            try await disk {
                try piece.withUnsafeReadableBytes { try upload.append($0, turn: turn) }
            }
            counters.receivedBytes.add(piece.readableBytes, ordering: .relaxed)
            untilLook -= piece.readableBytes
            if untilLook <= 0 {
                untilLook = Self.lookBytes
                try await look()
            }
        }
    }
}
