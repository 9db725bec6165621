// A log server as a process of its own, with a certificate made for the test, and its tokens.

import Foundation
import Testing

/// `logdisk serve` on a store in a scratch folder. It can be stopped, killed and started again on
/// the same port.
final class TestServer {
    let scratch: Scratch
    let store: String
    /// nil: plain HTTP.
    let certificate: TestCertificate?
    /// A file with a token for everything but deleting.
    private(set) var token = ""
    private(set) var url = ""
    /// How to get onto the host that it runs on.
    private let host: ([String]) -> [String]
    private let address: String
    private var port = "0"
    private var child: Child?
    private var tokens = 0

    var process: pid_t? { child?.process }

    /// Started. `address` as in a URL.
    init(
        in scratch: Scratch, withTLS: Bool = false, address: String = "127.0.0.1",
        on host: @escaping ([String]) -> [String] = { $0 }
    ) throws {
        self.scratch = scratch
        self.address = address
        self.host = host
        store = scratch.newPath("store")
        let name = address.trimmingCharacters(in: CharacterSet(charactersIn: "[]"))
        certificate = withTLS ? try TestCertificate(in: scratch, for: name) : nil
        try start()
        token = try newToken()
    }

    /// Of a volume at this server.
    func url(_ volume: String) -> String { "\(url)/\(volume)" }

    /// What a client needs besides the URL.
    var options: [String] {
        ["--token-file", token] + (certificate.map { ["--ca", $0.authority] } ?? [])
    }

    /// Starts it; on the port it had before, if it had one.
    func start() throws {
        var words = [
            Machine.logdisk, "serve", store, "--listen", "\(address):\(port)", "--reserve", "1M",
        ]
        if let certificate {
            words += ["--tls-cert", certificate.chain, "--tls-key", certificate.key]
        } else {
            words.append("--insecure")
        }
        // The port of a server that was killed may be taken for a moment longer.
        for _ in 0..<50 {
            let child = try Child(host(words), in: scratch)
            if let line = child.line(), let found = line.split(separator: " ").last {
                url = String(found)
                port = String(url.split(separator: ":").last ?? "")
                self.child = child
                return
            }
            child.kill()
            usleep(100_000)
        }
        Issue.record("the server does not start")
    }

    /// SIGKILL, and nothing after it.
    func kill() {
        child?.kill()
        child = nil
    }

    /// SIGTERM, and the end, which must be a good one.
    @discardableResult
    func stop() throws -> Outcome {
        let child = try #require(self.child)
        self.child = nil
        try #require(Glibc.kill(child.process, SIGTERM) == 0)
        eventually("the end of the server") { child.hasEnded }
        let outcome = child.wait()
        #expect(outcome.status == 0, "\(outcome)")
        return outcome
    }

    func signal(_ number: Int32) throws {
        try #require(Glibc.kill(try #require(process), number) == 0)
    }

    /// A token for what `options` say, in a file.
    func newToken(_ options: String...) throws -> String {
        tokens += 1
        let words = [Machine.logdisk, "access", "create", store, "--name", "client-\(tokens)"]
        let outcome = try scratch.start(words + options, input: nil).wait()
        try #require(outcome.status == 0, "\(outcome)")
        let path = scratch.newPath("token")
        let secret = outcome.output.split(separator: "\n").last.map(String.init) ?? ""
        try #require(
            FileManager.default.createFile(
                atPath: path, contents: Data((secret + "\n").utf8),
                attributes: [.posixPermissions: 0o600]))
        return path
    }

    /// Segments of a volume there, by name.
    func segments(_ volume: String) -> [String] { Self.segments("\(store)/\(volume)") }

    static func segments(_ folder: String) -> [String] {
        let names = try? FileManager.default.contentsOfDirectory(atPath: folder + "/segments")
        return (names ?? []).filter { $0.hasSuffix(".segment") }.sorted()
    }
}

/// A certificate and the authority that signed it, made by openssl.
struct TestCertificate {
    let authority: String
    let chain: String
    let key: String

    /// `name`: a host name or an address.
    init(in scratch: Scratch, for name: String, days: Int = 2) throws {
        let folder = scratch.newPath("certificate")
        try #require(mkdir(folder, 0o700) == 0)
        (authority, chain, key) = ("\(folder)/ca.pem", "\(folder)/cert.pem", "\(folder)/key.pem")
        let isAddress = name.contains(":") || name.allSatisfy { $0.isNumber || $0 == "." }
        let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        func openssl(_ words: [String]) throws {
            let outcome = try scratch.start(["openssl"] + words, input: nil).wait()
            try #require(outcome.status == 0, "\(outcome)")
        }
        try openssl(
            ["req", "-x509"] + curve + [
                "-keyout", "\(folder)/ca.key", "-out", authority, "-subj", "/CN=test authority",
                "-days", "2",
            ])
        try openssl(
            ["req"] + curve + [
                "-keyout", key, "-out", "\(folder)/request.pem", "-subj", "/CN=log server",
            ])
        let extensions = "subjectAltName=\(isAddress ? "IP" : "DNS"):\(name)\n"
        try extensions.write(toFile: "\(folder)/extensions", atomically: false, encoding: .utf8)
        try openssl([
            "x509", "-req", "-in", "\(folder)/request.pem", "-CA", authority, "-CAkey",
            "\(folder)/ca.key", "-CAcreateserial", "-out", chain, "-days", "\(days)", "-extfile",
            "\(folder)/extensions",
        ])
    }
}
