// Reads a patch front to back (layout and rules: head of PatchFormat.swift). Pure and total: any
// bytes lead to pieces or to an error; nothing is handed out unchecked. Bytes come by `fetch`, so
// memory is one piece however long the patch. One thread.

import BlockModel
import CLZ4
import CLinux

/// One piece of a patch, checked. The pointers are valid until the decoder's next call.
public struct PatchPiece {
    /// Byte offset on the disk.
    public var offset: UInt64
    public var new: UnsafeRawBufferPointer
    public var oldDigest: SegmentDigest
    public var newDigest: SegmentDigest
    /// All new bytes are zero.
    public var isZeros: Bool
    fileprivate var sums: UnsafeRawBufferPointer

    /// Whether these are the old bytes of sector `i` of the piece, as far as its sum can tell.
    public func isOld(sector i: Int, _ bytes: UnsafeRawBufferPointer) -> Bool {
        precondition(bytes.count == Sector.bytes && i < sums.count / 4)
        return clinux_crc32c(0, bytes.baseAddress!, Sector.bytes)
            == sums.baseAddress!.load(i * 4, as: UInt32.self)
    }
}

/// A streaming decoder. `Failure` is what `fetch` throws.
public final class PatchDecoder<Failure: Error> {
    /// Fills its first argument with the bytes of the file at its second; the range lies inside
    /// the file.
    public typealias Fetch = (UnsafeMutableRawBufferPointer, UInt64) throws(Failure) -> Void
    public enum Problem: Error {
        case patch(PatchError)
        case fetch(Failure)
    }

    public let header: PatchHeader
    /// What the footer says: pieces, and their bytes on the disk.
    public let pieceCount: UInt64
    public let changedBytes: UInt64
    private let fetchBytes: Fetch
    private let headerCRC: UInt32
    private let footer: PatchFooter
    private let footerOffset: UInt64
    /// Header and sums of a piece; its data in the file; its new bytes.
    private let head: OwnedBytes
    private let stored: OwnedBytes
    private let plain: OwnedBytes
    /// Bytes of the file read so far.
    public private(set) var position = UInt64(PatchFormat.headerBytes)
    private var number: UInt64 = 0
    private var end: UInt64 = 0
    private var sum: UInt64 = 0
    private var digest = StreamDigest()

    /// Reads header and footer of a file of `fileBytes`.
    public init(fileBytes: UInt64, fetch: @escaping Fetch) throws(Problem) {
        fetchBytes = fetch
        let sums = PatchFormat.pieceBytesMax / Sector.bytes * 4
        head = OwnedBytes(count: PatchFormat.pieceHeaderBytes + sums)
        stored = OwnedBytes(count: PatchFormat.pieceBytesMax)
        plain = OwnedBytes(count: PatchFormat.pieceBytesMax)
        // The first bytes alone tell a patch that was cut short from another file.
        let first = head[0, Int(min(fileBytes, UInt64(PatchFormat.headerBytes)))]
        try Self.fill(first, at: 0, fetch)
        if first.count < PatchFormat.headerBytes {
            let isPatch =
                first.count >= 8
                && UnsafeRawPointer(head.base).load(0, as: UInt64.self) == PatchFormat.headerMagic
            throw .patch(isPatch ? .cutOff : .notAPatch)
        }
        (header, headerCRC) = try Self.checked { () throws(PatchError) in
            try PatchHeader.decode(UnsafeRawBufferPointer(first))
        }
        guard fileBytes >= PatchFormat.fileBytesMin else { throw .patch(.cutOff) }
        digest.update(UnsafeRawBufferPointer(first))
        footerOffset = fileBytes - UInt64(PatchFormat.footerBytes)
        let last = head[0, PatchFormat.footerBytes]
        try Self.fill(last, at: footerOffset, fetch)
        footer = try Self.checked { () throws(PatchError) in
            try PatchFooter.decode(UnsafeRawBufferPointer(last))
        }
        (pieceCount, changedBytes) = (footer.pieceCount, footer.changedBytes)
    }

