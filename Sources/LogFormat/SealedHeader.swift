// Header and footer of a sealed container: bytes <-> values. The layout and the numbered rules are
// at the head of SealedFormat.swift. Pure and total: any bytes decode to a value or to an error.
// What stands here is what a server knows of a segment; none of it needs a key to be read.

import BlockModel
import CLinux

/// The key's name and the wrapped data key.
public struct SealedHeader: Hashable, Sendable {
    /// All 128 bytes; they are what chunks are tied to.
    let bytes: [UInt8]

    public var keyID: SealingKeyID {
        bytes.withUnsafeBytes { SealingKeyID($0.baseAddress! + 16) }
    }

    /// `wrapped` is the encrypted data key and its tag, 48 bytes; `nonce` has 12.
    init(keyID: SealingKeyID, nonce: [UInt8], wrapped: [UInt8]) {
        var bytes = Self.associated(keyID: keyID, nonce: nonce)
        bytes += wrapped
        bytes += [UInt8](repeating: 0, count: SealedFormat.headerBytes - bytes.count)
        bytes.withUnsafeMutableBytes { memory in
            let base = memory.baseAddress!
            base.store(clinux_crc32c(0, base, 124), at: 124)
        }
        self.bytes = bytes
    }

    /// Bytes 0..<48, which the wrapping's tag covers.
    static func associated(keyID: SealingKeyID, nonce: [UInt8]) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: 48)
        bytes.withUnsafeMutableBytes { memory in
            let base = memory.baseAddress!
            base.store(SealedFormat.headerMagic, at: 0)
            base.store(SealedFormat.version, at: 8)
            keyID.store(to: base + 16)
        }
        bytes.replaceSubrange(32..<44, with: nonce)
        return bytes
    }

    /// The 128 bytes, borrowed for the call.
    public func withBytes<R>(_ body: (UnsafeRawBufferPointer) -> R) -> R {
        bytes.withUnsafeBytes(body)
    }

    /// 24 hexadecimal digits that no other container has: the nonce of the wrapping.
    public var fingerprint: String {
        nonce.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }

    var nonce: [UInt8] { Array(bytes[32..<44]) }
    var wrapped: ArraySlice<UInt8> { bytes[48..<96] }

    /// Reads a header (rule 2). Fewer than 128 bytes are none.
    public static func decode(
        _ source: UnsafeRawBufferPointer
    ) throws(SealedError) -> SealedHeader {
        guard source.count >= SealedFormat.headerBytes, let base = source.baseAddress,
            base.load(0, as: UInt64.self) == SealedFormat.headerMagic
        else { throw .notSealed }
        guard clinux_crc32c(0, base, 124) == base.load(124, as: UInt32.self) else {
            throw .checksum(.header)
        }
        let version = base.load(8, as: UInt16.self)
        guard version == SealedFormat.version else { throw .futureVersion(version) }
        let bytes = Array(source[..<SealedFormat.headerBytes])
        guard bytes[10..<16].allSatisfy({ $0 == 0 }), bytes[44..<48].allSatisfy({ $0 == 0 }),
            bytes[96..<124].allSatisfy({ $0 == 0 })
        else { throw .malformed(.header, rule: 3) }
        return SealedHeader(decoded: bytes)
    }

    private init(decoded bytes: [UInt8]) { self.bytes = bytes }

    /// Whether these are the first bytes of its container.
    public func isAt(start bytes: UnsafeRawBufferPointer) -> Bool {
        bytes.count >= SealedFormat.headerBytes
            && bytes[..<SealedFormat.headerBytes].elementsEqual(self.bytes)
    }
}

/// What is told of a segment outside its container.
public struct SealedLabel: Hashable, Sendable {
    /// What is known of content that is a segment which fits its name.
    public struct Content: Hashable, Sendable {
        public var volume: VolumeID
        public var epoch: UInt64
        /// Size of the volume in bytes.
        public var volumeBytes: UInt64
        /// What a log behind names as `predecessorID`; nil where that is not known.
        public var chainID: SegmentDigest?
        /// Of a log, the chain id of the one before; nil where there is none.
        public var predecessorID: SegmentDigest?
    }

    public var kind: SegmentKind
    /// Least LSN and least wall time.
    public var first: Stamp
    /// Greatest LSN and greatest wall time.
    public var last: Stamp
    /// Length of the segment in bytes.
    public var plainBytes: UInt64
    /// nil: what was put there is no segment of that name; times are 0.
    public var content: Content?

    /// Of bytes that are no segment.
    public init(kind: SegmentKind, first: LSN, last: LSN, plainBytes: UInt64) {
        self.kind = kind
        self.first = Stamp(lsn: first, wallNanoseconds: 0)
        self.last = Stamp(lsn: last, wallNanoseconds: 0)
        self.plainBytes = plainBytes
        content = nil
    }

    /// Of a segment.
    public init(_ footer: SegmentFooter, key: SealingKey) {
        let header = footer.header
        let chain: SegmentDigest? =
            switch header.kind {
            case .log: footer.digest
            case .merged: header.predecessor
            case .snapshot: nil
            }
        kind = header.kind
        first = header.first
        last = footer.last
        plainBytes = footer.fileBytes
        content = Content(
            volume: header.volume, epoch: header.epoch, volumeBytes: header.volumeBytes,
            chainID: key.chainID(of: chain, volume: header.volume),
            predecessorID: header.kind == .log
                ? key.chainID(of: header.predecessor, volume: header.volume) : nil)
    }
}

