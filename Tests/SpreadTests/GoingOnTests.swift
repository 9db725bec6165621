// A run that ended in the middle, and the one that goes on: what was durable stays as it is.

import DiskIO
import Foundation
import Spread
import Testing

@Suite struct GoingOnTests {
    /// Many segments a file, so that numbers of the first run could meet those of the second.
    private static var options: RunOptions {
        var options = SpreadWorld.careful
        options.plan.splitOver = 16 << 10
        // A sync of the first run that is still under way keeps the set locked.
        options.busySeconds = 30
        return options
    }

    /// One device goes before it has anything, the other behind each of its items.
    @Test(arguments: [false, true])
    func segmentsKeepTheirNumbers(syncsBeside: Bool) throws {
        let world = try SpreadWorld()
        try world.writeSmallTree()
        var kept = 0
        for skip in 0..<12 {
            try world.clearDevices()
            let first = try world.devices(2)
            for device in first { device.syncsBeside = syncsBeside }
            first[0].plan = (.append, 0, .offline("gone"), true)
            first[1].plan = (.finish, skip, .offline("gone"), true)
            #expect(try !world.run(first, Self.options).isComplete)
            let second = try world.devices(2)
            kept += try second[1].unfinished("set")?.items.count ?? 0
            let report = try world.run(second, Self.options)
            #expect(report.isComplete && report.missing.isEmpty, "\(skip): \(report.devices)")
            let (back, differences) = try world.restored(["device0", "device1"])
            #expect(differences.isEmpty && back.missing.isEmpty, "\(skip): \(back.missing)")
        }
        #expect(kept > 0, "nothing of the first runs was durable")
    }

    /// Attributes are in the set also of files that the first run had read.
    @Test func attributesOfFilesThatAreThere() throws {
        let world = try SpreadWorld()
        try world.writeSmallTree()
        let folder = try Folder(world.source)
        for name in ["a", "b/one", "large"] {
            try folder.file(Array(name.utf8), OpenOptions(.readWrite)).setAttribute(
                Array("user.of".utf8), Array(name.utf8))
        }
        let first = try world.devices(2)
        for device in first { device.plan = (.finish, 3, .offline("gone"), true) }
        #expect(try !world.run(first, SpreadWorld.careful).isComplete)
        #expect(try world.run(try world.devices(2), Self.options).isComplete)
        #expect(try world.restored(["device0", "device1"]).differences.isEmpty)
        let output = try Folder(world.path("output/source"))
        for name in ["a", "b/one", "large"] {
            let found = try output.attributes(Array(name.utf8))
            #expect(found.contains { $0.value == Array(name.utf8) }, "\(name)")
        }
    }
}
