// Patches as files: made from a comparison, put on an image. A patch is read whole and checked
// before the image is looked at, and the whole image is checked before a byte of it is written.
//
// A patching that was interrupted is done again from the start: pieces, and sectors of the piece
// that was being written, that have the new bytes already count as fitting.

import BlockModel
import DiskIO
import LogFormat

/// Writes a patch file: whole, synced and under its name, or not at all. One thread.
public final class PatchWriter {
    private let file: UnfinishedFile
    private let encoder: PatchEncoder<HistoryError>

    /// Without `replacing` an existing file is refused (`.outputExists`).
    public init(
        _ path: String, of header: PatchHeader, in storage: Storage, replacing: Bool = false
    ) throws(HistoryError) {
        let file = try UnfinishedFile(path, in: storage, replacing: replacing)
        self.file = file
        encoder = try PatchEncoder(header: header) { bytes throws(HistoryError) in
            try file.append(bytes)
        }
    }

    public func append(_ bytes: DifferentBytes) throws(HistoryError) {
        try encoder.append(offset: bytes.offset, old: bytes.old, new: bytes.new)
    }

    /// Returns the size of the file.
    public func commit() throws(HistoryError) -> UInt64 {
        try encoder.finish()
        try file.commit()
        return file.byteCount
    }
}

/// Why a patch was not put on an image.
public enum PatchingError: Error, Hashable, Sendable {
    /// The patch is no patch, or damaged.
    case patch(PatchError)
    case wrongSize(imageBytes: UInt64, volumeBytes: UInt64)
    /// The image has neither the old nor the new bytes at this offset.
    case otherContent(offset: UInt64)
    case io(IOError)
    case cancelled
}

extension PatchingError: CustomStringConvertible {
    public var description: String {
        switch self {
        case .patch(let error): error.description
        case .wrongSize(let image, let volume):
            "the image has \(image) bytes, the patch is for one of \(volume)"
        case .otherContent(let offset):
            "at byte \(offset) the image has neither the old nor the new content"
        case .io(let error): error.description
        case .cancelled: "cancelled"
        }
    }
}

/// One patch and one image. Both files are borrowed; nobody else writes them meanwhile.
public struct Patching {
    /// How an image stands to a patch.
    public struct Fit: Hashable, Sendable {
        public var header: PatchHeader
        public var pieceCount: UInt64 = 0
        /// Bytes of all pieces.
        public var changedBytes: UInt64 = 0
        /// Bytes of pieces that are not wholly new yet.
        public var missingBytes: UInt64 = 0
        /// Pieces of which some sectors are new already: a patching was cut off.
        public var tornPieces: UInt64 = 0
    }

    private let patch: StorageFile
    private let image: StorageFile

    public init(patch: StorageFile, image: StorageFile) {
        self.patch = patch
        self.image = image
    }

    /// Checks all of the patch, then all that the patch concerns of the image. Writes nothing.
    public func check(monitor: WorkMonitor = .none) throws(PatchingError) -> Fit {
        let header = try forEachPiece(monitor, part: 0) { _ throws(PatchingError) in }
        try checkSize(header)
        var fit = Fit(header: header)
        let buffer = AlignedBuffer(count: PatchFormat.pieceBytesMax)
        _ = try forEachPiece(monitor, part: 1) { piece throws(PatchingError) in
            fit.pieceCount += 1
            fit.changedBytes += UInt64(piece.new.count)
            switch try state(of: piece, buffer) {
            case .new: break
            case .old: fit.missingBytes += UInt64(piece.new.count)
            case .torn:
                fit.tornPieces += 1
                fit.missingBytes += UInt64(piece.new.count)
            }
        }
        return fit
    }

    /// Writes what is missing and syncs. Call after `check` found that it fits; a piece that does
    /// not fit any more stops it. When it throws, the same patch can be put on again.
    public func apply(monitor: WorkMonitor = .none) throws(PatchingError) {
        let buffer = AlignedBuffer(count: PatchFormat.pieceBytesMax)
        do throws(PatchingError) {
            _ = try forEachPiece(monitor, part: 2) { piece throws(PatchingError) in
                if try state(of: piece, buffer) == .new { return }
                do throws(IOError) {
                    if piece.isZeros {
                        try image.punchHole(
                            offset: piece.offset, count: UInt64(piece.new.count))
                    } else {
                        try image.write(piece.new, at: piece.offset)
                    }
                } catch { throw .io(error) }
            }
        } catch {
            // What was written until here is right and may as well last; the error is the answer.
            try? image.sync()
            throw error
        }
        do throws(IOError) { try image.sync() } catch { throw .io(error) }
    }

    // MARK: - pieces

    private enum PieceState { case old, new, torn }

    private func state(
        of piece: PatchPiece, _ buffer: AlignedBuffer
    ) throws(PatchingError) -> PieceState {
        let memory = UnsafeMutableRawBufferPointer(rebasing: buffer.bytes[..<piece.new.count])
        do throws(IOError) {
            try image.readZeroExtended(into: memory, at: piece.offset)
        } catch { throw .io(error) }
        let bytes = UnsafeRawBufferPointer(memory)
        let digest = SegmentDigest(sha256Of: bytes)
        if digest == piece.newDigest { return .new }
        if digest == piece.oldDigest { return .old }
        for i in 0..<bytes.count / Sector.bytes {
            let range = i * Sector.bytes..<(i + 1) * Sector.bytes
            let sector = UnsafeRawBufferPointer(rebasing: bytes[range])
            guard sector.elementsEqual(piece.new[range]) || piece.isOld(sector: i, sector) else {
                throw .otherContent(offset: piece.offset + UInt64(range.lowerBound))
            }
        }
        return .torn
    }

    private func checkSize(_ header: PatchHeader) throws(PatchingError) {
        let bytes: UInt64
        do throws(IOError) { bytes = try image.size() } catch { throw .io(error) }
        let needed = header.volumeBytes
        guard image.isBlockDevice ? bytes >= needed : bytes == needed else {
            throw .wrongSize(imageBytes: bytes, volumeBytes: needed)
        }
    }

    private typealias Decoder = PatchDecoder<IOError>

    /// Reads the patch front to back; `part` of three is for the progress.
    private func forEachPiece(
        _ monitor: WorkMonitor, part: UInt64, _ body: (PatchPiece) throws(PatchingError) -> Void
    ) throws(PatchingError) -> PatchHeader {
        let patch = self.patch
        let bytes: UInt64
        do throws(IOError) { bytes = try patch.size() } catch { throw .io(error) }
        let decoder = try Self.translate { () throws(Decoder.Problem) in
            try Decoder(fileBytes: bytes) { target, offset throws(IOError) in
                // A file that became shorter meanwhile reads as zeros, which no check passes.
                try patch.readZeroExtended(into: target, at: offset)
            }
        }
        let shown = min(bytes, 1 << 60)
        while true {
            let next = try Self.translate { () throws(Decoder.Problem) in try decoder.next() }
            guard let piece = next else { return decoder.header }
            if monitor.isCancelled() { throw .cancelled }
            try body(piece)
            monitor.report(
                WorkProgress(
                    doneBytes: part * shown + min(decoder.position, shown), totalBytes: 3 * shown))
        }
    }

    private static func translate<R>(
        _ body: () throws(Decoder.Problem) -> R
    ) throws(PatchingError) -> R {
        do throws(Decoder.Problem) {
            return try body()
        } catch {
            switch error {
            case .patch(let problem): throw .patch(problem)
            case .fetch(let problem): throw .io(problem)
            }
        }
    }
}
