// Uploads to a server that cuts, stalls, refuses and forgets: every segment arrives once and whole,
// and no byte goes over that is there already.

import BlockModel
import Crypto
import History
import LogFormat
import SegmentStoreSuite
import ServerAPI
import Shipping
import Synchronization
import Testing

/// One segment in memory as a source.
final class SourceStore: SegmentStore {
    let name: SegmentName
    let bytes: [UInt8]
    private let reads = Atomic<Int>(0)

    init(_ name: SegmentName, _ bytes: [UInt8]) { (self.name, self.bytes) = (name, bytes) }

    var label: String { "source" }
    /// Bytes read so far.
    var readBytes: Int { reads.load(ordering: .relaxed) }

    func list() -> [StoredSegment] { [StoredSegment(name: name, byteCount: UInt64(bytes.count))] }

    func read(
        _ name: SegmentName, into target: UnsafeMutableRawBufferPointer, at offset: UInt64
    ) throws(StoreError) {
        guard name == self.name else { throw StoreError(.read, "\(name)", .missing) }
        guard Int(offset) + target.count <= bytes.count else {
            throw StoreError(.read, "\(name)", .short)
        }
        reads.add(target.count, ordering: .relaxed)
        target.copyBytes(from: bytes[Int(offset)..<Int(offset) + target.count])
    }

    func upload() throws(StoreError) -> any SegmentUpload {
        throw StoreError(.put, label, .refused("a source"))
    }
    func delete(_ name: SegmentName) throws(StoreError) {
        throw StoreError(.delete, label, .refused("a source"))
    }

    func shipment(_ uploadID: String = "up-1") -> Shipment {
        Shipment(
            name: name, byteCount: UInt64(bytes.count), source: self, uploadID: uploadID,
            digest: { [bytes] () throws(StoreError) in
                bytes.suffix(48).withUnsafeBytes { SegmentDigest($0.baseAddress!) }
            }, after: nil, isGap: false)
    }
}

@Suite struct LogServerTargetTests {
    static let source: SourceStore = {
        let (name, bytes) = SegmentMaker(seed: 11).log(records: 9, bytes: 2_000_000)
        return SourceStore(name, bytes)
    }()

    static func target(
        _ port: Int, requestBytesMax: UInt64 = 64 << 20, idleSeconds: Int64 = 30
    ) throws -> LogServerTarget {
        var access = RemoteAccess()
        access.idleSeconds = idleSeconds
        let client = try LogServerClient(
            RemoteURL("http://127.0.0.1:\(port)/v"), access: access, writer: "w")
        return LogServerTarget(client, requestBytesMax: requestBytesMax)
    }

    @Test(arguments: [64 << 20, 300_000, 1_000_001 as UInt64])
    func arrives(_ requestBytesMax: UInt64) throws {
        let (server, source) = (try FakeServer(), Self.source)
        let target = try Self.target(server.port, requestBytesMax: requestBytesMax)
        var paced = 0
        let reply = try target.put(source.shipment()) { paced += $0 }
        #expect(!reply.wasThere)
        #expect(paced == source.bytes.count)
        #expect(server.with { $0.segments } == ["\(source.name)": source.bytes])
        #expect(server.with { $0.bodyBytes } == source.bytes.count)
        let requests = (source.bytes.count - 1) / Int(requestBytesMax) + 1
        #expect(server.log.count { $0.hasPrefix("PATCH") } == requests)
        // One, unless the machine is so slow that an idle one was given up.
        #expect(server.connections <= 2, "requests share connections")
    }

    /// Every shipment again: nothing goes over, and it says that it was there.
    @Test func whatIsThereIsNotSentAgain() throws {
        let (server, source) = (try FakeServer(), Self.source)
        _ = try Self.target(server.port).put(source.shipment()) { _ in }
        let again = try Self.target(server.port).put(source.shipment()) { _ in }
        #expect(again.wasThere)
        #expect(server.with { $0.bodyBytes } == source.bytes.count)
    }

    @Test func goesOnAtTheByteAfterCuts() throws {
        let (server, source) = (try FakeServer(), Self.source)
        server.with { $0.cutBodies = [1, 70_000, 0, 262_144, 99_999, 0, 1_000_000] }
        _ = try Self.target(server.port).put(source.shipment()) { _ in }
        #expect(server.with { $0.segments } == ["\(source.name)": source.bytes])
        #expect(server.with { $0.bodyBytes } == source.bytes.count, "no byte was taken twice")
    }

    /// A server that takes nothing at all is left alone after some attempts; the next `put` goes
    /// on.
    @Test func isLeftForLaterWithoutProgress() throws {
        let (server, source) = (try FakeServer(), Self.source)
        let target = try Self.target(server.port)
        server.with { $0.cutBodies = [500_000, 0, 0, 0] }
        #expect(throws: ShipError.self) { try target.put(source.shipment()) { _ in } }
        #expect(server.with { $0.uploads["up-1"]?.count } == 500_000)
        _ = try target.put(source.shipment()) { _ in }
        #expect(server.with { $0.bodyBytes } == source.bytes.count)
    }

