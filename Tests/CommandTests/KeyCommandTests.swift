// key create and key show: what they make, what they refuse, and that the key itself never shows.

import Foundation
import Testing

@Suite struct KeyCommandTests {
    private static func mode(_ sandbox: Sandbox, _ name: String) throws -> Int? {
        try FileManager.default.attributesOfItem(atPath: "\(sandbox.path)/\(name)")[
            .posixPermissions] as? Int
    }

    @Test func createsAndShows() throws {
        let sandbox = try Sandbox()
        let made = try sandbox.run(["key", "create", "k"])
        #expect(made.code == 0, "\(made.error)")
        #expect(made.output.contains("Keep a copy"))
        #expect(try Self.mode(sandbox, "k") == 0o600)
        let text = String(decoding: try sandbox.bytes("k"), as: UTF8.self)
        let lines = text.split(separator: "\n")
        try #require(lines.count == 3 && lines[0] == "logdisk key 1")
        let (id, key) = (lines[1].dropFirst(3), lines[2].dropFirst(4))
        #expect(id.count == 32 && key.count == 64)
        let shown = try sandbox.run(["key", "show", "k"])
        #expect(shown.code == 0 && shown.output == "k: key \(id)\n", "\(shown.error)")
        for run in [made, shown] {
            #expect(run.output.contains(id) && !run.output.contains(key), "\(run.output)")
        }
        let json = try sandbox.run(["key", "show", "k", "--json"])
        let object = try JSONSerialization.jsonObject(with: Data(json.output.utf8))
        #expect((object as? [String: String]) == ["file": "k", "key_id": String(id)])
        let other = try sandbox.run(["key", "create", "k2", "--json"])
        let second = try JSONSerialization.jsonObject(with: Data(other.output.utf8))
        let otherID = try #require((second as? [String: String])?["key_id"])
        #expect(otherID != id && otherID.count == 32)
    }

    @Test func neverWritesOver() throws {
        let sandbox = try Sandbox()
        #expect(try sandbox.run(["key", "create", "k"]).code == 0)
        let before = try sandbox.bytes("k")
        let again = try sandbox.run(["key", "create", "k"])
        #expect(again.code == 64 && again.error.contains("k exists"), "\(again.error)")
        #expect(again.error.contains("hint: choose another name"), "\(again.error)")
        #expect(try sandbox.bytes("k") == before)
        try FileManager.default.createSymbolicLink(
            atPath: "\(sandbox.path)/link", withDestinationPath: "nowhere")
        let link = try sandbox.run(["key", "create", "link"])
        #expect(link.code != 0 && !sandbox.exists("nowhere"), "\(link.error)")
        #expect(sandbox.names == ["k", "link"])
    }

    @Test func refuses() throws {
        let sandbox = try Sandbox()
        #expect(try sandbox.run(["key", "create", "k"]).code == 0)
        try sandbox.folder("folder")
        try sandbox.file("other", bytes: 100)
        #expect(chmod("\(sandbox.path)/other", 0o600) == 0)
        var text = try sandbox.bytes("k")
        text[text.count - 3] = text[text.count - 3] == 0x30 ? 0x31 : 0x30
        try text.write(to: URL(fileURLWithPath: "\(sandbox.path)/wrong"))
        #expect(chmod("\(sandbox.path)/wrong", 0o600) == 0)
        try (try sandbox.bytes("k")).write(to: URL(fileURLWithPath: "\(sandbox.path)/open"))
        #expect(chmod("\(sandbox.path)/open", 0o640) == 0)
        let before = sandbox.names
        let table = [
            BadInput("key show missing", 64, "there is no key file"),
            BadInput("key show folder", 64, "not a key file"),
            BadInput("key show other", 64, "not a key file"),
            BadInput("key show wrong", 13, "the key is damaged"),
            BadInput("key show open", 15, "others can read the key", "640"),
            BadInput("key create nowhere/k", 1, "cannot create nowhere/k"),
            BadInput("key create", 64, "FILE"), BadInput("key show", 64, "FILE"),
            BadInput("key lose k", 64, "lose"),
        ]
        for row in table {
            let run = try sandbox.run(row.arguments)
            #expect(run.code == row.code, "\(row): \(run.error)")
            #expect(run.output.isEmpty, "\(row): \(run.output)")
            for word in row.words {
                #expect(run.errorLines.first?.contains(word) ?? false, "\(row): \(run.error)")
            }
        }
        #expect(try sandbox.run(["key", "show", "open"]).error.contains("hint: chmod 600 open"))
        #expect(sandbox.names == before)
    }
}
