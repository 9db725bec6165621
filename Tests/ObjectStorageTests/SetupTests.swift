// What the user gives, as tables: places, endpoints, keys. And the small readers of the wire: times
// and XML.

import DiskIO
import Foundation
import ObjectStorage
import Shipping
import Testing

@Suite struct ObjectURLTests {
    @Test(arguments: [
        ("s3://bucket/prefix", "bucket", "prefix"), ("s3://bucket", "bucket", ""),
        ("s3://bucket/", "bucket", ""), ("s3://b.c-d_e/x/y.z/0-1/", "b.c-d_e", "x/y.z/0-1"),
        ("S3://bucket/a=b+c", "bucket", "a=b+c"),
    ])
    func reads(_ text: String, _ bucket: String, _ prefix: String) throws {
        let url = try ObjectURL(text)
        #expect(url.bucket == bucket)
        #expect(url.prefix == prefix)
        #expect(try ObjectURL("\(url)") == url)
        #expect(ObjectURL.isMeant(by: text))
    }

    @Test(arguments: [
        "", "bucket/prefix", "https://host/v", "s3:/bucket/x", "s3://", "s3://ab/x", "s3:///x",
        "s3://bucket//x", "s3://bucket/x//y", "s3://bucket/../x", "s3://bucket/./x",
        "s3://buc ket/x", "s3://bucket/ü", "s3://bucket/x?y=z", "s3://-bucket/x",
        "s3://bucket/" + String(repeating: "x", count: 501), "s3://user:key@bucket/x",
    ])
    func refuses(_ text: String) {
        #expect(throws: RemoteSetupError.self) { try ObjectURL(text) }
    }

    private static func client(_ change: (inout ObjectAccess) -> Void) throws -> ObjectClient {
        var access = ObjectAccess(environment: [
            "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b",
        ])
        change(&access)
        return try ObjectClient(ObjectURL("s3://bucket/x"), access: access)
    }

    @Test(arguments: [
        ("https://store.example.org", "store.example.org"),
        ("https://store.example.org:8443/", "store.example.org:8443"),
        ("http://127.0.0.1:8333", "127.0.0.1:8333"), ("http://[::1]:80", "[::1]"),
        ("https://store.example.org:443", "store.example.org"),
    ])
    func endpoints(_ text: String, _ place: String) throws {
        #expect(try Self.client { $0.endpoint = text }.place == place)
    }

    @Test func amazonIsTheUsualPlace() throws {
        #expect(
            try Self.client { $0.region = "eu-west-1" }.place == "s3.eu-west-1.amazonaws.com")
    }

    @Test(arguments: [
        "", "store.example.org", "ftp://x", "https://", "https://x:0", "https://x:70000",
        "https://x/path", "https://user:pass@x", "https://x?y", "https://::1",
    ])
    func badEndpoints(_ text: String) {
        #expect(throws: RemoteSetupError.self) { try Self.client { $0.endpoint = text } }
    }

    @Test func badRegionAndCertificates() {
        #expect(throws: RemoteSetupError.self) { try Self.client { $0.region = "a/b" } }
        #expect(throws: RemoteSetupError.self) {
            try Self.client { $0.caFiles = ["/nowhere/ca.pem"] }
        }
        #expect(throws: RemoteSetupError.self) { try Self.client { $0.bind = "no-such-end" } }
    }
}

@Suite struct ObjectCredentialsTests {
    private static let secret = "wJalr/SECRET+words"

    /// A file that goes with the test.
    private final class Kept {
        let path: String
        init(_ text: String, mode: Int = 0o600) {
            path = "\(NSTemporaryDirectory())/logdisk-keys-\(UUID())"
            _ = FileManager.default.createFile(
                atPath: path, contents: Data(text.utf8), attributes: [.posixPermissions: mode])
        }
        deinit { unlink(path) }
    }

    private static func resolve(
        _ file: String?, _ environment: [String: String] = [:]
    ) throws -> ObjectCredentials {
        try ObjectCredentials.resolve(file: file, environment: environment)
    }

    private static let profiles = """
        # keys
        [default]
        aws_access_key_id = AKDEFAULT
        aws_secret_access_key=\(secret)

        [other]
        aws_access_key_id=AKOTHER
        aws_secret_access_key = \(secret)
        aws_session_token = token==
        [empty]
        """

    @Test func order() throws {
        let named = Kept(#"{"access_key": "AKJSON", "secret_key": "s", "session_token": "t"}"#)
        let profile = Kept(Self.profiles)
        let variables = [
            "AWS_ACCESS_KEY_ID": "AKENV", "AWS_SECRET_ACCESS_KEY": "s", "AWS_SESSION_TOKEN": "",
            "AWS_SHARED_CREDENTIALS_FILE": profile.path, "AWS_PROFILE": "other",
        ]
        func same(_ a: ObjectCredentials, _ access: String, _ secret: String, _ token: String?) {
            #expect(
                a == ObjectCredentials(accessKey: access, secretKey: secret, sessionToken: token))
        }
        same(try Self.resolve(named.path, variables), "AKJSON", "s", "t")
        same(try Self.resolve(nil, variables), "AKENV", "s", nil)
        var rest = variables
        rest["AWS_ACCESS_KEY_ID"] = nil
        same(try Self.resolve(nil, rest), "AKOTHER", Self.secret, "token==")
        rest["AWS_PROFILE"] = ""
        same(try Self.resolve(nil, rest), "AKDEFAULT", Self.secret, nil)
        same(try Self.resolve(profile.path), "AKDEFAULT", Self.secret, nil)
    }

