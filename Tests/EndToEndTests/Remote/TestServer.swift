// A log server as a process of its own, with a certificate made for the test, and its tokens.

import Foundation
import Testing

/// `logdisk serve` on a store in a scratch folder.
final class TestServer {
    let scratch: Scratch
    let store: String
    let certificate: TestCertificate
    /// How to get onto the host that it runs on; empty: this machine.
    private let host: ([String]) -> [String]
    private let address: String
    private var port = 0
    private var child: Child?
    private var tokens = 0

    var process: pid_t? { child?.process }
    var url: String { "https://\(address):\(port)" }

    /// Not started yet. `address` as in a URL.
    init(
        in scratch: Scratch, address: String = "127.0.0.1",
        on host: @escaping ([String]) -> [String] = { $0 }
    ) throws {
        self.scratch = scratch
        self.address = address
        self.host = host
        store = scratch.path("store")
        certificate = try TestCertificate(
            in: scratch, for: address.trimmingCharacters(in: CharacterSet(charactersIn: "[]")))
    }

    /// Starts it and waits until it says where it listens; again on the same port.
    func start(_ options: String...) throws {
        let words =
            [
                Machine.logdisk, "serve", store, "--listen", "\(address):\(port)", "--tls-cert",
                certificate.chain, "--tls-key", certificate.key,
            ] + options
        let child = try Child(host(words), in: scratch)
        self.child = child
        while let line = child.line() {
            guard let range = line.range(of: "https://\(address):") else { continue }
            port = try #require(Int(line[range.upperBound...].prefix { $0.isNumber }))
            return
        }
        Issue.record("the server did not start: \(child.wait())")
        throw Child.Missing(what: "a server")
    }

    /// SIGKILL.
    func kill() { child?.kill() }

    /// SIGTERM, and the end, which must be a good one.
    func stop() throws {
        let child = try #require(self.child)
        try #require(Glibc.kill(child.process, SIGTERM) == 0)
        let outcome = child.wait()
        #expect(outcome.status == 0, "\(outcome)")
    }

    /// A new token, in a file.
    func token(_ options: String...) throws -> String {
        tokens += 1
        let words = [Machine.logdisk, "access", "create", store, "--name", "client-\(tokens)"]
        let outcome = try scratch.start(words + options, input: nil).wait()
        try #require(outcome.status == 0, "\(outcome)")
        let path = scratch.path("token-\(tokens)")
        let token = try #require(outcome.output.split(separator: "\n").last)
        try "\(token)\n".write(toFile: path, atomically: false, encoding: .utf8)
        chmod(path, 0o600)
        return path
    }

    /// What a client needs to reach the volume `name`.
    func access(_ name: String, token: String) -> [String] {
        ["\(url)/\(name)", "--token-file", token, "--ca", certificate.authority]
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
