// A log server's segments as a store: the shared cases, concurrent readers with and without hints,
// and a view and a replay that equal those of a folder.

import BlockModel
import DiskIO
import Foundation
import History
import LogFormat
import SegmentStoreSuite
import ServerAPI
import Shipping
import Synchronization
import Testing

@Suite struct RemoteStoreTests {
    /// Over TLS from a real server.
    @Test(arguments: SegmentStoreCase.all)
    func fulfils(_ promise: SegmentStoreCase) throws {
        let server = try RunningServer()
        let client = try server.client(tokenFile: server.token("all", .full))
        _ = try client.attach(RunningServer.volume())
        try promise.run(
            StoreUnderTest(RemoteStore(client), takesAnyBytes: false, keeper: server))
    }

    /// Whatever is expected by whom: each byte that is read is right.
    @Test(arguments: 1...4) func readersAndHintsAtOnce(_ seed: UInt64) throws {
        let server = try FakeServer()
        var contents: [(SegmentName, [UInt8])] = []
        for i in 0..<3 as Range<UInt64> {
            let name = SegmentName(first: LSN(10 * i), last: LSN(10 * i + 9), kind: .log)
            let bytes = (0..<1_500_000 + Int(i) * 700_001).map {
                UInt8(truncatingIfNeeded: ($0 &* 2_654_435_761) >> 7 ^ Int(seed &+ i))
            }
            contents.append((name, bytes))
            server.with { $0.segments["\(name)"] = bytes }
        }
        let client = try LogServerClient(
            RemoteURL("http://127.0.0.1:\(server.port)/v"), access: RemoteAccess())
        let store = RemoteStore(client)
        _ = try store.list()
        let wrong = Mutex<[String]>([])
        let all = contents
        let done = DispatchGroup()
        for thread in 0..<4 as Range<UInt64> {
            done.enter()
            Thread.detachNewThread {
                var random = SeededRandom(seed: seed &* 1000 + thread)
                for _ in 0..<60 {
                    let what = Self.step(store, all, &random)
                    if let what { wrong.withLock { $0.append("seed \(seed): \(what)") } }
                }
                done.leave()
            }
        }
        done.wait()
        #expect(wrong.withLock { $0 } == [])
    }

    /// What is wrong.
    private static func step(
        _ store: RemoteStore, _ contents: [(SegmentName, [UInt8])], _ random: inout SeededRandom
    ) -> String? {
        let (name, bytes) = contents[random.below(contents.count)]
        let start = random.below(bytes.count)
        let count =
            1 + random.below(min(bytes.count - start, random.chance(0.3) ? 900_000 : 70_000))
        switch random.below(10) {
        case 0, 1:
            let isTail = random.chance(0.3)
            store.expect([
                SegmentRange(
                    name: name, offset: UInt64(start),
                    byteCount: UInt64(isTail ? bytes.count - start : count))
            ])
            return nil
        case 2: return (try? store.list().count) == 3 ? nil : "a listing"
        default:
            // Forward for a while.
            var position = start
            for _ in 0..<1 + random.below(5) where position < bytes.count {
                let end = min(position + count, bytes.count)
                var read = [UInt8](repeating: 0, count: end - position)
                do {
                    try read.withUnsafeMutableBytes {
                        try store.read(name, into: $0, at: UInt64(position))
                    }
                } catch { return "\(position)..<\(end) of \(name): \(error)" }
                if read != Array(bytes[position..<end]) { return "\(position)..<\(end) of \(name)" }
                position = end
            }
            return nil
        }
    }

