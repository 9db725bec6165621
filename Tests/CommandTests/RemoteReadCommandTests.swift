// Reading a volume at a log server, and adopting one: bad inputs by table. No server is needed:
// what is refused here is refused before one is asked, or because none answers.

import Foundation
import Testing

@Suite struct RemoteReadTableTests {
    @Test func refuses() throws {
        let sandbox = try Sandbox()
        #expect(try sandbox.run(["create", "v", "--size", "1M"]).code == 0)
        try sandbox.file("token", bytes: 10)
        try sandbox.folder("mnt")
        let before = sandbox.names
        // Nobody listens on the port of the discard service.
        let url = "https://127.0.0.1:9/vol"
        let table = [
            BadInput("points https://", 64, "names no volume"),
            BadInput("points https://host:1", 64, "names no volume"),
            BadInput("points https://host:1/..", 64, "cannot be the name of a volume"),
            BadInput("points https://host:x/vol", 64, "is not a port"),
            BadInput("points http://example.org:1/vol", 64, "plain http is for this machine only"),
            BadInput("points \(url)", 14, "not reachable"),
            BadInput("replay \(url) --at now --output x", 14, "not reachable"),
            BadInput("mount \(url) mnt --at now", 14, "not reachable"),
            BadInput("mount \(url) mnt", 64, "at a log server"),
            BadInput("mark \(url) x", 64, "at a log server"),
            BadInput("status \(url)", 64, "at a log server"),
            BadInput("prune \(url) --keep newest", 64, "is not a rung"),
            BadInput("verify \(url) --repair", 64, "at a log server"),
            BadInput("points \(url) --token-file missing", 64, "cannot read the token"),
            BadInput("points \(url) --ca missing", 64, "cannot read certificates"),
            BadInput("points v --token-file token", 64, "--token-file is for a volume at"),
            BadInput("points v --ca token", 64, "--ca is for a volume at"),
            BadInput("points v --key-file token", 64, "--key-file is for a volume at"),
            BadInput("adopt v w", 64, "not the URL of a volume"),
            BadInput("adopt \(url) v", 64, "not empty"),
            BadInput("adopt \(url) missing/w", 64, "does not exist"),
            BadInput("adopt \(url) w --remote-name a/b", 64, "cannot be the name of a remote"),
            BadInput("adopt \(url) w --mount-first missing", 64, "does not exist"),
            BadInput("adopt \(url) w", 14, "not reachable"),
        ]
        for row in table {
            check(row, try sandbox.run(row.arguments))
            #expect(sandbox.names == before, "\(row) left something behind")
        }
    }
}
