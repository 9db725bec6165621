// The fake store's side of Signature V4: from the request as it came over the wire, by its own
// code, so that it disagrees where the client is wrong.

import Crypto
import Foundation

enum FakeSignature {
    static func accessKey(_ request: FakeObjectServer.Request) -> String? {
        guard let header = request.headers["authorization"],
            let start = header.range(of: "Credential=")
        else { return nil }
        return header[start.upperBound...].split(separator: "/").first.map(String.init)
    }

    /// Why the request is refused; nil: it is signed well.
    static func refusal(
        _ request: FakeObjectServer.Request, _ state: FakeObjectServer.State
    ) -> FakeObjectServer.Answer? {
        func no(_ status: Int, _ code: String) -> FakeObjectServer.Answer {
            FakeObjectServer.error(status, code, "no")
        }
        guard let header = request.headers["authorization"], let access = accessKey(request),
            let date = request.headers["x-amz-date"],
            let signed = part("SignedHeaders=", header), let given = part("Signature=", header),
            let scope = part("Credential=", header)?.split(separator: "/", maxSplits: 1).last
        else { return no(403, "AccessDenied") }
        guard let secret = state.keys[access] else { return no(403, "InvalidAccessKeyId") }
        if let token = state.sessionToken,
            request.headers["x-amz-security-token"] != token
        {
            return no(400, "ExpiredToken")
        }
        let payload = request.headers["x-amz-content-sha256"] ?? ""
        let parts = request.target.split(separator: "?", maxSplits: 1).map(String.init)
        let pairs = (parts.count > 1 ? parts[1] : "").split(separator: "&").map(String.init)
        let query = pairs.map { $0.contains("=") ? $0 : $0 + "=" }.sorted()
            .joined(separator: "&")
        var text = "\(request.method)\n\(parts[0])\n\(query)\n"
        for name in signed.split(separator: ";") {
            text += "\(name):\(request.headers[String(name)] ?? "")\n"
        }
        text += "\n\(signed)\n\(payload)"
        let whole =
            "AWS4-HMAC-SHA256\n\(date)\n\(scope)\n\(hex(SHA256.hash(data: Data(text.utf8))))"
        var key = Data("AWS4\(secret)".utf8)
        for word in scope.split(separator: "/") {
            key = Data(
                HMAC<SHA256>.authenticationCode(
                    for: Data(word.utf8), using: SymmetricKey(data: key)))
        }
        let wanted = HMAC<SHA256>.authenticationCode(
            for: Data(whole.utf8), using: SymmetricKey(data: key))
        guard hex(wanted) == given else { return no(403, "SignatureDoesNotMatch") }
        let mustBeSigned = request.headers.keys.filter { $0.hasPrefix("x-amz-") } + ["host"]
        guard mustBeSigned.allSatisfy({ signed.split(separator: ";").contains(Substring($0)) })
        else { return no(403, "AccessDenied") }
        if abs(seconds(date) - Date().timeIntervalSince1970 - state.clockSkew) > 900 {
            return no(403, "RequestTimeTooSkewed")
        }
        if payload != "UNSIGNED-PAYLOAD",
            payload != hex(SHA256.hash(data: Data(request.body)))
        {
            return no(400, "XAmzContentSHA256Mismatch")
        }
        return nil
    }

    private static func part(_ name: String, _ header: String) -> String? {
        guard let start = header.range(of: name) else { return nil }
        return header[start.upperBound...].split(separator: ",").first
            .map { $0.trimmingCharacters(in: .whitespaces) }
    }

    private static func hex(_ bytes: some Sequence<UInt8>) -> String {
        bytes.map { String(format: "%02x", $0) }.joined()
    }

    private static func seconds(_ text: String) -> TimeInterval {
        let digits = text.compactMap(\.wholeNumberValue)
        guard digits.count == 14 else { return 0 }
        func number(_ range: Range<Int>) -> Int32 {
            digits[range].reduce(0) { $0 * 10 + Int32($1) }
        }
        var parts = tm()
        (parts.tm_year, parts.tm_mon) = (number(0..<4) - 1900, number(4..<6) - 1)
        (parts.tm_mday, parts.tm_hour) = (number(6..<8), number(8..<10))
        (parts.tm_min, parts.tm_sec) = (number(10..<12), number(12..<14))
        return TimeInterval(timegm(&parts))
    }
}
