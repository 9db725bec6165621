// Makes and removes branches. A branch is a volume with a log and history of its own, whose first
// snapshot is empty and stands for a state of its parent. The parent's folder of leases names it,
// so that pruning keeps that state.
//
//   making     lease on the state ─► volume, half-created ─► named at the parent ─► ready
//   removing   everything but `branch-of` ─► no longer named ─► `branch-of`, folder
//   so what a crash leaves is removed by doing it again.

import BlockModel
import CommandText
import DiskIO
import Foundation
import History
import LogFormat
import ProtectedVolume

enum BranchMaker {
    /// Makes a branch in the folder `directory` that stands on `state`, a past one of `parent`.
    /// Nothing is left of it when it fails.
    static func make(
        _ directory: String, of parent: VolumeLocation, on state: PastState
    ) throws(CommandFailure) {
        let path = PathText.canonical(directory)
        try check(directory, of: parent)
        let above = try parent.superblock()
        var creation = VolumeCreation(volumeBytes: state.view.byteCount)
        creation.walFileBytes = above.walFileBytes
        creation.walBytesMax = above.walBytesMax
        creation.ringBytes = above.ringBytes
        let record = BranchRecord(
            parent: parent.path, volume: above.volume.description, lsn: state.view.lsn,
            time: state.point.stamp.time)
        let folder = try translating(directory) {
            try VolumeFolder.create(path, creation, on: DiskStorage())
        }
        let leases = try parent.leases()
        let name = creation.volume.description
        do {
            try translating(directory) {
                try fill(folder, record)
                var lease = Lease(purpose: "branch", holder: path, at: record.lsn)
                lease.segments = []
                _ = try leases.addBranch(name, lease)
                try NewVolume.finish(folder, isSilent: true, directory)
            }
        } catch {
            try? leases.removeBranch(name)
            for file in [BranchRecord.fileName, BranchRecord.presentName] {
                try? DiskStorage().remove("\(path)/\(file)")
            }
            folder.abandonCreation()
            throw error
        }
        folder.close()
    }

    /// Refuses folders in which no branch of `parent` can be made.
    static func check(_ directory: String, of parent: VolumeLocation) throws(CommandFailure) {
        let path = PathText.canonical(directory)
        if (path + parent.path).contains(where: \.isNewline) {
            throw CommandFailure(.usage, directory, "the path holds a line break")
        }
        if PathText.lies(path, in: parent.path) {
            throw CommandFailure(
                .usage, directory, "a branch cannot lie in the folder of its volume",
                hint: "choose a folder beside \(parent.path)")
        }
        if let record = try BranchRecord.read(path, object: directory) {
            throw CommandFailure(
                .usage, directory, "there is a branch already",
                cause: "of \(record.parent) at lsn \(record.lsn)",
                hint: "open it again: logdisk mount \(directory) MNT")
        }
        try NewVolume.checkPlace(path, directory)
    }

    /// No sector of its own yet, and what it stands on.
    private static func fill(_ folder: VolumeFolder, _ record: BranchRecord) throws {
        try makePresent(folder)
        try record.write(to: folder.path)
    }

    /// Makes the image of a new volume thin: it holds no sector itself.
    static func makePresent(_ folder: VolumeFolder) throws {
        let present = try folder.storage.open(
            "\(folder.path)/\(BranchRecord.presentName)",
            OpenOptions(.readWrite, creation: .exclusively))
        defer { present.close() }
        // Space for all bits now: later the disk may be full.
        try present.allocate(
            offset: 0, count: ThinFile.presentBytes(for: folder.superblock.volumeBytes))
        try present.sync()
    }

    // MARK: removing

    /// Removes the branch in `directory`. `parent` is needed where the folder is gone already.
    /// Returns what else lies in the folder, which stays.
    static func remove(
        _ directory: String, parent named: String?
    ) throws(CommandFailure) -> [String] {
        let path = PathText.canonical(directory)
        let record = try BranchRecord.read(path, object: directory)
        guard let parentPath = record?.parent ?? named else {
            throw CommandFailure(
                .noSuchVolume, directory, "there is no branch",
                hint: "logdisk branches VOL lists those of a volume; "
                    + "name it with --parent where the folder is gone")
        }
        let storage = DiskStorage()
        // Told apart by its identity: another branch may have lain in this place before.
        let name = try? VolumeLocation(path).superblock().volume.description
        if record != nil { try refuseUsed(path, directory) }
        let files = (try? storage.list(path)) ?? []
        let manager = FileManager.default
        if record != nil {
            // The superblock first: from here on there is no volume any more.
            for file in ["superblock"] + files where isOurs(file) && file != BranchRecord.fileName {
                try? manager.removeItem(atPath: "\(path)/\(file)")
            }
        }
        try forget(path, named: name, at: VolumeLocation(parentPath), directory)
        if record != nil {
            try translating(directory) {
                try storage.remove("\(path)/\(BranchRecord.fileName)")
            }
            rmdir(path)
        }
        return files.filter { !isOurs($0) }
    }

    private static func refuseUsed(_ path: String, _ directory: String) throws(CommandFailure) {
        let location = VolumeLocation(path)
        if let holder = VolumeFolder.holder(path, on: DiskStorage()) {
            throw CommandFailure(VolumeError.inUse(path, holder: holder), object: directory)
        }
        guard location.isVolume, let leases = try? location.leases().current(), !leases.isEmpty
        else { return }
        throw CommandFailure(
            .inUse, directory, "something stands on this branch",
            cause: leases.map { "\($0.purpose), \($0.holder)" }.joined(separator: "; "),
            hint: "end that first")
    }

    /// The parent need not keep the state any more. A parent that is gone keeps nothing.
    private static func forget(
        _ path: String, named name: String?, at parent: VolumeLocation, _ directory: String
    ) throws(CommandFailure) {
        guard parent.isVolume else { return }
        let leases = try parent.leases()
        try translating(directory) {
            for branch in try leases.branches()
            where name == nil ? branch.lease.holder == path : branch.name == name {
                try leases.removeBranch(branch.name)
            }
        }
    }

    private static func isOurs(_ file: String) -> Bool {
        let names: Set = [
            "superblock", "lock", "image.raw", BranchRecord.presentName, BranchRecord.fileName,
            "wal", "segments", "leases", "mount.log", "mount.log.1", ControlSocket.fileName,
            DrillLog.fileName, "pins", "prune.lock",
        ]
        return names.contains(file) || PastPlace.isSocketName(file)
    }
}
