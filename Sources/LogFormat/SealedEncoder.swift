// Writes a container front to back while the segment's bytes come in any portions (layout: head of
// SealedFormat.swift). Memory: one chunk, plain and sealed. Pure: bytes leave by `emit`.
// One thread.

import BlockModel
import Crypto

/// A streaming sealer. `Failure` is what `emit` throws; after a throw it is of no use.
public final class SealedEncoder<Failure: Error> {
    public typealias Emit = (UnsafeRawBufferPointer) throws(Failure) -> Void

    private let cipher: SealedCipher
    private let key: SealingKey
    private let emitBytes: Emit
    private var digest = SealedDigest()
    /// What has come and is not sealed yet: up to a chunk and the tail behind it.
    private let pending = SealedMemory(count: SealedFormat.chunkBytes + SealedFormat.tailBytes)
    private let sealed = SealedMemory(count: SealedFormat.chunkBytes + SealedFormat.tagBytes)
    private var fill = 0
    private var chunks: UInt64 = 0
    /// The first bytes that came: a segment's header.
    private var start: [UInt8] = []
    /// Bytes of the segment so far.
    public private(set) var plainBytes: UInt64 = 0

    /// Emits the header.
    public convenience init(key: SealingKey, emit: @escaping Emit) throws(Failure) {
        try self.init(SealedCipher(sealingWith: key), key: key, emit: emit)
    }

    package init(
        _ cipher: SealedCipher, key: SealingKey, emit: @escaping Emit
    ) throws(Failure) {
        self.cipher = cipher
        self.key = key
        emitBytes = emit
        try send(cipher.header.bytes)
    }

    /// Appends bytes of the segment; borrowed for the call.
    public func append(_ bytes: UnsafeRawBufferPointer) throws(Failure) {
        if start.count < SegmentFormat.headerBytes {
            start += bytes.prefix(SegmentFormat.headerBytes - start.count)
        }
        plainBytes += UInt64(bytes.count)
        var rest = bytes
        while rest.count > 0 {
            // A chunk goes once it is sure that the tail lies behind it.
            if fill == pending.count { try sealChunk() }
            let count = min(rest.count, pending.count - fill)
            (pending.base + fill).copyMemory(from: rest.baseAddress!, byteCount: count)
            fill += count
            rest = UnsafeRawBufferPointer(rebasing: rest[count...])
        }
    }

    /// Emits what is left and the footer. What came is told to be the segment of these LSNs and
    /// kind, if it is one.
    public func finish(
        kind: SegmentKind, first: LSN, last: LSN
    ) throws(Failure) {
        let label = label(kind: kind, first: first, last: last)
        if fill > SealedFormat.tailBytes { try sealChunk(fill - SealedFormat.tailBytes) }
        try sealChunk(fill, isTail: true)
        try emit(cipher.footer(label, over: &digest).bytes)
    }

    /// The segment's footer lies whole in what is pending.
    private func label(kind: SegmentKind, first: LSN, last: LSN) -> SealedLabel {
        let tail = UnsafeRawBufferPointer(
            rebasing: pending.bytes[max(0, fill - SegmentFormat.footerBytes)..<fill])
        let known = start.withUnsafeBytes {
            SealedLabel(
                kind: kind, first: first, last: last, start: $0, tail: tail,
                plainBytes: plainBytes, key: key)
        }
        return known
            ?? SealedLabel(kind: kind, first: first, last: last, plainBytes: plainBytes)
    }

    private func sealChunk(
        _ count: Int = SealedFormat.chunkBytes, isTail: Bool = false
    ) throws(Failure) {
        let target = UnsafeMutableRawBufferPointer(
            rebasing: sealed.bytes[..<(count + SealedFormat.tagBytes)])
        cipher.seal(
            chunk: chunks, isTail: isTail,
            UnsafeRawBufferPointer(rebasing: pending.bytes[..<count]),
            into: target)
        chunks += 1
        fill -= count
        if fill > 0 { pending.base.copyMemory(from: pending.base + count, byteCount: fill) }
        digest.update(UnsafeRawBufferPointer(target))
        try emitBytes(UnsafeRawBufferPointer(target))
    }

    private func send(_ bytes: [UInt8]) throws(Failure) {
        bytes.withUnsafeBytes { digest.update($0) }
        try emit(bytes)
    }

    private func emit(_ bytes: [UInt8]) throws(Failure) {
        var failure: Failure?
        bytes.withUnsafeBytes { bytes in
            do throws(Failure) { try emitBytes(bytes) } catch { failure = error }
        }
        if let failure { throw failure }
    }
}

extension SealedLabel {
    /// What a segment's first and last bytes tell of it; nil where they are no segment of these
    /// LSNs and kind. `start` is 128 bytes, `tail` 256, or less where there is less.
    public init?(
        kind: SegmentKind, first: LSN, last: LSN, start: UnsafeRawBufferPointer,
        tail: UnsafeRawBufferPointer, plainBytes: UInt64, key: SealingKey
    ) {
        do throws(SegmentError) {
            let footer = try SegmentFooter.decode(tail, fileBytes: plainBytes)
            guard try SegmentHeader.decode(start) == footer.header, footer.header.kind == kind,
                footer.header.first.lsn == first, footer.last.lsn == last,
                kind != .snapshot || footer.header.first == footer.last
            else { return nil }
            self.init(footer, key: key)
        } catch { return nil }
    }
}

/// Plain memory with one owner.
private final class SealedMemory {
    let bytes: UnsafeMutableRawBufferPointer

    init(count: Int) { bytes = .allocate(byteCount: count, alignment: 64) }

    deinit { bytes.deallocate() }

    var base: UnsafeMutableRawPointer { bytes.baseAddress! }
    var count: Int { bytes.count }
}

extension SegmentDigest {
    /// SHA-256 of these bytes.
    package static func ofAll(_ bytes: UnsafeRawBufferPointer) -> SegmentDigest {
        var digest = SHA256()
        digest.update(bufferPointer: bytes)
        return digest.finalize().withUnsafeBytes { SegmentDigest($0.baseAddress!) }
    }

    /// The 32 bytes.
    package var bytes: [UInt8] {
        var bytes = [UInt8](repeating: 0, count: 32)
        bytes.withUnsafeMutableBytes { store(to: $0.baseAddress!) }
        return bytes
    }
}
