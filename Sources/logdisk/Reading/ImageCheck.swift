// Compares the image of an unmounted volume with what history says that it holds, and brings it
// back to that where the user asks for a repair.
//
// The synced image holds every record up to the checkpoint. Later ones may have reached it or not:
// a check leaves their blocks out. Everything else must be equal, byte for byte. A repair makes the
// image what it is at the last valid record; what it replaces it keeps in a sparse file, at the
// same offsets.

import BlockModel
import CommandText
import DiskIO
import Foundation
import History
import LogFormat
import ProtectedVolume

final class ImageCheck {
    private let history: VolumeHistory
    private let superblock: Superblock
    private let isSilent: Bool
    private(set) var comparedBytes: UInt64 = 0
    private let left = AlignedBuffer(count: 1 << 20)
    private let right = AlignedBuffer(count: 1 << 20)
    private static let block = 4096
    private static let reportedMax = 20

    init(_ history: VolumeHistory, _ superblock: Superblock, isSilent: Bool) {
        self.superblock = superblock
        self.history = history
        self.isSilent = isSilent
    }

    /// Sentences about what differs; empty when nothing does.
    func run() throws(CommandFailure) -> [String] {
        try translating(history.location.object) {
            let image = try openImage(.readOnly)
            defer { image.close() }
            let checkpoint = superblock.checkpoint.lsn
            let view = try PointInTimeView(history.catalogue, at: checkpoint)
            return sentences(try compare(image, view, try changedLater(than: checkpoint)))
        }
    }

    /// Makes the image what history says that it is at its last record. Returns what was done, if
    /// anything. Only for an unmounted volume.
    func repair() throws(CommandFailure) -> String? {
        try translating(history.location.object) {
            let image = try openImage(.readWrite)
            defer { image.close() }
            guard try image.tryLock() else { throw VolumeError.imageInUse(image.path) }
            guard let last = history.catalogue.last else { return nil }
            let view = try PointInTimeView(history.catalogue, at: last.lsn)
            let different = try compare(image, view, [])
            if different.isEmpty { return nil }
            let saved = try save(different, of: image)
            for range in different {
                try forEachPiece(of: range) { piece, offset in
                    try view.read(into: piece, at: offset)
                    try image.write(UnsafeRawBufferPointer(piece), at: offset)
                }
            }
            try image.sync()
            let bytes = different.reduce(0) { $0 + UInt64($1.count) }
            return "brought \(ByteSize(bytes: bytes)) of the image to lsn \(last.lsn); "
                + "what was there before is in \(saved)"
        }
    }

    // MARK: - parts

    private func openImage(_ access: OpenOptions.Access) throws -> StorageFile {
        let path = VolumeFolder.imagePath(history.location.path, superblock)
        let storage = try history.location.storage(over: history.base)
        let image: StorageFile
        do throws(IOError) {
            image = try storage.open(path, OpenOptions(access))
        } catch {
            throw error.isMissing ? VolumeError.imageMissing(path) : VolumeError.io(error)
        }
        let (bytes, actual) = (superblock.volumeBytes, try image.size())
        guard image.isBlockDevice ? actual >= bytes : actual == bytes else {
            image.close()
            throw VolumeError.imageWrongSize(path, expected: bytes, actual: actual)
        }
        return image
    }

    /// Blocks that records after the checkpoint touch.
    private func changedLater(than checkpoint: LSN) throws -> Set<UInt64> {
        var blocks: Set<UInt64> = []
        guard let source = try history.tail?.records(after: checkpoint) else { return blocks }
        while let record = try source.next() {
            let extent = record.header.extent
            guard record.header.kind.changesSectors else { continue }
            let last = extent.byteOffset + extent.byteCount - 1
            blocks.formUnion(extent.byteOffset / 4096...last / 4096)
        }
        return blocks
    }

    /// Ranges of blocks in which image and view differ, in order, neighbours joined.
    private func compare(
        _ image: StorageFile, _ view: PointInTimeView, _ skipped: Set<UInt64>
    ) throws -> [Range<UInt64>] {
        let total = view.byteCount
        let progress = ProgressReporter("image", totalBytes: total, isSilent: isSilent)
        defer { progress.finish() }
        var different: [Range<UInt64>] = []
        var position: UInt64 = 0
        while position < total {
            let next = [try image.nextData(from: position), view.nextData(from: position)]
            guard let start = next.compactMap({ $0?.lowerBound }).min(), start < total else {
                break
            }
            position = max(position, start / 4096 * 4096)
            let count = Int(min(UInt64(left.count), total - position))
            let a = UnsafeMutableRawBufferPointer(rebasing: left.bytes[..<count])
            let b = UnsafeMutableRawBufferPointer(rebasing: right.bytes[..<count])
            try image.readZeroExtended(into: a, at: position)
            try view.read(into: b, at: position)
            if memcmp(left.base, right.base, count) != 0 {
                note(count, at: position, skipped, &different)
            }
            comparedBytes += UInt64(count)
            position += UInt64(count)
            try progress.update(position)
        }
        return different
    }

    /// Notes the blocks that differ among the first `count` bytes of the two buffers.
    private func note(
        _ count: Int, at position: UInt64, _ skipped: Set<UInt64>,
        _ different: inout [Range<UInt64>]
    ) {
        for start in stride(from: 0, to: count, by: Self.block) {
            let bytes = min(Self.block, count - start)
            let offset = position + UInt64(start)
            guard memcmp(left.base + start, right.base + start, bytes) != 0,
                !skipped.contains(offset / 4096)
            else { continue }
            let end = offset + UInt64(bytes)
            if let last = different.last, last.upperBound == offset {
                different[different.count - 1] = last.lowerBound..<end
            } else {
                different.append(offset..<end)
            }
        }
    }

    /// Keeps the image's bytes in the ranges in a sparse file of their own, durably.
    private func save(_ ranges: [Range<UInt64>], of image: StorageFile) throws -> String {
        let storage = DiskStorage()
        let folder = history.location.path
        var number = 1
        while storage.exists("\(folder)/image-before-repair-\(number).raw") { number += 1 }
        let path = "\(folder)/image-before-repair-\(number).raw"
        let file = try storage.open(path, OpenOptions(.readWrite, creation: .exclusively))
        defer { file.close() }
        try file.truncate(to: superblock.volumeBytes)
        for range in ranges {
            try forEachPiece(of: range) { piece, offset in
                try image.readZeroExtended(into: piece, at: offset)
                try file.write(UnsafeRawBufferPointer(piece), at: offset)
            }
        }
        try file.sync()
        try storage.syncDirectory(folder)
        return path
    }

    private func forEachPiece(
        of range: Range<UInt64>, _ body: (UnsafeMutableRawBufferPointer, UInt64) throws -> Void
    ) throws {
        var position = range.lowerBound
        while position < range.upperBound {
            let count = Int(min(UInt64(left.count), range.upperBound - position))
            try body(UnsafeMutableRawBufferPointer(rebasing: left.bytes[..<count]), position)
            position += UInt64(count)
        }
    }

    private func sentences(_ different: [Range<UInt64>]) -> [String] {
        var result = different.prefix(Self.reportedMax).map {
            "the image differs from the log at bytes \($0.lowerBound) to \($0.upperBound - 1)"
        }
        if different.count > Self.reportedMax {
            result.append("and in \(different.count - Self.reportedMax) more places")
        }
        return result
    }
}
