// Requests about sets of backups. Who asks has been admitted; bodies are read here.

import DiskIO
import Foundation
import History
import HTTPTypes
import History
import NIOCore
import ServerAPI

extension LogServer {
    private static let requestBytesMax = 64 << 10

    func reply(
        to call: BackupCall, of device: String, _ head: HTTPRequest,
        _ reader: inout RequestReader, _ outbound: ReplyWriter, _ access: Access
    ) async throws -> Reply {
        let store = self.store
        let backups = store.backups
        let writer = head.headerFields[.logdiskWriter] ?? ""
        switch call {
        case .show:
            return try await json {
                BackupReply(
                    name: device, access: access.level.rawValue, freeBytes: try store.room(),
                    sets: backups.sets(of: device).map(\.reply))
            }
        case .begin(let id):
            try await goOn(head, outbound)
            let request: SetRequest = try Self.decode(
                try await reader.collect(limit: Self.requestBytesMax))
            return try await json {
                try store.mustHaveRoom()
                return try backups.begin(device, id, request, writer: writer, now: store.now)
            }
        case .commit(let id):
            return try await json {
                try backups.commit(device, id, writer: writer, now: store.now)
            }
        case .remove(let id):
            let isFull = access.level == .full
            return try await done {
                try backups.remove(device, id, writer: writer, isFull: isFull, now: store.now)
            }
        case .release(let id):
            return try await done { try backups.set(device, id).release(writer) }
        case .list(let id):
            return try await json {
                let files = try backups.set(device, id).files()
                return SetFileListing(
                    files: files.map { .init(name: $0.key, bytes: $0.value) }
                        .sorted { $0.name < $1.name })
            }
        case .file(let id, let name):
            let (file, size) = try await disk { try backups.set(device, id).open(name) }
            let range = try RequestedRange(size: size, field: head.headerFields[.range])
            return Reply(range, .file(file, range))
        case .append(let id, let name):
            return try await append(Part(device, id, name, head), head, &reader, outbound)
        case .finish(let id, let name):
            return try await finish(Part(device, id, name, head), head, &reader, outbound)
        case .removeFile(let id, let name):
            return try await done {
                try backups.set(device, id).removeFile(name, writer: writer, now: store.now)
            }
        }
    }

    // MARK: files

    /// What the fields of a request say of the part of a file that it brings.
    private struct Part: Sendable {
        var device: String
        var set: String
        var name: String
        var offset: UInt64
        var headBytes: Int
        var zeros: UInt64?
        var digest: String?
        var writer: String

        init(_ device: String, _ set: String, _ name: String, _ head: HTTPRequest) throws {
            (self.device, self.set, self.name) = (device, set, name)
            let fields = head.headerFields
            guard let text = fields[.uploadOffset], let offset = UInt64(text), offset < 1 << 62
            else { throw ErrorReply(.malformed, "Upload-Offset is missing, or no number") }
            guard let headBytes = Int(fields[.headBytes] ?? "0"),
                (0...ServerAPI.headBytesMax).contains(headBytes)
            else { throw ErrorReply(.malformed, "Logdisk-Head-Bytes is no size of a head") }
            if let text = fields[.zeros] {
                guard let zeros = UInt64(text), zeros <= ServerAPI.zerosMax else {
                    throw ErrorReply(.malformed, "Logdisk-Zeros is no number, or too large")
                }
                self.zeros = zeros
            }
            if let text = fields[.contentDigest] {
                guard text.utf8.count == 64, text.allSatisfy(\.isHexDigit) else {
                    throw ErrorReply(.malformed, "Logdisk-SHA256 takes 64 hexadecimal digits")
                }
                digest = text
            }
            (self.offset, self.headBytes) = (offset, headBytes)
            writer = fields[.logdiskWriter] ?? ""
        }

        /// What ends a set may use some of the reserve.
        var isEnding: Bool { ServerAPI.itemNumber(name) == nil }
    }

    /// The upload that a part belongs to; whoever wrote to it before is refused from now on.
    private func begin(_ part: Part) async throws -> (upload: Upload, turn: UInt64) {
        let store = self.store
        return try await disk {
            try store.mustHaveRoom(isEnding: part.isEnding)
            let upload = try store.backups.set(part.device, part.set).upload(
                part.name, headBytes: UInt64(part.headBytes), offset: part.offset,
                writer: part.writer, now: store.now)
            return (upload, try upload.begin(at: part.offset))
        }
    }

