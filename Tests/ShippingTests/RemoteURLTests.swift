// URLs, tokens and local ends: what is taken, what is refused, in which words.

import Foundation
import Shipping
import Testing

#if canImport(Glibc)
    import Glibc
#endif

@Suite struct RemoteURLTests {
    @Test(arguments: [
        ("https://backup.example.org:8443/db1", "backup.example.org", 8443, "db1"),
        ("https://backup.example.org/db-1.x_y", "backup.example.org", 443, "db-1.x_y"),
        ("https://192.0.2.7:1/v/", "192.0.2.7", 1, "v"),
        ("https://[2001:db8::7]:8443/v", "2001:db8::7", 8443, "v"),
        ("https://[::1]/v", "::1", 443, "v"),
        ("http://127.0.0.1:8080/v", "127.0.0.1", 8080, "v"),
        ("http://[::1]:8080/v", "::1", 8080, "v"),
        ("http://localhost/v", "localhost", 80, "v"),
    ]) func taken(_ text: String, _ host: String, _ port: Int, _ volume: String) throws {
        let url = try RemoteURL(text)
        #expect(url.host == host)
        #expect(url.port == port)
        #expect(url.volume == volume)
        #expect(url.isSecure == text.hasPrefix("https"))
        #expect(try RemoteURL("\(url)") == url)
        #expect(RemoteURL.isMeant(by: text))
    }

    @Test(arguments: [
        ("ftp://host/v", "is not the URL"), ("/srv/volumes/v", "is not the URL"),
        ("https://host:8443", "names no volume"), ("https://host:8443/", "names no volume"),
        ("https://host/a/b", "cannot be the name"), ("https://host/..", "cannot be the name"),
        ("https://host/a%2e", "cannot be the name"), ("https://host/v?x=1", "cannot be the name"),
        ("https:///v", "names no host"), ("https://ho st/v", "names no host"),
        ("https://[::1/v", "names no host"), ("https://[fe80::zz]/v", "names no host"),
        ("https://::1/v", "stands in brackets"), ("https://host:0/v", "is not a port"),
        ("https://host:65536/v", "is not a port"), ("https://host:80a/v", "is not a port"),
        ("https://user:secret@host/v", "user or password"),
        ("http://backup.example.org/v", "plain http is for this machine"),
        ("http://192.0.2.7/v", "plain http is for this machine"),
        ("http://127.0.0.1.example.org/v", "plain http is for this machine"),
    ]) func refused(_ text: String, _ why: String) {
        #expect(RemoteURL.isMeant(by: text) == (text != "/srv/volumes/v"))
        do {
            let url = try RemoteURL(text)
            Issue.record("\(text) was taken as \(url)")
        } catch { #expect(error.what.contains(why), "\(error.what)") }
    }
}

@Suite struct RemoteAccessTests {
    private static func file(_ content: String, mode: mode_t) -> String {
        let path = "\(NSTemporaryDirectory())/logdisk-token-\(UUID())"
        _ = FileManager.default.createFile(atPath: path, contents: Data(content.utf8))
        chmod(path, mode)
        return path
    }

    @Test func tokens() throws {
        for (content, mode) in [("name.s3cret\n", 0o600), ("name.s3cret", 0o400)] {
            let path = Self.file(content, mode: mode_t(mode))
            defer { unlink(path) }
            #expect(try RemoteAccess.token(in: path) == "name.s3cret")
        }
        let refused: [(String, mode_t, String)] = [
            ("name.s3cret\n", 0o640, "others may read"), ("name.s3cret\n", 0o604, "others may"),
            ("", 0o600, "no token"), ("two words\n", 0o600, "no token"),
            (String(repeating: "x", count: 5000), 0o600, "no token"),
        ]
        for (content, mode, why) in refused {
            let path = Self.file(content, mode: mode)
            defer { unlink(path) }
            do {
                _ = try RemoteAccess.token(in: path)
                Issue.record("taken: \(content.prefix(20)) with mode \(mode)")
            } catch {
                #expect(error.what.contains(why), "\(error.what)")
                if why.hasPrefix("others") { #expect(error.hint == "chmod 600 \(path)") }
            }
        }
        #expect(throws: RemoteSetupError.self) { try RemoteAccess.token(in: "/nonexistent") }
        #expect(throws: RemoteSetupError.self) { try RemoteAccess.token(in: "/tmp") }
    }

    @Test(arguments: ["192.0.2.1", "2001:db8::1", "no-such-interface"])
    func localEndsThatAreNotHere(_ bind: String) throws {
        let url = try RemoteURL("http://127.0.0.1:9/v")
        #expect(throws: RemoteSetupError.self) {
            try LogServerClient(url, access: RemoteAccess(bind: bind))
        }
    }
}
