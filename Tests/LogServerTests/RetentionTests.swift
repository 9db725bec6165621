// Retention at the server: by ladder, on commits and by time, never what is leased.

import DiskIO
import Foundation
import History
import ServerAPI
import Testing

@Suite struct RetentionTests {
    private let maker = SegmentMaker()

    /// Polls: retention runs on a thread of its own.
    private func wait(_ words: String, until isSo: () throws -> Bool) throws {
        for _ in 0..<20_000 {
            if try isSo() { return }
            usleep(1000)
        }
        Issue.record("never came true: \(words)")
    }

    /// A server whose clock stands some minutes behind the last record.
    private func makeServer(_ clock: TestClock) throws -> TestServer {
        try TestServer { $0.clock = { clock.now } }
    }

    private func fill(_ client: TestClient, keep: String?) throws -> [MadeSegment] {
        try client.make("v", keep: keep)
        let first = maker.records(1...10)
        let second = maker.log(11...20, after: first)
        let third = maker.log(21...30, after: second)
        try #require(try client.put("v", maker.snapshot(0)).code == "200")
        try #require(try client.put("v", first).code == "200")
        try #require(try client.put("v", second, after: first.chainDigest).code == "200")
        try #require(try client.put("v", third, after: second.chainDigest).code == "200")
        return [first, second, third]
    }

    @Test func aLadderThins() throws {
        let clock = TestClock(maker.start + 3_600_000_000_000)
        let server = try makeServer(clock)
        let client = server.client()
        let segments = try fill(client, keep: "newest 1d")
        try wait("merged") { try client.segments("v").allSatisfy { !$0.contains(".log.") } }
        let state = try client.state("v")
        #expect(state.head?.lsn == 30 && state.head?.digest == segments[2].chainDigest)
        // The chain goes on all the same, and what was merged is not taken twice.
        let next = maker.log(31...40, after: segments[2])
        #expect(try client.put("v", next, after: segments[2].chainDigest).code == "200")
        #expect(try client.put("v", segments[0]).code == "409 old")
        #expect(try client.commit("v", "none", segments[0]).code == "409 old")
        #expect(try client.state("v").head?.lsn == 40)
        let text = try client.send("GET", "/metrics").body
        #expect(String(decoding: text, as: UTF8.self).contains("pruned_segments_total"))
    }

    @Test func withoutALadderAllStays() throws {
        let clock = TestClock(maker.start + 3_600_000_000_000)
        let server = try makeServer(clock)
        let client = server.client()
        _ = try fill(client, keep: nil)
        #expect(try client.segments("v").count == 4)
        // Until it gets one.
        let reply = try client.send(
            "PUT", "/v1/volumes/v/retention", json: RetentionRequest(keep: "newest 1d"))
        #expect(reply.code == "200")
        try wait("merged") { try client.segments("v").allSatisfy { !$0.contains(".log.") } }
    }

    @Test func theServersLadderIsForNewVolumes() throws {
        let server = try TestServer { $0.keep = try? Ladder(parsing: "every 5d") }
        let client = server.client()
        try client.make("v")
        try client.make("w", keep: "every 9d")
        #expect(try client.state("v").keep == "every 5d")
        #expect(try client.state("w").keep == "every 9d")
    }

    @Test func whatIsLeasedStays() throws {
        let clock = TestClock(maker.start + 3_600_000_000_000)
        let server = try makeServer(clock)
        let client = server.client()
        let segments = try fill(client, keep: nil)
        let lease = try client.send(
            "POST", "/v1/volumes/v/leases",
            json: LeaseRequest(
                purpose: "replay", holder: "tests", at: 20,
                segments: ["\(segments[0].name)", "\(segments[1].name)"])
        ).json(LeaseReply.self)
        #expect(lease.seconds == ServerAPI.leaseSeconds)
        let keep = RetentionRequest(keep: "newest 1d")
        #expect(try client.send("PUT", "/v1/volumes/v/retention", json: keep).code == "200")
        let last = maker.log(31...40, after: segments[2])
        #expect(try client.put("v", last, after: segments[2].chainDigest).code == "200")
        for _ in 0..<200 {
            let names = try client.segments("v")
            #expect(names.contains("\(segments[0].name)") && names.contains("\(segments[1].name)"))
            if names.contains("\(segments[2].name)") { usleep(1000) }
        }
        // It ends when nobody renews it.
        clock.advance(seconds: ServerAPI.leaseSeconds + 1)
        try wait("merged") {
            // A commit or a changed ladder lets it look again at once.
            _ = try client.send("PUT", "/v1/volumes/v/retention", json: keep)
            return try client.segments("v").allSatisfy { !$0.contains(".log.") }
        }
        let renewed = try client.send("PUT", "/v1/volumes/v/leases/\(lease.id)")
        #expect(renewed.code == "404 missing")
    }

    @Test func aStartRestsBeforeItPrunes() throws {
        let storage = SimulatedStorage(seed: 11)
        let clock = TestClock(maker.start + 3_600_000_000_000)
        let server = try TestServer(storage) {
            $0.clock = { clock.now }
            $0.limits.pruneRestSeconds = 3600
        }
        let client = server.client()
        _ = try fill(client, keep: "newest 1d")
        usleep(50_000)
        #expect(try client.segments("v").count == 4)
    }
}
