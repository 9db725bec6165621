// A log server as a backup device: what it takes and gives back, and what it is when the server is
// away, full, or does not let us in. The suite that all devices pass is DeviceFailureTests.

import DiskIO
import Foundation
import LogServer
import Logging
import Offsite
import ServerAPI
import Shipping
import Spread
import Testing

@Suite struct ServerDeviceTests {
    /// Beside a folder; then from the devices alone.
    @Test func fromTheDevicesAlone() throws {
        let world = try SpreadWorld()
        try world.writeSmallTree()
        try world.write("of several requests", 11 << 20)
        let served = try ServedWorld()
        let folder = try world.plainDevice("device0")
        let report = try world.run([folder, served.device("one")])
        #expect(report.isComplete && report.missing.isEmpty, "\(report)")
        let readers = [try world.plainDevice("device0"), try served.device("one")]
        let set = try #require(SetFinder.find(readers).sets.first)
        #expect(set.isComplete && set.places.count == 2 && set.places.allSatisfy(\.hasManifest))
        let verified = try SetVerifier().verify(set)
        #expect(verified.faults.isEmpty && verified.lost.isEmpty)
        #expect(try world.restored(from: readers).differences.isEmpty)
        // One of the two is away: what it held is named.
        let (alone, _) = try world.restored(from: [try served.device("one")])
        #expect(!alone.missing.isEmpty)
        for device in readers {
            for set in try device.sets() { try device.remove(set) }
            #expect(try device.sets().isEmpty)
        }
    }

    /// Holes go over as numbers, and names of any bytes are segments.
    @Test func holesAndNames() throws {
        let world = try SpreadWorld()
        let sparse = world.source + "/sparse"
        let file = try DiskStorage().open(sparse, OpenOptions(.readWrite, creation: .exclusively))
        try file.truncate(to: 40 << 20)
        try [UInt8](repeating: 7, count: 5000).withUnsafeBytes {
            try file.write($0, at: 20 << 20)
        }
        file.close()
        try world.write("a%b c\n", 10)
        let served = try ServedWorld()
        #expect(try world.run([served.device("one")]).isComplete)
        #expect(try world.restored(from: [try served.device("one")]).differences.isEmpty)
    }

    /// Damage at the server is found, and never restored.
    @Test func damage() throws {
        let world = try SpreadWorld()
        try world.write("large", 50_000)
        let served = try ServedWorld()
        try world.run([served.device("one")])
        let folder = "/store/.backups/one/set/segments"
        let name = try #require(try served.storage.list(folder).first)
        let file = try served.storage.open("\(folder)/\(name)", OpenOptions(.readWrite))
        try [UInt8(1)].withUnsafeBytes { try file.write($0, at: 30_000) }
        file.close()
        let set = try #require(SetFinder.find([try served.device("one")]).sets.first)
        let result = try SetVerifier().verify(set)
        #expect(result.faults.count == 1 && result.lost.count == 1)
        let (report, _) = try world.restored(from: [try served.device("one")])
        #expect(report.missing.count == 1 && report.missing[0].isDamaged)
    }

    /// The server goes in the middle of an item and comes back: it goes on at the byte.
    @Test func aRestartInTheMiddleOfAnItem() throws {
        let world = try SpreadWorld()
        try world.write("large", 9 << 20)
        let served = try ServedWorld()
        let device = FaultyDevice(try served.device("one"))
        device.everyAppend = { number in
            guard number == 6 else { return }
            served.stop()
            // Back while the device asks again.
            Thread.detachNewThread {
                Thread.sleep(forTimeInterval: 0.5)
                try? served.start()
            }
        }
        let report = try world.run([device])
        #expect(report.isComplete && report.missing.isEmpty, "\(report)")
        #expect(try world.restored(from: [try served.device("one")]).differences.isEmpty)
    }

    /// Gone for good: the others take it.
    @Test func offline() throws {
        let world = try SpreadWorld()
        for i in 0..<8 { try world.write("f\(i)", 30_000) }
        let served = try ServedWorld()
        let device = FaultyDevice(try served.device("one"))
        device.everyAppend = { number in if number == 2 { served.stop() } }
        let folder = try world.plainDevice("device0")
        let report = try world.run([device, folder])
        #expect(report.isComplete && report.missing.isEmpty, "\(report)")
        guard case .offline = report.devices[0].failure else {
            Issue.record("\(String(describing: report.devices[0].failure))")
            return
        }
        #expect(try world.restored(["device0"]).differences.isEmpty)
    }

