// The shared cases on real engines: those that are installed; in CI all.

import BlockModel
import Foundation
import History
import LogFormat
import ObjectEngines
import ObjectStorage
import ObjectStorageSuite
import RawSockets
import SegmentStoreSuite
import ServerAPI
import Shipping
import Synchronization
import Testing

extension ObjectEngine {
    /// A new bucket there.
    func place(_ key: Key? = nil) throws -> ObjectPlace {
        let key = key ?? writer
        return ObjectPlace(
            endpoint: endpoint, bucket: try newBucket(), accessKey: key.access,
            secretKey: key.secret)
    }
}

@Suite(.serialized) struct EngineTests {
    @Test(arguments: ObjectEngine.Kind.toTest, ObjectCase.all)
    func fulfils(_ kind: ObjectEngine.Kind, _ promise: ObjectCase) throws {
        try promise.run(ObjectEngine.shared(kind).place())
    }

    @Test(arguments: ObjectEngine.Kind.toTest) func twoHundredRaces(
        _ kind: ObjectEngine.Kind
    ) throws {
        try WriterRaces.run(ObjectEngine.shared(kind).place(), rounds: 200)
    }

    /// The engine's own report of keys that may only read, and of wrong ones.
    @Test(arguments: ObjectEngine.Kind.toTest) func keys(_ kind: ObjectEngine.Kind) throws {
        let engine = try ObjectEngine.shared(kind)
        let place = try engine.place()
        try ship(place.attached("v"), 3)
        func with(_ key: ObjectEngine.Key) -> ObjectPlace {
            var other = place
            (other.accessKey, other.secretKey) = (key.access, key.secret)
            return other
        }
        let reader = ObjectStore(try with(engine.reader).volume("v", writer: nil))
        #expect(try reader.list().count == 4)
        func refusal(_ body: () throws -> Void) -> String? {
            do { try body() } catch ShipError.refused(let text) { return text } catch {}
            return nil
        }
        let readOnly = refusal { _ = try with(engine.reader).attached("v") }
        #expect(readOnly?.contains("may not do this") ?? false, "\(readOnly ?? "nothing")")
        let wrong = refusal { _ = try with(engine.wrong).volume("v", writer: nil).state() }
        #expect(wrong?.contains("secret key is wrong") ?? false, "\(wrong ?? "nothing")")
    }

    private func ship(_ volume: ObjectVolume, _ count: Int) throws {
        let target = ObjectTarget(volume)
        let maker = SegmentMaker(seed: 90)
        var head = try target.put(MemorySource(maker.snapshot()).shipment()) { _ in }.head
        for _ in 0..<count {
            let source = MemorySource(maker.log(records: 2, bytes: 9000))
            head = try target.put(source.shipment(after: head)) { _ in }.head
        }
    }

    /// The gateway and then the storage die (-9) while segments are shipped: all that was
    /// acknowledged is there afterwards, and shipping goes on where it was.
    @Test(arguments: ObjectEngine.Kind.toTest) func partsDieUnderLoad(
        _ kind: ObjectEngine.Kind
    ) throws {
        let engine = try ObjectEngine.own(kind)
        defer { engine.stop() }
        var place = try engine.place()
        place.change = {
            $0.attemptsMax = 3
            $0.idleSeconds = 30
        }
        let target = ObjectTarget(try place.attached("v"))
        let maker = SegmentMaker(seed: 91)
        var head = try target.put(MemorySource(maker.snapshot()).shipment()) { _ in }.head
        var wanted: [SegmentName: [UInt8]] = [:]
        for (number, part) in [ObjectEngine.Part.gateway, .storage].enumerated() {
            let isDead = Atomic<Bool>(false)
            var failures = 0
            for step in 0..<24 {
                let source = MemorySource(maker.log(records: 4, bytes: 300_000))
                var isKilled = false
                while true {
                    do {
                        let reply = try target.put(source.shipment(after: head)) { _ in
                            // In the middle of a put.
                            guard step == 8, !isKilled else { return }
                            isKilled = true
                            if !isDead.exchange(true, ordering: .relaxed) { engine.kill(part) }
                        }
                        head = reply.head
                        wanted[source.name] = source.bytes
                        break
                    } catch {
                        failures += 1
                        guard failures < 200 else { throw error }
                        if isDead.exchange(false, ordering: .relaxed) {
                            try engine.start(part)
                            try engine.waitUntilReady()
                        }
                    }
                }
            }
            if isDead.load(ordering: .relaxed) {
                // It could do without.
                try engine.start(part)
                try engine.waitUntilReady()
            }
            let reader = ObjectStore(try place.volume("v", writer: nil))
            let found = try reader.everything().filter { $0.key.kind == .log }
            #expect(found == wanted, "after \(part), number \(number)")
        }
    }
}
