// One signed request over a connection of its own: AWS Signature V4 with the payload's hash, as
// little as the fixtures need. Not the client under test, and made apart from it on purpose: a
// second opinion about what lies in a store. Paths and values are plain letters, digits, `-._/`.

import Crypto
import Foundation
import RawSockets

public struct SignedRequest: Sendable {
    public var method: String
    public var path: String
    public var query: [String: String]
    public var headers: [String: String]
    public var body: [UInt8]

    public init(
        method: String, path: String, query: [String: String] = [:],
        headers: [String: String] = [:], body: [UInt8] = []
    ) {
        (self.method, self.path, self.query) = (method, path, query)
        (self.headers, self.body) = (headers, body)
    }

    public struct Answer: Sendable, CustomStringConvertible {
        public var status: Int
        /// Names in lower case.
        public var headers: [String: String]
        public var body: [UInt8]

        public var description: String {
            "\(status) \(String(decoding: body.prefix(600), as: UTF8.self))"
        }

        /// What stands in `<Code>` of an error.
        public var code: String? {
            let text = String(decoding: body, as: UTF8.self)
            guard let begin = text.range(of: "<Code>"),
                let end = text.range(of: "</Code>", range: begin.upperBound..<text.endIndex)
            else { return nil }
            return String(text[begin.upperBound..<end.lowerBound])
        }
    }

    public func send(
        toPort port: Int, key: ObjectEngine.Key, region: String, at date: Date = Date()
    ) throws(EngineFailure) -> Answer {
        let connection: RawConnection
        do {
            connection = try RawConnection(toPort: port)
        } catch {
            throw EngineFailure("no connection to port \(port)")
        }
        guard connection.write(signed(port: port, key: key, region: region, at: date)),
            connection.write(body)
        else { throw EngineFailure("the connection to port \(port) broke") }
        connection.limitReading(toSeconds: Self.patienceSeconds)
        var received: [UInt8] = []
        while true {
            let bytes = connection.read()
            received += bytes
            if let answer = Self.parse(received, isWhole: bytes.isEmpty, to: method) {
                return answer
            }
            if bytes.isEmpty { break }
        }
        throw EngineFailure("no HTTP answer from port \(port) to \(method) \(path)")
    }

    /// What passes this is a hang.
    private static let patienceSeconds = 90

    // MARK: - signing

    private func signed(
        port: Int, key: ObjectEngine.Key, region: String, at date: Date
    ) -> [UInt8] {
        let time = Self.stamp(date)
        let day = String(time.prefix(8))
        let digest = Self.hex(SHA256.hash(data: body))
        var all = headers
        all["host"] = "127.0.0.1:\(port)"
        all["x-amz-date"] = time
        all["x-amz-content-sha256"] = digest
        let names = all.keys.map { $0.lowercased() }.sorted()
        let lower = Dictionary(uniqueKeysWithValues: all.map { ($0.lowercased(), $1) })
        let pairs = query.map { "\(Self.encode($0))=\(Self.encode($1))" }.sorted()
        let canonical =
            [method, path, pairs.joined(separator: "&")]
            + names.map { "\($0):\(lower[$0] ?? "")" } + ["", names.joined(separator: ";"), digest]
        let scope = "\(day)/\(region)/s3/aws4_request"
        let text = [
            "AWS4-HMAC-SHA256", time, scope,
            Self.hex(SHA256.hash(data: Array(canonical.joined(separator: "\n").utf8))),
        ].joined(separator: "\n")
        var secret = Array(("AWS4" + key.secret).utf8)
        for word in [day, region, "s3", "aws4_request", text] {
            let code = HMAC<SHA256>.authenticationCode(
                for: Array(word.utf8), using: SymmetricKey(data: secret))
            secret = Array(code)
        }
        all["Authorization"] =
            "AWS4-HMAC-SHA256 Credential=\(key.access)/\(scope), "
            + "SignedHeaders=\(names.joined(separator: ";")), Signature=\(Self.hex(secret))"
        all["content-length"] = "\(body.count)"
        all["connection"] = "close"
        let target = path + (pairs.isEmpty ? "" : "?" + pairs.joined(separator: "&"))
        let lines = ["\(method) \(target) HTTP/1.1"] + all.map { "\($0): \($1)" }.sorted()
        return Array((lines.joined(separator: "\r\n") + "\r\n\r\n").utf8)
    }