    @Test func deniedAndReadOnly() throws {
        let world = try SpreadWorld()
        try world.write("a", 100)
        let served = try ServedWorld()
        let folder = try world.plainDevice("device0")
        let reading = try served.device("one", tokenFile: served.token(.readOnly))
        let report = try world.run([reading, folder])
        #expect(report.isComplete)
        guard case .readOnly = report.devices[0].failure else {
            Issue.record("\(report.devices[0])")
            return
        }
        let token = try served.token(.full, named: "revoked")
        let closed = try served.device("one", tokenFile: token)
        try served.revoke("revoked")
        #expect(throws: DeviceFailure.self) { try closed.sets() }
        do {
            _ = try closed.sets()
        } catch {
            guard case .denied = error else { Issue.record("\(error)"); return }
        }
    }

    /// What may only append makes sets, and removes none that is visible.
    @Test func appendOnlyRemovesNothing() throws {
        let world = try SpreadWorld()
        try world.write("a", 100)
        let served = try ServedWorld()
        let token = try served.token(.appendOnly)
        #expect(try world.run([served.device("one", tokenFile: token)]).isComplete)
        let device = try served.device("one", tokenFile: token)
        let set = try #require(try device.sets().first)
        #expect(throws: DeviceFailure.self) { try device.remove(set) }
        #expect(try device.sets() == [set])
        try served.device("one").remove(set)
        #expect(try device.sets().isEmpty)
    }

    /// No room any more, below what was promised: it keeps what it has, and ends with the others.
    @Test func full() throws {
        let world = try SpreadWorld()
        for i in 0..<10 { try world.write("f\(i)", 100_000) }
        let served = try ServedWorld(reserveBytes: 300 << 10)
        let device = FaultyDevice(try served.device("one"))
        device.everyAppend = { number in
            if number == 2 { served.storage.faults.capacityBytes = 500 << 10 }
        }
        let folder = try world.plainDevice("device0")
        let report = try world.run([device, folder])
        #expect(report.isComplete && report.missing.isEmpty, "\(report)")
        guard case .full = report.devices[0].failure else {
            Issue.record("\(report.devices[0])")
            return
        }
        #expect(report.devices[0].isComplete, "\(report.devices[0])")
        let readers = [try served.device("one"), try world.plainDevice("device0")]
        #expect(try world.restored(from: readers).differences.isEmpty)
    }

    /// Two runs of one set at once: the second one waits, then leaves the device out.
    @Test func busy() throws {
        let world = try SpreadWorld()
        try world.write("a", 100)
        let served = try ServedWorld()
        let identity = SetIdentity(name: "set", id: [UInt8](repeating: 1, count: 16), created: 1)
        let id = [UInt8](repeating: 2, count: 16)
        let (one, other) = (try served.device("one"), try served.device("one"))
        try one.begin(identity, deviceID: id, reserveBytes: 0)
        do {
            try other.begin(identity, deviceID: id, reserveBytes: 0)
            Issue.record("both write the set")
        } catch {
            guard case .busy = error else { Issue.record("\(error)"); return }
        }
        one.suspend()
        try other.begin(identity, deviceID: id, reserveBytes: 0)
    }

    /// The store's folder is a device itself, once the server does not use it.
    @Test func inPlace() throws {
        let world = try SpreadWorld()
        try world.writeSmallTree()
        var log = Logger(label: "test")
        log.logLevel = .critical
        let server = try LogServer(
            LogServerConfiguration(storage: DiskStorage(), store: world.path("store"), log: log))
        let port = try server.start()
        defer { server.stop(graceSeconds: 0) }
        let tokens = AccessFolder(
            try ServerStore(opening: world.path("store"), in: DiskStorage()))
        let token = try tokens.create(name: "t", level: .full, volumes: ["*"], now: 0)
        let file = world.path("token")
        try #require(
            FileManager.default.createFile(
                atPath: file, contents: Data(token.utf8), attributes: [.posixPermissions: 0o600]))
        let device = try ServerDevice(
            name: "one", RemoteURL("http://127.0.0.1:\(port)/one"),
            access: RemoteAccess(tokenFile: file))
        #expect(try world.run([device]).isComplete)
        let folder = FolderDevice(name: "dir", folder: world.path("store/.backups/one"))
        #expect(try world.restored(from: [folder]).differences.isEmpty)
    }
}
