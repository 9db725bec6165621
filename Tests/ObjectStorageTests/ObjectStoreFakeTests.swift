// The shared cases on the fake store, and what only a fake can do: stores that ignore or refuse
// conditions, listings that lag, bytes that change, clocks that are wrong, keys that do not fit.

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

extension FakeObjectServer {
    /// A bucket there, with short pauses.
    func place(
        _ accessKey: String = "AKFAKE", _ secretKey: String = "secret/of+fake",
        sessionToken: String? = nil,
        change: @escaping @Sendable (inout ObjectAccess) -> Void = { _ in }
    ) -> ObjectPlace {
        var place = ObjectPlace(
            endpoint: endpoint, bucket: with { $0.bucket }, accessKey: accessKey,
            secretKey: secretKey, sessionToken: sessionToken)
        place.keeper = self
        place.change = {
            $0.pauseMilliseconds = 1
            change(&$0)
        }
        return place
    }
}

@Suite struct ObjectStoreFakeTests {
    @Test(arguments: ObjectCase.all) func fulfils(_ promise: ObjectCase) throws {
        try promise.run(FakeObjectServer().place())
    }

    @Test func twoHundredRaces() throws {
        try WriterRaces.run(FakeObjectServer().place(), rounds: 200)
    }

    private static func error(_ body: () throws -> Void) -> ShipError? {
        do { try body() } catch { return error as? ShipError }
        return nil
    }

    private static func isRefused(_ error: ShipError?, _ word: String) -> Bool {
        if case .refused(let text)? = error { text.contains(word) } else { false }
    }

    // MARK: - conditions

    @Test(arguments: [FakeObjectServer.Conditions.ignored, .refused])
    func withoutConditionsOnlyASingleWriter(_ conditions: FakeObjectServer.Conditions) throws {
        let server = try FakeObjectServer()
        server.with { $0.conditions = conditions }
        let report = try ObjectProbe.run(try server.place().client("p"))
        #expect(report.createOnly == (conditions == .ignored ? .ignored : .refused))
        #expect(!report.isGuarded && report.isUsable)
        let error = Self.error { _ = try server.place().attached("v") }
        #expect(Self.isRefused(error, "create-only"), "\(String(describing: error))")
        #expect(server.with { $0.objects.keys.filter { $0.hasPrefix("v/chain") } }.isEmpty)
        // The user vouches.
        let place = server.place { $0.isSingleWriter = true }
        let volume = try place.attached("v")
        #expect(volume.isUnguarded)
        let maker = SegmentMaker(seed: 60)
        let target = ObjectTarget(volume)
        var head = try target.put(MemorySource(maker.snapshot()).shipment()) { _ in }.head
        let log = MemorySource(maker.log(records: 3, bytes: 9000))
        head = try target.put(log.shipment(after: head)) { _ in }.head
        #expect(head?.lsn == maker.lsn.rawValue)
        let reader = ObjectStore(try server.place().volume("v", writer: nil))
        #expect(try reader.everything()[log.name] == log.bytes)
    }

    /// Two writers at a store that ignores conditions, although only one was promised: whoever
    /// reads is told that the chain is damaged, or sees one history; never a mixture.
    @Test func anOverwrittenEntryIsFound() throws {
        let server = try FakeObjectServer()
        server.with { $0.conditions = .ignored }
        let place = server.place { $0.isSingleWriter = true }
        let maker = SegmentMaker(seed: 61)
        let volume = try place.attached("v")
        let target = ObjectTarget(volume)
        let head = try target.put(MemorySource(maker.snapshot()).shipment()) { _ in }.head
        let middle = try target.put(
            MemorySource(maker.log(records: 2, bytes: 2000)).shipment(after: head)
        ) { _ in }.head
        _ = try target.put(MemorySource(maker.log(records: 2, bytes: 2000)).shipment(after: middle))
        {
            _ in
        }
        // Another's entry in place of the third.
        let other = try FakeObjectServer()
        other.with { $0.conditions = .ignored }
        let elsewhere = try other.place { $0.isSingleWriter = true }.attached("v")
        let second = SegmentMaker(seed: 62)
        let strange = ObjectTarget(elsewhere)
        let theirs = try strange.put(MemorySource(second.snapshot()).shipment()) { _ in }.head
        _ = try strange.put(
            MemorySource(second.log(records: 2, bytes: 2000)).shipment(after: theirs)
        ) {
            _ in
        }
        let entry = other.with { $0.objects["v/chain/0000000000000003"] }
        server.with { $0.objects["v/chain/0000000000000003"] = entry }
        let error = Self.error {
            _ = try place.volume("v", writer: nil).state()
        }
        guard case .rejected(let reply)? = error, reply.code == .damaged else {
            Issue.record("not told: \(String(describing: error))")
            return
        }
    }