    @Test func refusals() {
        let cases: [(String?, [String: String])] = [
            (nil, [:]), (nil, ["HOME": "/nowhere"]), ("/nowhere/keys", [:]), ("/tmp", [:]),
            (nil, ["AWS_ACCESS_KEY_ID": "x"]),
            (nil, ["AWS_ACCESS_KEY_ID": "x y", "AWS_SECRET_ACCESS_KEY": "s"]),
            (nil, ["AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "s\r\nHost: y"]),
        ]
        for (file, environment) in cases {
            #expect(throws: RemoteSetupError.self) { try Self.resolve(file, environment) }
        }
        let files = [
            Kept(Self.profiles, mode: 0o644), Kept(Self.profiles, mode: 0o640), Kept(""),
            Kept("{\"access_key\": \"\(Self.secret)\"}"), Kept("{ \(Self.secret)"),
            Kept("[elsewhere]\naws_access_key_id=x\n"), Kept("[default]\naws_access_key_id=x\n"),
            Kept(String(repeating: "[x]\n", count: 20_000)),
        ]
        for file in files {
            do {
                _ = try Self.resolve(file.path)
                Issue.record("\(file.path) was taken")
            } catch {
                // Nothing of what is in the file.
                #expect(!"\(error)".contains(Self.secret))
            }
        }
        let empty = Kept(Self.profiles)
        #expect(throws: RemoteSetupError.self) {
            try Self.resolve(empty.path, ["AWS_PROFILE": "empty"])
        }
    }

    @Test func neverPrinted() {
        let keys = ObjectCredentials(
            accessKey: "AKVISIBLE", secretKey: Self.secret, sessionToken: "TOKENVALUE")
        var dumped = ""
        dump(keys, to: &dumped)
        dump([keys], to: &dumped)
        let texts = [
            "\(keys)", "\([keys])", String(reflecting: keys), dumped,
            String(describing: Optional(keys)),
        ]
        for text in texts {
            for word in ["AKVISIBLE", Self.secret, "TOKENVALUE"] {
                #expect(!text.contains(word), "\(text)")
            }
        }
    }
}

@Suite struct WireReaderTests {
    @Test(
        arguments: [
            (0, "19700101T000000Z"), (1_440_938_160, "20150830T123600Z"),
            (951_782_399, "20000228T235959Z"), (951_868_799, "20000229T235959Z"),
            (1_709_164_800, "20240229T000000Z"), (4_102_444_799, "20991231T235959Z"),
        ] as [(Int64, String)])
    func stamps(_ seconds: Int64, _ text: String) { #expect(WireTime.stamp(seconds) == text) }

    @Test func timesComeBack() {
        var random = SeededRandom(seed: 9)
        for _ in 0..<2000 {
            let seconds = Int64(random.below(4_000_000_000))
            let stamp = WireTime.stamp(seconds)
            let s = Array(stamp)
            let iso =
                "\(String(s[0..<4]))-\(String(s[4..<6]))-\(String(s[6..<11])):"
                + "\(String(s[11..<13])):\(String(s[13..<15])).123Z"
            #expect(WireTime.seconds(iso: iso) == seconds, "\(iso)")
            #expect(
                WireTime.seconds(
                    httpDate: FakeTime.http(Date(timeIntervalSince1970: Double(seconds))))
                    == seconds)
        }
        for bad in ["", "x", "Sun, 30 Foo 2015 12:36:00 GMT", "Sun, 30 Aug 2015 25:36:00 GMT"] {
            #expect(WireTime.seconds(httpDate: bad) == nil)
        }
        for bad in ["", "2015-08-30", "2015-13-30T00:00:00Z", "2015-08-30T12:36Z", "T", "TZ"] {
            #expect(WireTime.seconds(iso: bad) == nil)
        }
    }

    private func read(_ text: String) -> XMLElement? { XMLElement.read(Array(text.utf8)) }

    @Test func elements() {
        let root = read(
            """
            <?xml version="1.0" encoding="UTF-8"?><!-- c > d -->
            <a:List xmlns:a="http://x/>" b='/'><Key>x&amp;&#x41;&#66;&lt;</Key><Empty/>
            <Key><![CDATA[<raw>]]></Key><Empty></Empty></a:List>
            """)
        #expect(root?.name == "List")
        #expect(root?.all("Key").map(\.text) == ["x&AB<", "<raw>"])
        #expect(root?.all("Empty").count == 2)
        #expect(root?.text("None") == nil)
    }

    @Test(arguments: [
        "", "text", "<a>", "<a></b>", "<a><b></a></b>", "<a>&what;</a>", "<a>&amp</a>", "<", "<>",
        "</a>", "<!DOCTYPE x><a/>", "<a", "<a b='>", "<!--", "<?x", "<![CDATA[",
        String(repeating: "<a>", count: 100_000), "<a>&#xFFFFFFFFFF;</a>", "<a>&#xD800;</a>",
    ])
    func noElements(_ text: String) { #expect(read(text) == nil) }

    /// Whatever the bytes, it ends.
    @Test func anyBytes() {
        var random = SeededRandom(seed: 10)
        let words = [
            "<", ">", "/", "a", "&", ";", "#", "!", "--", "[CDATA[", "]]>", "'", "\"", "?",
        ]
        for _ in 0..<20_000 {
            let text = (0..<random.below(30)).map { _ in words[random.below(words.count)] }
                .joined()
            _ = read(text)
        }
    }
}
