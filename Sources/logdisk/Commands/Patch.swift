// logdisk patch: puts a patch of `logdisk diff` on an image. All of the patch and all that it
// concerns of the image is checked before the first byte is written.

import ArgumentParser
import CommandText
import DiskIO
import Foundation
import History
import LogFormat

struct Patch: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "patch",
        abstract: "Put a patch made by logdisk diff on an image.",
        discussion: """
            The image must be the volume as it was at the earlier point of the patch: where the \
            patch changes it, it is compared first, and a wrong image stays untouched. When the \
            command is interrupted, give it again: it goes on where it was.

              logdisk diff /srv/vol --from mark:monday --to now --output week.patch
              logdisk patch week.patch /backup/monday.img
            """)

    @Argument(help: ArgumentHelp("The patch.", valueName: "PATCH"))
    var patch: String

    @Argument(help: ArgumentHelp("Image file or block device.", valueName: "IMAGE"))
    var image: String

    @OptionGroup var options: OutputOptions

    func run() throws {
        Interruption.begin()
        let storage = DiskStorage()
        let source = try openPatch(storage)
        defer { source.close() }
        guard PathText.canonical(patch) != PathText.canonical(image) else {
            throw CommandFailure(
                .usage, image, "patch and image are the same file",
                hint: "logdisk patch PATCH IMAGE")
        }
        let target = try PatchTarget.open(image, storage)
        defer { target.close() }
        let fit = try put(source, on: target)
        if options.json { return try Terminal.json(PatchJSON(fit, image: image)) }
        if fit.missingBytes == 0 {
            return Terminal.out(
                "\(image): was already the volume as at \(fit.header.new.words); nothing written")
        }
        let continued = fit.missingBytes < fit.changedBytes || fit.tornPieces > 0
        Terminal.out(
            "\(image): the volume as it was at \(fit.header.new.words); "
                + "\(ByteSize(bytes: fit.missingBytes)) written"
                + (continued ? ", the rest was there already" : ""))
    }

    private func openPatch(_ storage: Storage) throws(CommandFailure) -> StorageFile {
        var info = stat()
        guard stat(patch, &info) == 0 else {
            throw CommandFailure(
                errno == ENOENT ? .usage : .failed, patch, "the patch cannot be read",
                cause: String(cString: strerror(errno)),
                hint: "make one with logdisk diff VOL --from T1 --to T2 --output PATCH")
        }
        guard info.st_mode & S_IFMT == S_IFREG else {
            throw CommandFailure(
                .usage, patch, "the patch is not a file", hint: "logdisk patch PATCH IMAGE")
        }
        return try translating(patch) { try storage.open(patch, OpenOptions(.readOnly)) }
    }

    private func put(
        _ source: StorageFile, on target: StorageFile
    ) throws(CommandFailure) -> Patching.Fit {
        let progress = MonitoredProgress("patch", totalBytes: 0, isSilent: options.json)
        defer { progress.finish() }
        let patching = Patching(patch: source, image: target)
        var isWriting = false
        do throws(PatchingError) {
            let fit = try patching.check(monitor: progress.monitor)
            if fit.missingBytes > 0 {
                isWriting = true
                try patching.apply(monitor: progress.monitor)
            }
            return fit
        } catch {
            throw failure(error, isWriting: isWriting)
        }
    }

    private func failure(_ error: PatchingError, isWriting: Bool) -> CommandFailure {
        let again = "logdisk patch \(patch) \(image) goes on where it was"
        var result: CommandFailure
        switch error {
        case .patch(.futureVersion):
            result = CommandFailure(
                .failed, patch, "the patch was written by a newer logdisk", cause: "\(error)",
                hint: "use that version; \(image) is unchanged")
        case .patch:
            result = CommandFailure(
                .damaged, patch, "this is no patch, or it is damaged", cause: "\(error)",
                hint: "make it again with logdisk diff; \(image) is unchanged")
        case .wrongSize(let imageBytes, let volumeBytes):
            result = CommandFailure(
                .failed, image, "the patch is for another image",
                cause: "it has \(imageBytes) bytes, not \(volumeBytes)",
                hint: "nothing was changed; give the image of the volume at the earlier point")
        case .otherContent(let offset):
            result = CommandFailure(
                .failed, image, "the patch is for another image",
                cause: "at byte \(offset) it has neither the old nor the new content",
                hint: "nothing was changed; give the image of the volume at the earlier point")
        case .io(let cause): result = CommandFailure(cause, object: image)
        case .cancelled:
            result =
                isWriting
                ? CommandFailure(
                    .interrupted, image, "interrupted", cause: "the image is half patched")
                : .interrupted
        }
        if isWriting { result.hint = again }
        return result
    }

    private struct PatchJSON: Encodable {
        var image: String
        var volume: String
        var from: StampJSON
        var to: StampJSON
        var pieces: UInt64
        var changedBytes: UInt64
        var writtenBytes: UInt64

        init(_ fit: Patching.Fit, image: String) {
            self.image = image
            volume = "\(fit.header.volume)"
            from = StampJSON(fit.header.old)
            to = StampJSON(fit.header.new)
            pieces = fit.pieceCount
            changedBytes = fit.changedBytes
            writtenBytes = fit.missingBytes
        }

        enum CodingKeys: String, CodingKey {
            case image, volume, from, to, pieces
            case changedBytes = "changed_bytes"
            case writtenBytes = "written_bytes"
        }
    }
}
