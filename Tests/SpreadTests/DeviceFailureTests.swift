// Devices that fail in every way at every item: afterwards every byte is on the others.

import DiskIO
import Foundation
import Spread
import Synchronization
import Testing

@Suite struct DeviceFailureTests {
    static let failures: [DeviceFailure] = [
        .broken("input/output error"), .full("no space left"), .offline("gone"),
        .readOnly("read-only file system"),
    ]

    @Test(arguments: failures, DeviceKind.allCases)
    func eachDeviceAtEachItem(_ failure: DeviceFailure, _ kind: DeviceKind) throws {
        let world = try SpreadWorld(kind)
        try world.writeSmallTree()
        for victim in 0..<3 {
            for call in [FaultyDevice.Call.start, .append, .finish] {
                for skip in 0..<4 {
                    try world.clearDevices()
                    let devices = try world.devices(3)
                    devices[victim].plan = (call, skip, failure, true)
                    let report = try world.run(devices, SpreadWorld.careful)
                    let place = "\(failure) of device \(victim) at \(call) \(skip)"
                    #expect(report.isComplete && report.missing.isEmpty, "\(place)")
                    let names = report.devices.filter { $0.isComplete }.map {
                        String($0.name.dropFirst(4))
                    }
                    #expect(names.count >= 2, "\(place): \(report.devices)")
                    let (back, differences) = try world.restored(names)
                    #expect(differences.isEmpty && back.missing.isEmpty, "\(place): \(differences)")
                }
            }
        }
    }

    /// At the beginning, in the last sync, with the manifest and at the very end.
    @Test(arguments: [FaultyDevice.Call.begin, .sync, .manifest, .commit], DeviceKind.allCases)
    func outsideOfItems(_ call: FaultyDevice.Call, _ kind: DeviceKind) throws {
        let world = try SpreadWorld(kind)
        try world.writeSmallTree()
        let devices = try world.devices(3)
        devices[0].plan = (call, 0, .broken("input/output error"), true)
        let report = try world.run(devices)
        #expect(report.isComplete && report.missing.isEmpty)
        #expect(report.devices.map(\.isComplete) == [false, true, true])
        let (_, differences) = try world.restored(["device1", "device2"])
        #expect(differences.isEmpty)
    }

    /// The device that gets what was the first one's fails, too.
    @Test(arguments: DeviceKind.allCases) func twoDevices(_ kind: DeviceKind) throws {
        let world = try SpreadWorld(kind)
        try world.writeSmallTree()
        for first in 0..<3 {
            for second in 0..<5 {
                try world.clearDevices()
                let devices = try world.devices(3)
                devices[0].plan = (.finish, first, .broken("one"), true)
                devices[1].plan = (.start, second, .offline("two"), true)
                let report = try world.run(devices, SpreadWorld.careful)
                #expect(report.isComplete && report.missing.isEmpty)
                let names = report.devices.filter { $0.isComplete }.map {
                    String($0.name.dropFirst(4))
                }
                #expect(try world.restored(names).differences.isEmpty, "\(first) \(second)")
            }
        }
    }

    @Test(arguments: DeviceKind.allCases) func allDevices(_ kind: DeviceKind) throws {
        let world = try SpreadWorld(kind)
        try world.writeSmallTree()
        let devices = try world.devices(2)
        for device in devices { device.plan = (.finish, 1, .broken("gone"), true) }
        let report = try world.run(devices)
        #expect(!report.isComplete)
        let visible = devices.flatMap { (try? $0.sets()) ?? [] }.filter { $0.state == .complete }
        #expect(visible.isEmpty, "nothing is visible of a set that is not complete")
    }

