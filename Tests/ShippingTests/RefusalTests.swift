// Who is refused, and in which words: certificates, tokens, rights, other people's volumes.

import Foundation
import History
import LogFormat
import LogServer
import SegmentStoreSuite
import ServerAPI
import Shipping
import Testing

@Suite struct RefusalTests {
    /// The words of a refusal.
    private func refusal(_ body: () throws -> Void) -> String? {
        do {
            try body()
            Issue.record("it went well")
        } catch ShipError.refused(let text) {
            return text
        } catch { Issue.record("it came out as \(error)") }
        return nil
    }

    @Test(arguments: [
        ("expired", "127.0.0.1", "it expired at"),
        ("elsewhere", "localhost", "certificate"), ("elsewhere", "127.0.0.1", "certificate"),
    ]) func badCertificates(_ certificate: String, _ host: String, _ words: String) throws {
        let server = try RunningServer(certificate: certificate)
        let client = try server.client(tokenFile: server.token("t", .full), host: host)
        let text = refusal { _ = try client.volumes() }
        #expect(text?.contains(words) == true, "\(text ?? "")")
    }

    @Test func goodCertificatesByNameAndAddress() throws {
        let server = try RunningServer()
        let file = try server.token("t", .full)
        for host in ["127.0.0.1", "localhost"] {
            #expect(try server.client(tokenFile: file, host: host).volumes().volumes.isEmpty)
        }
    }

    @Test func anUnknownAuthority() throws {
        let server = try RunningServer()
        let file = try server.token("t", .full)
        for files in [[], [try Certificates.shared.get().otherCA]] {
            let client = try LogServerClient(
                RemoteURL("https://127.0.0.1:\(server.port)/v"),
                access: RemoteAccess(tokenFile: file, caFiles: files))
            let text = refusal { _ = try client.volumes() }
            #expect(text?.contains("not signed by an authority") == true, "\(text ?? "")")
        }
        #expect(throws: RemoteSetupError.self) {
            try LogServerClient(
                RemoteURL("https://127.0.0.1/v"), access: RemoteAccess(caFiles: [file]))
        }
    }

    @Test func plainAndTLSDoNotMix() throws {
        let (plain, secure) = (try RunningServer(certificate: nil), try RunningServer())
        let url = try RemoteURL("https://127.0.0.1:\(plain.port)/v")
        let other = try RemoteURL("http://127.0.0.1:\(secure.port)/v")
        for url in [url, other] {
            let client = try LogServerClient(url, access: RemoteAccess())
            do {
                _ = try client.health()
                Issue.record("it went well")
            } catch {
                guard case .unreachable = error else {
                    Issue.record("it came out as \(error)")
                    return
                }
            }
        }
    }

    @Test func tokens() throws {
        let server = try RunningServer()
        let good = try server.token("good", .full)
        _ = try server.client(tokenFile: good).attach(RunningServer.volume())
        for file in [nil, server.file(with: "good.wrong"), server.file(with: "nobody.x")] {
            _ = refusal { _ = try server.client(tokenFile: file).volumes() }
            _ = refusal { _ = try server.client(tokenFile: file).volume() }
        }
        let client = try server.client(tokenFile: good)
        #expect(try client.volume() != nil)
        try server.revoke("good")
        _ = refusal { _ = try client.volume() }
    }

    @Test func aNewTokenInTheFileIsFound() throws {
        let server = try RunningServer()
        let (first, second) = (try server.token("one", .full), try server.token("two", .full))
        let client = try server.client(tokenFile: first)
        #expect(try client.volumes().volumes.isEmpty)
        try server.revoke("one")
        try FileManager.default.removeItem(atPath: first)
        try FileManager.default.copyItem(atPath: second, toPath: first)
        #expect(try client.volumes().volumes.isEmpty)
    }

    @Test func rightsEndWhereTheyEnd() throws {
        let server = try RunningServer()
        let writer = try server.client(tokenFile: server.token("w", .appendOnly))
        let reader = try server.client(tokenFile: server.token("r", .readOnly))
        let other = try server.client(tokenFile: server.token("o", .full, volumes: ["x*"]))
        _ = refusal { _ = try reader.attach(RunningServer.volume()) }
        _ = try writer.attach(RunningServer.volume())
        let (name, bytes) = SegmentMaker(seed: 31).log(records: 2, bytes: 2000)
        let source = SourceStore(name, bytes)
        _ = refusal { _ = try LogServerTarget(reader).put(source.shipment()) { _ in } }
        _ = try LogServerTarget(writer).put(source.shipment()) { _ in }
        for client in [reader, writer] { _ = refusal { try client.deleteSegment(name) } }
        #expect(try RemoteStore(reader).list().map(\.name) == [name])
        _ = refusal { _ = try other.volume() }
        _ = refusal { _ = try other.segments() }
        #expect(try other.volumes().volumes.isEmpty)
        #expect(throws: StoreError.self) { try RemoteStore(other).list() }
    }

    @Test func whoIsNotTheWriterIsFenced() throws {
        let server = try RunningServer()
        let file = try server.token("w", .appendOnly)
        let target = LogServerTarget(try server.client(tokenFile: file))
        let state = try target.attach(RunningServer.volume())
        let heir = try LogServerClient(
            RemoteURL("https://127.0.0.1:\(server.port)/v"),
            access: RemoteAccess(tokenFile: file, caFiles: [try Certificates.shared.get().ca]),
            writer: "heir")
        let after = try heir.takeOver(
            WriterRequest(writer: "heir", host: "tests", generation: state.generation))
        #expect(after.generation == state.generation + 1)
        let (name, bytes) = SegmentMaker(seed: 32).log(records: 2, bytes: 2000)
        let source = SourceStore(name, bytes)
        do {
            _ = try target.put(source.shipment()) { _ in }
            Issue.record("it was taken")
        } catch {
            guard case .fenced = error else {
                Issue.record("it came out as \(error)")
                return
            }
        }
        _ = try LogServerTarget(heir).put(source.shipment()) { _ in }
    }

    @Test func nobodyThere() throws {
        let port = try FakeServer().port  // gone by now
        let client = try LogServerClient(
            RemoteURL("https://127.0.0.1:\(port)/v"), access: RemoteAccess())
        do {
            _ = try client.volumes()
            Issue.record("it went well")
        } catch {
            guard case .unreachable(let text) = error else {
                Issue.record("it came out as \(error)")
                return
            }
            #expect(text.contains("refused") || text.contains("closed"), "\(text)")
        }
    }
}
