// What an answer of a store means: to be tried again, for the user, or for whoever asked. Pure.

import Foundation
import NIOHTTP1
import ServerAPI
import Shipping

/// An answer that is not 2xx, as it says it.
struct ObjectRefusal: Hashable, Sendable {
    var status: Int
    /// S3's word: `NoSuchKey`, `SlowDown`; empty where there is none (an answer to HEAD).
    var code = ""
    var message = ""
    /// The clock of the store, seconds since 1970-01-01 UTC.
    var storeSeconds: Int64?
    var retryAfterSeconds: Int64?
    /// It says something that is not S3: a server of another kind, or HTTP where TLS is spoken.
    var isForeign = false

    init(_ answer: WireAnswer) {
        status = answer.status
        storeSeconds = answer.headers.first(name: "Date")
            .flatMap { WireTime.seconds(httpDate: $0) }
        retryAfterSeconds = answer.headers.first(name: "Retry-After").flatMap { Int64($0) }
            .map { min(max($0, 0), 3600) }
        if let error = XMLElement.read(answer.body), error.name == "Error" {
            code = String((error.text("Code") ?? "").prefix(80))
            message = String((error.text("Message") ?? "").prefix(300))
        } else {
            isForeign = (400...499).contains(status) && !answer.body.isEmpty
        }
    }

    /// What is to be done.
    enum Meaning: Equatable, Sendable {
        /// Once more, a little later.
        case again
        /// Once more with keys that are read anew; otherwise for the user.
        case keys
        /// Nothing helps but the user.
        case user
        /// The store has no room.
        case full
        /// Whoever asked knows: missing, there already, not supported.
        case asked
    }

    private static let keyCodes: Set<String> = [
        "ExpiredToken", "InvalidAccessKeyId", "InvalidToken", "TokenRefreshRequired",
        "SignatureDoesNotMatch",
    ]
    private static let againCodes: Set<String> = [
        "RequestTimeout", "BadDigest", "XAmzContentSHA256Mismatch", "InternalError", "SlowDown",
        "IncompleteBody", "OperationAborted", "ServiceUnavailable",
    ]
    private static let fullCodes: Set<String> = [
        "QuotaExceeded", "InsufficientCapacity", "XMinioStorageFull", "QuotaFull",
    ]
    private static let userCodes: Set<String> = [
        "NoSuchBucket", "AuthorizationHeaderMalformed", "RequestTimeTooSkewed", "AccessDenied",
        "InvalidBucketName", "RequestExpired", "AllAccessDisabled",
    ]

    var meaning: Meaning {
        if Self.keyCodes.contains(code) { return .keys }
        if Self.fullCodes.contains(code) { return .full }
        if Self.userCodes.contains(code) { return .user }
        if Self.againCodes.contains(code) { return .again }
        switch status {
        case 408, 429, 500, 502, 503, 504: return .again
        case 401, 403: return .keys
        case 301, 302, 307, 308: return .user
        case 507: return .full
        default: return .asked
        }
    }

    /// For people, about the store that `place` names; `now`: our clock, seconds.
    func words(_ place: String, bucket: String, now: Int64) -> String {
        switch code {
        case "NoSuchBucket", "InvalidBucketName": return "there is no bucket \(bucket) at \(place)"
        case "RequestTimeTooSkewed", "RequestExpired":
            guard let storeSeconds else {
                return "the clocks of this machine and of \(place) differ too much"
            }
            return "the clock of this machine is \(Self.difference(now - storeSeconds)) that of"
                + " \(place): set it right"
        case "ExpiredToken", "InvalidToken", "TokenRefreshRequired":
            return "the session token is not valid any more at \(place)"
        case "InvalidAccessKeyId": return "\(place) does not know the access key"
        case "SignatureDoesNotMatch":
            return "\(place) does not accept the signature: the secret key is wrong"
        case "AuthorizationHeaderMalformed":
            return "\(place) does not accept the signature: \(message) (is the region right?)"
        default: break
        }
        switch status {
        case 301, 302, 307, 308:
            return "bucket \(bucket) lies elsewhere than at \(place): another region or endpoint"
        case 401, 403:
            return "the keys may not do this at \(place)"
                + (code.isEmpty || code == "AccessDenied" ? "" : " (\(code))")
        default:
            if isForeign { return "\(place) answers with status \(status), and not as S3 does" }
            let said = [code, message].filter { !$0.isEmpty }.joined(separator: ": ")
            return "\(place) answers with status \(status)" + (said.isEmpty ? "" : " (\(said))")
        }
    }

    private static func difference(_ seconds: Int64) -> String {
        let minutes = (abs(seconds) + 30) / 60
        let amount = minutes >= 2 ? "\(minutes) min" : "\(abs(seconds)) s"
        return amount + (seconds >= 0 ? " ahead of" : " behind")
    }
}
