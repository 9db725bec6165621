// Power cuts, kills and failing disks under a real server: what was acknowledged is there
// afterwards, the chain is whole, and the client can go on.

import BlockModel
import DiskIO
import Foundation
import History
import LogFormat
import LogServer
import ServerAPI
import Testing

@Suite struct PowerTests {
    private let maker = SegmentMaker()

    /// What a client sends, in order.
    private func shipment() -> [(segment: MadeSegment, after: String?)] {
        let first = maker.records(1...10)
        let second = maker.log(11...15, after: first)
        return [
            (maker.snapshot(0), nil), (first, nil), (second, first.chainDigest),
            (maker.snapshot(15), nil),
        ]
    }

    /// Sends what is not there yet; the names that were acknowledged until the server failed.
    private func send(_ client: TestClient, from start: Int = 0) -> [String] {
        var done: [String] = []
        guard (try? client.make("v").status) == 200 else { return done }
        for (segment, after) in shipment().dropFirst(start) {
            let id = "up-\(segment.name)"
            var offset = 0
            if let reply = try? client.send("GET", "/v1/volumes/v/uploads/\(id)"),
                reply.status == 200, let known = try? reply.json(UploadReply.self)
            {
                offset = Int(known.bytes)
            }
            // In two requests, so that there is something to go on with.
            let middle = max(offset, segment.bytes.count / 2)
            if offset < segment.bytes.count {
                for range in [offset..<middle, middle..<segment.bytes.count]
                where !range.isEmpty {
                    let reply = try? client.append(
                        "v", id, segment.bytes[range], at: range.lowerBound)
                    guard reply?.status == 200 else { return done }
                }
            }
            var reply = try? client.commit("v", id, segment, after: after)
            if reply?.status == 422 {
                // What the disk lost is sent again.
                guard (try? client.append("v", id, segment.bytes))?.status == 200 else {
                    return done
                }
                reply = try? client.commit("v", id, segment, after: after)
            }
            guard reply?.status == 200 else { return done }
            done.append("\(segment.name)")
        }
        return done
    }

    /// Every byte of every segment that is listed is right, and the chain is unbroken.
    private func check(_ server: TestServer, _ client: TestClient, _ words: String) throws -> Int {
        guard try client.send("GET", "/v1/volumes/v").status == 200 else { return 0 }
        let names = try client.segments("v")
        let all = shipment()
        for name in names {
            let made = try #require(all.first { "\($0.segment.name)" == name }, "\(words)")
            let reply = try client.send("GET", "/v1/volumes/v/segments/\(name)")
            #expect(reply.body == made.segment.bytes, "\(words): \(name)")
        }
        // A prefix of what was sent, so nothing is missing in the middle.
        let expected = all.prefix(names.count).map { "\($0.segment.name)" }.sorted()
        #expect(names == expected, "\(words)")
        let head = try client.state("v").head?.lsn
        let last = all.prefix(names.count).map(\.segment.name.last.rawValue).max()
        #expect(head == last, "\(words)")
        return names.count
    }

    /// How many changing calls a whole shipment takes.
    private func operations() throws -> ClosedRange<UInt64> {
        let server = try TestServer()
        let start = server.storage.operationCount
        #expect(send(server.client()).count == shipment().count)
        return start + 1...server.storage.operationCount
    }

    enum Trouble: CaseIterable { case powerCut, kill }

    @Test(arguments: Trouble.allCases) func atEveryOperation(_ trouble: Trouble) throws {
        for operation in try operations() {
            for seed in 0..<(trouble == .kill ? 1 : 3) as Range<UInt64> {
                let words = "\(trouble) at \(operation), seed \(seed)"
                let storage = SimulatedStorage(seed: seed &* 1000 &+ operation)
                var acknowledged: [String]
                let token: String
                do {
                    let server = try TestServer(storage)
                    token = server.token
                    storage.crash(atOperation: operation)
                    acknowledged = send(server.client())
                    server.stop()
                }
                if trouble == .kill { storage.kill() } else { storage.crash() }
                let server = try TestServer(storage)
                let client = server.client(token)
                let count = try check(server, client, words)
                #expect(count >= acknowledged.count, "\(words): acknowledged and gone")
                if count > 0 { acknowledged = Array(acknowledged.prefix(count)) }
                // The client goes on, and in the end everything is there, once.
                #expect(send(client).count == shipment().count, "\(words)")
                #expect(try check(server, client, words) == shipment().count)
                #expect(try storage.list("/store/v/uploads") == [], "\(words)")
            }
        }
    }

    @Test func failingCallsOfTheDisk() throws {
        let kinds: [(IOError.Operation, String, Int32)] = [
            (.write, "uploads", 5), (.write, "uploads", 28), (.sync, "uploads", 5),
            (.rename, "uploads", 5), (.syncDirectory, "segments", 5), (.write, "volume.json", 28),
            (.rename, "volume.json", 5), (.create, "uploads", 28),
        ]
        for (operation, part, code) in kinds {
            for skip in 0..<4 {
                let words = "\(operation) of \(part), errno \(code), number \(skip)"
                let server = try TestServer()
                let client = server.client()
                try client.make("v")
                server.storage.inject(
                    PlannedFault(operation, pathPart: part, .error(code), skip: skip))
                var done: [String] = []
                // Each failure is answered as one, and the next try goes on.
                for _ in 0..<5 where done.count < shipment().count { done = send(client) }
                #expect(done.count == shipment().count, "\(words)")
                #expect(try check(server, client, words) == shipment().count)
            }
        }
    }

    @Test func aFullDiskIsSaidSo() throws {
        let server = try TestServer { $0.reserveBytes = 64 << 10 }
        let client = server.client()
        try client.make("v")
        server.storage.faults.capacityBytes = 100 << 10
        let reply = try client.append("v", "u", [1, 2, 3])
        #expect(reply.code == "503 full")
        #expect(reply.fields["retry-after"] == "5")
        server.storage.faults.capacityBytes = nil
        server.storage.faults.isFull = true
        #expect(try client.append("v", "u", [1, 2, 3]).code == "503 full")
        #expect(try client.make("other").code == "503 full")
        server.storage.faults.isFull = false
        #expect(send(client).count == shipment().count)
    }

    @Test func oldUploadsAreRemoved() throws {
        let storage = SimulatedStorage(seed: 3)
        let clock = TestClock()
        let first = try TestServer(storage) { $0.clock = { clock.now } }
        let token = first.token
        let client = first.client()
        try client.make("v")
        #expect(try client.append("v", "u", [1, 2, 3]).code == "200")
        first.stop()
        clock.advance(days: 6)
        let second = try TestServer(storage) { $0.clock = { clock.now } }
        #expect(try second.client(token).send("GET", "/v1/volumes/v/uploads/u").code == "200")
        second.stop()
        clock.advance(days: 2)
        let third = try TestServer(storage) { $0.clock = { clock.now } }
        while try third.client(token).send("GET", "/v1/volumes/v/uploads/u").status == 200 {}
        #expect(try storage.list("/store/v/uploads") == [])
    }

    @Test func oneServerForAStore() throws {
        let server = try TestServer()
        #expect(throws: LogServerError.self) { _ = try TestServer(server.storage) }
        server.stop()
        _ = try TestServer(server.storage)
    }
}