    // MARK: - listings, bytes

    @Test func staleListingsDoNoHarm() throws {
        let server = try FakeObjectServer()
        let volume = try server.place().attached("v")
        let maker = SegmentMaker(seed: 63)
        let target = ObjectTarget(volume)
        var wanted: [SegmentName: [UInt8]] = [:]
        var head: VolumeReply.Head?
        for number in 0..<150 {
            // From now and then on listings show nothing new.
            if number % 40 == 20 { server.with { $0.listingAsOf = $0.objects } }
            let source = MemorySource(
                number == 0 ? maker.snapshot() : maker.log(records: 1, bytes: 1000))
            head = try target.put(source.shipment(after: head)) { _ in }.head
            wanted[source.name] = source.bytes
            if number % 25 == 0 {
                let reader = ObjectStore(try server.place().volume("v", writer: nil))
                #expect(try reader.everything() == wanted, "after \(number)")
            }
        }
        server.with { $0.listingAsOf = [:] }
        let reader = ObjectStore(try server.place().volume("v", writer: nil))
        #expect(try reader.everything() == wanted)
    }

    /// A checkpoint that does not belong to the chain, and one that is nonsense.
    @Test func wrongCheckpointsDoNoHarm() throws {
        let server = try FakeObjectServer()
        var contents: [String: [SegmentName: [UInt8]]] = [:]
        for (prefix, seed) in [("v", 64), ("w", 65)] as [(String, UInt64)] {
            let target = ObjectTarget(try server.place().attached(prefix))
            let maker = SegmentMaker(seed: seed)
            var head: VolumeReply.Head?
            for number in 0..<70 {
                let source = MemorySource(
                    number == 0 ? maker.snapshot() : maker.log(records: 1, bytes: 700))
                head = try target.put(source.shipment(after: head)) { _ in }.head
                contents[prefix, default: [:]][source.name] = source.bytes
            }
        }
        let states = server.with { $0.objects.keys.filter { $0.hasPrefix("w/state/") } }
        #expect(states.count == 1)
        server.with { state in
            for key in states {
                state.objects["v" + key.dropFirst()] = state.objects[key]
            }
            state.objects["v/state/0000000000000099"] = FakeObjectServer.Object(
                bytes: Array("{}\nnot a checkpoint\n".utf8), modified: Date())
            state.objects["v/state/readme"] = FakeObjectServer.Object(bytes: [], modified: Date())
        }
        for prefix in ["v", "w"] {
            let reader = ObjectStore(try server.place().volume(prefix, writer: nil))
            #expect(try reader.everything() == contents[prefix] ?? [:])
        }
    }

    @Test func wrongBytesAreNeverTakenForRight() throws {
        let server = try FakeObjectServer()
        let volume = try server.place().attached("v")
        let maker = SegmentMaker(seed: 66)
        let target = ObjectTarget(volume)
        let head = try target.put(MemorySource(maker.snapshot()).shipment()) { _ in }.head
        let log = MemorySource(maker.log(records: 3, bytes: 9000))
        _ = try target.put(log.shipment(after: head)) { _ in }
        // Each answer about the chain is changed once, then right.
        let seen = Mutex<Set<String>>([])
        server.with {
            $0.fault = { request in
                guard request.method == "GET", request.key?.contains("/chain/") ?? false else {
                    return nil
                }
                let isFirst = seen.withLock { $0.insert(request.target).inserted }
                return isFirst ? .wrongByte : nil
            }
        }
        let reader = ObjectStore(try server.place().volume("v", writer: nil))
        #expect(try reader.everything()[log.name] == log.bytes)
        // Always: told, not guessed.
        server.with {
            $0.fault = { $0.key?.contains("/chain/") ?? false ? .wrongByte : nil }
        }
        let error = Self.error { _ = try server.place().volume("v", writer: nil).state() }
        guard case .rejected(let reply)? = error, reply.code == .damaged else {
            Issue.record("not told: \(String(describing: error))")
            return
        }
    }

