// Random lives of a volume at a store whose answers get lost, come late, are cut or changed:
// whatever happened, all that was acknowledged is there, byte for byte, nothing is there that
// nobody put, and who was taken over gets nothing in. A failure names its seed; requests run side
// by side, so that a seed gives the same plan and nearly the same faults.

import BlockModel
import DiskIO
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

@Suite struct ObjectPropertyTests {
    private static let seeds: [UInt64] =
        getenv("LOGDISK_SEED").flatMap { UInt64(String(cString: $0)) }.map { [$0] }
        ?? Array(0..<16)

    /// What may happen to a request.
    private final class Weather: Sendable {
        private struct State {
            var random: SeededRandom
            var ratio = 0.0
        }
        private let state: Mutex<State>

        init(seed: UInt64) { state = Mutex(State(random: SeededRandom(seed: seed))) }

        func set(_ ratio: Double) { state.withLock { $0.ratio = ratio } }

        func fault(_ request: FakeObjectServer.Request) -> FakeObjectServer.Fault? {
            state.withLock { state in
                guard state.random.chance(state.ratio) else { return nil }
                let all = FakeObjectServer.Fault.allCases
                let fault = all[state.random.below(all.count)]
                // Changed bytes of segments are found by their readers, not here.
                let isEntry = request.key?.contains("/chain/") ?? false
                return fault == .wrongByte && !isEntry ? .cutBody : fault
            }
        }
    }

    private final class World {
        let server: FakeObjectServer
        let weather: Weather
        var random: SeededRandom
        let maker: SegmentMaker
        var volume: ObjectVolume
        var target: ObjectTarget
        var generation: UInt64 = 1
        var writers = 1
        var head: VolumeReply.Head?
        var acknowledged: [SegmentName: [UInt8]] = [:]
        /// What may have arrived, or not.
        var uncertain: MemorySource?

        init(seed: UInt64) throws {
            random = SeededRandom(seed: seed)
            server = try FakeObjectServer()
            weather = Weather(seed: seed &+ 1)
            maker = SegmentMaker(seed: seed &+ 2)
            volume = try server.place(change: Self.access).attached("v", writer: "w1")
            target = ObjectTarget(volume)
            let weather = weather
            server.with { $0.fault = { weather.fault($0) } }
        }

        static let access: @Sendable (inout ObjectAccess) -> Void = {
            $0.attemptsMax = 3
            $0.idleSeconds = 20
            $0.connections = 3
            $0.objectBytes = 5 << 20
        }

        func fresh(_ writer: String?) throws -> ObjectVolume {
            try server.place(change: Self.access).volume("v", writer: writer, graceSeconds: 10)
        }

        static func isPassing(_ error: ShipError) -> Bool {
            switch error {
            case .unreachable, .busy: true
            default: false
            }
        }

        /// Again until it is known; what fails otherwise is thrown.
        func insisting<T>(_ body: () throws -> T) throws -> T {
            while true {
                do { return try body() } catch let error as ShipError where Self.isPassing(error) {}
            }
        }

        func step() throws {
            weather.set(random.chance(0.2) ? 0 : 0.25)
            switch random.below(10) {
            case 0: try takeOver()
            case 1: try prune()
            case 2: volume = try fresh("w\(writers)"); target = ObjectTarget(volume)
            case 3: _ = try insisting { try volume.setKeep(random.chance(0.5) ? nil : "1h 7d") }
            default: try put()
            }
        }

        func put() throws {
            let bytes = random.chance(0.04) ? 11 << 20 : 200 + random.below(9000)
            let source: MemorySource
            if let uncertain {
                source = uncertain
            } else if head == nil {
                source = MemorySource(maker.snapshot())
            } else {
                source = MemorySource(maker.log(records: 1 + random.below(11), bytes: bytes))
            }
            do {
                head = try target.put(source.shipment(after: head)) { _ in }.head
                acknowledged[source.name] = source.bytes
                uncertain = nil
            } catch {
                guard Self.isPassing(error) else { throw error }
                uncertain = source
            }
        }

        func takeOver() throws {
            let before = volume
            writers += 1
            let next = try fresh("w\(writers)")
            let request = WriterRequest(
                writer: "w\(writers)", host: "host", generation: generation)
            generation = try insisting { try next.takeOver(request).generation }
            volume = next
            target = ObjectTarget(next)
            // The one before knows nothing of it, and has other bytes for the next records.
            let fork = MemorySource(
                maker.fork(seed: random.next()).log(records: 2, bytes: 3000))
            do {
                _ = try ObjectTarget(before).put(fork.shipment(after: head)) { _ in }
                throw ObjectComplaint("a fenced writer got a segment in")
            } catch is ShipError {}
        }

        func prune() throws {
            let names = acknowledged.keys.sorted()
            guard names.count > 4 else { return }
            let name = names[random.below(names.count - 1)]
            do {
                try insisting { try volume.prune([name]) }
            } catch let error as ShipError {
                // An earlier attempt of ours did it.
                guard case .rejected(let reply) = error, reply.code == .missing else { throw error }
            }
            acknowledged[name] = nil
            if random.chance(0.5) {
                let later = Int64(Date().timeIntervalSince1970 + 60) * 1_000_000_000
                _ = try? volume.sweep(now: later)
            }
        }

        /// What was under way arrives at the end.
        func insist() throws {
            weather.set(0)
            while uncertain != nil { try put() }
        }

        func check() throws {
            weather.set(0)
            server.with { state in
                if state.listingAsOf == nil { state.listingAsOf = state.objects }
            }
            let reader = ObjectStore(try fresh(nil))
            var found = try reader.everything()
            if let uncertain, let bytes = found[uncertain.name] {
                guard bytes == uncertain.bytes else { throw ObjectComplaint("what came is right") }
                found[uncertain.name] = nil
            }
            guard found == acknowledged else {
                let more = Set(found.keys).subtracting(acknowledged.keys)
                let less = Set(acknowledged.keys).subtracting(found.keys)
                throw ObjectComplaint("all is there: too many \(more), missing \(less)")
            }
            server.with { $0.listingAsOf = nil }
        }
    }

    @Test(arguments: seeds) func nothingIsLostNothingIsMixed(_ seed: UInt64) throws {
        do {
            let world = try World(seed: seed)
            for number in 0..<80 {
                try world.step()
                if number % 20 == 19 { try world.check() }
            }
            try world.insist()
            try world.check()
        } catch {
            Issue.record("LOGDISK_SEED=\(seed): \(error)")
        }
    }
}
