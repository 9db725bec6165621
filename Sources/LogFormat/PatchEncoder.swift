// Writes a patch front to back (layout: head of PatchFormat.swift). Memory: one piece. Pure: bytes
// leave by `emit`; who gave it makes the file. One thread.

import BlockModel
import CLinux
import Crypto

/// A streaming encoder. `Failure` is what `emit` throws; after a throw the encoder is of no use.
public final class PatchEncoder<Failure: Error> {
    public typealias Emit = (UnsafeRawBufferPointer) throws(Failure) -> Void

    public let header: PatchHeader
    public private(set) var pieceCount: UInt64 = 0
    /// Bytes of all pieces on the disk.
    public private(set) var changedBytes: UInt64 = 0
    private let emitBytes: Emit
    private let headerCRC: UInt32
    private let coder = SegmentBlockCoder(blockBytes: PatchFormat.pieceBytesMax)
    private let scratch: UnsafeMutableRawBufferPointer
    private var digest = StreamDigest()
    private var end: UInt64 = 0

    private static var scratchBytes: Int {
        PatchFormat.headerBytes + PatchFormat.pieceBytesMax / Sector.bytes * 4
    }

    /// Emits the header.
    public init(header: PatchHeader, emit: @escaping Emit) throws(Failure) {
        self.header = header
        emitBytes = emit
        scratch = .allocate(byteCount: Self.scratchBytes, alignment: 16)
        headerCRC = header.encode(to: scratch.baseAddress!)
        try send(UnsafeRawBufferPointer(rebasing: scratch[..<PatchFormat.headerBytes]))
    }

    deinit { scratch.deallocate() }

    /// Appends bytes that differ: whole sectors behind those before, inside the volume, as many old
    /// as new ones. Borrowed for the call.
    public func append(
        offset: UInt64, old: UnsafeRawBufferPointer, new: UnsafeRawBufferPointer
    ) throws(Failure) {
        precondition(old.count == new.count && offset % UInt64(Sector.bytes) == 0)
        precondition(new.count > 0 && new.count % Sector.bytes == 0)
        var done = 0
        while done < new.count {
            let range = done..<min(done + PatchFormat.pieceBytesMax, new.count)
            try put(
                offset + UInt64(done), UnsafeRawBufferPointer(rebasing: old[range]),
                UnsafeRawBufferPointer(rebasing: new[range]))
            done = range.upperBound
        }
    }

    /// Emits the footer.
    public func finish() throws(Failure) {
        let target = scratch.baseAddress!
        var footer = PatchFooter(
            pieceCount: pieceCount, changedBytes: changedBytes, digest: .none)
        footer.encodeBeforeDigest(to: target)
        digest.update(UnsafeRawBufferPointer(rebasing: scratch[..<PatchFormat.digestOffset]))
        footer.digest = digest.value
        footer.encode(to: target)
        try emitBytes(UnsafeRawBufferPointer(rebasing: scratch[..<PatchFormat.footerBytes]))
    }

    private func put(
        _ offset: UInt64, _ old: UnsafeRawBufferPointer, _ new: UnsafeRawBufferPointer
    ) throws(Failure) {
        precondition(offset >= end && offset + UInt64(new.count) <= header.volumeBytes)
        end = offset + UInt64(new.count)
        let target = scratch.baseAddress!
        let seed = headerCRC &+ UInt32(truncatingIfNeeded: pieceCount)
        var (stored, word) = (UnsafeRawBufferPointer(rebasing: new[..<0]), UInt32(0))
        if !isAllZeros(new) {
            let coded = coder.encode(new)
            stored = coded.bytes
            word = UInt32(stored.count) | (coded.isRaw ? PatchFormat.rawFlag : 0)
        }
        let sums = target + PatchFormat.pieceHeaderBytes
        let sectors = new.count / Sector.bytes
        for i in 0..<sectors {
            let sector = old.baseAddress! + i * Sector.bytes
            sums.store(clinux_crc32c(0, sector, Sector.bytes), at: i * 4)
        }
        target.store(offset, at: 0)
        target.store(UInt32(new.count), at: 8)
        target.store(word, at: 12)
        SegmentDigest(sha256Of: old).store(to: target + 16)
        SegmentDigest(sha256Of: new).store(to: target + 48)
        target.store(clinux_crc32c(seed, new.baseAddress!, new.count), at: 80)
        target.store(clinux_crc32c(0, sums, sectors * 4), at: 84)
        target.store(UInt32(0), at: 88)
        target.store(clinux_crc32c(seed, target, 92), at: 92)
        let count = PatchFormat.pieceHeaderBytes + sectors * 4
        try send(UnsafeRawBufferPointer(rebasing: scratch[..<count]))
        try send(stored)
        pieceCount += 1
        changedBytes += UInt64(new.count)
    }

    private func send(_ bytes: UnsafeRawBufferPointer) throws(Failure) {
        guard bytes.count > 0 else { return }
        digest.update(bytes)
        try emitBytes(bytes)
    }
}

/// Whether every byte is zero.
package func isAllZeros(_ bytes: UnsafeRawBufferPointer) -> Bool {
    var i = 0
    while i + 8 <= bytes.count {
        if bytes.loadUnaligned(fromByteOffset: i, as: UInt64.self) != 0 { return false }
        i += 8
    }
    while i < bytes.count {
        if bytes[i] != 0 { return false }
        i += 1
    }
    return true
}
