// Volumes on object storage: every wrong argument with its message and exit code, and nothing left
// behind. Nothing answers here; what a store answers stands in EndToEndTests/ObjectStorage.

import Foundation
import Testing

@Suite struct ObjectCommandTests {
    private static let keys = """
        [default]
        aws_access_key_id = AKIDEXAMPLE
        aws_secret_access_key = wJalrXUtnFEMIsecret
        """

    /// A volume, keys, and files that are no keys.
    private func makeSandbox() throws -> Sandbox {
        let sandbox = try Sandbox()
        #expect(try sandbox.run(["create", "v", "--size", "1M"]).code == 0)
        #expect(try sandbox.run(["key", "create", "key"]).code == 0)
        let files = [
            ("keys", Self.keys, 0o600), ("open", Self.keys, 0o644), ("empty", "\n", 0o600),
            ("token", "secret\n", 0o600), ("half", "[default]\naws_access_key_id = A\n", 0o600),
            ("json", #"{"access_key": "AKID"}"#, 0o600),
        ]
        for (name, text, mode) in files {
            try Data(text.utf8).write(to: URL(fileURLWithPath: "\(sandbox.path)/\(name)"))
            #expect(chmod("\(sandbox.path)/\(name)", mode_t(mode)) == 0)
        }
        try sandbox.folder("mnt")
        return sandbox
    }

    /// Nobody listens on the port of the discard service.
    private static let place = "--endpoint http://127.0.0.1:9"
    /// No keys of whoever runs the tests.
    private static let environment = [
        "AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_SESSION_TOKEN": "",
        "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent", "AWS_PROFILE": "", "AWS_REGION": "",
        "AWS_DEFAULT_REGION": "", "AWS_ENDPOINT_URL": "", "AWS_ENDPOINT_URL_S3": "",
    ]

    private func check(_ table: [BadInput], _ sandbox: Sandbox) throws {
        let before = sandbox.names
        for row in table {
            let run = try sandbox.run(row.arguments, environment: Self.environment)
            CommandTests.check(row, run)
            #expect(sandbox.names == before, "\(row) left something behind")
            #expect(!sandbox.exists("v/remotes/a.json"), "\(row)")
            #expect(!(run.output + run.error).contains("wJalrXUtnFEMI"), "\(row) tells the key")
        }
    }

    @Test func remoteAddRefuses() throws {
        let sandbox = try makeSandbox()
        let add = "remote add v a"
        let good = "\(add) s3://bucket/p \(Self.place) --credentials keys"
        let keys = "\(add) s3://bucket/p --offline --credentials"
        try check(
            [
                BadInput("\(add) s3:// --offline", 64, "cannot be the name of a bucket"),
                BadInput("\(add) s3://a/b --offline", 64, "cannot be the name of a bucket"),
                BadInput("\(add) s3://bucket/../x --offline", 64, "cannot be the prefix"),
                BadInput("\(add) s3://bucket/p --offline", 64, "there are no keys"),
                BadInput("\(good)", 14, "cannot be used"),
                BadInput("\(good) --offline --token-file token", 64, "at a log server"),
                BadInput("\(keys) keys --endpoint https://h --ca missing", 64, "cannot read cert"),
                BadInput("\(good) --offline --region a/b", 64, "is not a region"),
                BadInput("\(good) --offline --object-size 1M", 64, "is out of range"),
                BadInput("\(good) --offline --object-size much", 64, "is not a size"),
                BadInput("\(good) --offline --keep often", 64, "is no ladder"),
                BadInput("\(good) --offline --key-file token", 64, "not a key file"),
                BadInput("\(add) s3://bucket/p --offline --endpoint ftp://x", 64, "endpoint"),
                BadInput("\(add) s3://bucket/p --offline --endpoint http://u:p@x", 64, "endpoint"),
                BadInput("\(keys) missing", 64, "cannot read"),
                BadInput("\(keys) open", 64, "others may read"),
                BadInput("\(keys) empty", 64, "no section"),
                BadInput("\(keys) half", 64, "has no keys"),
                BadInput("\(keys) json", 64, "is no JSON"),
                BadInput(
                    "\(add) https://h:1/v --offline --endpoint http://x", 64,
                    "--endpoint is for a volume on object storage"),
                BadInput(
                    "\(add) https://h:1/v --offline --single-writer", 64,
                    "--single-writer is for a volume on object storage"),
            ], sandbox)
    }

    @Test func readingRefuses() throws {
        let sandbox = try makeSandbox()
        let url = "s3://bucket/p \(Self.place) --credentials keys"
        try check(
            [
                BadInput("points s3://", 64, "cannot be the name of a bucket"),
                BadInput("points s3://bucket/p", 64, "there are no keys"),
                BadInput("points \(url)", 14, "the object storage is not reachable"),
                BadInput("points \(url) --token-file token", 64, "at a log server"),
                BadInput("points v --endpoint http://x", 64, "--endpoint is for a volume on"),
                BadInput("points v --path-style", 64, "--path-style is for a volume on"),
                BadInput(
                    "points https://h:1/v --credentials keys", 64,
                    "--credentials is for a volume on"),
                BadInput("replay \(url) --at now --output x", 14, "not reachable"),
                BadInput("verify \(url)", 14, "not reachable"),
                BadInput("verify \(url) --repair", 64, "on object storage"),
                BadInput("diff \(url) --from lsn:1 --to now", 14, "not reachable"),
                BadInput("history \(url)", 14, "not reachable"),
                BadInput("mount s3://bucket/p mnt", 64, "on object storage"),
                BadInput("mark s3://bucket/p x", 64, "on object storage"),
                BadInput("status s3://bucket/p", 64, "on object storage"),
                BadInput("remote probe", 64, "URL"),
                BadInput("remote probe https://h:1/v", 64, "is not a place in object storage"),
                BadInput("remote probe \(url)", 14, "not reachable"),
                BadInput("adopt \(url) w", 14, "not reachable"),
                BadInput("adopt \(url) v", 64, "not empty"),
                BadInput("adopt \(url) w --object-size 1", 64, "is out of range"),
                BadInput("adopt https://h:1/v w --single-writer", 64, "--single-writer is for"),
            ], sandbox)
    }

    @Test func createRefuses() throws {
        let sandbox = try makeSandbox()
        let create = "create w --size 1M"
        let store = "\(create) --store s3://bucket/p \(Self.place) --credentials keys"
        try check(
            [
                BadInput("\(create) --endpoint http://x", 64, "--endpoint needs --store"),
                BadInput("\(create) --keep newest", 64, "--keep needs --store"),
                BadInput("\(create) --max-backlog 1G", 64, "--max-backlog needs --store"),
                BadInput("\(create) --single-writer", 64, "--single-writer needs --store"),
                BadInput("\(create) --store https://h:1/v", 64, "is not on object storage"),
                BadInput("\(create) --store dir", 64, "is not on object storage"),
                BadInput("\(create) --store s3://", 64, "cannot be the name of a bucket"),
                BadInput("\(create) --store s3://bucket/p", 64, "there are no keys"),
                BadInput("\(store) --keep often", 64, "is no ladder"),
                BadInput("\(store) --max-backlog much", 64, "is not a size"),
                BadInput("\(store) --batch x", 64, "is not a duration"),
                BadInput("\(store) --key-file missing", 64, "there is no key file"),
                BadInput("\(store)", 14, "the object storage is not reachable"),
            ], sandbox)
    }

    /// The settings say where the keys lie, and nothing of them; a URL without a prefix gets the
    /// folder's name.
    @Test func settingsHoldNoSecret() throws {
        let sandbox = try makeSandbox()
        let words =
            "remote add v a s3://bucket \(Self.place) --credentials keys --path-style --offline"
            + " --single-writer --object-size 16M --region eu-1"
        let added = try sandbox.run(
            words.split(separator: " ").map(String.init), environment: Self.environment)
        #expect(added.code == 0, "\(added.error)")
        let settings = String(decoding: try sandbox.bytes("v/remotes/a.json"), as: UTF8.self)
        for text in [
            "\"s3://bucket/v\"", "\"credentials_file\" : \"\(sandbox.path)/keys\"",
            "\"region\" : \"eu-1\"", "\"path_style\" : true", "\"object_bytes\" : 16777216",
        ] {
            #expect(settings.contains(text), "\(text) in \(settings)")
        }
        #expect(!settings.contains("AKIDEXAMPLE") && !settings.contains("wJalrXUtnFEMI"))
        let status = try sandbox.run(["status", "v"], environment: Self.environment)
        #expect(status.output.contains("--single-writer: nothing but you keeps"))
        let shown = try sandbox.run(["remote", "show", "v", "a"], environment: Self.environment)
        #expect(shown.output.contains("warning"))
        #expect(!shown.output.contains("AKIDEXAMPLE"))
    }
}
