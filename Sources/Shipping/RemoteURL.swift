// Where a volume lies at a log server: https://HOST:PORT/VOLUME. Text to value and back; no I/O.

import Glibc
import ServerAPI

/// Why a remote cannot be used as it was given; nothing was sent anywhere.
public struct RemoteSetupError: Error, Hashable, Sendable, CustomStringConvertible {
    /// A sentence without its end.
    public var what: String
    /// What to do about it.
    public var hint: String?

    public init(_ what: String, hint: String? = nil) {
        self.what = what
        self.hint = hint
    }

    public var description: String { what }
}

/// The URL of a volume at a log server.
public struct RemoteURL: Hashable, Sendable {
    /// Whether TLS is used. Without it only this machine can be meant.
    public let isSecure: Bool
    /// A name, an IPv4 address, or an IPv6 address without its brackets.
    public let host: String
    public let port: Int
    public let volume: String

    /// Whether `text` is meant to be a URL rather than a path, of whatever scheme.
    public static func isMeant(by text: String) -> Bool {
        guard let colon = text.firstRange(of: "://") else { return false }
        let scheme = text[..<colon.lowerBound]
        return !scheme.isEmpty && scheme.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber) }
    }

    /// Reads `https://HOST[:PORT]/VOLUME`. Without a port that of the scheme is meant.
    public init(_ text: String) throws(RemoteSetupError) {
        let form = "https://HOST:PORT/VOLUME"
        let rest: Substring
        if text.hasPrefix("https://") {
            (isSecure, rest) = (true, text.dropFirst(8))
        } else if text.hasPrefix("http://") {
            (isSecure, rest) = (false, text.dropFirst(7))
        } else {
            throw RemoteSetupError("\(text) is not the URL of a log server", hint: form)
        }
        let slash = rest.firstIndex(of: "/") ?? rest.endIndex
        var path = rest[slash...].dropFirst()
        if path.hasSuffix("/") { path = path.dropLast() }
        guard !path.isEmpty else {
            throw RemoteSetupError("\(text) names no volume", hint: form)
        }
        guard ServerAPI.isVolumeName(path) else {
            throw RemoteSetupError(
                "'\(path)' cannot be the name of a volume",
                hint: "up to 100 of A-Z a-z 0-9 . _ - beginning with a letter or digit")
        }
        volume = String(path)
        let authority = rest[..<slash]
        guard !authority.contains("@") else {
            throw RemoteSetupError(
                "a URL with a user or password is not supported",
                hint: "give the token by --token-file")
        }
        let (host, port) = try Self.parts(of: authority, url: text)
        self.host = host
        guard let number = port.isEmpty ? (isSecure ? 443 : 80) : UInt16(port).map(Int.init),
            number > 0
        else { throw RemoteSetupError("'\(port)' is not a port", hint: form) }
        self.port = number
        guard isSecure || Self.isLoopback(host) else {
            throw RemoteSetupError(
                "plain http is for this machine only, and \(host) may be another one",
                hint: "https://\(authority)/\(volume)")
        }
    }

    /// Whether `host` is an address and not a name.
    var isAddress: Bool { Self.isIPv4(host) || Self.isIPv6(host) }

    /// HOST:PORT as in the `Host` header and in messages.
    var authority: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }

    package static func parts(
        of authority: Substring, url: String
    ) throws(RemoteSetupError) -> (host: String, port: Substring) {
        let bad = RemoteSetupError("\(url) names no host", hint: "https://HOST:PORT/VOLUME")
        if authority.hasPrefix("[") {
            guard let end = authority.firstIndex(of: "]") else { throw bad }
            let host = authority[..<end].dropFirst()
            let rest = authority[end...].dropFirst()
            guard isIPv6(host), rest.isEmpty || rest.hasPrefix(":") else { throw bad }
            return (String(host), rest.dropFirst())
        }
        let colon = authority.firstIndex(of: ":") ?? authority.endIndex
        let host = authority[..<colon]
        let port = authority[colon...].dropFirst()
        guard !port.contains(":") else {
            throw RemoteSetupError(
                "an IPv6 address stands in brackets", hint: "https://[\(authority)]:PORT/VOLUME")
        }
        let isName = host.utf8.allSatisfy {
            (0x30...0x39).contains($0) || (0x41...0x5A).contains($0) || (0x61...0x7A).contains($0)
                || $0 == 0x2D || $0 == 0x2E || $0 == 0x5F
        }
        guard isName, (1...253).contains(host.utf8.count) else { throw bad }
        return (String(host), port)
    }

    package static func isLoopback(_ host: String) -> Bool {
        if host.lowercased() == "localhost" || host == "::1" { return true }
        return isIPv4(host) && host.hasPrefix("127.")
    }

    package static func isIPv4(_ text: some StringProtocol) -> Bool {
        var address = in_addr()
        return inet_pton(AF_INET, String(text), &address) == 1
    }

    package static func isIPv6(_ text: some StringProtocol) -> Bool {
        var address = in6_addr()
        return inet_pton(AF_INET6, String(text), &address) == 1
    }
}

extension RemoteURL: CustomStringConvertible {
    public var description: String {
        let isUsual = port == (isSecure ? 443 : 80)
        let name = host.contains(":") ? "[\(host)]" : host
        return "http\(isSecure ? "s" : "")://\(isUsual ? name : authority)/\(volume)"
    }
}
