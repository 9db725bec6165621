// What may follow what: the rule of ChainRule.swift by cases, through the interface.

import DiskIO
import Foundation
import ServerAPI
import Testing

@Suite struct ChainTests {
    private let maker = SegmentMaker()

    /// A volume with a snapshot at 0 and records up to 20.
    private func begun(_ server: TestServer) throws -> (TestClient, last: MadeSegment) {
        let client = server.client()
        try client.make("v")
        let first = maker.records(1...10)
        let second = maker.log(11...20, after: first)
        for (segment, after) in [
            (maker.snapshot(0), nil), (first, nil), (second, first.chainDigest),
        ] {
            try #require(try client.put("v", segment, after: after).code == "200")
        }
        return (client, second)
    }

    @Test func whatDoesNotFollowIsRefused() throws {
        let server = try TestServer()
        let (client, last) = try begun(server)
        let foreign = maker.records(11...20, fill: 9)
        let table: [(String, MadeSegment, String?, String)] = [
            ("a gap", maker.records(22...30), last.chainDigest, "409 gap"),
            (
                "another predecessor", maker.log(21...30, after: foreign), foreign.chainDigest,
                "409 fork"
            ),
            (
                "says one, is another", maker.log(21...30, after: foreign), last.chainDigest,
                "409 fork"
            ),
            ("says none", maker.log(21...30, after: last), nil, "409 fork"),
            ("has none", maker.records(21...30), last.chainDigest, "409 fork"),
            ("overlaps", maker.records(15...30), last.chainDigest, "409 fork"),
            ("overlaps by all", maker.records(1...30), nil, "409 fork"),
            ("old", maker.records(5...10), nil, "409 old"),
            ("old to the head", maker.records(12...20), nil, "409 old"),
            ("other bytes", maker.records(11...20, fill: 9), nil, "409 exists"),
            ("merged with nothing said", maker.records(21...30, kind: .merged), nil, "409 fork"),
            ("a snapshot beyond", maker.snapshot(25), nil, "409 gap"),
        ]
        let before = try client.state("v")
        for (words, segment, after, code) in table {
            #expect(try client.put("v", segment, after: after).code == code, "\(words)")
            #expect(try client.state("v") == before, "\(words)")
        }
        #expect(
            try client.put("v", maker.log(21...30, after: last), after: last.chainDigest)
                .code == "200")
    }

    @Test func theFirstRecordsBeginAtOne() throws {
        let server = try TestServer()
        let client = server.client()
        try client.make("v")
        #expect(try client.put("v", maker.records(5...9)).code == "409 gap")
        #expect(try client.put("v", maker.records(1...9)).code == "200")
    }

    @Test func recordsBehindASnapshotOnly() throws {
        let server = try TestServer()
        let client = server.client()
        try client.make("v")
        #expect(try client.put("v", maker.snapshot(100)).code == "200")
        #expect(try client.state("v").head?.lsn == 100)
        #expect(try client.put("v", maker.records(102...110)).code == "409 gap")
        #expect(try client.put("v", maker.records(90...99)).code == "409 old")
        // It begins before the snapshot and reaches over it.
        #expect(try client.put("v", maker.records(95...110)).code == "200")
        #expect(try client.state("v").head?.lsn == 110)
        #expect(try client.put("v", maker.records(99...120)).code == "409 fork")
    }

    @Test func afterADeclaredGap() throws {
        let server = try TestServer()
        let (client, _) = try begun(server)
        #expect(try client.put("v", maker.snapshot(50), isGap: true).code == "200")
        let head = try client.state("v").head
        #expect(head?.lsn == 50 && head?.digest == nil)
        #expect(try client.put("v", maker.records(41...49)).code == "409 old")
        let next = maker.records(45...60)
        #expect(try client.put("v", next).code == "200")
        #expect(
            try client.put("v", maker.log(61...70, after: next), after: next.chainDigest).code
                == "200")
    }

    @Test func mergedSegmentsCarryTheDigestOn() throws {
        let server = try TestServer()
        let (client, last) = try begun(server)
        let hidden = maker.log(21...30, after: last)
        let digest = try #require(hidden.chainDigest.flatMap(SegmentMaker.digest))
        let merged = maker.records(21...30, after: digest, kind: .merged)
        #expect(try client.put("v", merged, after: last.chainDigest).code == "200")
        #expect(try client.state("v").head?.digest == hidden.chainDigest)
        #expect(
            try client.put("v", maker.log(31...40, after: hidden), after: hidden.chainDigest)
                .code == "200")
        // One that ends inside a log: what follows it is not known.
        let inside = maker.records(41...45, kind: .merged)
        let before = try client.state("v").head?.digest
        #expect(try client.put("v", inside, after: before).code == "200")
        #expect(try client.state("v").head?.digest == nil)
        #expect(try client.put("v", maker.records(46...50)).code == "200")
    }

    @Test func snapshotsOfThePastMayComeAtAnyTime() throws {
        let server = try TestServer()
        let (client, last) = try begun(server)
        for lsn in [5, 20, 12] as [UInt64] {
            #expect(try client.put("v", maker.snapshot(lsn)).code == "200")
        }
        #expect(try client.state("v").head?.digest == last.chainDigest)
        #expect(try client.put("v", maker.snapshot(12)).json(CommitReply.self).wasThere)
        #expect(try client.put("v", maker.snapshot(12, fill: 3)).code == "409 exists")
    }

    @Test func theHeadIsFoundAgainFromTheSegments() throws {
        let server = try TestServer()
        let (client, last) = try begun(server)
        let token = server.token
        let before = try client.state("v")
        server.stop()
        // As after a crash between the rename of a segment and the writing of volume.json.
        let storage = server.storage
        let path = "/store/v/volume.json"
        let text = String(decoding: try storage.contents(of: path), as: UTF8.self)
        var record = try #require(
            JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
        record["head"] = nil
        let bytes = [UInt8](try JSONSerialization.data(withJSONObject: record))
        try bytes.withUnsafeBytes { try storage.replace("volume.json", in: "/store/v", with: $0) }
        let again = try TestServer(storage)
        let other = again.client(token)
        #expect(try other.state("v") == before)
        #expect(
            try other.put("v", maker.log(21...30, after: last), after: last.chainDigest).code
                == "200")
    }
}
