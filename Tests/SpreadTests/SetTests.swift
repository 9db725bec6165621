// Sets on devices: damaged, incomplete, foreign; tapes and images.

import DiskIO
import Foundation
import Spread
import Testing

@Suite struct SetTests {
    private func flip(_ path: String, _ position: Int) throws {
        var bytes = try Data(contentsOf: URL(fileURLWithPath: path))
        bytes[bytes.startIndex + min(position, bytes.count - 1)] ^= 0x10
        try bytes.write(to: URL(fileURLWithPath: path))
    }

    private func segments(_ world: SpreadWorld, _ device: String) throws -> [String] {
        let folder = world.path(device) + "/set/segments"
        let names = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
        return names.map { folder + "/" + $0 }
    }

    @Test func oneManifestIsEnough() throws {
        let world = try SpreadWorld()
        try world.writeSmallTree()
        try world.run(try world.devices(3))
        try flip(world.path("device0/set/MANIFEST"), 100)
        try FileManager.default.removeItem(atPath: world.path("device2/set/MANIFEST"))
        let (report, differences) = try world.restored(["device0", "device1", "device2"])
        #expect(report.missing.isEmpty && differences.isEmpty)
        try flip(world.path("device1/set/MANIFEST"), 40)
        let (sets, _) = SetFinder.find(
            (0..<3).map { FolderDevice(name: "dir:\($0)", folder: world.path("device\($0)")) })
        #expect(sets.allSatisfy { !$0.isComplete && $0.manifest == nil })
    }

