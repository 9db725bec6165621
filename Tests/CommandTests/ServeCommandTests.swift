// logdisk serve and access: bad input by table, tokens, and the life of a server as a process.

import CommandText
import Foundation
import Testing

@Suite struct ListenAddressTests {
    @Test(arguments: [
        ("127.0.0.1:7000", "127.0.0.1", 7000), ("[::1]:0", "::1", 0),
        ("[fe80::1]:65535", "fe80::1", 65535), ("logs.example.org:443", "logs.example.org", 443),
    ]) func good(_ text: String, _ host: String, _ port: Int) throws {
        let address = try ListenAddress(parsing: text)
        #expect(address == ListenAddress(host: host, port: port))
        #expect("\(address)" == text)
    }

    @Test(arguments: [
        "", ":", ":7000", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:-1",
        "127.0.0.1:7x", "::1:7000", "[::1]", "[::1:7000", "[]:1", "a b:1", "a/b:1", "a@b:1",
        "[::1]7000", "h:+1",
    ]) func bad(_ text: String) {
        #expect(throws: ListenAddress.Failure.self) { _ = try ListenAddress(parsing: text) }
    }
}

@Suite struct ServeCommandTests {
    /// A sandbox with an empty store `st`, which a server has made.
    private func makeStore() throws -> Sandbox {
        let sandbox = try Sandbox()
        let server = try ServerProcess(sandbox, ["st", "--listen", "127.0.0.1:0", "--insecure"])
        #expect(server.end(with: SIGTERM) == 0)
        return sandbox
    }

    @Test func refuses() throws {
        let sandbox = try makeStore()
        try sandbox.folder("other")
        try sandbox.file("other/file", bytes: 3)
        try sandbox.file("bad.pem", bytes: 3)
        let table = [
            BadInput("serve", 64, "STORE"), BadInput("serve st", 64, "--listen"),
            BadInput("serve st --listen 7000 --insecure", 64, "no port"),
            BadInput("serve st --listen ::1:7000 --insecure", 64, "brackets"),
            BadInput("serve st --listen 127.0.0.1:0", 64, "a certificate is missing"),
            BadInput("serve st --listen 0.0.0.0:0 --insecure", 64, "serves this machine only"),
            BadInput("serve st --listen 127.0.0.1:0 --tls-cert a", 64, "go together"),
            BadInput("serve st --listen 127.0.0.1:0 --tls-key a", 64, "go together"),
            BadInput(
                "serve st --listen 127.0.0.1:0 --insecure --tls-cert a --tls-key b", 64,
                "exclude each other"),
            BadInput(
                "serve st --listen 127.0.0.1:0 --tls-cert bad.pem --tls-key bad.pem", 1,
                "the certificate cannot be used"),
            BadInput(
                "serve st --listen 127.0.0.1:0 --tls-cert none --tls-key none", 1,
                "the certificate cannot be used"),
            BadInput(
                "serve st --listen 127.0.0.1:0 --insecure --keep often", 64, "is no ladder"),
            BadInput(
                "serve st --listen 127.0.0.1:0 --insecure --reserve x", 64, "is not a size"),
            BadInput("serve other --listen 127.0.0.1:0 --insecure", 10, "there is no store"),
            BadInput("access create st", 64, "--name"),
            BadInput("access create other --name a", 10, "there is no store"),
            BadInput("access create missing --name a", 10, "there is no store"),
            BadInput("access list missing", 10, "there is no store"),
            BadInput("access revoke st --name a", 10, "there is no token a"),
            BadInput("access create st --name ../a", 64, "is no name of a token"),
            BadInput("access create st --name a --volumes a/*", 64, "is no pattern"),
            BadInput("access create st --name a --read-only --full", 64, "exclude each other"),
        ]
        for row in table { check(row, try sandbox.run(row.arguments)) }
        #expect(!sandbox.exists("missing"))
        #expect(try sandbox.bytes("other/file").count == 3)
        #expect(!sandbox.exists("other/.logdisk"))
    }

    @Test func tokens() throws {
        let sandbox = try makeStore()
        let made = try sandbox.run([
            "access", "create", "st", "--name", "db1", "--volumes", "db1*", "--volumes", "x",
        ])
        #expect(made.code == 0, "\(made.error)")
        let token = try #require(made.output.split(separator: "\n").last)
        #expect(token.hasPrefix("db1.") && token.count == 4 + 43)
        let again = try sandbox.run(["access", "create", "st", "--name", "db1"])
        #expect(again.code == 64 && again.error.contains("hint: logdisk access revoke"))
        _ = try sandbox.run(["access", "create", "st", "--name", "r", "--read-only", "--json"])
        let list = try sandbox.run(["access", "list", "st"])
        #expect(list.output.contains("db1   append-only  db1* x"), "\(list.output)")
        #expect(list.output.contains("r     read-only    *"), "\(list.output)")
        #expect(!list.output.contains(token.dropFirst(4).prefix(10)))
        let json = try sandbox.run(["access", "list", "st", "--json"])
        let value = try JSONSerialization.jsonObject(with: Data(json.output.utf8))
        let tokens = try #require((value as? [String: Any])?["tokens"] as? [[String: Any]])
        #expect(tokens.compactMap { $0["name"] as? String } == ["db1", "r"])
        let gone = try sandbox.run(["access", "revoke", "st", "--name", "r"])
        #expect(gone.code == 0 && gone.output.contains("refused from now on"))
        #expect(try !sandbox.run(["access", "list", "st"]).output.contains("read-only"))
    }

    @Test func aServerTellsItsPortAndEndsOnSIGTERM() throws {
        let sandbox = try Sandbox()
        for (listen, url) in [("127.0.0.1:0", "http://127.0.0.1:"), ("[::1]:0", "http://[::1]:")] {
            let server = try ServerProcess(sandbox, ["st", "--listen", listen, "--insecure"])
            #expect(server.firstLine.hasPrefix("serving st on \(url)"), "\(server.firstLine)")
            let second = try sandbox.run(["serve", "st", "--listen", listen, "--insecure"])
            #expect(second.code == 11, "\(second.error)")
            #expect(second.error.contains("another server serves it"))
            // Without certificates the signal changes nothing.
            server.signal(SIGHUP)
            #expect(server.end(with: listen.hasPrefix("[") ? SIGINT : SIGTERM) == 0)
        }
    }
}

/// `logdisk serve` in the background. Ended when it goes.
final class ServerProcess {
    private let process = Process()
    let firstLine: String

    init(_ sandbox: Sandbox, _ arguments: [String]) throws {
        let output = Pipe()
        process.executableURL = URL(fileURLWithPath: Sandbox.program)
        process.arguments = ["serve"] + arguments
        process.currentDirectoryURL = URL(fileURLWithPath: sandbox.path)
        process.standardInput = FileHandle.nullDevice
        process.standardOutput = output
        process.standardError = FileHandle.nullDevice
        try process.run()
        var bytes = Data()
        while !bytes.contains(0x0A) {
            let more = output.fileHandleForReading.availableData
            if more.isEmpty { break }
            bytes += more
        }
        firstLine = String(decoding: bytes.prefix { $0 != 0x0A }, as: UTF8.self)
    }

    deinit { if process.isRunning { process.terminate() } }

    func signal(_ number: Int32) { kill(process.processIdentifier, number) }

    /// Its exit code; negative: it died of a signal.
    func end(with number: Int32) -> Int32 {
        signal(number)
        process.waitUntilExit()
        return process.terminationReason == .exit
            ? process.terminationStatus : -process.terminationStatus
    }
}
