// Objects as wholes: get, head, put, delete, list. Bodies in memory.

import Foundation
import NIOCore
import NIOHTTP1
import ServerAPI
import Shipping

/// How a put ended.
enum PutOutcome: Equatable, Sendable {
    case made
    /// There is an object of that key already; it was left as it is.
    case exists
    /// The store does not know the condition, and says so.
    case unsupported
}

/// What is known of an object without its bytes.
struct ObjectInfo: Hashable, Sendable {
    var byteCount: UInt64
    /// Names in lower case, without `x-amz-meta-`.
    var metadata: [String: String] = [:]
}

/// An object in a listing.
struct ListedObject: Hashable, Sendable {
    /// Below the bucket.
    var key: String
    var byteCount: UInt64
    /// Seconds since 1970-01-01 UTC.
    var modified: Int64?
}

/// A listing and the store's clock at that moment.
struct ObjectListing: Sendable {
    var objects: [ListedObject] = []
    var storeSeconds: Int64?
}

extension ObjectClient {
    // MARK: - reading

    /// A whole object; nil where there is none.
    func get(_ key: String) throws(ShipError) -> [UInt8]? {
        try content(settle(beginGet(key)))
    }

    func beginGet(_ key: String) -> Started { begin(Request(.GET, .get, key: key)) }

    func content(_ answer: WireAnswer) throws(ShipError) -> [UInt8]? {
        switch answer.status {
        case 200: return answer.body
        case 404: return nil
        default: throw strange(answer)
        }
    }

    /// Fills the front of `target`, which is not empty, with what there is at `offset`. An answer
    /// that is not exactly that range counts as none.
    func get(
        _ key: String, into target: UnsafeMutableRawBufferPointer, at offset: UInt64
    ) throws(ShipError) -> Int {
        let last = offset + UInt64(target.count) - 1
        var request = Request(.GET, .get, key: key)
        request.headers = [("range", "bytes=\(offset)-\(last)")]
        let answer = try call(request, into: target)
        if answer.status == 404 { throw .rejected(ErrorReply(.missing, "there is no \(key)")) }
        if answer.status == 416 { return 0 }
        let range = answer.headers.first(name: "Content-Range").flatMap(
            LogServerClient.ByteRange.init)
        guard answer.status == 206, let range, range.first == offset, range.last <= last,
            UInt64(answer.filled) == range.last - range.first + 1
        else {
            if (400...499).contains(answer.status) { throw strange(answer) }
            throw .unreachable("\(place) does not answer with the range asked for")
        }
        return answer.filled
    }

    /// nil where there is none.
    func head(_ key: String) throws(ShipError) -> ObjectInfo? {
        let answer = try call(Request(.HEAD, .head, key: key))
        if answer.status == 404 { return nil }
        guard answer.status == 200,
            let count = answer.headers.first(name: "Content-Length").flatMap({ UInt64($0) })
        else { throw strange(answer) }
        var info = ObjectInfo(byteCount: count)
        for (name, value) in answer.headers where name.lowercased().hasPrefix("x-amz-meta-") {
            info.metadata[String(name.lowercased().dropFirst(11))] = value
        }
        return info
    }

    /// Objects whose keys begin with `prefix`, in the order of their keys.
    func list(_ prefix: String, countMax: Int = .max) throws(ShipError) -> ObjectListing {
        var listing = ObjectListing()
        var token: String?
        while true {
            var request = Request(.GET, .list, key: nil)
            request.query = [("list-type", "2"), ("prefix", prefix)]
            if countMax < 1000 { request.query.append(("max-keys", "\(countMax)")) }
            if let token { request.query.append(("continuation-token", token)) }
            let answer = try call(request)
            guard answer.status == 200, let root = XMLElement.read(answer.body),
                root.name == "ListBucketResult"
            else {
                if answer.status == 200 {
                    throw .unreachable("\(place) does not answer like an object store")
                }
                throw strange(answer)
            }
            listing.storeSeconds = answer.headers.first(name: "Date")
                .flatMap { WireTime.seconds(httpDate: $0) }
            for item in root.all("Contents") {
                guard let key = item.text("Key"), key.hasPrefix(prefix) else { continue }
                listing.objects.append(
                    ListedObject(
                        key: key, byteCount: item.text("Size").flatMap { UInt64($0) } ?? 0,
                        modified: item.text("LastModified").flatMap { WireTime.seconds(iso: $0) }))
            }
            let next = root.text("NextContinuationToken")
            guard root.text("IsTruncated") == "true", let next, !next.isEmpty, next != token,
                listing.objects.count < countMax
            else { return listing }
            token = next
        }
    }

    // MARK: - changing

    /// What goes into a put beside its bytes.
    struct PutOptions: Sendable {
        var isCreateOnly = false
        /// Names in lower case, without `x-amz-meta-`.
        var metadata: [(name: String, value: String)] = []
        var contentType = "application/octet-stream"
        /// SHA-256 of the body, where it is known already.
        var hash: String?
        var isPaced = false
    }

    func putRequest(_ key: String, _ body: ByteBuffer, _ options: PutOptions) -> Request {
        var request = Request(.PUT, .put, key: key)
        request.headers = [("content-type", options.contentType)]
        if options.isCreateOnly { request.headers.append(("if-none-match", "*")) }
        for (name, value) in options.metadata {
            request.headers.append(("x-amz-meta-\(name)", value))
        }
        request.body = body
        request.bodyHash = options.hash ?? Self.hash(body)
        request.isPaced = options.isPaced
        return request
    }

    func outcome(ofPut answer: WireAnswer) throws(ShipError) -> PutOutcome {
        switch answer.status {
        case 200...299: return .made
        case 412, 409: return .exists
        case 501: return .unsupported
        default:
            if ObjectRefusal(answer).code == "NotImplemented" { return .unsupported }
            throw strange(answer)
        }
    }

    /// Puts a small object. After `.exists` it may be one's own from an earlier attempt.
    func put(
        _ key: String, _ body: [UInt8], _ options: PutOptions
    ) throws(ShipError) -> PutOutcome {
        try outcome(ofPut: call(putRequest(key, ByteBuffer(bytes: body), options)))
    }

    /// How a deletion ended.
    enum DeleteOutcome: Equatable, Sendable {
        case gone
        /// The store keeps it: no rights, or an object lock.
        case kept(String)
    }

    /// What is not there is gone.
    func delete(_ key: String) throws(ShipError) -> DeleteOutcome {
        var request = Request(.DELETE, .delete, key: key)
        request.mayBeDenied = true
        let answer = try call(request)
        switch answer.status {
        case 200...299, 404: return .gone
        case 401, 403, 405, 409, 423:
            let refusal = ObjectRefusal(answer)
            return .kept(refusal.code.isEmpty ? "status \(answer.status)" : refusal.code)
        default: throw strange(answer)
        }
    }
}
