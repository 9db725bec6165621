// ADDR:PORT, as `--listen` takes it. Pure.

/// Where to listen: `127.0.0.1:7000`, `[::1]:7000`, `backup.example.org:0`.
public struct ListenAddress: Hashable, Sendable {
    /// Without brackets.
    public var host: String
    /// 0: one that is free.
    public var port: Int

    public init(host: String, port: Int) {
        self.host = host
        self.port = port
    }

    /// Why a text is no address.
    public struct Failure: Error, Hashable, Sendable {
        public var reason: String
    }

    public init(parsing text: String) throws(Failure) {
        let host: Substring
        let rest: Substring
        if text.hasPrefix("[") {
            guard let end = text.firstIndex(of: "]") else {
                throw Failure(reason: "the bracket is not closed")
            }
            host = text[text.index(after: text.startIndex)..<end]
            rest = text[text.index(after: end)...]
        } else {
            guard let colon = text.lastIndex(of: ":") else { throw Failure(reason: "no port") }
            host = text[..<colon]
            rest = text[colon...]
            if host.contains(":") {
                throw Failure(reason: "an IPv6 address stands in brackets")
            }
        }
        guard !host.isEmpty else { throw Failure(reason: "no address before the port") }
        guard rest.first == ":" else { throw Failure(reason: "no port") }
        let digits = rest.dropFirst()
        guard !digits.isEmpty, digits.utf8.allSatisfy({ (0x30...0x39).contains($0) }),
            let port = UInt16(digits)
        else { throw Failure(reason: "'\(digits)' is no port") }
        guard !host.contains(where: { $0.isWhitespace || $0 == "/" || $0 == "@" }) else {
            throw Failure(reason: "'\(host)' is no address")
        }
        self.init(host: String(host), port: Int(port))
    }
}

extension ListenAddress: CustomStringConvertible {
    public var description: String {
        host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
    }
}
