// logdisk import: makes a volume of a log of dm-log-writes. Everything in the log goes through the
// volume in its order, so every write in it becomes a point. The volume is made under another name
// and gets its own only when it is whole.

import ArgumentParser
import BlockModel
import CommandText
import DiskIO
import Foundation
import History
import LogFormat
import ProtectedVolume

struct Import: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "import",
        abstract: "Make a volume of a log of dm-log-writes.",
        discussion: """
            The log goes through a new, empty volume: writes, discards, flushes and marks in their \
            order; FUA becomes a flush. The times are those of the import. Every step can then be \
            restored, compared or searched like any history.

              logdisk import fs.log /srv/vol --size 10G
              logdisk points /srv/vol
            """)

    @Argument(help: ArgumentHelp("The log: a file or a device.", valueName: "LOG"))
    var log: String

    @Argument(help: ArgumentHelp("Folder of the new volume; new or empty.", valueName: "VOL"))
    var volume: String

    @Option(
        parsing: .unconditional,
        help: ArgumentHelp("Size of the disk that was logged.", valueName: "SIZE"))
    var size: String

    @OptionGroup var output: OutputOptions

    private static let archiveBytes: UInt64 = 32 << 20

    func run() throws {
        Interruption.begin()
        let path = PathText.canonical(volume)
        let bytes = try OptionText.size(size, "--size")
        try NewVolume.check(bytes, size, isOption: true, volume)
        try NewVolume.checkPlace(path, volume)
        let storage = DiskStorage()
        if storage.isDirectory(path) {
            guard try translating(volume, { try storage.list(path) }).isEmpty else {
                throw CommandFailure(VolumeError.folderNotEmpty(path), object: volume)
            }
        }
        let file = try openLog(storage)
        defer { file.close() }
        let (reader, summary) = try scan(file, bytes)
        let temporary = Self.temporary(path, storage)
        var isDone = false
        defer { if !isDone { Self.remove(temporary) } }
        let last = try make(temporary, bytes, reader, summary, storage)
        try Interruption.check()
        try translating(volume) {
            try storage.rename(temporary, to: path)
            isDone = true
            try storage.syncDirectory(PathText.parent(of: path))
        }
        try report(path, summary, last)
    }

    // MARK: - the log

    private func openLog(_ storage: Storage) throws(CommandFailure) -> StorageFile {
        var info = stat()
        guard stat(log, &info) == 0 else {
            throw CommandFailure(
                errno == ENOENT ? .usage : .failed, log, "the log cannot be read",
                cause: String(cString: strerror(errno)), hint: "name a log of dm-log-writes")
        }
        let kind = info.st_mode & S_IFMT
        guard kind == S_IFREG || kind == S_IFBLK else {
            throw CommandFailure(
                .usage, log, "it is neither a file nor a block device",
                hint: "name a log of dm-log-writes")
        }
        return try translating(log) { try storage.open(log, OpenOptions(.readOnly)) }
    }

    /// Reads all headers before anything is made.
    private func scan(
        _ file: StorageFile, _ bytes: UInt64
    ) throws(CommandFailure) -> (LogWritesReader, LogWritesSummary) {
        let reader: LogWritesReader
        let summary: LogWritesSummary
        do throws(LogWritesFailure) {
            reader = try LogWritesReader(file)
            summary = try reader.scan()
        } catch {
            throw failure(error)
        }
        guard summary.endOffset <= bytes else {
            throw CommandFailure(
                .usage, volume, "--size \(size) is too small",
                cause: "the log writes up to byte \(summary.endOffset)",
                hint: "give the size of the disk that was logged, at least --size "
                    + "\(summary.endOffset)")
        }
        return (reader, summary)
    }

    private func failure(_ error: LogWritesFailure) -> CommandFailure {
        switch error {
        case .log(.futureVersion(let version)):
            CommandFailure(
                .failed, log, "the log has a newer format", cause: "version \(version)",
                hint: "only version 1 is known")
        case .log(let why):
            CommandFailure(
                .damaged, log, "this is no whole log of dm-log-writes", cause: "\(why)",
                hint: "log it again; no volume was made")
        case .io(let why): CommandFailure(why, object: log)
        }
    }

    // MARK: - the volume

    /// Makes the whole volume in `path`; returns its last point.
    private func make(
        _ path: String, _ bytes: UInt64, _ reader: LogWritesReader, _ summary: LogWritesSummary,
        _ storage: Storage
    ) throws(CommandFailure) -> Stamp {
        var creation = VolumeCreation(volumeBytes: bytes)
        creation.walBytesMax = NewVolume.walBytes(in: PathText.parent(of: path))
        creation.walFileBytes = NewVolume.walFileBytes(of: creation.walBytesMax)
        let folder = try translating(volume) {
            try VolumeFolder.create(path, creation, on: storage)
        }
        do throws(CommandFailure) {
            try NewVolume.finish(folder, isSilent: output.json, volume)
            folder.close()
            return try VolumeService.withUnmounted(
                VolumeLocation(path), purpose: "import", onFull: .fail
            ) { service throws(CommandFailure) in
                try fill(service, reader, summary)
                return service.volume.durableStamp
            }
        } catch {
            folder.close()
            var failure = error
            if failure.object == path { failure.object = volume }
            throw failure
        }
    }

    private func fill(
        _ service: VolumeService, _ reader: LogWritesReader, _ summary: LogWritesSummary
    ) throws(CommandFailure) {
        let progress = ProgressReporter(
            "import", totalBytes: summary.writtenBytes, isSilent: output.json)
        defer { progress.finish() }
        var done: UInt64 = 0
        // Records are archived as they come: nobody else does, and the log is bounded.
        var steps: UInt64 = 0
        var archived: UInt64 = 0
        do {
            try reader.forEachStep { step in
                switch step {
                case .write(let offset, let bytes):
                    try service.volume.write(bytes, at: offset)
                    done += UInt64(bytes.count)
                case .discard(let offset, let count):
                    try service.volume.discard(offset: offset, count: count)
                case .flush: try service.volume.flush()
                case .mark(let name, _): _ = try service.volume.mark(name)
                }
                try progress.update(done)
                steps += 1
                let logged = done + steps * UInt64(RecordHeader.byteCount)
                if logged - archived >= Self.archiveBytes {
                    try service.archive(through: service.volume.durableStamp.lsn)
                    archived = logged
                }
            }
        } catch let error as LogWritesFailure {
            throw failure(error)
        } catch {
            try translating(volume) { throw error }
        }
        try translating(volume) { try service.volume.quiesce() }
    }

    private static func temporary(_ path: String, _ storage: Storage) -> String {
        var number = 1
        while storage.exists("\(path).unfinished-\(number)") { number += 1 }
        return "\(path).unfinished-\(number)"
    }

    /// Best effort: it is not under the volume's name.
    private static func remove(_ path: String) {
        try? FileManager.default.removeItem(atPath: path)
    }

    // MARK: - what is said

    private func report(_ path: String, _ summary: LogWritesSummary, _ last: Stamp) throws {
        if output.json { return try Terminal.json(ImportJSON(path, summary, last)) }
        Terminal.out(
            "\(volume): \(summary.entries) entries: \(summary.writes) writes, "
                + "\(ByteSize(bytes: summary.writtenBytes)), \(summary.discards) discards, "
                + "\(summary.flushes) flushes, \(summary.marks) marks; up to \(last.words)")
        if summary.renamedMarks > 0 {
            Terminal.warn(
                "\(summary.renamedMarks) marks have another name than in the log, which was none "
                    + "for a mark")
        }
    }

    private struct ImportJSON: Encodable {
        var volume: String
        var entries: UInt64
        var writes: UInt64
        var writtenBytes: UInt64
        var discards: UInt64
        var flushes: UInt64
        var marks: UInt64
        var renamedMarks: UInt64
        var last: StampJSON

        init(_ path: String, _ summary: LogWritesSummary, _ last: Stamp) {
            volume = path
            entries = summary.entries
            writes = summary.writes
            writtenBytes = summary.writtenBytes
            discards = summary.discards
            flushes = summary.flushes
            marks = summary.marks
            renamedMarks = summary.renamedMarks
            self.last = StampJSON(last)
        }

        enum CodingKeys: String, CodingKey {
            case volume, entries, writes, discards, flushes, marks, last
            case writtenBytes = "written_bytes"
            case renamedMarks = "renamed_marks"
        }
    }
}
