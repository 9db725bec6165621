// remote, ship, and the rest of access, serve, key and adopt: each wrong argument with its message,
// hint and exit code, and nothing left behind. No server answers here.

import Foundation
import Testing

@Suite struct RemoteCommandTests {
    /// Volumes `v`, with the remotes `b` and `p`, of which `p` is paused, and `w` without; a token,
    /// a key and files that are neither.
    private func makeSandbox() throws -> Sandbox {
        let sandbox = try Sandbox()
        for name in ["v", "w"] {
            #expect(try sandbox.run(["create", name, "--size", "1M"]).code == 0)
        }
        for (name, text) in [("token", "secret\n"), ("empty", "\n"), ("open", "secret\n")] {
            try Data(text.utf8).write(to: URL(fileURLWithPath: "\(sandbox.path)/\(name)"))
            #expect(chmod("\(sandbox.path)/\(name)", name == "open" ? 0o644 : 0o600) == 0)
        }
        #expect(try sandbox.run(["key", "create", "key"]).code == 0)
        try sandbox.bytes("key").write(to: URL(fileURLWithPath: "\(sandbox.path)/openkey"))
        #expect(chmod("\(sandbox.path)/openkey", 0o640) == 0)
        for name in ["b", "p"] {
            let words = ["remote", "add", "v", name, Self.url, "--offline"]
            #expect(try sandbox.run(words).code == 0)
        }
        #expect(try sandbox.run(["remote", "pause", "v", "p"]).code == 0)
        return sandbox
    }

    /// Nobody listens on the port of the discard service.
    private static let url = "https://127.0.0.1:9/vol"

    /// Of `remote add v a`.
    private static let additions = [
        ("", 64, "URL"), ("v --offline", 64, "is not the URL of a log server"),
        ("https://host:x/v --offline", 64, "is not a port"),
        ("https://host:1/.. --offline", 64, "cannot be the name of a volume"),
        ("https://u:p@host:1/v --offline", 64, "user or password"),
        ("https://:1/v --offline", 64, "names no host"),
        ("https://::1:1/v --offline", 64, "stands in brackets"),
        ("http://example.org:1/v --offline", 64, "plain http is for this machine only"),
        (url, 14, "cannot be used"),
        ("\(url) --offline --when sometimes", 64, "--when 'sometimes' is not understood"),
        ("\(url) --offline --when 25:00-06:00", 64, "--when '25:00-06:00' is not understood"),
        ("\(url) --offline --when 06:00-06:00", 64, "begin and end at the same time"),
        ("\(url) --offline --quiet-below 0%", 64, "between 1% and 100%"),
        ("\(url) --offline --quiet-below 5MB", 64, "a rate ends with /s"),
        ("\(url) --offline --interface none0", 64, "there is no interface 'none0'"),
        ("\(url) --offline --bind none0", 64, "none0"),
        ("\(url) --offline --rate fast", 64, "--rate 'fast' is not understood"),
        ("\(url) --offline --rate 5X/s", 64, "unknown unit 'X'"),
        ("\(url) --offline --max-lag soon", 64, "--max-lag soon is not a duration"),
        ("\(url) --offline --max-backlog much", 64, "--max-backlog much is not a size"),
        ("\(url) --offline --on-backlog lose", 64, "lose"),
        ("\(url) --offline --batch x", 64, "--batch x is not a duration"),
        ("\(url) --offline --keep often", 64, "--keep 'often' is no ladder"),
        ("\(url) --offline --token-file missing", 64, "cannot read the token"),
        ("\(url) --offline --token-file open", 64, "others may read the token"),
        ("\(url) --offline --token-file empty", 64, "there is no token in the first line"),
        ("\(url) --offline --ca missing", 64, "cannot read certificates"),
        ("\(url) --offline --ca token", 64, "certificates"),
        ("\(url) --offline --key-file missing", 64, "there is no key file"),
        ("\(url) --offline --key-file token", 64, "not a key file"),
        ("\(url) --offline --key-file openkey", 15, "others can read the key"),
        ("\(url) --offline --nonsense", 64, "--nonsense"),
    ]

    @Test func remoteAddRefuses() throws {
        let sandbox = try makeSandbox()
        let before = sandbox.names
        for (words, code, text) in Self.additions {
            let row = BadInput("remote add v a \(words)", Int32(code), text)
            check(row, try sandbox.run(row.arguments))
            #expect(sandbox.names == before, "\(row) left something behind")
            #expect(!sandbox.exists("v/remotes/a.json"), "\(row)")
        }
        let away = try sandbox.run(["remote", "add", "v", "a", Self.url])
        #expect(away.error.contains("hint: add it all the same with --offline"), "\(away.error)")
    }