    /// The next piece; nil behind the last, when rules 3 and 5 hold as well.
    public func next() throws(Problem) -> PatchPiece? {
        guard number < footer.pieceCount else {
            try finish()
            return nil
        }
        let bad = PatchError.broken(rule: 3, piece: number)
        let seed = headerCRC &+ UInt32(truncatingIfNeeded: number)
        let base = try take(PatchFormat.pieceHeaderBytes, into: head, at: 0, bad).baseAddress!
        guard clinux_crc32c(seed, base, 92) == base.load(92, as: UInt32.self) else {
            throw .patch(bad)
        }
        let offset = base.load(0, as: UInt64.self)
        let count = Int(base.load(8, as: UInt32.self))
        guard offset % UInt64(Sector.bytes) == 0, count % Sector.bytes == 0, count > 0,
            count <= PatchFormat.pieceBytesMax, offset >= end, offset <= header.volumeBytes,
            UInt64(count) <= header.volumeBytes - offset
        else { throw .patch(bad) }
        let sumBytes = count / Sector.bytes * 4
        let sums = try take(sumBytes, into: head, at: PatchFormat.pieceHeaderBytes, bad)
        guard clinux_crc32c(0, sums.baseAddress!, sumBytes) == base.load(84, as: UInt32.self)
        else { throw .patch(.broken(rule: 4, piece: number)) }
        let word = base.load(12, as: UInt32.self)
        let piece = PatchPiece(
            offset: offset, new: try data(word, count, bad), oldDigest: SegmentDigest(base + 16),
            newDigest: SegmentDigest(base + 48), isZeros: word == 0, sums: sums)
        guard clinux_crc32c(seed, piece.new.baseAddress!, count) == base.load(80, as: UInt32.self),
            SegmentDigest(sha256Of: piece.new) == piece.newDigest
        else { throw .patch(.broken(rule: 4, piece: number)) }
        end = offset + UInt64(count)
        sum += UInt64(count)
        number += 1
        return piece
    }

    /// The new bytes of a piece, not yet checked.
    private func data(
        _ word: UInt32, _ count: Int, _ bad: PatchError
    ) throws(Problem) -> UnsafeRawBufferPointer {
        let target = plain[0, count]
        if word == 0 {
            target.initializeMemory(as: UInt8.self, repeating: 0)
            return UnsafeRawBufferPointer(target)
        }
        let length = Int(word & ~PatchFormat.rawFlag)
        if word & PatchFormat.rawFlag != 0 {
            guard length == count else { throw .patch(bad) }
            return try take(count, into: plain, at: 0, bad)
        }
        guard length > 0, length < count else { throw .patch(bad) }
        let source = try take(length, into: stored, at: 0, bad)
        let decoded = LZ4_decompress_safe(
            source.baseAddress!.assumingMemoryBound(to: CChar.self),
            target.baseAddress!.assumingMemoryBound(to: CChar.self), Int32(length), Int32(count))
        guard Int(decoded) == count else {
            throw .patch(.broken(rule: 4, piece: number))
        }
        return UnsafeRawBufferPointer(target)
    }

    private func finish() throws(Problem) {
        guard position == footerOffset, sum == footer.changedBytes else {
            throw .patch(.broken(rule: 3))
        }
        footer.encodeBeforeDigest(to: head.base)
        var all = digest
        all.update(UnsafeRawBufferPointer(head[0, PatchFormat.digestOffset]))
        guard all.value == footer.digest else { throw .patch(.broken(rule: 5)) }
    }

    /// The next `count` bytes of the file, in `memory` from its byte `start` on.
    private func take(
        _ count: Int, into memory: OwnedBytes, at start: Int, _ bad: PatchError
    ) throws(Problem) -> UnsafeRawBufferPointer {
        guard UInt64(count) <= footerOffset - position else { throw .patch(bad) }
        let target = memory[start, count]
        try Self.fill(target, at: position, fetchBytes)
        position += UInt64(count)
        digest.update(UnsafeRawBufferPointer(target))
        return UnsafeRawBufferPointer(target)
    }

    private static func fill(
        _ target: UnsafeMutableRawBufferPointer, at offset: UInt64, _ fetch: Fetch
    ) throws(Problem) {
        do throws(Failure) {
            try fetch(target, offset)
        } catch { throw .fetch(error) }
    }

    private static func checked<R>(_ body: () throws(PatchError) -> R) throws(Problem) -> R {
        do throws(PatchError) { return try body() } catch { throw .patch(error) }
    }
}

/// Memory with one owner.
private final class OwnedBytes {
    private let memory: UnsafeMutableRawBufferPointer

    init(count: Int) { memory = .allocate(byteCount: count, alignment: 4096) }
    deinit { memory.deallocate() }

    var base: UnsafeMutableRawPointer { memory.baseAddress! }

    subscript(start: Int, count: Int) -> UnsafeMutableRawBufferPointer {
        UnsafeMutableRawBufferPointer(rebasing: memory[start..<start + count])
    }
}
