// What the fake object store answers: the requests that logdisk makes, as S3 documents them. Pure
// but for the clock.

import Crypto
import Foundation

enum FakeAnswers {
    typealias Request = FakeObjectServer.Request
    typealias Answer = FakeObjectServer.Answer
    typealias State = FakeObjectServer.State
    private static let partBytesMin = 5 << 20

    static func answer(to request: Request, _ state: inout State) -> Answer {
        if let refusal = FakeSignature.refusal(request, state) { return refusal }
        guard request.bucket == state.bucket else { return error(404, "NoSuchBucket") }
        let accessKey = FakeSignature.accessKey(request) ?? ""
        let isChange =
            request.method == "PUT" || request.method == "POST"
            || request.method == "DELETE"
        if isChange, state.readOnlyKeys.contains(accessKey) { return error(403, "AccessDenied") }
        guard let key = request.key else {
            return request.query["uploads"] != nil ? uploads(request, state) : list(request, state)
        }
        switch request.method {
        case "PUT":
            return request.query["uploadId"] != nil
                ? part(request, &state) : put(key, request, &state)
        case "POST":
            return request.query["uploads"] != nil
                ? begin(key, request, &state) : complete(key, request, &state)
        case "DELETE": return delete(key, request, &state)
        case "GET" where request.query["uploadId"] != nil: return parts(request, state)
        default: return get(key, request, state)
        }
    }

    private static func error(_ status: Int, _ code: String, _ text: String = "") -> Answer {
        FakeObjectServer.error(status, code, text)
    }

    private static func xml(_ text: String) -> Answer {
        Answer(
            headers: [("Content-Type", "application/xml")],
            body: Array(("<?xml version=\"1.0\"?>\n" + text).utf8))
    }

    private static func escaped(_ text: String) -> String {
        text.replacingOccurrences(of: "&", with: "&amp;")
            .replacingOccurrences(of: "<", with: "&lt;")
            .replacingOccurrences(of: "\"", with: "&quot;")
    }

    static func md5(_ bytes: [UInt8]) -> String {
        Insecure.MD5.hash(data: bytes).map { String(format: "%02x", $0) }.joined()
    }

    // MARK: - objects

    /// What a create-only condition says; nil: go on.
    private static func conflict(
        _ key: String, _ request: Request, _ state: State
    ) -> Answer? {
        guard request.headers["if-none-match"] == "*" else { return nil }
        switch state.conditions {
        case .ignored: return nil
        case .refused: return error(501, "NotImplemented")
        case .honoured: return state.objects[key] == nil ? nil : error(412, "PreconditionFailed")
        }
    }

    private static func metadata(_ request: Request) -> [(String, String)] {
        request.headers.filter { $0.key.hasPrefix("x-amz-meta-") }.map { ($0.key, $0.value) }
    }

    private static func put(_ key: String, _ request: Request, _ state: inout State) -> Answer {
        if let conflict = conflict(key, request, state) { return conflict }
        state.objects[key] = FakeObjectServer.Object(
            bytes: request.body, metadata: metadata(request), modified: Date())
        return Answer(headers: [("ETag", "\"\(md5(request.body))\"")])
    }

    private static func get(_ key: String, _ request: Request, _ state: State) -> Answer {
        guard let object = state.objects[key] else { return error(404, "NoSuchKey") }
        var headers = state.dropsMetadata ? [] : object.metadata
        headers.append(("Last-Modified", FakeTime.http(object.modified)))
        if request.method == "HEAD" {
            return Answer(headers: headers, lengthSaid: object.bytes.count)
        }
        guard let range = request.headers["range"] else {
            return Answer(headers: headers, body: object.bytes)
        }
        let ends = range.dropFirst(6).split(separator: "-").compactMap { Int($0) }
        let count = object.bytes.count
        guard ends.count == 2, ends[0] <= ends[1], ends[0] < count else {
            return error(416, "InvalidRange")
        }
        let last = min(ends[1], count - 1)
        headers.append(("Content-Range", "bytes \(ends[0])-\(last)/\(count)"))
        return Answer(status: 206, headers: headers, body: Array(object.bytes[ends[0]...last]))
    }

    private static func delete(
        _ key: String, _ request: Request, _ state: inout State
    ) -> Answer {
        if let id = request.query["uploadId"] {
            return state.uploads.removeValue(forKey: id) == nil
                ? error(404, "NoSuchUpload") : Answer(status: 204)
        }
        if state.lockedKeys.contains(key) { return error(403, "AccessDenied") }
        state.objects[key] = nil
        return Answer(status: 204)
    }