    @Test func othersRefuse() throws {
        let sandbox = try makeSandbox()
        let before = sandbox.names
        let settings = try sandbox.bytes("v/remotes/b.json")
        let url = Self.url
        let table = [
            BadInput("remote add", 64, "VOL"), BadInput("remote add v", 64, "NAME"),
            BadInput("remote lose v", 64, "lose"),
            BadInput("remote add missing a \(url)", 10, "there is no volume in"),
            BadInput("remote add \(url) a \(url)", 64, "at a log server"),
            BadInput("remote add v a/b \(url)", 64, "cannot be the name of a remote"),
            BadInput("remote add v .a \(url)", 64, "cannot be the name of a remote"),
            BadInput("remote add v b \(url) --offline", 64, "it has a remote 'b' already"),
            BadInput("remote list", 64, "VOL"),
            BadInput("remote list missing", 10, "there is no volume in"),
            BadInput("remote show v", 64, "NAME"),
            BadInput("remote show v a", 10, "it has no remote 'a'"),
            BadInput("remote show w a", 10, "it has no remote 'a'"),
            BadInput("remote remove v a", 10, "it has no remote 'a'"),
            BadInput("remote remove missing a", 10, "there is no volume in"),
            BadInput("remote pause v ../b", 10, "it has no remote '../b'"),
            BadInput("remote resume v a", 10, "it has no remote 'a'"),
            BadInput("ship", 64, "VOL"), BadInput("ship missing", 10, "there is no volume in"),
            BadInput("ship \(url)", 64, "at a log server"),
            BadInput("ship v a", 10, "it has no remote 'a'"),
            BadInput("ship w", 64, "it has no remote"),
            BadInput("ship v p", 15, "remote p is paused"),
            BadInput("ship v b c", 64, "c"), BadInput("ship v b --later", 64, "--later"),
        ]
        for row in table {
            check(row, try sandbox.run(row.arguments))
            #expect(sandbox.names == before, "\(row) left something behind")
            #expect(try sandbox.bytes("v/remotes/b.json") == settings, "\(row)")
        }
        #expect(!sandbox.exists("w/remotes"))
    }

    @Test func damagedSettings() throws {
        let sandbox = try makeSandbox()
        try sandbox.overwrite("v/remotes/b.json", at: 0, with: Data("[".utf8))
        for words in ["remote show v b", "remote pause v b", "remote remove v b", "ship v b"] {
            let row = BadInput(words, 13, "the settings of remote 'b' are damaged")
            check(row, try sandbox.run(row.arguments))
        }
    }

    @Test func serveAccessKeyAndAdoptRefuse() throws {
        let sandbox = try makeSandbox()
        let server = try ServerProcess(sandbox, ["st", "--listen", "127.0.0.1:0", "--insecure"])
        let port = try #require(server.firstLine.split(separator: ":").last)
        let before = sandbox.names
        let url = Self.url
        let free = "--listen 127.0.0.1:0"
        let table = [
            BadInput("serve token \(free) --insecure", 1, "token"),
            BadInput("serve missing/st \(free) --insecure", 1, "missing/st"),
            BadInput("serve '' \(free) --insecure", 1, "cannot"),
            BadInput("serve other --listen 127.0.0.1:\(port) --insecure", 1, "listened on"),
            BadInput("serve st --listen '' --insecure", 64, "is no ADDR:PORT"),
            BadInput("serve st \(free) --insecure --reserve -1", 64, "--reserve"),
            BadInput("serve st \(free) --insecure --keep ''", 64, "is no ladder"),
            BadInput("serve st \(free) --insecure extra", 64, "extra"),
            BadInput("access lend st", 64, "lend"), BadInput("access create", 64, "STORE"),
            BadInput("access list", 64, "STORE"),
            BadInput("access revoke st", 64, "--name"),
            BadInput("access create st --name ''", 64, "is no name of a token"),
            BadInput("access create st --name a --volumes ''", 64, "is no pattern"),
            BadInput("access create st --name a --append-only --full", 64, "exclude each other"),
            BadInput("access revoke st --name ../a", 10, "there is no token ../a"),
            BadInput("access list token", 10, "there is no store"),
            BadInput("key create key", 64, "key exists"),
            BadInput("key create missing/k", 1, "cannot create missing/k"),
            BadInput("key create ''", 1, "cannot"), BadInput("key create a b", 64, "b"),
            BadInput("key show token", 64, "not a key file"),
            BadInput("key show openkey", 15, "others can read the key"),
            BadInput("adopt", 64, "URL"), BadInput("adopt \(url)", 64, "VOL"),
            BadInput("adopt https://host:1 n", 64, "names no volume"),
            BadInput("adopt http://example.org:1/v n", 64, "plain http"),
            BadInput("adopt \(url) token", 64, "is not a folder"),
            BadInput("adopt \(url) n --token-file missing", 64, "cannot read the token"),
            BadInput("adopt \(url) n --token-file open", 64, "others may read the token"),
            BadInput("adopt \(url) n --ca missing", 64, "cannot read certificates"),
            BadInput("adopt \(url) n --remote-name .x", 64, "cannot be the name of a remote"),
            BadInput("adopt \(url) n --mount-first token", 64, "is not a folder"),
            BadInput("adopt \(url) n more", 64, "more"),
        ]
        for row in table {
            check(row, try sandbox.run(row.arguments))
            let left = sandbox.names.filter { !before.contains($0) && $0 != "other" }
            #expect(left.isEmpty, "\(row) left \(left) behind")
        }
        #expect(server.end(with: SIGTERM) == 0)
    }
}