    @Test func missingDevicesAreNamed() throws {
        let world = try SpreadWorld()
        try world.writeSmallTree()
        try world.run(try world.devices(3))
        let (report, differences) = try world.restored(["device0", "device1"])
        #expect(!report.missing.isEmpty)
        #expect(report.missing.allSatisfy { $0.reason.contains("dir:device2") })
        #expect(
            Set(report.missing.map { String($0.path.dropFirst("source/".count)) })
                == Set(differences), "what is there is right, what is not is listed")
    }

    @Test func damageIsFoundAndNeverRestored() throws {
        let world = try SpreadWorld()
        try world.writeSmallTree()
        try world.run(try world.devices(2))
        let all = try segments(world, "device0") + segments(world, "device1")
        let victim = try #require(all.first)
        for position in [3, 300, 5000] {
            try flip(victim, position)
            let devices = (0..<2).map {
                FolderDevice(name: "dir:device\($0)", folder: world.path("device\($0)"))
            }
            let one = try #require(SetFinder.find(devices).sets.first)
            let result = try SetVerifier().verify(one)
            #expect(result.faults.count == 1 && result.lost.count == 1, "byte \(position)")
            let (report, differences) = try world.restored(["device0", "device1"])
            #expect(report.missing.count == 1 && report.missing[0].isDamaged)
            #expect(differences.count == 1)
            try flip(victim, position)
        }
        #expect(try world.restored(["device0", "device1"]).differences.isEmpty)
    }

    @Test func aPlainFileIsAPlainFile() throws {
        let world = try SpreadWorld()
        try world.write("b/one", 5000)
        try world.run(try world.devices(1))
        #expect(world.differences(world.path("device0/set/files/source")).isEmpty)
    }

    /// The header is 4096 bytes, so the rest of a segment is the file's bytes.
    @Test func segmentsAreReassembledByHand() throws {
        let world = try SpreadWorld()
        try world.write("large", 100_000)
        try world.run(try world.devices(2))
        var parts: [(offset: UInt64, bytes: Data)] = []
        for path in try segments(world, "device0") + segments(world, "device1") {
            let bytes = try Data(contentsOf: URL(fileURLWithPath: path))
            let header = try #require(SegmentHeader(decoding: Array(bytes.prefix(4096))))
            parts.append((header.offset, bytes.dropFirst(4096)))
        }
        #expect(parts.count == 2)
        let whole = parts.sorted { $0.offset < $1.offset }.reduce(Data()) { $0 + $1.bytes }
        #expect(whole == FileManager.default.contents(atPath: world.source + "/large"))
    }

    @Test func aNameThatExistsIsRefused() throws {
        let world = try SpreadWorld()
        try world.writeSmallTree()
        try world.run(try world.devices(2))
        #expect(throws: JobFailure.self) { try world.run(try world.devices(2)) }
    }

    @Test func byContent() throws {
        let world = try SpreadWorld()
        try world.write("a", 3000)
        let bytes = try #require(FileManager.default.contents(atPath: world.source + "/a"))
        try world.run(try world.devices(1))
        let device = FolderDevice(name: "dir:device0", folder: world.path("device0"))
        let one = try #require(SetFinder.find([device]).sets.first)
        let digest = try #require(one.manifest?.items.first?.digest.bytes).hexText
        let output = world.path("output")
        try #require(mkdir(output, 0o755) == 0)
        let restorer = try #require(SetRestorer(one, into: try Folder(output)))
        #expect(restorer.select([Array("id:\(digest)".utf8)]).isEmpty)
        #expect(try restorer.restore().files == 1)
        #expect(FileManager.default.contents(atPath: output + "/source/a") == bytes)
        // As a source: the name must be the content's.
        let store = world.path("store")
        try #require(mkdir(store, 0o755) == 0)
        try bytes.write(to: URL(fileURLWithPath: "\(store)/\(digest)"))
        let source = try SpreadSource(contentID: "\(digest)@\(store)", origin: "id")
        #expect(try ScannedSources([source]).sources[0].name == Array(digest.utf8))
        #expect(throws: SourceFailure.self) {
            try SpreadSource(contentID: "00@\(store)", origin: "id")
        }
    }

    // MARK: - other drivers

    @Test func onTapes() throws {
        let world = try SpreadWorld()
        try world.writeSmallTree()
        func tapes() -> [TapeDevice] {
            (0..<2).map {
                TapeDevice(
                    name: "stream:\($0)", path: world.path("tape\($0)"), capacity: nil)
            }
        }
        let report = try world.run(tapes(), SpreadWorld.careful)
        #expect(report.isComplete && report.missing.isEmpty, "\(report)")
        let (back, differences) = try world.restored(from: tapes())
        #expect(back.missing.isEmpty && differences.isEmpty, "\(back.missing) \(differences)")
    }

    /// A crash behind each item of a tape; the next run appends.
    @Test func interruptedTape() throws {
        let world = try SpreadWorld()
        try world.writeSmallTree()
        func tape() -> FaultyDevice {
            FaultyDevice(
                TapeDevice(name: "stream:t", path: world.path("tape"), capacity: nil))
        }
        for crash in 0..<6 {
            try world.clearDevices()
            let first = tape()
            first.plan = (.append, crash, .broken("crash"), true)
            #expect(!(try world.run([first], SpreadWorld.careful)).isComplete)
            let report = try world.run([tape()], SpreadWorld.careful)
            #expect(report.isComplete, "crash \(crash)")
            let device = TapeDevice(name: "stream:t", path: world.path("tape"), capacity: nil)
            #expect(try world.restored(from: [device]).differences.isEmpty, "crash \(crash)")
        }
    }

    @Test(
        .enabled(
            if: access("/usr/bin/xorriso", X_OK) == 0,
            "not here: xorriso (tools/setup --tests installs what it can)"))
    func onImages() throws {
        let world = try SpreadWorld()
        try world.writeSmallTree()
        try world.write("a name with blanks\n", 100)
        func images() -> [OpticalDevice] {
            (0..<2).map {
                OpticalDevice(
                    name: "iso:\($0)", image: world.path("\($0).iso"), capacity: 10 << 20)
            }
        }
        let report = try world.run(images())
        #expect(report.isComplete && report.missing.isEmpty, "\(report)")
        let (back, differences) = try world.restored(from: images())
        #expect(back.missing.isEmpty && differences.isEmpty, "\(back.missing) \(differences)")
        // Volume descriptor of ISO 9660.
        let bytes = try Data(contentsOf: URL(fileURLWithPath: world.path("0.iso")))
        #expect(bytes[32769..<32774] == Data("CD001".utf8))
    }
}
