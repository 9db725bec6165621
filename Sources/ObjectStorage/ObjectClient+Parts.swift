// Objects in parts: multipart uploads.

import Crypto
import Foundation
import NIOCore
import NIOHTTP1
import ServerAPI
import Shipping

/// A part that a store has.
struct ListedPart: Hashable, Sendable {
    var number: Int
    var byteCount: Int
    /// As the store says it; for most stores the MD5 of the part, never relied on alone.
    var tag: String
}

/// An upload that is neither completed nor given up.
struct ListedUpload: Hashable, Sendable {
    var key: String
    var id: String
    /// Seconds since 1970-01-01 UTC.
    var initiated: Int64?
}

extension ObjectClient {
    /// SHA-256 in hexadecimal.
    static func hash(_ bytes: ByteBuffer) -> String {
        bytes.withUnsafeReadableBytes { bytes in
            var hash = SHA256()
            hash.update(bufferPointer: bytes)
            return Signer.hexadecimal(hash.finalize())
        }
    }

    func createUpload(
        _ key: String, metadata: [(name: String, value: String)]
    ) throws(ShipError) -> String {
        var request = Request(.POST, .put, key: key)
        request.query = [("uploads", "")]
        request.headers = [("content-type", "application/octet-stream")]
        request.headers += metadata.map { ("x-amz-meta-\($0.name)", $0.value) }
        request.body = ByteBuffer()
        let answer = try call(request)
        guard answer.status == 200,
            let id = XMLElement.read(answer.body)?.text("UploadId"), !id.isEmpty
        else { throw strange(answer) }
        return id
    }

    /// Over TLS the bytes need no hash of their own.
    func partRequest(
        _ key: String, _ upload: String, number: Int, _ body: ByteBuffer, isPaced: Bool
    ) -> Request {
        var request = Request(.PUT, .put, key: key)
        request.query = [("partNumber", "\(number)"), ("uploadId", upload)]
        request.body = body
        request.bodyHash = endpoint.isSecure ? nil : Self.hash(body)
        request.isPaced = isPaced
        return request
    }

    func tag(ofPart answer: WireAnswer) throws(ShipError) -> String {
        guard answer.status == 200, let tag = answer.headers.first(name: "ETag") else {
            throw strange(answer)
        }
        return tag
    }

    /// What the store has of an upload; nil: it does not know it.
    func parts(_ key: String, _ upload: String) throws(ShipError) -> [ListedPart]? {
        var found: [ListedPart] = []
        var marker = 0
        while true {
            var request = Request(.GET, .list, key: key)
            request.query = [("uploadId", upload)]
            if marker > 0 { request.query.append(("part-number-marker", "\(marker)")) }
            let answer = try call(request)
            if answer.status == 404 { return nil }
            guard answer.status == 200, let root = XMLElement.read(answer.body) else {
                throw strange(answer)
            }
            for part in root.all("Part") {
                guard let number = part.text("PartNumber").flatMap({ Int($0) }),
                    let size = part.text("Size").flatMap({ Int($0) }), let tag = part.text("ETag")
                else { continue }
                found.append(ListedPart(number: number, byteCount: size, tag: tag))
            }
            let next = root.text("NextPartNumberMarker").flatMap { Int($0) } ?? 0
            guard root.text("IsTruncated") == "true", next > marker else { return found }
            marker = next
        }
    }

    /// Unfinished uploads of keys that begin with `prefix`; a page of them at the most.
    func uploads(_ prefix: String) throws(ShipError) -> [ListedUpload] {
        var request = Request(.GET, .list, key: nil)
        request.query = [("uploads", ""), ("prefix", prefix)]
        let answer = try call(request)
        guard answer.status == 200, let root = XMLElement.read(answer.body) else {
            throw strange(answer)
        }
        return root.all("Upload").compactMap { upload in
            guard let key = upload.text("Key"), key.hasPrefix(prefix),
                let id = upload.text("UploadId")
            else { return nil }
            return ListedUpload(
                key: key, id: id,
                initiated: upload.text("Initiated").flatMap { WireTime.seconds(iso: $0) })
        }
    }

    /// Makes an object of the parts. `.exists` also where the upload is not known any more: an
    /// earlier attempt may have made it. Whoever asks looks.
    func complete(
        _ key: String, _ upload: String, _ parts: [(number: Int, tag: String)],
        byteCount: UInt64, isCreateOnly: Bool
    ) throws(ShipError) -> PutOutcome {
        var text = "<CompleteMultipartUpload>"
        for (number, tag) in parts {
            let escaped = tag.replacingOccurrences(of: "&", with: "&amp;")
                .replacingOccurrences(of: "<", with: "&lt;")
                .replacingOccurrences(of: "\"", with: "&quot;")
            text += "<Part><PartNumber>\(number)</PartNumber><ETag>\(escaped)</ETag></Part>"
        }
        text += "</CompleteMultipartUpload>"
        var request = Request(.POST, .put, key: key)
        request.query = [("uploadId", upload)]
        request.headers = [("content-type", "application/xml")]
        if isCreateOnly { request.headers.append(("if-none-match", "*")) }
        let body = ByteBuffer(string: text)
        request.body = body
        request.bodyHash = Self.hash(body)
        // The store may read all of it before it answers.
        request.idleSeconds = access.idleSeconds + 60 + Int64(byteCount / 20_000_000)
        let answer = try call(request)
        switch answer.status {
        case 200:
            // It may have begun to answer before it knew.
            guard let root = XMLElement.read(answer.body), root.name == "Error" else {
                return .made
            }
            throw .unreachable("\(place): \(root.text("Code") ?? "the upload was not completed")")
        case 404, 409, 412: return .exists
        case 501: return .unsupported
        default:
            let refusal = ObjectRefusal(answer)
            let isCondition =
                isCreateOnly && answer.status == 400
                && ["NotImplemented", "InvalidArgument", "InvalidRequest"].contains(refusal.code)
            if isCondition { return .unsupported }
            throw strange(answer)
        }
    }

    /// Gives an upload up; one that is not there is no error.
    func abort(_ key: String, _ upload: String) throws(ShipError) {
        var request = Request(.DELETE, .delete, key: key)
        request.query = [("uploadId", upload)]
        request.mayBeDenied = true
        _ = try call(request)
    }
}
