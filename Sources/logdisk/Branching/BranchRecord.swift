// What makes a volume a branch: the file `branch-of` in its folder names the volume and the point
// that it stands on.
//
//     logdisk branch 1
//     parent /srv/vol
//     volume 6b2f9d0c-…
//     at 1234
//     time 2026-11-21T10:05:03.25Z

import BlockModel
import CommandText
import DiskIO
import Foundation
import History
import LogFormat
import ProtectedVolume

struct BranchRecord: Equatable, Sendable {
    static let fileName = "branch-of"
    /// Which sectors of the image are the branch's own (ThinFile).
    static let presentName = "image.present"
    private static let magic = "logdisk branch 1"

    /// The folder of the volume below.
    var parent: String
    /// Its identity, in case that another one lies there some day.
    var volume: String
    var lsn: LSN
    /// The stamp of `lsn`, for people.
    var time: String

    init(parent: String, volume: String, lsn: LSN, time: String) {
        (self.parent, self.volume, self.lsn, self.time) = (parent, volume, lsn, time)
    }

    init?(text: String) {
        var fields: [Substring: String] = [:]
        let lines = text.split(separator: "\n")
        guard lines.first == Self.magic[...] else { return nil }
        for line in lines.dropFirst() {
            let parts = line.split(separator: " ", maxSplits: 1)
            guard parts.count == 2 else { return nil }
            fields[parts[0]] = String(parts[1])
        }
        guard let parent = fields["parent"], let volume = fields["volume"],
            let lsn = fields["at"].flatMap({ UInt64($0) }), let time = fields["time"]
        else { return nil }
        self.init(parent: parent, volume: volume, lsn: LSN(lsn), time: time)
    }

    var text: String {
        """
        \(Self.magic)
        parent \(parent)
        volume \(volume)
        at \(lsn)
        time \(time)

        """
    }

    /// Of the volume in `folder`; nil when it is no branch.
    static func read(_ folder: String, object: String) throws(CommandFailure) -> BranchRecord? {
        let (path, storage) = ("\(folder)/\(fileName)", DiskStorage())
        guard storage.exists(path) else { return nil }
        let bytes = try translating(object) { try storage.contents(of: path, limit: 64 << 10) }
        guard let record = BranchRecord(text: String(decoding: bytes, as: UTF8.self)) else {
            throw CommandFailure(
                .damaged, object, "it cannot be read what this branch stands on", cause: path)
        }
        return record
    }

    /// Puts it into `folder`, durably.
    func write(to folder: String) throws(IOError) {
        var failure: IOError?
        Array(text.utf8).withUnsafeBytes { bytes in
            do throws(IOError) {
                try DiskStorage().replace(Self.fileName, in: folder, with: bytes)
            } catch { failure = error }
        }
        if let failure { throw failure }
    }
}

extension VolumeLocation {
    /// Branches of branches of branches: beyond, they stand on each other in a circle.
    private static let depthMax = 64

    /// The state that a branch stands on, with a lease on it; nil for a volume of its own.
    func base() throws(CommandFailure) -> PastState? { try base(depth: 0) }

    private func base(depth: Int) throws(CommandFailure) -> PastState? {
        guard let record = try BranchRecord.read(path, object: object) else {
            // Without it what the branch does not hold itself would read as zeros.
            guard !DiskStorage().exists("\(path)/\(BranchRecord.presentName)") else {
                throw CommandFailure(
                    .damaged, object, "it is lost what this branch stands on",
                    cause: "\(path)/\(BranchRecord.fileName) is missing",
                    hint: "put the file back; docs/format.md says what is in it")
            }
            return nil
        }
        guard depth < Self.depthMax else {
            throw CommandFailure(
                .damaged, object, "the branches stand on each other in a circle",
                cause: record.parent)
        }
        let parent = VolumeLocation(record.parent)
        guard parent.isVolume else {
            throw CommandFailure(
                .noSuchVolume, object, "the volume that this branch stands on is not there",
                cause: record.parent, hint: "put it back where it was")
        }
        guard try parent.superblock().volume.description == record.volume else {
            throw CommandFailure(
                .noSuchVolume, object, "another volume lies where this branch stands",
                cause: record.parent, hint: "put volume \(record.volume) back there")
        }
        let leases = try parent.leases()
        try keepNamed(at: leases, record)
        let lease = Lease(purpose: "open branch", holder: "process \(getpid()), \(path)")
        return try translating(object) {
            let everything = try leases.take(lease)
            defer { everything.release() }
            let (history, below) = try parent.segmentHistory(depth: depth + 1)
            let point = try history.resolve(.lsn(record.lsn), now: VolumeHistory.clock())
            guard history.volumeBytes == (try superblock().volumeBytes) else {
                throw CommandFailure(
                    .damaged, object, "the volume that this branch stands on has another size",
                    cause: "\(history.volumeBytes) bytes")
            }
            return try PastState(
                point: point, view: PointInTimeView(history, at: record.lsn), leases: leases, lease,
                over: below)
        }
    }

    /// The parent names this branch where it lies now, also after it was moved.
    private func keepNamed(at leases: LeaseFolder, _ record: BranchRecord) throws(CommandFailure) {
        let name = try superblock().volume.description
        try translating(object) {
            let known = try leases.branches().first { $0.name == name }?.lease
            guard known?.holder != path || known?.at != record.lsn else { return }
            var lease = Lease(purpose: "branch", holder: path, at: record.lsn)
            lease.segments = []
            try leases.removeBranch(name)
            _ = try leases.addBranch(name, lease)
        }
    }

    /// The files of the volume, which stands on `base` if it is a branch.
    func storage(over base: PastState?) throws(CommandFailure) -> Storage {
        guard let base else { return DiskStorage() }
        let image = VolumeFolder.imagePath(path, try superblock())
        return BranchStorage(folder: path, imagePath: image, base: base)
    }

    /// What lies in segments; nothing is asked of a mount.
    private func segmentHistory(
        depth: Int
    ) throws(CommandFailure) -> (HistoryCatalogue, PastState?) {
        let superblock = try superblock()
        var ground = VolumeGround()
        if FillRecord.isThere(path) {
            ground = try self.ground()
        } else if let store = try storeGround() {
            ground = store
        } else {
            ground = VolumeGround(try base(depth: depth))
        }
        let history = try translating(object) {
            try HistoryCatalogue(
                store: ground.history(segmentStore(superblock)), volume: superblock.volume,
                base: ground.base?.view)
        }
        return (history, ground.image)
    }

    func segmentStore(_ superblock: Superblock) -> DirectoryStore {
        DirectoryStore(
            storage: DiskStorage(),
            directory: VolumeFolder.logDirectory(path, superblock) + "/segments")
    }
}
