// Over a line of 200 ms there and back: what is shipped and read is right, and the requests are as
// few as the design says. Requests are counted where the line is plain, not timed: each of them is
// what costs a round trip.
//
//   shipping   attach, one look whether the first segment is there, and for each segment three:
//              where its upload stands, the bytes (64 MiB in one request), the commit
//   opening    the listing, and for each segment its tail (footer, table and index together)
//   replay     each segment's data in pieces of 1 MiB
//   a view     one request for each block that is touched, once; ahead of reads that go forward
//              at most one for each 128 KiB

import BlockModel
import DiskIO
import Foundation
import History
import LogFormat
import RawSockets
import SegmentStoreSuite
import RawSockets
import ServerAPI
import Shipping
import Testing

@Suite struct SlowLineTests {
    private static let logs = 8
    private static let recordsPerLog = 40
    private static let recordBytes = 24_576
    private static let pieceBytes = 1 << 20

    /// A history in a folder, and a slow line to a server that has nothing yet.
    private final class World {
        let server: RunningServer
        let proxy: Proxy
        let local = SimulatedStorage(seed: 8)
        let folder: DirectoryStore
        let maker = SegmentMaker(seed: 77)
        private(set) var segments: [(name: SegmentName, bytes: [UInt8])] = []
        private let token: String

        init(_ certificate: String?) throws {
            server = try RunningServer(certificate: certificate)
            proxy = try Proxy(toPort: server.port)
            proxy.trouble = .init(delaySeconds: 0.1)
            token = try server.token("t", .appendOnly)
            try local.createDirectory("/h")
            folder = DirectoryStore(storage: local, directory: "/h")
            for number in 0...SlowLineTests.logs {
                let made =
                    number == 0
                    ? maker.snapshot()
                    : maker.log(records: recordsPerLog, bytes: recordsPerLog * recordBytes)
                let upload = try folder.upload()
                try made.bytes.withUnsafeBytes { try upload.append($0) }
                try upload.commit(as: made.name)
                segments.append(made)
            }
        }

        func client() throws -> LogServerClient {
            try server.client(tokenFile: token, port: proxy.port)
        }

        /// Sends all of it, each segment behind the one before.
        func ship() throws {
            let target = LogServerTarget(try client())
            _ = try target.attach(RunningServer.volume())
            var head: SegmentDigest?
            for (name, bytes) in segments {
                let digest = bytes.suffix(48).withUnsafeBytes { SegmentDigest($0.baseAddress!) }
                let shipment = Shipment(
                    name: name, byteCount: UInt64(bytes.count), source: folder,
                    uploadID: "up-\(name.last)",
                    digest: { () throws(StoreError) in digest },
                    after: name.kind == .log ? head : nil, isGap: false)
                #expect(try !target.put(shipment) { _ in }.wasThere)
                if name.kind == .log { head = digest }
            }
        }
    }

    /// Over plain HTTP, where requests can be counted, and over TLS.
    @Test(arguments: [nil, "good"]) func bytesAreRightAndRequestsFew(
        _ certificate: String?
    ) throws {
        let world = try World(certificate)
        let (proxy, count) = (world.proxy, world.segments.count)
        func expectRequests(_ what: String, atMost most: Int, since before: Int) {
            guard certificate == nil else { return }
            let made = proxy.requests - before
            // Two more: a request that met a connection closed meanwhile is sent once again.
            #expect(made > 0 && made <= most + 2, "\(what): \(made) requests, at most \(most)")
        }
        try world.ship()
        expectRequests("shipping", atMost: 2 + 3 * count, since: 0)
        let lsn = LSN(world.maker.lsn.rawValue - 7)
        let near = try PointInTimeView(HistoryCatalogue(store: world.folder), at: lsn)

        // A replay by somebody who knows nothing yet.
        var before = proxy.requests
        let far = try PointInTimeView(
            HistoryCatalogue(store: RemoteStore(world.client())), at: lsn)
        expectRequests("opening", atMost: 1 + count, since: before)
        before = proxy.requests
        try Replay(far).write(toFile: "/restored", in: world.local)
        let pieces = world.segments.map { $0.bytes.count / Self.pieceBytes + 2 }.reduce(0, +)
        expectRequests("replay", atMost: pieces, since: before)
        var wanted = [UInt8](repeating: 0, count: Int(near.byteCount))
        try wanted.withUnsafeMutableBytes { try near.read(into: $0, at: 0) }
        #expect(try world.local.contents(of: "/restored", limit: 128 << 20) == wanted)

        // A mount of the same point by somebody else: the first sector, then some here and there.
        before = proxy.requests
        let mounted = try PointInTimeView(
            HistoryCatalogue(store: RemoteStore(world.client())), at: lsn)
        let data = try #require(mounted.nextData(from: 0))
        try expectSame(mounted, wanted, at: data.lowerBound)
        expectRequests("the first read", atMost: 1 + count + 1, since: before)
        var random = SeededRandom(seed: 9)
        let sectors = (0..<25).map { _ in
            UInt64(random.below(Int(mounted.byteCount / UInt64(Sector.bytes))) * Sector.bytes)
        }
        before = proxy.requests
        // What was read once is not asked for again.
        for sector in sectors + sectors { try expectSame(mounted, wanted, at: sector) }
        let ahead = world.segments.map { $0.bytes.count / (128 << 10) + 1 }.reduce(0, +)
        expectRequests("scattered reads", atMost: sectors.count + ahead, since: before)
    }

    private func expectSame(
        _ view: PointInTimeView, _ wanted: [UInt8], at offset: UInt64
    ) throws {
        var sector = [UInt8](repeating: 0xEE, count: Sector.bytes)
        try sector.withUnsafeMutableBytes { try view.read(into: $0, at: offset) }
        #expect(sector[...] == wanted[Int(offset)..<Int(offset) + sector.count], "at \(offset)")
    }
}
