// A log server of a test: a process on a port of this machine, which can be stopped, killed and
// started again on the same port.

import Foundation
import Testing

final class TestServer {
    let scratch: Scratch
    let store: String
    let token: String
    private(set) var url = ""
    private var child: Child?

    init(in scratch: Scratch) throws {
        self.scratch = scratch
        store = scratch.path("store")
        token = scratch.path("token")
        try start()
        let words = try scratch.logdisk("access", "create", store, "--name", "test").output
        let secret = words.split(separator: "\n").last.map(String.init) ?? ""
        try #require(
            FileManager.default.createFile(
                atPath: token, contents: Data((secret + "\n").utf8),
                attributes: [.posixPermissions: 0o600]))
    }

    /// Starts it; on the port it had before, if it had one.
    func start() throws {
        let port = url.split(separator: ":").last.map(String.init) ?? "0"
        // The port of a server that was killed may be taken for a moment longer.
        for _ in 0..<50 {
            let child = try Child(
                [
                    Machine.logdisk, "serve", store, "--listen", "127.0.0.1:\(port)", "--insecure",
                    "--reserve", "1M",
                ], in: scratch)
            if let line = child.line(), let found = line.split(separator: " ").last {
                url = String(found)
                self.child = child
                return
            }
            child.kill()
            usleep(100_000)
        }
        Issue.record("the server does not start")
    }

    func kill() {
        child?.kill()
        child = nil
    }

    /// SIGTERM, and its end.
    func stop() throws {
        let child = try #require(child)
        Glibc.kill(child.process, SIGTERM)
        eventually("the end of the server") { child.hasEnded }
        self.child = nil
    }

    /// Segments of a volume there, by name.
    func segments(_ volume: String) -> [String] { Self.segments("\(store)/\(volume)") }

    static func segments(_ folder: String) -> [String] {
        let names = try? FileManager.default.contentsOfDirectory(atPath: folder + "/segments")
        return (names ?? []).filter { $0.hasSuffix(".segment") }.sorted()
    }
}
