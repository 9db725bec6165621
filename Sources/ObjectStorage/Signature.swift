// AWS Signature Version 4 in the Authorization header, as S3 wants it: paths are encoded once and
// not normalised. Pure: a request, keys and a time go in. After "Authenticating Requests (AWS
// Signature Version 4)" of the Amazon S3 API reference; the tests hold it to the published values.

import Crypto
import Foundation

/// What a signature covers. A value.
package struct SignedRequest: Sendable {
    package var method: String
    /// Not encoded yet; begins with a slash.
    package var path: String
    /// Not encoded yet, in any order.
    package var query: [(name: String, value: String)] = []
    /// All that are signed; `host` and `x-amz-date` among them.
    package var headers: [(name: String, value: String)] = []
    /// SHA-256 of the body in hexadecimal, or `UNSIGNED-PAYLOAD`.
    package var payloadHash: String

    package init(
        method: String, path: String, query: [(name: String, value: String)] = [],
        headers: [(name: String, value: String)] = [], payloadHash: String
    ) {
        self.method = method
        self.path = path
        self.query = query
        self.headers = headers
        self.payloadHash = payloadHash
    }

    package static let emptyHash =
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    package static let unsigned = "UNSIGNED-PAYLOAD"

    var encodedPath: String { Self.encoded(path, keepingSlashes: true) }

    /// Sorted by encoded name, then value.
    var encodedQuery: String {
        query.map { (Self.encoded($0.name), Self.encoded($0.value)) }
            .sorted { ($0.0, $0.1) < ($1.0, $1.1) }
            .map { "\($0.0)=\($0.1)" }.joined(separator: "&")
    }

    /// Names in lower case, sorted; values trimmed, several of one name joined by commas.
    private var canonicalHeaders: [(name: String, value: String)] {
        var values: [String: [String]] = [:]
        for (name, value) in headers {
            values[name.lowercased(), default: []].append(Self.trimmed(value))
        }
        return values.map { ($0.key, $0.value.joined(separator: ",")) }.sorted { $0.0 < $1.0 }
    }

    var signedHeaders: String { canonicalHeaders.map(\.name).joined(separator: ";") }

    package var canonical: String {
        let headers = canonicalHeaders
        var lines = [method, encodedPath, encodedQuery]
        lines += headers.map { "\($0.name):\($0.value)" }
        lines += ["", headers.map(\.name).joined(separator: ";"), payloadHash]
        return lines.joined(separator: "\n")
    }

    /// Spaces at the ends go, several within become one.
    private static func trimmed(_ value: String) -> String {
        value.split(whereSeparator: { $0 == " " || $0 == "\t" || $0.isNewline })
            .joined(separator: " ")
    }

    private static let digits = Array("0123456789ABCDEF".utf8)

    /// Everything but letters, digits and - . _ ~ as %XX, byte by byte.
    static func encoded(_ text: String, keepingSlashes: Bool = false) -> String {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(text.utf8.count)
        for byte in text.utf8 {
            switch byte {
            case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, 0x2D, 0x2E, 0x5F, 0x7E: bytes.append(byte)
            case 0x2F where keepingSlashes: bytes.append(byte)
            default: bytes += [0x25, digits[Int(byte >> 4)], digits[Int(byte & 15)]]
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}

/// Signs requests of one account, region and service.
package struct Signer: Sendable {
    var credentials: ObjectCredentials
    var region: String
    var service: String

    package init(credentials: ObjectCredentials, region: String, service: String = "s3") {
        self.credentials = credentials
        self.region = region
        self.service = service
    }

    /// The value of the Authorization header at `time` (a stamp as in x-amz-date).
    package func authorization(_ request: SignedRequest, at time: String) -> String {
        let day = String(time.prefix(8))
        let scope = "\(day)/\(region)/\(service)/aws4_request"
        let signature = Self.hmac(
            signingKey(day), stringToSign(request, at: time, scope: scope))
        return "AWS4-HMAC-SHA256 Credential=\(credentials.accessKey)/\(scope), "
            + "SignedHeaders=\(request.signedHeaders), Signature=\(Self.hexadecimal(signature))"
    }

    package func stringToSign(_ request: SignedRequest, at time: String, scope: String) -> String {
        let hash = Self.hexadecimal(SHA256.hash(data: Array(request.canonical.utf8)))
        return ["AWS4-HMAC-SHA256", time, scope, hash].joined(separator: "\n")
    }

    private func signingKey(_ day: String) -> SymmetricKey {
        var key = SymmetricKey(data: Array("AWS4\(credentials.secretKey)".utf8))
        for word in [day, region, service, "aws4_request"] {
            key = SymmetricKey(data: Self.hmac(key, word))
        }
        return key
    }

    private static func hmac(
        _ key: SymmetricKey, _ text: String
    ) -> HMAC<SHA256>.MAC {
        HMAC<SHA256>.authenticationCode(for: Array(text.utf8), using: key)
    }

    static func hexadecimal(_ bytes: some Sequence<UInt8>) -> String {
        let digits = Array("0123456789abcdef".utf8)
        return String(
            decoding: bytes.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] },
            as: UTF8.self)
    }
}
