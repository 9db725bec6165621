// Sets of backups at a log server: the client's half of ServerAPI/Backups.swift. What the URL names
// is the backup device here.

import NIOHTTP1
import ServerAPI

extension LogServerClient {
    private var backupPath: String { "/v1/backups/\(url.volume)" }
    private func path(set id: String) -> String { "\(backupPath)/\(id)" }
    private func path(_ file: String, of id: String) -> String { "\(path(set: id))/files/\(file)" }

    /// Requests that end only when many files are gone may take so long.
    private static let removalSeconds: Int64 = 600

    /// The sets of the device, and what is free there.
    public func backup() throws(ShipError) -> BackupReply { try get(backupPath) }

    /// Begins a set, or goes on with it. May be repeated, as all here.
    public func beginSet(_ id: String, _ request: SetRequest) throws(ShipError) -> SetReply {
        try send(.PUT, path(set: id), request)
    }

    /// Makes a set visible whose manifest is there.
    public func commitSet(_ id: String) throws(ShipError) -> SetReply {
        var request = Request(.POST, path(set: id))
        request.idleSeconds = Self.removalSeconds
        return try decoded(call(request))
    }

    /// Removes a set; one that is not there is no error.
    public func removeSet(_ id: String) throws(ShipError) {
        try deleteIfThere(path(set: id), idleSeconds: Self.removalSeconds)
    }

    /// Another run may go on with the set now.
    public func releaseSet(_ id: String) throws(ShipError) {
        try deleteIfThere(path(set: id) + "/writer")
    }

    public func files(ofSet id: String) throws(ShipError) -> SetFileListing {
        try get(path(set: id) + "/files")
    }

    /// Removes a file, whole or not, of a set that is not visible; no error where there is none.
    public func removeFile(_ name: String, ofSet id: String) throws(ShipError) {
        try deleteIfThere(path(name, of: id))
    }

    /// Bytes of a whole file; fewer than asked for where it ends. `target` is not empty.
    public func readFile(
        _ name: String, ofSet id: String, into target: UnsafeMutableRawBufferPointer,
        at offset: UInt64
    ) throws(ShipError) -> Int {
        try read(path(name, of: id), into: target, at: offset)
    }

    /// Where bytes of a file go.
    public struct FilePlace: Sendable {
        public var set: String
        public var name: String
        /// Of the head that will stand in front; the same in all requests of the file.
        public var headBytes: Int
        /// Where the content's bytes begin; the head does not count.
        public var offset: UInt64

        public init(set: String, name: String, headBytes: Int, offset: UInt64) {
            (self.set, self.name, self.headBytes, self.offset) = (set, name, headBytes, offset)
        }

        fileprivate var fields: [(String, String)] {
            var fields = [(ServerAPI.uploadOffsetHeader, "\(offset)")]
            if headBytes > 0 { fields.append((ServerAPI.headBytesHeader, "\(headBytes)")) }
            return fields
        }
    }

    /// Appends to a file that is not whole; where it stands now. `.rejected(.offset)` says where
    /// it stands when that is not `place.offset`.
    public func append(
        _ bytes: UnsafeRawBufferPointer, at place: FilePlace
    ) throws(ShipError) -> UInt64 {
        let request = Request(
            .PATCH, path(place.name, of: place.set),
            place.fields + [("Content-Type", "application/octet-stream")])
        let reply: UploadReply = try decoded(stream(bytes, by: request))
        return reply.bytes
    }

    /// Appends zeros, at most ServerAPI.zerosMax.
    public func appendZeros(_ count: UInt64, at place: FilePlace) throws(ShipError) -> UInt64 {
        var request = Request(
            .PATCH, path(place.name, of: place.set),
            place.fields + [(ServerAPI.zerosHeader, "\(count)")])
        // The server hashes them.
        request.idleSeconds = access.idleSeconds + 60
        let reply: UploadReply = try decoded(call(request))
        return reply.bytes
    }

    /// Makes a file whole: its head, the bytes of the content that are missing, and its digest.
    public func finishFile(
        _ headAndRest: UnsafeRawBufferPointer, at place: FilePlace, total: UInt64, sha256: String
    ) throws(ShipError) -> SetFileReply {
        var request = Request(
            .POST, path(place.name, of: place.set),
            place.fields + [
                (ServerAPI.digestHeader, sha256), ("Content-Type", "application/octet-stream"),
            ])
        // The server may have to read all of it, and syncs it.
        request.idleSeconds = access.idleSeconds + 60 + Int64(total / 20_000_000)
        return try decoded(stream(headAndRest, by: request))
    }

    private func stream(
        _ bytes: UnsafeRawBufferPointer, by request: Request
    ) throws(ShipError) -> WireAnswer {
        var position = 0
        return try stream(
            request, count: UInt64(bytes.count), pieceBytes: Self.pieceBytes
        ) { target in
            target.copyMemory(
                from: UnsafeRawBufferPointer(rebasing: bytes[position..<position + target.count]))
            position += target.count
        }
    }
}