    /// Killed behind any number of items, the next run goes on and writes none of them again.
    @Test(arguments: DeviceKind.allCases) func interruptedAtEachItem(_ kind: DeviceKind) throws {
        let world = try SpreadWorld(kind)
        try world.writeSmallTree()
        for crash in 0..<6 {
            try world.clearDevices()
            let devices = try world.devices(2)
            for device in devices { device.plan = (.start, crash, .broken("crash"), true) }
            let first = try world.run(devices, SpreadWorld.careful)
            if first.isComplete { continue }
            let job = try world.prepare(try world.devices(2), SpreadWorld.careful)
            let kept = job.resumed?.items ?? []
            #expect(crash == 0 || !kept.isEmpty, "crash \(crash)")
            let started = Mutex<[(path: String, range: Range<UInt64>)]>([])
            let run = SpreadRun(job.identity, job.sources, job.devices, SpreadWorld.careful) {
                guard case .itemStarted(_, let path, let offset, let size) = $0 else { return }
                started.withLock { $0.append((path, offset..<offset + size)) }
            }
            let report = run.run(job.plan, job.origins, resuming: job.resumed)
            #expect(report.isComplete && report.missing.isEmpty, "crash \(crash): \(report)")
            for item in kept {
                let source = job.sources.sources[item.source]
                let path = PathText.text(source.name + [0x2F] + source.table.path(item.row))
                let again = started.withLock { list in
                    list.contains { $0.path == path && $0.range.overlaps(item.range) }
                }
                #expect(!again, "crash \(crash): \(path) from \(item.offset)")
            }
            #expect(try world.restored(["device0", "device1"]).differences.isEmpty)
        }
    }

    /// Numbers of a run that was interrupted are not given again to other items.
    @Test(arguments: DeviceKind.allCases)
    func whatWasDurableIsNotOverwritten(_ kind: DeviceKind) throws {
        let world = try SpreadWorld(kind)
        for i in 0..<12 { try world.write("f\(i)", 3000 + i) }
        // Every file is cut, so that every item is a segment with a number.
        var options = SpreadWorld.careful
        options.plan.mode = .splitFirst
        options.plan.splitOver = 1000
        options.syncBytes = 10_000
        for crash in stride(from: 4, to: 24, by: 3) {
            try world.clearDevices()
            let devices = try world.devices(2)
            // One keeps items with numbers above their count: the other's are between them.
            devices[0].plan = (.start, crash, .broken("crash"), true)
            devices[1].plan = (.start, 0, .broken("crash"), true)
            if try world.run(devices, options).isComplete { continue }
            // The other one is gone: this one gets all the rest.
            let report = try world.run([try world.device("device0")], options)
            #expect(report.isComplete && report.missing.isEmpty, "crash \(crash)")
            let (back, differences) = try world.restored(["device0"])
            #expect(back.missing.isEmpty && differences.isEmpty, "crash \(crash): \(back.missing)")
        }
    }

    /// With two copies a lost device costs nothing that must be written again.
    @Test(arguments: DeviceKind.allCases) func copies(_ kind: DeviceKind) throws {
        let world = try SpreadWorld(kind)
        try world.writeSmallTree()
        var options = SpreadWorld.careful
        options.plan.copies = 2
        try world.run(try world.devices(3), options)
        for lost in 0..<3 {
            let names = (0..<3).filter { $0 != lost }.map { "device\($0)" }
            let (report, differences) = try world.restored(names)
            #expect(report.missing.isEmpty && differences.isEmpty, "without device \(lost)")
        }
    }

    /// Each device waits in its first write until the other one is in one.
    @Test func twoWritesAtOnce() throws {
        let world = try SpreadWorld()
        for i in 0..<8 { try world.write("f\(i)", 20_000) }
        let devices = try world.devices(2)
        let arrived = [DispatchSemaphore(value: 0), DispatchSemaphore(value: 0)]
        let met = Mutex(0)
        for (index, device) in devices.enumerated() {
            device.firstAppend = {
                arrived[1 - index].signal()
                if arrived[index].wait(timeout: .now() + 60) == .success {
                    met.withLock { $0 += 1 }
                }
            }
        }
        #expect(try world.run(devices).isComplete)
        #expect(met.withLock { $0 } == 2)
    }
}
