// Object storage as a backup device: what it takes and gives back, and what it is when the store is
// away or does not let us in. The suite that all devices pass is DeviceFailureTests.

import DiskIO
import Foundation
import ObjectStorage
import Offsite
import Spread
import Testing

@Suite(.enabled(if: ServedBucket.isHere, "no object storage is installed: tools/setup --tests"))
struct ObjectDeviceTests {
    /// Beside a folder; then from the devices alone. A file in one put, one in parts.
    @Test func fromTheDevicesAlone() throws {
        let world = try SpreadWorld()
        try world.writeSmallTree()
        try world.write("of several parts", 29 << 20)
        let bucket = try ServedBucket()
        let folder = try world.plainDevice("device0")
        let report = try world.run([folder, bucket.device("one")])
        #expect(report.isComplete && report.missing.isEmpty, "\(report)")
        let readers = [try world.plainDevice("device0"), try bucket.device("one")]
        let set = try #require(SetFinder.find(readers).sets.first)
        #expect(set.isComplete && set.places.count == 2 && set.places.allSatisfy(\.hasManifest))
        let verified = try SetVerifier().verify(set)
        #expect(verified.faults.isEmpty && verified.lost.isEmpty)
        #expect(try world.restored(from: readers).differences.isEmpty)
        for device in readers {
            for set in try device.sets() { try device.remove(set) }
            #expect(try device.sets().isEmpty)
        }
        #expect(try bucket.engine.keys(in: bucket.name).isEmpty, "nothing is left behind")
    }

    /// Alone, with exact parts, an empty file, holes and names of any bytes.
    @Test func holesNamesAndExactParts() throws {
        let world = try SpreadWorld()
        let file = try DiskStorage().open(
            world.source + "/sparse", OpenOptions(.readWrite, creation: .exclusively))
        try file.truncate(to: 20 << 20)
        try [UInt8](repeating: 7, count: 5000).withUnsafeBytes {
            try file.write($0, at: 10 << 20)
        }
        file.close()
        for (name, count) in [("one part", 8 << 20), ("two parts", 16 << 20), ("empty", 0)] {
            try world.write(name, count)
        }
        try world.write("a%b c\n", 10)
        let bucket = try ServedBucket()
        #expect(try world.run([bucket.device("one")]).isComplete)
        #expect(try world.restored(from: [try bucket.device("one")]).differences.isEmpty)
        #expect(try bucket.device("one").timing() != nil)
    }

    /// Damage there is found, and never restored.
    @Test func damage() throws {
        let world = try SpreadWorld()
        try world.write("large", 50_000)
        let bucket = try ServedBucket()
        try world.run([bucket.device("one")])
        let keys = try bucket.engine.keys(in: bucket.name, prefix: "one/data/")
        let key = try #require(keys.first { $0.contains("/item-") })
        let path = "/\(bucket.name)/\(key)"
        var bytes = try bucket.engine.request("GET", path).body
        bytes[30_000] ^= 1
        #expect(try bucket.engine.request("PUT", path, body: bytes).status == 200)
        let set = try #require(SetFinder.find([try bucket.device("one")]).sets.first)
        let result = try SetVerifier().verify(set)
        #expect(result.faults.count == 1 && result.lost.count == 1)
        let (report, _) = try world.restored(from: [try bucket.device("one")])
        #expect(report.missing.count == 1 && report.missing[0].isDamaged)
    }

    /// What a device is that does not answer, or does not let us in.
    @Test func refusalsAndAbsence() throws {
        let bucket = try ServedBucket()
        let identity = SetIdentity(name: "set", id: [UInt8](repeating: 1, count: 16), created: 0)
        func failure(_ device: ObjectDevice) -> String? {
            do throws(DeviceFailure) {
                try device.begin(identity, deviceID: [2], reserveBytes: 0)
                return nil
            } catch { return error.word }
        }
        #expect(try failure(bucket.device("one")) == nil)
        #expect(try failure(bucket.device("one", key: bucket.engine.wrong)) == "denied")
        #expect(try failure(bucket.device("one", key: bucket.engine.reader)) == "denied")
        #expect(
            try failure(bucket.device("one", endpoint: "http://127.0.0.1:9")) == "offline")
    }

    /// A second run takes an unfinished set over; the first finds out and ends.
    @Test func whoIsOvertakenEnds() throws {
        let bucket = try ServedBucket()
        let identity = SetIdentity(
            name: "set", id: (0..<16).map { UInt8($0) }, created: 5)
        let first = try bucket.device("one")
        try first.begin(identity, deviceID: [7], reserveBytes: 0)
        let second = try bucket.device("one")
        try second.begin(identity, deviceID: [7], reserveBytes: 0)
        #expect(throws: DeviceFailure.offline("another run has taken the set over")) {
            try first.commit()
        }
        try second.writeManifest { write in
            try [UInt8](repeating: 1, count: 10).withUnsafeBytes { try write($0) }
        }
        try second.commit()
        #expect(try bucket.device("one").sets().map(\.state) == [.complete])
    }
}
