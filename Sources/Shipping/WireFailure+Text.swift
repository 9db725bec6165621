// What went wrong below HTTP, from the errors of the libraries to a few words.

import NIOCore
import NIOHTTP1
import NIOPosix
import NIOSSL

#if canImport(Glibc)
    import Glibc
#endif

extension WireFailure {
    package init(_ error: any Error) {
        switch error {
        case let error as WireFailure: self = error
        case let error as NIOConnectionError: self = .broken(Self.text(error))
        case let error as IOError: self = .broken(Self.text(error))
        case let error as ChannelError: self = .broken(Self.text(error))
        case let error as NIOSSLExtraError:
            self = Self.isName(error) ? .certificate("\(error)") : .broken("TLS: \(error)")
        case let error as NIOSSLError: self = Self.tls(error)
        case is HTTPParserError: self = .broken("the answer is not HTTP")
        default: self = .broken("\(error)")
        }
    }

    private static func isName(_ error: NIOSSLExtraError) -> Bool {
        error == .failedToValidateHostname
    }

    private static func tls(_ error: NIOSSLError) -> WireFailure {
        switch error {
        case .handshakeFailed(let why):
            let text = "\(why)"
            if text.contains("CERTIFICATE_VERIFY_FAILED") { return .certificate(nil) }
            if text.contains("WRONG_VERSION_NUMBER") {
                return .broken("the server does not speak TLS")
            }
            return .broken("no TLS could be agreed on (\(text))")
        case .uncleanShutdown: return .broken("the connection was cut")
        case .noCertificateToValidate, .unableToValidateCertificate: return .certificate(nil)
        default: return .broken("TLS: \(error)")
        }
    }

    private static func text(_ error: NIOConnectionError) -> String {
        if let first = error.connectionErrors.first {
            let causes = error.connectionErrors.map { WireFailure($0.error).words }
            return causes.allSatisfy { $0 == causes[0] }
                ? causes[0] : WireFailure(first.error).words
        }
        return "the name \(error.host) is not known"
    }

    private static func text(_ error: IOError) -> String {
        String(cString: strerror(error.errnoCode)).lowercased()
    }

    private static func text(_ error: ChannelError) -> String {
        switch error {
        case .connectTimeout(let time): "no connection within \(time.nanoseconds / 1_000_000_000) s"
        case .ioOnClosedChannel, .alreadyClosed, .eof, .inputClosed, .outputClosed:
            "the connection was closed"
        default: "\(error)"
        }
    }

    /// In words.
    package var words: String {
        switch self {
        case .broken(let text): text
        case .silent(let seconds): "no answer for \(seconds) s"
        case .certificate(let text): text ?? "its certificate is not valid"
        case .cancelled: "stopped"
        }
    }
}
