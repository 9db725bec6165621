// Sources that change while they are read, devices that do not answer, and copies that are lost.

import DiskIO
import Foundation
import Spread
import Synchronization
import Testing

@Suite struct TroubleTests {
    private func append(_ path: String) {
        let file = FileHandle(forWritingAtPath: path)
        _ = try? file?.seekToEnd()
        try? file?.write(contentsOf: Data("more".utf8))
        try? file?.close()
    }

    /// Read again, whole or in parts; what is in the set is one state of the file.
    @Test(arguments: [1, 2]) func aFileThatChangesOnce(_ deviceCount: Int) throws {
        let world = try SpreadWorld()
        try world.write("large", 5 << 20)
        try world.write("small", 10)
        let devices = try world.devices(deviceCount)
        let hasChanged = Mutex(false)
        for device in devices {
            device.everyAppend = { number in
                let isFirst = hasChanged.withLock { changed -> Bool in
                    defer { changed = changed || number == 1 }
                    return !changed && number == 1
                }
                if isFirst { self.append(world.source + "/large") }
            }
        }
        let changes = Mutex(0)
        let report = try world.run(devices) {
            if case .sourceChanged = $0 { changes.withLock { $0 += 1 } }
        }
        #expect(report.isComplete && report.missing.isEmpty, "\(report)")
        #expect(changes.withLock { $0 } >= 1)
        let names = (0..<deviceCount).map { "device\($0)" }
        let (back, differences) = try world.restored(names)
        #expect(back.missing.isEmpty && differences.isEmpty, "\(differences)")
    }

    /// Given up after three times, and named; the others are there.
    @Test func aFileThatAlwaysChanges() throws {
        let world = try SpreadWorld()
        try world.write("restless", 3 << 20)
        try world.write("small", 10)
        let devices = try world.devices(1)
        devices[0].everyAppend = { _ in self.append(world.source + "/restless") }
        let report = try world.run(devices)
        #expect(report.isComplete)
        #expect(report.missing.map(\.path) == ["source/restless"])
        #expect(report.missing.first?.reason == "it changes while it is read")
        let (back, differences) = try world.restored(["device0"])
        #expect(differences == ["restless"] && back.files == 1, "\(back)")
    }

    /// A device that hangs in a call is left out after the time-out; its thread is not waited for.
    @Test func aDeviceThatDoesNotAnswer() throws {
        let world = try SpreadWorld()
        for i in 0..<6 { try world.write("f\(i)", 20_000) }
        var options = SpreadWorld.careful
        options.timeoutSeconds = 0.3
        let devices = try world.devices(2)
        let hold = DispatchSemaphore(value: 0)
        devices[0].everyAppend = { number in if number == 1 { hold.wait() } }
        let report = try world.run(devices, options)
        hold.signal()
        #expect(report.isComplete && report.missing.isEmpty, "\(report)")
        guard case .offline(let reason) = report.devices[0].failure else {
            Issue.record("\(report.devices[0])")
            return
        }
        #expect(reason.contains("no answer"))
        #expect(try world.restored(["device1"]).differences.isEmpty)
    }

    /// Two copies on three devices, one of which fails: what it had written is written again only
    /// when that is asked for.
    @Test(arguments: [false, true]) func copiesOfAFailedDevice(_ alsoWritten: Bool) throws {
        let world = try SpreadWorld()
        for i in 0..<9 { try world.write("f\(i)", 10_000 + i) }
        var options = SpreadWorld.careful
        options.plan.copies = 2
        options.alsoRewriteWritten = alsoWritten
        let devices = try world.devices(3)
        devices[2].plan = (.start, 4, .broken("gone"), true)
        let report = try world.run(devices, options)
        #expect(report.isComplete, "\(report)")
        let set = try #require(
            SetFinder.find([try world.plainDevice("device0")]).sets.first { $0.isComplete })
        let manifest = try #require(set.manifest)
        var bytes: [Int: UInt64] = [:]
        for item in manifest.items { bytes[item.row, default: 0] += item.size }
        let rows = manifest.sources[0].table.rows
        let single = rows.indices.filter { rows[$0].isFile && bytes[$0] == rows[$0].size }
        let double = rows.indices.filter { rows[$0].isFile && bytes[$0] == 2 * rows[$0].size }
        if alsoWritten {
            #expect(single.isEmpty && double.count == 9)
            for name in ["device0", "device1"] {
                #expect(try world.restored([name]).differences.isEmpty, "\(name) has everything")
            }
        } else {
            #expect(!single.isEmpty && single.count + double.count == 9)
            #expect(try world.restored(["device0", "device1"]).differences.isEmpty)
        }
    }

    // MARK: - item cost

    @Test func itemCostIsTimeTimesSpeed() {
        let disk = DeviceTiming(secondsPerFile: 0.001, bytesPerSecond: 100_000_000)
        #expect(ItemCost.bytes(disk, rate: nil) == 100_352)
        #expect(ItemCost.bytes(disk, rate: 10_000_000) == 10_240)
        #expect(ItemCost.bytes(disk, rate: 1 << 40) == 100_352)
        let frozen = DeviceTiming(secondsPerFile: 1e9, bytesPerSecond: 1e12)
        #expect(ItemCost.bytes(frozen, rate: nil) == ItemCost.most)
        let none = DeviceTiming(secondsPerFile: .nan, bytesPerSecond: 1)
        #expect(ItemCost.bytes(none, rate: nil) == 0)
        #expect(ItemCost.middle([]) == nil && ItemCost.middle([5]) == 5)
        #expect(ItemCost.middle([9, 1, 5]) == 5 && ItemCost.middle([9, 5]) == 5)
    }

    /// Measured, and nothing of it stays.
    @Test(arguments: DeviceKind.allCases) func measuring(_ kind: DeviceKind) throws {
        let world = try SpreadWorld(kind)
        let device = try world.plainDevice("device0")
        let timing = try #require(try device.timing())
        #expect(timing.secondsPerFile > 0 && timing.bytesPerSecond > 0)
        #expect(try device.sets().isEmpty)
        if kind == .folder {
            let left = try FileManager.default.contentsOfDirectory(atPath: world.path("device0"))
            #expect(left.isEmpty)
        }
        let tape = TapeDevice(name: "stream:t", path: world.path("tape"), capacity: nil)
        let cost = ItemCost.measured([(tape, nil), (device, 1 << 20)], isCancelled: { false })
        #expect((cost ?? 0) > 0)
        #expect(ItemCost.measured([(tape, nil)], isCancelled: { false }) == nil)
    }
}
