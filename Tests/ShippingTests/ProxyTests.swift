// A network that cuts at any byte, stalls, delays and changes bytes: a segment arrives whole or not
// at all, and nothing wrong is ever read.

import Foundation
import History
import LogFormat
import RawSockets
import SegmentStoreSuite
import RawSockets
import ServerAPI
import Shipping
import Testing

@Suite struct ProxyTests {
    /// A proxy before a server with the volume, and a client through it.
    private struct Line {
        let server: RunningServer
        let proxy: Proxy
        let tokenFile: String

        init(certificate: String? = "good") throws {
            server = try RunningServer(certificate: certificate)
            proxy = try Proxy(toPort: server.port)
            tokenFile = try server.token("t", .full)
            _ = try server.client(tokenFile: tokenFile).attach(RunningServer.volume())
        }

        func client(idleSeconds: Int64 = 30) throws -> LogServerClient {
            try server.client(
                tokenFile: tokenFile, port: proxy.port, idleSeconds: idleSeconds)
        }
    }

    /// Cuts each connection after n bytes of one direction, for rising n; then lets it go on.
    private func cutEverywhere(
        _ line: Line, stops: [Int], isUp: Bool, bytes segmentBytes: Int
    ) throws {
        let maker = SegmentMaker(seed: 41)
        var head: SegmentDigest?
        let direct = RemoteStore(try line.server.client(tokenFile: line.tokenFile))
        for stop in stops {
            let (name, bytes) = maker.log(records: 1, bytes: segmentBytes)
            var shipment = SourceStore(name, bytes).shipment("up-\(name.first)")
            shipment.after = head
            line.proxy.trouble = isUp ? .init(cutUp: stop) : .init(cutDown: stop)
            let target = LogServerTarget(try line.client())
            do {
                _ = try target.put(shipment) { _ in }
            } catch {
                guard case .unreachable = error else {
                    Issue.record("cut after \(stop): \(error)")
                    return
                }
            }
            line.proxy.trouble = .none
            line.proxy.cutAll()
            _ = try target.put(shipment) { _ in }
            let back = try Self.read(name, bytes.count, direct)
            #expect(back == bytes, "cut after \(stop)")
            head = bytes.suffix(48).withUnsafeBytes { SegmentDigest($0.baseAddress!) }
        }
        #expect(try direct.list().count == stops.count)
    }