    static func hex(_ bytes: some Sequence<UInt8>) -> String {
        bytes.map { byte in
            let text = String(byte, radix: 16)
            return text.count == 1 ? "0" + text : text
        }.joined()
    }

    private static func encode(_ text: String) -> String {
        let plain = Set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~".utf8)
        return text.utf8.map { byte in
            plain.contains(byte)
                ? String(UnicodeScalar(byte)) : "%" + hex([byte]).uppercased()
        }.joined()
    }

    /// `20261130T223000Z`.
    private static func stamp(_ date: Date) -> String {
        var seconds = time_t(date.timeIntervalSince1970)
        var parts = tm()
        gmtime_r(&seconds, &parts)
        var text = [CChar](repeating: 0, count: 20)
        let count = strftime(&text, text.count, "%Y%m%dT%H%M%SZ", &parts)
        return String(decoding: text[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    // MARK: - the answer

    /// nil: not all of it is there. `isWhole`: nothing comes after these bytes.
    private static func parse(_ bytes: [UInt8], isWhole: Bool, to method: String) -> Answer? {
        guard let (head, end) = HTTPHead.find(in: bytes), let status = head.status else {
            return nil
        }
        // `100 Continue` may come before the answer.
        if status == 100 { return parse(Array(bytes[end...]), isWhole: isWhole, to: method) }
        var body = Array(bytes[end...])
        if method == "HEAD" || status == 204 || status == 304 {
            body = []
        } else if head["transfer-encoding"]?.lowercased() == "chunked" {
            let (content, hasEnd) = unchunked(body)
            if !hasEnd, !isWhole { return nil }
            body = content
        } else {
            let length = head["content-length"].flatMap { Int($0) } ?? .max
            if body.count < length, !isWhole { return nil }
        }
        return Answer(status: status, headers: head.headers, body: body)
    }

    /// The content, and whether its last chunk is there.
    private static func unchunked(_ bytes: [UInt8]) -> ([UInt8], Bool) {
        var rest = bytes[...]
        var body: [UInt8] = []
        while let end = rest.firstIndex(of: UInt8(ascii: "\n")) {
            let line = String(decoding: rest[..<end], as: UTF8.self)
            guard let count = Int(line.prefix { $0.isHexDigit }, radix: 16) else { break }
            if count == 0 { return (body, true) }
            body += rest[(end + 1)...].prefix(count)
            rest = rest[(end + 1)...].dropFirst(count + 2)
        }
        return (body, false)
    }
}

/// First line and headers of a request or an answer.
struct HTTPHead {
    var first: String
    /// Names in lower case.
    var headers: [String: String] = [:]

    subscript(name: String) -> String? { headers[name] }

    /// Of an answer.
    var status: Int? {
        let words = first.split(separator: " ")
        return words.count > 1 && first.hasPrefix("HTTP/") ? Int(words[1]) : nil
    }

    /// The head at the beginning of `bytes` and where it ends; nil: not whole yet.
    static func find(in bytes: [UInt8]) -> (HTTPHead, Int)? {
        let mark = Array("\r\n\r\n".utf8)
        guard bytes.count >= 4 else { return nil }
        var end = 0
        while end + 4 <= bytes.count, !bytes[end..<end + 4].elementsEqual(mark) { end += 1 }
        guard end + 4 <= bytes.count else { return nil }
        let lines = String(decoding: bytes[..<end], as: UTF8.self).components(separatedBy: "\r\n")
        var head = HTTPHead(first: lines[0])
        for line in lines.dropFirst() {
            guard let colon = line.firstIndex(of: ":") else { continue }
            let value = line[line.index(after: colon)...]
            head.headers[line[..<colon].lowercased()] = value.trimmingCharacters(in: .whitespaces)
        }
        return (head, end + 4)
    }
}
