// logdisk create: makes a volume. It is ready only when its base snapshot lies in the store, so
// there is no write that cannot be undone. On failure or SIGINT everything made is removed again.

import ArgumentParser
import BlockModel
import CommandText
import DiskIO
import Foundation
import History
import LogFormat
import ProtectedVolume

struct Create: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "create",
        abstract: "Make a volume.",
        discussion: """
            The volume is a folder. Say where its content comes from: --size for an empty one, \
            --from to copy a file or disk, --image to protect a file or disk where it is (from \
            then on only the volume may write to it).

              logdisk create /srv/vol --size 10G
              logdisk create /srv/vol --from old.img
              logdisk create /srv/vol --image /dev/sdb --log-dir /mnt/second/vol-log

            With --store the history lies on object storage: here stay the log, the image and what \
            was not shipped yet. Writers never wait for the network before --max-backlog.

              logdisk create /srv/vol --size 10G --store s3://bucket/vol --credentials keys \\
                  --endpoint https://rgw.example --keep "every 24h, 1h 30d"

            Sizes: 512M, 10G, 10GiB, 1.5T or bytes. Units are powers of 1024: 1G is 1073741824.
            """)

    @Argument(help: ArgumentHelp("Folder of the volume; new or empty.", valueName: "VOL"))
    var volume: String

    // Unconditional: a negative number is a wrong size, not an unknown option.
    @Option(
        parsing: .unconditional,
        help: ArgumentHelp("Size of an empty volume; takes space as it fills.", valueName: "SIZE"))
    var size: String?

    @Option(help: ArgumentHelp("Copy this file or block device.", valueName: "FILE"))
    var from: String?

    @Option(help: ArgumentHelp("Protect this file or block device in place.", valueName: "FILE"))
    var image: String?

    @Option(
        help: ArgumentHelp(
            "Folder for log and history, on another disk or in memory.", valueName: "DIR"))
    var logDir: String?

    @Option(
        parsing: .unconditional,
        help: ArgumentHelp(
            "Bound of the write-ahead log (default: an eighth of the free space, from 1G to 16G).",
            valueName: "SIZE"))
    var walSize: String?

    @Option(
        parsing: .unconditional,
        help: ArgumentHelp("Ring: log queue and cache of a mount.", valueName: "SIZE"))
    var ring = "64M"

    @OptionGroup var store: StoreOptions

    @OptionGroup var output: OutputOptions

    func run() throws {
        Interruption.begin()
        let path = PathText.canonical(volume)
        let elsewhere = try store.creation(volume, path)
        let storage = DiskStorage()
        let source = try openSource(storage)
        defer { source?.close() }
        let creation = try plan(source)
        try NewVolume.checkPlace(path, volume)
        try elsewhere?.check()
        let folder = try translating(volume) {
            try VolumeFolder.create(path, creation, on: storage)
        }
        do {
            try fill(folder, from: from == nil ? nil : source, elsewhere)
        } catch {
            elsewhere?.undo(path)
            folder.abandonCreation()
            throw error
        }
        if let imagePath = creation.imagePath {
            ImageOwner.mark(imagePath, volume: creation.volume, folder: path)
        }
        folder.close()
        try report(folder, path, elsewhere?.config.url)
    }

    // MARK: - what to make

    private func openSource(_ storage: Storage) throws(CommandFailure) -> StorageFile? {
        let given = [size, from, image].compactMap { $0 }.count
        guard given == 1 else {
            throw CommandFailure(
                .usage, volume,
                given == 0
                    ? "say what the volume holds" : "--size, --from and --image exclude each other",
                cause: given == 0 ? "one of --size, --from, --image is needed" : nil,
                hint: "logdisk create \(volume) --size 10G")
        }
        if let from { return try SourceFile.open(from, forWriting: false, storage, volume) }
        if let image { return try SourceFile.open(image, forWriting: true, storage, volume) }
        return nil
    }

    private func plan(_ source: StorageFile?) throws(CommandFailure) -> VolumeCreation {
        let bytes: UInt64
        if let size {
            bytes = try OptionText.size(size, "--size")
        } else {
            bytes = try translating(volume) { try source?.size() ?? 0 }
        }
        let text = size ?? from ?? image ?? ""
        try NewVolume.check(bytes, text, isOption: size != nil, volume)
        var creation = VolumeCreation(volumeBytes: bytes)
        creation.imagePath = image.map { PathText.canonical($0) }
        creation.logDirectory = logDir.map { PathText.canonical($0) }
        creation.walBytesMax = try walBytes(in: creation.logDirectory)
        creation.walFileBytes = NewVolume.walFileBytes(of: creation.walBytesMax)
        creation.ringBytes = try bounded(ring, "--ring", min: 1 << 20, max: 64 << 30)
        return creation
    }

    private func walBytes(in directory: String?) throws(CommandFailure) -> UInt64 {
        if let walSize {
            return try bounded(walSize, "--wal-size", min: 32 << 20, max: 1 << 50)
        }
        return NewVolume.walBytes(in: directory ?? PathText.parent(of: PathText.canonical(volume)))
    }

    private func bounded(
        _ text: String, _ option: String, min least: UInt64, max most: UInt64
    ) throws(CommandFailure) -> UInt64 {
        let bytes = try OptionText.size(text, option)
        guard bytes >= least, bytes <= most else {
            throw CommandFailure(
                .usage, volume, "\(option) \(text) is out of range",
                hint: "from \(ByteSize(bytes: least)) to \(ByteSize(bytes: most))")
        }
        return bytes / 4096 * 4096
    }

    // MARK: - making it

    /// Copies the content, if there is any to copy, and writes the base snapshot.
    private func fill(
        _ folder: VolumeFolder, from source: StorageFile?, _ elsewhere: StoreCreation?
    ) throws(CommandFailure) {
        let superblock = folder.superblock
        let bytes = superblock.volumeBytes
        if let source {
            let progress = ProgressReporter("copy", totalBytes: bytes, isSilent: output.json)
            defer { progress.finish() }
            try FileCopy.copy(source, to: folder.image, on: folder.storage, bytes, progress, volume)
        }
        try NewVolume.finish(folder, isSilent: output.json, volume) { () throws(CommandFailure) in
            try elsewhere?.ship(folder, isSilent: output.json)
        }
    }

    private func report(_ folder: VolumeFolder, _ path: String, _ store: String?) throws {
        let superblock = folder.superblock
        if output.json {
            return try Terminal.json(
                Created(
                    volume: path, uuid: superblock.volume.description,
                    sizeBytes: superblock.volumeBytes, imagePath: folder.imagePath,
                    logDirectory: folder.logDirectory, store: store))
        }
        let size = ByteSize(bytes: superblock.volumeBytes)
        let kept = store.map { ", kept at \($0)" } ?? ""
        Terminal.out(
            """
            \(volume): a volume of \(size), \(superblock.volume)\(kept)
            mount it with: logdisk mount \(volume) MNT
            """)
    }

    private struct Created: Encodable {
        var volume: String
        var uuid: String
        var sizeBytes: UInt64
        var imagePath: String
        var logDirectory: String
        var store: String?

        enum CodingKeys: String, CodingKey {
            case volume, uuid, store
            case sizeBytes = "size_bytes"
            case imagePath = "image_path"
            case logDirectory = "log_directory"
        }
    }
}