/// The footer: all that can be known without the key.
public struct SealedFooter: Hashable, Sendable {
    public var header: SealedHeader
    public var label: SealedLabel
    /// SHA-256 of every byte before it.
    public var digest: SegmentDigest

    public var layout: SealedLayout {
        guard let layout = SealedLayout(plainBytes: label.plainBytes) else {
            preconditionFailure("a footer has a possible length")
        }
        return layout
    }

    /// Footer bytes 0..<288, which its tag covers.
    static func encodeBeforeTag(_ header: SealedHeader, _ label: SealedLabel) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: SealedFormat.footerTagOffset)
        bytes.replaceSubrange(..<SealedFormat.headerBytes, with: header.bytes)
        bytes.withUnsafeMutableBytes { memory in
            let base = memory.baseAddress!
            base.store(label.first.lsn.rawValue, at: 160)
            base.store(label.first.wallNanoseconds, at: 168)
            base.store(label.last.lsn.rawValue, at: 176)
            base.store(label.last.wallNanoseconds, at: 184)
            base.store(label.plainBytes, at: 192)
            base.store(label.kind.rawValue, at: 200)
            guard let content = label.content else { return }
            base.store(content.volume.high.byteSwapped, at: 128)
            base.store(content.volume.low.byteSwapped, at: 136)
            base.store(content.epoch, at: 144)
            base.store(content.volumeBytes, at: 152)
            base.store(UInt8(1), at: 201)
            (content.chainID ?? .none).store(to: base + 208)
            (content.predecessorID ?? .none).store(to: base + 240)
        }
        return bytes
    }

    /// Appends what follows the bytes under the digest: the last 80 of the file.
    static func seal(_ bytes: inout [UInt8], digest: SegmentDigest) {
        precondition(bytes.count == SealedFormat.digestOffset)
        bytes += [UInt8](repeating: 0, count: SealedFormat.footerBytes - bytes.count)
        bytes.withUnsafeMutableBytes { memory in
            let base = memory.baseAddress!
            digest.store(to: base + SealedFormat.digestOffset)
            base.store(SealedFormat.version, at: 368)
            base.store(
                clinux_crc32c(0, base, SealedFormat.crcOffset), at: SealedFormat.crcOffset)
            base.store(SealedFormat.footerMagic, at: 376)
        }
    }

    /// Reads a footer (rules 1 to 3) from the last 384 bytes of a file of `fileBytes`.
    public static func decode(
        _ source: UnsafeRawBufferPointer, fileBytes: UInt64
    ) throws(SealedError) -> SealedFooter {
        guard source.count == SealedFormat.footerBytes, let base = source.baseAddress,
            base.load(376, as: UInt64.self) == SealedFormat.footerMagic
        else { throw .notSealed }
        let crc = base.load(SealedFormat.crcOffset, as: UInt32.self)
        guard clinux_crc32c(0, base, SealedFormat.crcOffset) == crc else {
            throw .checksum(.footer)
        }
        let version = base.load(368, as: UInt16.self)
        guard version == SealedFormat.version else { throw .futureVersion(version) }
        let header = try SealedHeader.decode(
            UnsafeRawBufferPointer(rebasing: source[..<SealedFormat.headerBytes]))
        let zeros = [202..<208, 272..<288, 336..<368, 370..<372]
        guard zeros.allSatisfy({ source[$0].allSatisfy { $0 == 0 } }),
            let label = SealedLabel(base), let layout = SealedLayout(fileBytes: fileBytes),
            layout.plainBytes == label.plainBytes
        else { throw .malformed(.footer, rule: 3) }
        return SealedFooter(
            header: header, label: label,
            digest: SegmentDigest(base + SealedFormat.digestOffset))
    }
}

extension SealedLabel {
    /// Reads the label's fields of a footer (rule 3); nil where they do not fit.
    fileprivate init?(_ base: UnsafeRawPointer) {
        guard let kind = SegmentKind(rawValue: base.load(200, as: UInt8.self)) else { return nil }
        self.kind = kind
        first = Stamp(
            lsn: LSN(base.load(160, as: UInt64.self)),
            wallNanoseconds: base.load(168, as: Int64.self))
        last = Stamp(
            lsn: LSN(base.load(176, as: UInt64.self)),
            wallNanoseconds: base.load(184, as: Int64.self))
        plainBytes = base.load(192, as: UInt64.self)
        guard first.lsn <= last.lsn, first.wallNanoseconds <= last.wallNanoseconds,
            kind != .snapshot || first == last
        else { return nil }
        switch base.load(201, as: UInt8.self) {
        case 0:
            let rest = UnsafeRawBufferPointer(start: base, count: SealedFormat.footerTagOffset)
            let isBlank = [128..<160, 168..<176, 184..<192, 208..<272].allSatisfy {
                rest[$0].allSatisfy { $0 == 0 }
            }
            guard isBlank else { return nil }
            content = nil
        case 1:
            let volumeBytes = base.load(152, as: UInt64.self)
            guard volumeBytes > 0, volumeBytes <= SegmentFormat.volumeBytesMax,
                volumeBytes % UInt64(Sector.bytes) == 0
            else { return nil }
            let (chain, predecessor) = (SegmentDigest(base + 208), SegmentDigest(base + 240))
            content = Content(
                volume: VolumeID(
                    high: base.load(128, as: UInt64.self).byteSwapped,
                    low: base.load(136, as: UInt64.self).byteSwapped),
                epoch: base.load(144, as: UInt64.self), volumeBytes: volumeBytes,
                chainID: chain == .none ? nil : chain,
                predecessorID: predecessor == .none ? nil : predecessor)
        default: return nil
        }
    }
}
