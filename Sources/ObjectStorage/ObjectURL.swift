// Where a volume lies in object storage: s3://BUCKET/PREFIX, and where the store answers: an
// endpoint https://HOST[:PORT]. Text to values and back; no I/O.

import Shipping

/// A bucket and the prefix of all keys of one volume.
public struct ObjectURL: Hashable, Sendable, CustomStringConvertible {
    public let bucket: String
    /// Without slashes at its ends; empty: the whole bucket is one volume.
    public let prefix: String

    private static let scheme = "s3://"

    /// Whether `text` is meant to be such a URL.
    public static func isMeant(by text: String) -> Bool { text.lowercased().hasPrefix(scheme) }

    /// Reads `s3://BUCKET/PREFIX`.
    public init(_ text: String) throws(RemoteSetupError) {
        let form = "s3://BUCKET/PREFIX"
        guard Self.isMeant(by: text) else {
            throw RemoteSetupError("\(text) is not a place in object storage", hint: form)
        }
        let rest = text.dropFirst(Self.scheme.count)
        let slash = rest.firstIndex(of: "/") ?? rest.endIndex
        let bucket = rest[..<slash]
        var path = rest[slash...].dropFirst()
        if path.hasSuffix("/") { path = path.dropLast() }
        guard (3...255).contains(bucket.utf8.count), bucket.utf8.allSatisfy(Self.isBucketByte),
            bucket.utf8.first.map({ $0 != 0x2E && $0 != 0x2D }) ?? false
        else {
            throw RemoteSetupError("'\(bucket)' cannot be the name of a bucket", hint: form)
        }
        let parts = path.split(separator: "/", omittingEmptySubsequences: false)
        guard path.isEmpty || parts.allSatisfy({ !$0.isEmpty && $0 != "." && $0 != ".." }),
            path.utf8.allSatisfy({ Self.isBucketByte($0) || [0x2F, 0x3D, 0x2B].contains($0) }),
            path.utf8.count <= 500
        else {
            throw RemoteSetupError(
                "'\(path)' cannot be the prefix of a volume",
                hint: "up to 500 of A-Z a-z 0-9 . _ - = + with single slashes between")
        }
        self.bucket = String(bucket)
        prefix = String(path)
    }

    private static func isBucketByte(_ byte: UInt8) -> Bool {
        (0x30...0x39).contains(byte) || (0x41...0x5A).contains(byte) || (0x61...0x7A).contains(byte)
            || byte == 0x2D || byte == 0x2E || byte == 0x5F
    }

    /// A key below the prefix.
    func key(_ name: String) -> String { prefix.isEmpty ? name : "\(prefix)/\(name)" }

    public var description: String {
        prefix.isEmpty ? "s3://\(bucket)" : "s3://\(bucket)/\(prefix)"
    }
}

/// Where a store answers.
struct ObjectEndpoint: Hashable, Sendable {
    let isSecure: Bool
    /// A name, an IPv4 address, or an IPv6 address without its brackets.
    let host: String
    let port: Int

    /// Reads `http[s]://HOST[:PORT]`.
    init(_ text: String) throws(RemoteSetupError) {
        let form = "https://HOST or https://HOST:PORT"
        let bad = RemoteSetupError("\(text) is not the endpoint of an object store", hint: form)
        let rest: Substring
        if text.hasPrefix("https://") {
            (isSecure, rest) = (true, text.dropFirst(8))
        } else if text.hasPrefix("http://") {
            (isSecure, rest) = (false, text.dropFirst(7))
        } else {
            throw bad
        }
        let authority = rest.hasSuffix("/") ? rest.dropLast() : rest
        guard !authority.contains("/"), !authority.contains("?") else { throw bad }
        guard !authority.contains("@") else {
            throw RemoteSetupError(
                "an endpoint with a user or password is not supported", hint: "--credentials FILE")
        }
        let (host, port): (String, Substring)
        do throws(RemoteSetupError) {
            (host, port) = try RemoteURL.parts(of: authority, url: text)
        } catch { throw bad }
        guard let number = port.isEmpty ? (isSecure ? 443 : 80) : UInt16(port).map(Int.init),
            number > 0
        else { throw bad }
        self.host = host
        self.port = number
    }

    private init(amazon region: String) {
        (isSecure, host, port) = (true, "s3.\(region).amazonaws.com", 443)
    }

    /// Of Amazon's own store in a region.
    static func amazon(region: String) -> ObjectEndpoint { ObjectEndpoint(amazon: region) }

    var isAddress: Bool { RemoteURL.isIPv4(host) || RemoteURL.isIPv6(host) }

    /// HOST[:PORT] as in the `Host` header, with something before the host.
    func authority(_ front: String = "") -> String {
        let name = host.contains(":") ? "[\(host)]" : front + host
        return port == (isSecure ? 443 : 80) ? name : "\(name):\(port)"
    }
}