    private static func read(
        _ name: SegmentName, _ count: Int, _ store: RemoteStore, at offset: UInt64 = 0
    ) throws -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        try bytes.withUnsafeMutableBytes { try store.read(name, into: $0, at: offset) }
        return bytes
    }

    @Test func cutAtEveryByteOfASmallUpload() throws {
        let line = try Line(certificate: nil)
        try cutEverywhere(
            line, stops: Array(1...300) + Array(stride(from: 301, to: 2600, by: 13)),
            isUp: true, bytes: 512)
    }

    @Test func cutAtEveryByteOfTheAnswers() throws {
        let line = try Line(certificate: nil)
        try cutEverywhere(line, stops: Array(1...250), isUp: false, bytes: 512)
    }

    @Test func cutInALargeUploadOverTLS() throws {
        let line = try Line()
        let stops = [1, 300, 900, 2000, 5000, 20_000, 100_000, 262_144, 500_000, 900_000]
        try cutEverywhere(line, stops: stops, isUp: true, bytes: 1 << 20)
    }

    /// Each connection carries a third of a megabyte: progress is made, and little sent twice.
    @Test func cutAgainAndAgain() throws {
        let line = try Line()
        let (name, bytes) = SegmentMaker(seed: 42).log(records: 4, bytes: 4 << 20)
        line.proxy.trouble = .init(cutUp: 333_333)
        let target = LogServerTarget(try line.client())
        _ = try target.put(SourceStore(name, bytes).shipment()) { _ in }
        line.proxy.trouble = .none
        let direct = RemoteStore(try line.server.client(tokenFile: line.tokenFile))
        #expect(try Self.read(name, bytes.count, direct) == bytes)
        // At most a TLS record and a handshake are lost with each cut.
        let connections = bytes.count / 333_333 + 2
        #expect(line.proxy.bytesUp < bytes.count + 2 * connections * 32_768)
    }

    @Test func flippedBytesAreNeverAccepted() throws {
        let line = try Line()
        let (name, bytes) = SegmentMaker(seed: 43).log(records: 1, bytes: 3000)
        let direct = try line.server.client(tokenFile: line.tokenFile)
        _ = try LogServerTarget(direct).put(SourceStore(name, bytes).shipment()) { _ in }
        for position in stride(from: 0, to: 6000, by: 61) {
            for trouble in [Proxy.Trouble(flipUp: position), .init(flipDown: position)] {
                line.proxy.trouble = trouble
                let store = RemoteStore(try line.client())
                if let back = try? Self.read(name, bytes.count, store) {
                    #expect(back == bytes, "flipped at \(position)")
                }
            }
        }
        let maker = SegmentMaker(seed: 44)
        for position in stride(from: 100, to: 9000, by: 997) {
            let (name, bytes) = maker.log(records: 1, bytes: 4096)
            line.proxy.trouble = .init(flipUp: position)
            let target = LogServerTarget(try line.client())
            _ = try? target.put(SourceStore(name, bytes).shipment("f\(position)")) { _ in }
        }
        line.proxy.trouble = .none
        let names = try RemoteStore(direct).list().map(\.name)
        #expect(names == [name], "another history than the first is never taken")
    }

    @Test(arguments: [true, false]) func aStallIsNoticed(_ isUp: Bool) throws {
        let line = try Line()
        let (name, bytes) = SegmentMaker(seed: 45).log(records: 8, bytes: 8 << 20)
        line.proxy.trouble = isUp ? .init(stallUp: 500_000) : .init(stallDown: 2500)
        let client = try line.client(idleSeconds: 1)
        #expect(throws: ShipError.self) {
            if isUp {
                try client.append(to: "up", at: 0, count: UInt64(bytes.count)) {
                    $0.copyBytes(
                        from: bytes[..<$0.count])
                }
            } else {
                for _ in 0..<100 { _ = try client.segments() }
            }
        }
        line.proxy.trouble = .none
        _ = try LogServerTarget(client).put(SourceStore(name, bytes).shipment()) { _ in }
        #expect(try client.segments().segments.count == 1)
    }

    @Test func aSlowRoundTripChangesNothing() throws {
        let line = try Line()
        line.proxy.trouble = .init(delaySeconds: 0.02)
        let (name, bytes) = SegmentMaker(seed: 46).log(records: 3, bytes: 3 << 20)
        let client = try line.client()
        _ = try LogServerTarget(client).put(SourceStore(name, bytes).shipment()) { _ in }
        let store = RemoteStore(client)
        #expect(try store.list().map(\.byteCount) == [UInt64(bytes.count)])
        var position = 0
        while position < bytes.count {
            let count = min(100_000, bytes.count - position)
            let back = try Self.read(name, count, store, at: UInt64(position))
            #expect(back == Array(bytes[position..<position + count]))
            position += count
        }
    }

    /// The local end: an address, and the interface of it.
    @Test(arguments: ["127.0.0.1", "127.0.0.3", "lo"]) func bound(_ bind: String) throws {
        let line = try Line()
        if bind == "127.0.0.3" {
            // Of the loopback network, but no address that an interface has.
            #expect(throws: RemoteSetupError.self) {
                try line.server.client(tokenFile: line.tokenFile, bind: bind)
            }
            return
        }
        let client = try line.server.client(tokenFile: line.tokenFile, bind: bind)
        #expect(try client.volume() != nil)
    }

    /// Answers that are not what HTTP or the interface promise.
    @Test func brokenAnswers() throws {
        let server = try FakeServer()
        let (name, bytes) = SegmentMaker(seed: 47).log(records: 1, bytes: 4096)
        server.with { $0.segments["\(name)"] = bytes }
        var access = RemoteAccess()
        access.idleSeconds = 1
        let client = try LogServerClient(
            RemoteURL("http://127.0.0.1:\(server.port)/v"), access: access)
        let range = "bytes 0-99/\(bytes.count)"
        var answers: [FakeServer.Answer] = [
            .init(206, Array(bytes[..<99]), [("Content-Range", range)]),
            .init(206, Array(bytes[..<101]), [("Content-Range", range)]),
            .init(206, Array(bytes[..<100])),
            .init(206, Array(bytes[..<100]), [("Content-Range", "bytes 1-100/5000")]),
            .init(206, Array(bytes[..<100]), [("Content-Range", "octets 0-99/5000")]),
            .init(200, Array(bytes[..<100]), [("Content-Range", range)]),
            .init(204), .init(302, [], [("Location", "/")]), .init(500, Array("<html>".utf8)),
        ]
        var short = FakeServer.Answer(206, Array(bytes[..<60]), [("Content-Range", range)])
        short.lengthSaid = 100
        short.cutAfter = 130
        answers.append(short)
        short.cutAfter = nil  // and nothing more comes
        answers.append(short)
        for answer in answers {
            server.with { $0.special = { _ in answer } }
            var target = [UInt8](repeating: 0, count: 100)
            #expect(throws: ShipError.self, "\(answer)") {
                try target.withUnsafeMutableBytes {
                    try client.readSegment(name, into: $0, at: 0)
                }
            }
        }
        server.with { $0.special = nil }
        var target = [UInt8](repeating: 0, count: 100)
        try target.withUnsafeMutableBytes { try client.readSegment(name, into: $0, at: 0) }
        #expect(target == Array(bytes[..<100]))
    }
}
