// Leases: who sees them, when they end, and that a lease that cannot be read protects everything.

import BlockModel
import DiskIO
import History
import LogFormat
import Testing

@Suite struct LeaseTests {
    private let storage = SimulatedStorage(seed: 1)
    private var folder: LeaseFolder { LeaseFolder(storage: storage, logDirectory: "") }

    private static let name = SegmentName(first: LSN(1), last: LSN(9), kind: .log)
    private static let lease = Lease(
        purpose: "past mount", holder: "process 1 on /mnt/a b", at: LSN(7),
        segments: [name, .snapshot(.zero)])

    @Test func isSeenUntilItEnds() throws {
        #expect(try folder.current().isEmpty)
        let held = try folder.take(Self.lease)
        let everything = try folder.take(Lease(purpose: "replay", holder: "process 2"))
        let seen = try folder.current()
        #expect(Set(seen.map(\.purpose)) == ["past mount", "replay"])
        #expect(seen.contains(Self.lease))
        #expect(seen.contains { $0.segments == nil && $0.at == nil })
        everything.release()
        everything.release()
        #expect(try folder.current() == [Self.lease])
        held.release()
        #expect(try folder.current().isEmpty)
        #expect(try storage.list("/leases").isEmpty)
    }

    @Test func endsWithItsHolder() throws {
        let held = try folder.take(Self.lease)
        storage.kill()
        #expect(try storage.list("/leases").count == 1)
        #expect(try folder.current().isEmpty)
        #expect(try storage.list("/leases").isEmpty, "removed by who looked")
        held.release()
        let again = try folder.take(Self.lease)
        #expect(try folder.current() == [Self.lease])
        again.release()
    }

    @Test func nothingIsNotEverything() throws {
        var lease = Self.lease
        lease.segments = []
        let held = try folder.take(lease)
        #expect(try folder.current() == [lease])
        held.release()
    }

    @Test func branchesStay() throws {
        var lease = Lease(purpose: "branch", holder: "/srv/b", at: LSN(5))
        lease.segments = []
        #expect(try folder.addBranch("one", lease))
        #expect(try folder.addBranch("one", lease) == false)
        storage.crash()
        lease.isDurable = true
        #expect(try folder.current() == [lease])
        #expect(try folder.branches().map(\.name) == ["one"])
        try folder.removeBranch("one")
        try folder.removeBranch("one")
        storage.crash()
        #expect(try folder.current().isEmpty)
    }

    @Test(arguments: [
        "", "nonsense", "logdisk lease 2\nat 1\n", "logdisk lease 1\nat x\n",
        "logdisk lease 1\nsegment x\n", "logdisk lease 1\nat 5",
    ])
    func whatCannotBeReadProtectsEverything(_ text: String) throws {
        try storage.createDirectory("/leases")
        let file = try storage.open(
            "/leases/a.branch", OpenOptions(.readWrite, creation: .exclusively))
        if !text.isEmpty {
            var bytes = Array(text.utf8)
            try bytes.withUnsafeMutableBytes { try file.write(UnsafeRawBufferPointer($0), at: 0) }
        }
        let seen = try folder.current()
        #expect(seen.count == 1 && seen[0].segments == nil && seen[0].isDurable)
    }
}
