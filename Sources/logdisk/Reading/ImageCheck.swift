// Compares the image of an unmounted volume with what history says that it holds.
//
// The synced image holds every record up to the checkpoint. Later ones may have reached it or not:
// their extents are left out. Everything else must be equal, byte for byte.

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
    private static let block = 4096
    private static let reportedMax = 20

    init(_ history: VolumeHistory, _ superblock: Superblock, isSilent: Bool) {
        self.superblock = superblock
        self.history = history
        self.isSilent = isSilent
    }

    /// Sentences about what differs; empty when nothing does.
    func run() throws(CommandFailure) -> [String] {
        let object = history.location.object
        return try translating(object) {
            let image = try openImage()
            defer { image.close() }
            let bytes = superblock.volumeBytes
            let actual = try image.size()
            guard image.isBlockDevice ? actual >= bytes : actual == bytes else {
                throw VolumeError.imageWrongSize(image.path, expected: bytes, actual: actual)
            }
            let checkpoint = superblock.checkpoint.lsn
            let view = try PointInTimeView(history.catalogue, at: checkpoint)
            return try compare(image, view, try changedLater(than: checkpoint))
        }
    }

    private func openImage() throws -> StorageFile {
        let path = VolumeFolder.imagePath(history.location.path, superblock)
        do throws(IOError) {
            return try DiskStorage().open(path, OpenOptions(.readOnly))
        } catch {
            throw error.isMissing ? VolumeError.imageMissing(path) : VolumeError.io(error)
        }
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

    private func compare(
        _ image: StorageFile, _ view: PointInTimeView, _ skipped: Set<UInt64>
    ) throws -> [String] {
        let total = view.byteCount
        let progress = ProgressReporter("image", totalBytes: total, isSilent: isSilent)
        defer { progress.finish() }
        let (left, right) = (AlignedBuffer(count: 1 << 20), AlignedBuffer(count: 1 << 20))
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
                note(a, b, at: position, skipped, &different)
            }
            comparedBytes += UInt64(count)
            position += UInt64(count)
            try progress.update(position)
        }
        return sentences(different)
    }

    private func note(
        _ a: UnsafeMutableRawBufferPointer, _ b: UnsafeMutableRawBufferPointer, at position: UInt64,
        _ skipped: Set<UInt64>, _ different: inout [Range<UInt64>]
    ) {
        for start in stride(from: 0, to: a.count, by: Self.block) {
            let count = min(Self.block, a.count - start)
            let offset = position + UInt64(start)
            guard memcmp(a.baseAddress! + start, b.baseAddress! + start, count) != 0,
                !skipped.contains(offset / 4096)
            else { continue }
            if let last = different.last, last.upperBound == offset {
                different[different.count - 1] = last.lowerBound..<offset + UInt64(count)
            } else {
                different.append(offset..<offset + UInt64(count))
            }
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