    // MARK: - who may

    @Test func refusalsInWords() throws {
        let server = try FakeObjectServer()
        _ = try server.place().attached("v")
        func told(_ place: ObjectPlace, _ word: String) {
            let error = Self.error { _ = try place.volume("v", writer: nil).state() }
            #expect(Self.isRefused(error, word), "\(word): \(String(describing: error))")
            #expect(!"\(String(describing: error))".contains("secret/of"))
        }
        told(server.place("AKUNKNOWN"), "access key")
        told(server.place("AKFAKE", "wrong"), "secret key")
        var missing = server.place()
        missing.bucket = "no-such-bucket"
        let none = Self.error { _ = try missing.volume("v", writer: nil).state() }
        guard case .rejected(let reply)? = none, reply.code == .noVolume,
            reply.what.contains("no bucket no-such-bucket")
        else {
            Issue.record("not told: \(String(describing: none))")
            return
        }
        server.with { $0.sessionToken = "today" }
        told(server.place(sessionToken: "yesterday"), "session token")
        #expect(
            try server.place(sessionToken: "today").volume("v", writer: nil).state() != nil)
        server.with { $0.sessionToken = nil }
        server.with { $0.clockSkew = 3600 }
        told(server.place(), "60 min behind")
        server.with { $0.clockSkew = -3600 }
        told(server.place(), "60 min ahead")
        server.with { $0.clockSkew = 0 }
        server.with { $0.readOnlyKeys = ["AKFAKE"] }
        #expect(try server.place().volume("v", writer: nil).state() != nil, "reading is allowed")
        let error = Self.error { _ = try server.place().attached("v", writer: "writer") }
        #expect(Self.isRefused(error, "may not do this"), "\(String(describing: error))")
        let lease = try server.place().volume("v", writer: nil).lease(
            LeaseRequest(purpose: "mount", holder: "tests", at: nil, segments: nil))
        #expect(lease == nil, "a reader that may not write has none")
    }

    @Test func keysAreReadAnew() throws {
        let server = try FakeObjectServer()
        let path = "\(NSTemporaryDirectory())/logdisk-keys-\(UUID())"
        defer { unlink(path) }
        func write(_ secret: String) {
            _ = FileManager.default.createFile(
                atPath: path,
                contents: Data(#"{"access_key": "AKFAKE", "secret_key": "\#(secret)"}"#.utf8),
                attributes: [.posixPermissions: 0o600])
        }
        write("secret/of+fake")
        let volume = try server.place { $0.credentialsFile = path }.attached("v")
        server.with { $0.keys = ["AKFAKE": "another"] }
        write("another")
        #expect(try volume.state() != nil)
    }

    @Test func nobodyAnswers() throws {
        var server: FakeObjectServer? = try FakeObjectServer()
        var place = try #require(server).place { $0.attemptsMax = 2 }
        place.keeper = nil
        let volume = try place.volume("v", writer: nil)
        server = nil
        guard case .unreachable? = Self.error({ _ = try volume.state() }) else {
            Issue.record("not unreachable")
            return
        }
        var stopped = place
        stopped.change = { $0.isCancelled = { true } }
        guard case .stopped? = Self.error({ _ = try stopped.volume("v", writer: nil).state() })
        else {
            Issue.record("not stopped")
            return
        }
    }

    @Test func busyIsToldAfterSomeTries() throws {
        let server = try FakeObjectServer()
        let volume = try server.place { $0.attemptsMax = 3 }.volume("v", writer: nil)
        server.with { $0.fault = { _ in .busy } }
        guard case .busy? = Self.error({ _ = try volume.state() }) else {
            Issue.record("not busy")
            return
        }
        #expect(server.log.count == 3)
        #expect(volume.client.counters.repeats == 2)
    }
}