    private static func list(_ request: Request, _ state: State) -> Answer {
        let prefix = request.query["prefix"] ?? ""
        let all = state.listingAsOf ?? state.objects
        let after = request.query["continuation-token"] ?? ""
        let keys = all.keys.filter { $0.hasPrefix(prefix) && $0 > after }.sorted()
        let limit = request.query["max-keys"].flatMap { Int($0) } ?? 1000
        let page = keys.prefix(limit)
        var text = "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"
        text += "<IsTruncated>\(page.count < keys.count)</IsTruncated>"
        if page.count < keys.count, let last = page.last {
            text += "<NextContinuationToken>\(escaped(last))</NextContinuationToken>"
        }
        for key in page {
            guard let object = all[key] else { continue }
            text += "<Contents><Key>\(escaped(key))</Key><Size>\(object.bytes.count)</Size>"
            text += "<LastModified>\(FakeTime.iso(object.modified))</LastModified></Contents>"
        }
        return xml(text + "</ListBucketResult>")
    }

    // MARK: - in parts

    private static func begin(_ key: String, _ request: Request, _ state: inout State) -> Answer {
        let id = "upload-\(state.nextUpload)"
        state.nextUpload += 1
        state.uploads[id] = FakeObjectServer.Upload(
            key: key, metadata: metadata(request), initiated: Date())
        return xml(
            "<InitiateMultipartUploadResult><Key>\(escaped(key))</Key><UploadId>\(id)</UploadId>"
                + "</InitiateMultipartUploadResult>")
    }

    private static func part(_ request: Request, _ state: inout State) -> Answer {
        guard let id = request.query["uploadId"], state.uploads[id] != nil else {
            return error(404, "NoSuchUpload")
        }
        guard let number = request.query["partNumber"].flatMap({ Int($0) }),
            (1...10_000).contains(number)
        else { return error(400, "InvalidArgument") }
        state.uploads[id]?.parts[number] = request.body
        return Answer(headers: [("ETag", "\"\(md5(request.body))\"")])
    }

    private static func parts(_ request: Request, _ state: State) -> Answer {
        guard let upload = request.query["uploadId"].flatMap({ state.uploads[$0] }) else {
            return error(404, "NoSuchUpload")
        }
        var text = "<ListPartsResult><IsTruncated>false</IsTruncated>"
        for (number, bytes) in upload.parts.sorted(by: { $0.key < $1.key }) {
            text += "<Part><PartNumber>\(number)</PartNumber><Size>\(bytes.count)</Size>"
            text += "<ETag>&quot;\(md5(bytes))&quot;</ETag></Part>"
        }
        return xml(text + "</ListPartsResult>")
    }

    private static func uploads(_ request: Request, _ state: State) -> Answer {
        let prefix = request.query["prefix"] ?? ""
        var text = "<ListMultipartUploadsResult><IsTruncated>false</IsTruncated>"
        for (id, upload) in state.uploads.sorted(by: { $0.key < $1.key })
        where upload.key.hasPrefix(prefix) {
            text += "<Upload><Key>\(escaped(upload.key))</Key><UploadId>\(id)</UploadId>"
            text += "<Initiated>\(FakeTime.iso(upload.initiated))</Initiated></Upload>"
        }
        return xml(text + "</ListMultipartUploadsResult>")
    }

    private static func complete(
        _ key: String, _ request: Request, _ state: inout State
    ) -> Answer {
        guard let id = request.query["uploadId"], let upload = state.uploads[id] else {
            return error(404, "NoSuchUpload")
        }
        if let conflict = conflict(key, request, state) { return conflict }
        let text = String(decoding: request.body, as: UTF8.self)
        var bytes: [UInt8] = []
        let items = text.components(separatedBy: "<Part>").dropFirst()
        for (index, item) in items.enumerated() {
            guard let number = Int(between("<PartNumber>", "</PartNumber>", item) ?? ""),
                let part = upload.parts[number],
                let tag = between("<ETag>", "</ETag>", item),
                tag.replacingOccurrences(of: "&quot;", with: "") == md5(part)
            else { return error(400, "InvalidPart") }
            guard index == items.count - 1 || part.count >= partBytesMin else {
                return error(400, "EntityTooSmall")
            }
            bytes += part
        }
        state.uploads[id] = nil
        state.objects[key] = FakeObjectServer.Object(
            bytes: bytes, metadata: upload.metadata, modified: Date())
        return xml(
            "<CompleteMultipartUploadResult><Key>\(escaped(key))</Key>"
                + "</CompleteMultipartUploadResult>")
    }

    private static func between(_ start: String, _ end: String, _ text: String) -> String? {
        guard let from = text.range(of: start),
            let to = text.range(of: end, range: from.upperBound..<text.endIndex)
        else { return nil }
        return String(text[from.upperBound..<to.lowerBound])
    }
}