    @Test func stopsWhenPaceSaysSoAndGoesOnLater() throws {
        let (server, source) = (try FakeServer(), Self.source)
        let target = try Self.target(server.port)
        var paced = 0
        #expect(throws: ShipError.self) {
            try target.put(source.shipment()) { (count) throws(ShipError) in
                if paced > 1_000_000 { throw .stopped }
                paced += count
            }
        }
        #expect(server.with { $0.segments.isEmpty })
        _ = try target.put(source.shipment()) { _ in }
        #expect(server.with { $0.segments } == ["\(source.name)": source.bytes])
        #expect(server.with { $0.bodyBytes } == source.bytes.count)
    }

    @Test func aCommitWhoseAnswerWasLostIsRepeated() throws {
        let (server, source) = (try FakeServer(), Self.source)
        let cut = LostAnswer()
        server.with { $0.special = { cut.answer(to: $0) } }
        let reply = try Self.target(server.port).put(source.shipment()) { _ in }
        #expect(!reply.wasThere, "the fake server had not carried it out")
        #expect(server.with { $0.segments.count } == 1)
        #expect(server.log.count { $0.hasPrefix("POST") } == 2)
    }

    /// Bytes of a former life that are not ours: found by the digest, discarded, sent anew.
    @Test func foreignBytesAreDiscarded() throws {
        let (server, source) = (try FakeServer(), Self.source)
        server.with { $0.uploads["up-1"] = [UInt8](repeating: 9, count: 700_000) }
        _ = try Self.target(server.port).put(source.shipment()) { _ in }
        #expect(server.with { $0.segments } == ["\(source.name)": source.bytes])
        server.with {
            $0.segments = [:]
            $0.uploads["up-1"] = [UInt8](repeating: 9, count: 9_000_000)
        }
        _ = try Self.target(server.port).put(source.shipment()) { _ in }
        #expect(server.with { $0.segments } == ["\(source.name)": source.bytes])
    }

    @Test func busyAndFull() throws {
        let (server, source) = (try FakeServer(), Self.source)
        let target = try Self.target(server.port)
        for (code, retry) in [(ErrorReply.Code.busy, 17), (.full, 120), (.busy, 99_999)] {
            server.with {
                $0.special = { request in
                    request.method == "PATCH"
                        ? .init(ErrorReply(code, "not now"), retryAfter: retry) : nil
                }
            }
            do {
                _ = try target.put(source.shipment()) { _ in }
                Issue.record("a \(code) server took it")
            } catch {
                switch error {
                case .busy(let seconds, "not now"):
                    #expect(code == .busy && seconds == min(Int64(retry), 3600))
                case .full(120, "not now"): #expect(code == .full)
                default: Issue.record("\(code) came out as \(error)")
                }
            }
        }
        server.with { $0.special = nil }
        _ = try target.put(source.shipment()) { _ in }
        #expect(server.with { $0.segments.count } == 1)
    }

    @Test(arguments: [ErrorReply.Code.fenced, .gap, .fork, .old, .exists, .clock, .forbidden])
    func refusalsComeOutAsTheyAre(_ code: ErrorReply.Code) throws {
        let (server, source) = (try FakeServer(), Self.source)
        server.with {
            $0.special = { $0.method == "POST" ? .init(ErrorReply(code, "no")) : nil }
        }
        let target = try Self.target(server.port)
        do {
            _ = try target.put(source.shipment()) { _ in }
            Issue.record("it was taken")
        } catch {
            switch error {
            case .fenced("no"): #expect(code == .fenced)
            case .refused("no"): #expect(code == .forbidden)
            case .rejected(let reply): #expect(reply.code == code && code != .fenced)
            default: Issue.record("\(code) came out as \(error)")
            }
        }
        #expect(server.log.count { $0.hasPrefix("POST") } == 1, "not asked again")
    }

    @Test func ourOwnDamageIsToldApart() throws {
        let (server, source) = (try FakeServer(), Self.source)
        var shipment = source.shipment()
        shipment.byteCount += 5
        let target = try Self.target(server.port)
        do {
            _ = try target.put(shipment) { _ in }
            Issue.record("it was taken")
        } catch {
            guard case .source(let cause) = error else {
                Issue.record("came out as \(error)")
                return
            }
            #expect(cause.cause == .short)
        }
        #expect(server.with { $0.segments.isEmpty })
    }

    @Test func tellsTheLoad() throws {
        let server = try FakeServer()
        let target = try Self.target(server.port)
        #expect(target.load == nil)
        server.with {
            $0.special = { _ in
                .init(200, Array("{\"volumes\":[]}".utf8), [("Logdisk-Load", "0.25")])
            }
        }
        _ = try target.client.volumes()
        #expect(target.load == 0.25)
        #expect(try target.client.volumes().volumes.isEmpty)
    }
}

/// Loses the first answer to a commit.
private final class LostAnswer: Sendable {
    private let isLost = Atomic<Bool>(false)

    func answer(to request: FakeServer.Request) -> FakeServer.Answer? {
        guard request.method == "POST", !isLost.exchange(true, ordering: .relaxed) else {
            return nil
        }
        var answer = FakeServer.Answer(json: CommitReply(wasThere: false, head: nil))
        answer.cutAfter = 20
        return answer
    }
}
