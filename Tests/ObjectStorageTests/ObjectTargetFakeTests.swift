// Shipping into the fake store: uploads that are cut and go on, orphans, what cannot be deleted,
// requests that are counted, and nothing asked by a volume that nobody asks about.

import BlockModel
import Foundation
import History
import LogFormat
import ObjectStorage
import ObjectStorageSuite
import SegmentStoreSuite
import ServerAPI
import Shipping
import Synchronization
import Testing

@Suite struct ObjectTargetFakeTests {
    private static func base(
        _ server: FakeObjectServer, _ seed: UInt64,
        _ change: @escaping @Sendable (inout ObjectAccess) -> Void = { _ in }
    ) throws -> (ObjectTarget, SegmentMaker, VolumeReply.Head?) {
        let target = ObjectTarget(try server.place(change: change).attached("v"))
        let maker = SegmentMaker(seed: seed)
        let head = try target.put(MemorySource(maker.snapshot()).shipment()) { _ in }.head
        return (target, maker, head)
    }

    private static let small: @Sendable (inout ObjectAccess) -> Void = {
        $0.objectBytes = 5 << 20
        $0.connections = 2
    }

    private static func partPuts(_ server: FakeObjectServer) -> Int {
        server.log.count { $0.contains("partNumber") }
    }