    @Test func viewAndReplayEqualThoseOfAFolder() throws {
        let server = try RunningServer()
        let file = try server.token("all", .appendOnly)
        let target = LogServerTarget(try server.client(tokenFile: file))
        _ = try target.attach(RunningServer.volume())
        let local = SimulatedStorage(seed: 8)
        try local.createDirectory("/h")
        let folder = DirectoryStore(storage: local, directory: "/h")
        let maker = SegmentMaker(seed: 21)
        var head: VolumeReply.Head?
        for number in 0..<14 {
            let (name, bytes) =
                number == 0 ? maker.snapshot() : maker.log(records: 40, bytes: 40 * 24_576)
            let upload = try folder.upload()
            try bytes.withUnsafeBytes { try upload.append($0) }
            try upload.commit(as: name)
            var shipment = SourceStore(name, bytes).shipment("up-\(number)")
            shipment.source = folder
            shipment.after = try Self.digest(head)
            head = try target.put(shipment) { _ in }.head
        }
        #expect(head?.lsn == maker.lsn.rawValue)
        let reader = RemoteStore(try server.client(tokenFile: server.token("r", .readOnly)))
        let lsn = LSN(maker.lsn.rawValue - 17)
        let (near, far) = try (
            PointInTimeView(HistoryCatalogue(store: folder), at: lsn),
            PointInTimeView(HistoryCatalogue(store: reader), at: lsn)
        )
        #expect(near.dataBytes == far.dataBytes)
        try Self.expectSame(near, far)
        try Replay(far).write(toFile: "/restored", in: local)
        let restored = try local.contents(of: "/restored", limit: 128 << 20)
        var wanted = [UInt8](repeating: 0, count: Int(near.byteCount))
        try wanted.withUnsafeMutableBytes { try near.read(into: $0, at: 0) }
        #expect(restored == wanted)
        let verdict = try HistoryVerifier(try HistoryCatalogue(store: reader)).run()
        #expect(verdict.isSound)
        #expect(verdict.segments.count == 14)
    }

    private static func digest(_ head: VolumeReply.Head?) throws -> SegmentDigest? {
        guard let text = head?.digest else { return nil }
        var bytes: [UInt8] = []
        for i in stride(from: 0, to: 64, by: 2) {
            let start = text.index(text.startIndex, offsetBy: i)
            bytes.append(
                try #require(UInt8(text[start..<text.index(start, offsetBy: 2)], radix: 16)))
        }
        return bytes.withUnsafeBytes { SegmentDigest($0.baseAddress!) }
    }

    /// In pieces as a mount reads, forward and then here and there.
    private static func expectSame(_ a: PointInTimeView, _ b: PointInTimeView) throws {
        let size = 128 << 10
        var (one, other) = ([UInt8](repeating: 1, count: size), [UInt8](repeating: 2, count: size))
        var random = SeededRandom(seed: 5)
        let forward = stride(from: 0, to: a.byteCount, by: size).map { UInt64($0) }
        let scattered = (0..<50).map { _ in UInt64(random.below(Int(a.byteCount) - size)) }
        for offset in forward + scattered {
            try one.withUnsafeMutableBytes { try a.read(into: $0, at: offset) }
            try other.withUnsafeMutableBytes { try b.read(into: $0, at: offset) }
            #expect(one == other, "at \(offset)")
        }
    }
}

@Suite struct RemoteLeaseTests {
    private func wait(_ what: String, _ isSo: () -> Bool) {
        for _ in 0..<2000 where !isSo() { usleep(5000) }
        #expect(isSo(), "\(what)")
    }

    @Test func isRenewedTakenAnewAndGivenBack() throws {
        let server = try FakeServer()
        let client = try LogServerClient(
            RemoteURL("http://127.0.0.1:\(server.port)/v"), access: RemoteAccess())
        let lease = try RemoteLease(client, purpose: "replay", holder: "tests")
        #expect(server.with { $0.leases.count } == 1)
        wait("it is renewed") { server.log.contains { $0.hasPrefix("PUT") } }
        server.with { $0.leases = [] }  // as a server that was started again
        wait("it is taken anew") { server.with { $0.leases.count } == 1 }
        lease.release()
        lease.release()
        wait("it is given back") { server.with { $0.leases.isEmpty } }
    }

    @Test func endsWithItsHolder() throws {
        let server = try FakeServer()
        let client = try LogServerClient(
            RemoteURL("http://127.0.0.1:\(server.port)/v"), access: RemoteAccess())
        var lease: RemoteLease? = try RemoteLease(client, purpose: "mount", holder: "tests")
        #expect(lease != nil && server.with { $0.leases.count } == 1)
        lease = nil
        wait("it is given back") { server.with { $0.leases.isEmpty } }
    }
}
