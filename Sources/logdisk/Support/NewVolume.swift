// What making a volume has in common, whatever fills it: sizes, places, the base snapshot.

import BlockModel
import CommandText
import DiskIO
import History
import LogFormat
import ProtectedVolume

enum NewVolume {
    /// Refuses what is no size of a volume. `text` is what the user gave: a size or, unless
    /// `isOption`, a file.
    static func check(
        _ bytes: UInt64, _ text: String, isOption: Bool, _ object: String
    ) throws(CommandFailure) {
        func refused(_ why: String, _ hint: String) -> CommandFailure {
            CommandFailure(.usage, object, "\(text) is no possible size", cause: why, hint: hint)
        }
        if bytes == 0 { throw refused("it is 0 bytes", "for example --size 10G") }
        if bytes % UInt64(Sector.bytes) != 0 {
            let next = bytes / 512 * 512 + 512
            throw refused(
                "\(bytes) is not a multiple of 512",
                isOption
                    ? "--size \(next)" : "lengthen the source: truncate -s \(next) \(text)")
        }
        if bytes > Superblock.volumeBytesMax {
            throw refused(
                "it is beyond 8 EiB", "the largest volume has \(Superblock.volumeBytesMax) bytes")
        }
    }

    /// Refuses places where no folder can be.
    static func checkPlace(_ path: String, _ object: String) throws(CommandFailure) {
        let storage = DiskStorage()
        if storage.exists(path), !storage.isDirectory(path) {
            throw CommandFailure(
                .usage, object, "\(path) is not a folder", hint: "choose a new or an empty folder")
        }
        let parent = PathText.parent(of: path)
        if !storage.isDirectory(parent) {
            throw CommandFailure(
                .usage, object, "the folder \(parent) does not exist", hint: "mkdir -p \(parent)")
        }
    }

    /// The bound of the write-ahead log in a folder: the more of the log waits to be archived, the
    /// longer a burst may be that the archiver does not disturb.
    static func walBytes(in directory: String) -> UInt64 {
        let free = (try? DiskStorage().freeBytes(directory)) ?? 0
        return min(max(free / 8, 1 << 30), 16 << 30) / (64 << 20) * (64 << 20)
    }

    /// A WAL file must hold the longest record; eight make the bound.
    static func walFileBytes(of walBytesMax: UInt64) -> UInt64 {
        min(max(walBytesMax / 8, 8 << 20), 64 << 20) / 4096 * 4096
    }

    /// Writes the base snapshot of what is in the image, and makes the volume ready. `beforeReady`
    /// runs between the two.
    static func finish(
        _ folder: VolumeFolder, isSilent: Bool, _ object: String,
        beforeReady: () throws(CommandFailure) -> Void = {}
    ) throws(CommandFailure) {
        let superblock = folder.superblock
        let bytes = superblock.volumeBytes
        let progress = MonitoredProgress("base snapshot", totalBytes: bytes, isSilent: isSilent)
        defer { progress.finish() }
        let identity = VolumeService.identity(superblock)
        let store = DirectoryStore(storage: folder.storage, directory: folder.segmentsDirectory)
        let base = Stamp(lsn: .zero, wallNanoseconds: superblock.createdWall)
        try translating(object) {
            _ = try SnapshotWriter(store: store, identity: identity).write(
                FileSnapshotSource(folder.image, byteCount: bytes), at: base,
                monitor: progress.monitor)
            progress.finish()
            try beforeReady()
            try folder.finishCreation()
        }
    }
}