    /// `pace` ends it in the middle: the next target goes on with the parts that are there.
    @Test func goesOnWithThePartsThatAreThere() throws {
        let server = try FakeObjectServer()
        let (target, maker, head) = try Self.base(server, 70, Self.small)
        let source = MemorySource(maker.log(records: 24, bytes: 24 << 20))
        var paced = 0
        let error = #expect(throws: ShipError.self) {
            _ = try target.put(source.shipment(after: head)) { (count) throws(ShipError) in
                paced += count
                if paced > 17 << 20 { throw .stopped }
            }
        }
        guard case .stopped? = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        // The third part's answer may be on its way still.
        let there = server.with { $0.uploads.values.first?.parts.count ?? 0 }
        #expect(there >= 1)
        let before = Self.partPuts(server)
        let again = ObjectTarget(try server.place(change: Self.small).attached("v"))
        let reply = try again.put(source.shipment(after: head)) { _ in }
        #expect(reply.head?.lsn == maker.lsn.rawValue)
        #expect(Self.partPuts(server) - before <= 5 - there, "parts are used again")
        #expect(server.with { $0.uploads.isEmpty })
        let reader = ObjectStore(try server.place().volume("v", writer: nil))
        #expect(try reader.everything()[source.name] == source.bytes)
    }

    /// A part under the same key that has other bytes is not taken.
    @Test func strangePartsAreSentAnew() throws {
        let server = try FakeObjectServer()
        let (target, maker, head) = try Self.base(server, 71, Self.small)
        let source = MemorySource(maker.log(records: 12, bytes: 12 << 20))
        _ = #expect(throws: ShipError.self) {
            var paced = 0
            _ = try target.put(source.shipment(after: head)) { (count) throws(ShipError) in
                paced += count
                if paced > 11 << 20 { throw .stopped }
            }
        }
        server.with { state in
            for id in state.uploads.keys {
                for number in state.uploads[id]?.parts.keys.map({ $0 }) ?? [] {
                    state.uploads[id]?.parts[number]?[7] ^= 1
                }
            }
        }
        let again = ObjectTarget(try server.place(change: Self.small).attached("v"))
        _ = try again.put(source.shipment(after: head)) { _ in }
        let reader = ObjectStore(try server.place().volume("v", writer: nil))
        #expect(try reader.everything()[source.name] == source.bytes)
    }

    /// The object is there, the entry is not: the next try only enters it.
    @Test func anObjectWithoutItsEntryIsUsed() throws {
        let server = try FakeObjectServer()
        let (target, maker, head) = try Self.base(server, 72) { $0.attemptsMax = 1 }
        let source = MemorySource(maker.log(records: 3, bytes: 90_000))
        server.with {
            $0.fault = {
                $0.method == "PUT" && $0.key?.contains("/chain/") ?? false ? .failed : nil
            }
        }
        #expect(throws: ShipError.self) {
            _ = try target.put(source.shipment(after: head)) { _ in }
        }
        server.with { $0.fault = nil }
        #expect(server.with { $0.objects.keys.count { $0.hasPrefix("v/segments/") } } == 2)
        let reply = try target.put(source.shipment(after: head)) { _ in }
        #expect(!reply.wasThere)
        #expect(reply.head?.lsn == maker.lsn.rawValue)
        #expect(server.with { $0.objects.keys.count { $0.hasPrefix("v/segments/") } } == 2)
    }

    /// Every put in turn has its answer lost, or fails though it was done.
    @Test(arguments: [FakeObjectServer.Fault.lostAnswer, .doneButFailed, .busy, .cut, .failed])
    func faultsOfEveryPutInTurn(_ fault: FakeObjectServer.Fault) throws {
        let server = try FakeObjectServer()
        let (target, maker, first) = try Self.base(server, 73, Self.small)
        let count = Mutex(0)
        server.with {
            $0.fault = { request in
                guard request.method == "PUT" || request.method == "POST" else { return nil }
                let number = count.withLock {
                    $0 += 1
                    return $0
                }
                return number % 2 == 1 ? fault : nil
            }
        }
        var head = first
        var wanted: [SegmentName: [UInt8]] = [:]
        for number in 0..<6 {
            let bytes = number == 3 ? 11 << 20 : 5000
            let source = MemorySource(maker.log(records: 11, bytes: bytes))
            let reply = try target.put(source.shipment(after: head)) { _ in }
            #expect(!reply.wasThere, "\(number)")
            head = reply.head
            wanted[source.name] = source.bytes
        }
        server.with { $0.fault = nil }
        let reader = ObjectStore(try server.place().volume("v", writer: nil))
        #expect(try reader.everything().filter { $0.key.kind == .log } == wanted)
        #expect(server.with { $0.objects.keys.count { $0.hasPrefix("v/chain/") } } == 8)
    }

    @Test func whatCannotBeDeletedIsToldOnce() throws {
        let server = try FakeObjectServer()
        let volume = try server.place().attached("v", graceSeconds: 10)
        let target = ObjectTarget(volume)
        let maker = SegmentMaker(seed: 74)
        var head = try target.put(MemorySource(maker.snapshot()).shipment()) { _ in }.head
        var names: [SegmentName] = []
        for _ in 0..<3 {
            let source = MemorySource(maker.log(records: 2, bytes: 3000))
            head = try target.put(source.shipment(after: head)) { _ in }.head
            names.append(source.name)
        }
        let locked = server.with { state in
            state.objects.keys.first { $0.contains("\(names[0])") } ?? ""
        }
        server.with { $0.lockedKeys = [locked] }
        try volume.prune(Array(names[..<2]))
        let later = Int64(Date().timeIntervalSince1970 + 100) * 1_000_000_000
        let first = try volume.sweep(now: later)
        #expect(first.deletedObjects == 1)
        #expect(first.kept.count == 1 && first.kept[0].contains("AccessDenied"))
        let deletes = server.log.count { $0.hasPrefix("DELETE") && $0.contains("segments/") }
        let second = try volume.sweep(now: later)
        #expect(second.kept.isEmpty && second.waiting == 0)
        #expect(
            server.log.count { $0.hasPrefix("DELETE") && $0.contains("segments/") } == deletes,
            "it is not tried again")
        // It is remembered by others, too.
        #expect(
            try server.place().volume("v", writer: nil).keptObjects().map(\.reason)
                == ["AccessDenied"])
    }

    @Test func orphansGoWhenTheyAreOld() throws {
        let server = try FakeObjectServer()
        let volume = try server.place().attached("v", graceSeconds: 1000)
        let maker = SegmentMaker(seed: 75)
        let source = MemorySource(maker.snapshot())
        _ = try ObjectTarget(volume).put(source.shipment()) { _ in }
        let past = Date(timeIntervalSinceNow: -5000)
        server.with { state in
            for key in state.objects.keys { state.objects[key]?.modified = past }
            state.objects["v/segments/old.orphan"] = .init(bytes: [1], modified: past)
            state.objects["v/segments/new.orphan"] = .init(bytes: [1], modified: Date())
            state.objects["w/segments/other.volume"] = .init(bytes: [1], modified: past)
            state.objects["v/leases/old"] = .init(bytes: [1], modified: past)
            state.uploads["u1"] = .init(
                key: "v/segments/x", metadata: [], initiated: Date(timeIntervalSinceNow: -800_000))
            state.uploads["u2"] = .init(key: "v/segments/y", metadata: [], initiated: Date())
        }
        let result = try volume.sweep(now: Int64(Date().timeIntervalSince1970) * 1_000_000_000)
        #expect(result.deletedObjects == 1)
        let left = server.with { $0.objects.keys }
        #expect(!left.contains("v/segments/old.orphan") && !left.contains("v/leases/old"))
        #expect(left.contains("v/segments/new.orphan") && left.contains("w/segments/other.volume"))
        #expect(server.with { $0.uploads.keys.sorted() } == ["u2"])
        let reader = ObjectStore(try server.place().volume("v", writer: nil))
        #expect(try reader.everything() == [source.name: source.bytes])
    }

    @Test func requestsAreCountedAndAnIdleVolumeMakesNone() throws {
        let server = try FakeObjectServer()
        let traffic = OwnTraffic()
        let (target, maker, head) = try Self.base(server, 76) { $0.traffic = traffic }
        let before = target.volume.client.counters
        let own = traffic.bytes
        let source = MemorySource(maker.log(records: 3, bytes: 100_000))
        var paced = 0
        _ = try target.put(source.shipment(after: head)) { paced += $0 }
        let after = target.volume.client.counters
        #expect(after.requestCount == before.requestCount + 2, "the bytes and the entry")
        #expect(after.sentBytes - before.sentBytes >= UInt64(source.bytes.count))
        #expect(after.sentBytes - before.sentBytes < UInt64(source.bytes.count + 2000))
        #expect(paced == source.bytes.count)
        // What pace was told is not counted twice.
        #expect(traffic.bytes - own < 20_000)
        let lines = server.log.count
        _ = ObjectStore(target.volume)
        #expect(server.log.count == lines)
        #expect(after.repeats == 0)
    }

    /// While the answer to a put is on the way, the bytes of the next segments go: the store holds
    /// its first answer back until it has seen them. Entries come in order all the same.
    @Test func nextBytesGoWhileAnAnswerIsAwaited() throws {
        let server = try FakeObjectServer()
        let (target, maker, head) = try Self.base(server, 78)
        let sources = (0..<4).map { _ in MemorySource(maker.log(records: 2, bytes: 700_000)) }
        let seen = Mutex(0)
        let arrived = DispatchSemaphore(value: 0)
        server.with {
            $0.fault = { request in
                guard request.method == "PUT", request.key?.contains("/segments/") ?? false else {
                    return nil
                }
                let number = seen.withLock {
                    $0 += 1
                    return $0
                }
                if number > 1 {
                    arrived.signal()
                } else {
                    for _ in 0..<3 { _ = arrived.wait(timeout: .now() + 60) }
                }
                return nil
            }
        }
        var shipments = sources.map { $0.shipment() }
        shipments[0].after = sources[0].shipment(after: head).after
        for i in 1..<4 { shipments[i].after = sources[i - 1].digest }
        let reply = try target.put(shipments[0], next: Array(shipments[1...])) { _ in }
        #expect(reply.head?.lsn == sources[0].name.last.rawValue)
        #expect(seen.withLock { $0 } == 4, "all four were sent")
        let reader = ObjectStore(try server.place().volume("v", writer: nil))
        #expect(try reader.list().count == 2, "one entry")
        for i in 1..<4 {
            let reply = try target.put(shipments[i], next: Array(shipments[(i + 1)...])) { _ in }
            #expect(reply.head?.lsn == sources[i].name.last.rawValue)
        }
        #expect(seen.withLock { $0 } == 4, "nothing is sent twice")
        #expect(try reader.list().count == 5)
    }

    /// Listing one of many volumes of a bucket asks for nothing of the others.
    @Test func oneOfManyVolumes() throws {
        let server = try FakeObjectServer()
        server.with { state in
            for number in 0..<10_000 {
                state.objects["all/v\(number)/chain/0000000000000001"] = .init(
                    bytes: [1], modified: Date())
            }
        }
        let volume = try server.place().attached("all/v77x")
        _ = try ObjectTarget(volume).put(
            MemorySource(SegmentMaker(seed: 77).snapshot()).shipment()
        ) { _ in }
        server.with { $0.log = [] }
        let reader = ObjectStore(try server.place().volume("all/v77x", writer: nil))
        #expect(try reader.list().count == 1)
        for line in server.log {
            #expect(line.contains("all/v77x/") || line.contains("all%2Fv77x%2F"), "\(line)")
        }
        #expect(server.log.count <= 12)
    }
}