    private func take(
        _ upload: Upload, _ turn: UInt64, _ part: Part, _ head: HTTPRequest,
        _ reader: inout RequestReader
    ) async throws {
        let store = self.store
        try await take(upload, turn, &reader) { [self] in
            _ = try await admit(head, .appendOnly, part.device)
            try await disk {
                try store.mustHaveRoom(isEnding: part.isEnding)
                try store.backups.set(part.device, part.set).mustBeWriter(
                    part.writer, now: store.now)
            }
        }
    }

    private func append(
        _ part: Part, _ head: HTTPRequest, _ reader: inout RequestReader,
        _ outbound: ReplyWriter
    ) async throws -> Reply {
        guard load.uploadBegins(now: Self.monotonic) else {
            throw ErrorReply(.busy, "too many uploads at once")
        }
        defer { load.uploadEnds(now: Self.monotonic) }
        let (upload, turn) = try await begin(part)
        defer { upload.end() }
        if let zeros = part.zeros {
            guard !head.hasBody else {
                throw ErrorReply(.malformed, "Logdisk-Zeros stands for a body")
            }
            try await disk { try upload.appendZeros(zeros, turn: turn) }
        } else {
            try await goOn(head, outbound)
            try await take(upload, turn, part, head, &reader)
        }
        return Reply(UploadReply(bytes: try await disk { upload.byteCount }))
    }

    private func finish(
        _ part: Part, _ head: HTTPRequest, _ reader: inout RequestReader,
        _ outbound: ReplyWriter
    ) async throws -> Reply {
        guard let digest = part.digest else {
            throw ErrorReply(.malformed, "Logdisk-SHA256 is missing")
        }
        guard load.uploadBegins(now: Self.monotonic) else {
            throw ErrorReply(.busy, "too many uploads at once")
        }
        defer { load.uploadEnds(now: Self.monotonic) }
        let store = self.store
        try await goOn(head, outbound)
        let (front, rest) = try await Self.front(part.headBytes, &reader)
        let set = try await disk { try store.backups.set(part.device, part.set) }
        let isThere = try await disk {
            try set.mustBeWriter(part.writer, now: store.now)
            return try set.files()[part.name] != nil
        }
        if isThere {
            var size = part.offset + UInt64(rest.readableBytes)
            while let piece = try await reader.next() { size += UInt64(piece.readableBytes) }
            try await disk { [size] in
                try Self.mustBeSame(set, part.name, front, size, digest)
            }
            return Reply(SetFileReply(wasThere: true))
        }
        let (upload, turn) = try await begin(part)
        defer { upload.end() }
        try await disk {
            try rest.withUnsafeReadableBytes { try upload.append($0, turn: turn) }
        }
        counters.receivedBytes.add(front.count + rest.readableBytes, ordering: .relaxed)
        try await take(upload, turn, part, head, &reader)
        try await disk {
            try set.finish(
                upload, as: part.name, head: front, byteCount: upload.byteCount, sha256: digest)
        }
        counters.backupFiles.add(1, ordering: .relaxed)
        return Reply(SetFileReply(wasThere: false))
    }

    /// The first bytes of a body, and what came with them.
    private static func front(
        _ count: Int, _ reader: inout RequestReader
    ) async throws -> (front: [UInt8], rest: ByteBuffer) {
        var buffer = ByteBuffer()
        while buffer.readableBytes < count {
            guard let piece = try await reader.next() else {
                throw ErrorReply(.malformed, "the body is shorter than the head")
            }
            buffer.writeImmutableBuffer(piece)
        }
        let front = buffer.readBytes(length: count) ?? []
        return (front, buffer)
    }

    /// Whether the file that is there has these bytes.
    private static func mustBeSame(
        _ set: ServedSet, _ name: String, _ front: [UInt8], _ byteCount: UInt64, _ digest: String
    ) throws(ErrorReply) {
        let other = ErrorReply(.exists, "there is a file \(name) with other bytes")
        let (file, size) = try set.open(name)
        defer { file.close() }
        guard size == UInt64(front.count) + byteCount else { throw other }
        guard try file.bytes(front.count, at: 0) == front,
            try TailHasher(
                file, from: UInt64(front.count), to: size, isSealed: false
            ).sha256
                == digest.lowercased()
        else { throw other }
    }
}
