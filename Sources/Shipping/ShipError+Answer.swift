// What an answer of a server means for who asked.

import Foundation
import NIOHTTP1
import ServerAPI

extension ShipError {
    /// From an answer that is not 2xx.
    init(_ answer: WireAnswer, from server: String) {
        let seconds = Self.seconds(answer.headers.first(name: "Retry-After"))
        guard let reply = try? JSONDecoder().decode(ErrorReply.self, from: Data(answer.body)) else {
            // Not from a log server: a proxy on the way, or something else altogether.
            let what = "\(server) answers with status \(answer.status)"
            switch answer.status {
            case 401, 403, 407: self = .refused(what)
            case 429, 503: self = .busy(seconds: seconds, what)
            case 416: self = .rejected(ErrorReply(.range, what))
            default: self = .unreachable(what + ", not like a log server")
            }
            return
        }
        switch reply.code {
        case .unauthenticated, .forbidden: self = .refused(reply.what)
        case .fenced: self = .fenced(reply.what)
        case .busy: self = .busy(seconds: seconds, reply.what)
        case .full: self = .full(seconds: seconds, reply.what)
        default: self = .rejected(reply)
        }
    }

    /// Between a second and an hour, however the header looks.
    private static func seconds(_ text: String?) -> Int64 {
        min(max(text.flatMap { Int64($0) } ?? 5, 1), 3600)
    }
}

extension ShipError: CustomStringConvertible {
    public var description: String {
        switch self {
        case .unreachable(let text): "not reachable: \(text)"
        case .busy(let seconds, let text): "busy for \(seconds) s: \(text)"
        case .full(_, let text): "no room: \(text)"
        case .refused(let text): "refused: \(text)"
        case .fenced(let text): "fenced: \(text)"
        case .rejected(let reply): reply.what
        case .source(let error): error.description
        case .stopped: "stopped"
        }
    }
}
