// The sealed container: one segment as it leaves the machine, encrypted. This comment is the
// format; the code around it only follows. What lies in it is the segment (SegmentFormat.swift),
// byte for byte; the container hides it and makes each change to it show, whoever made it.
//
// All numbers are little-endian. A container is written front to back, and the one who writes it
// need not know of the segment before its bytes come; so all that is told of the segment stands in
// the footer, which repeats the header: whoever looks for something reads tails only.
//
//   header · chunks · tail chunk · footer
//
// The segment's bytes are cut in chunks of 65536 (the last of them may be shorter), without its
// last 256 bytes, or fewer where there are not so many: those are the tail chunk, which is always
// there. In it lies the segment's own footer, so that planning a restore decrypts 256 bytes. Each
// chunk takes its length and 16 bytes more.
//
// Keys. The key file holds 32 random bytes K. From it come, by HKDF with SHA-256 (RFC 5869):
//   wrapping key   32 bytes, no salt, info "logdisk sealed wrap 1"
//   key id         16 bytes, no salt, info "logdisk sealed id 1"
//   chain key      32 bytes, salt: the volume's UUID, info "logdisk sealed chain 1"
// Each container has a data key of its own, 32 random bytes, never used for another segment.
//
// Header, 128 bytes at offset 0
//   offset size  field
//        0    8  magic "LDSEALED"
//        8    2  format version, 1
//       10    6  zero
//       16   16  key id
//       32   12  random nonce of the wrapping
//       44    4  zero
//       48   32  data key, encrypted: AES-256-GCM under the wrapping key, the nonce at 32,
//                associated data: header bytes 0..<48
//       80   16  its tag
//       96   28  zero
//      124    4  CRC32C of bytes 0..<124
//
// Chunk number n (from 0; the tail chunk is the last)
//        0    c  the segment's bytes, encrypted: AES-256-GCM under the data key, nonce: n as 8
//                bytes, then 4 zeros; associated data of 48 bytes: SHA-256 of the header, n as 8
//                bytes, 1 for the tail chunk or else 0 as 8 bytes
//        c   16  its tag
//
// Footer, the last 384 bytes
//        0  128  the header, again
//      128   16  volume UUID, in the order of its text
//      144    8  epoch in which the segment was made
//      152    8  volume size in bytes
//      160    8  least LSN, of the segment's name
//      168    8  least wall time (signed)
//      176    8  greatest LSN, of the segment's name
//      184    8  greatest wall time (signed)
//      192    8  length of the segment in bytes
//      200    1  kind, of the segment's name: 1 log, 2 merged, 3 snapshot
//      201    1  content: 1 a segment that fits its name; 0 other bytes, then all but LSNs, kind
//                and length is zero
//      202    6  zero
//      208   32  chain id: HMAC-SHA256 under the chain key of the digest that a log behind must
//                name as its predecessor (log: of the segment's SHA-256; merged: of the digest in
//                its header); zeros where there is none
//      240   32  predecessor's chain id: of a log, of the digest in its header; zeros where none
//      272   16  zero
//      288   16  tag of AES-256-GCM under the data key over nothing, nonce: 12 bytes 255,
//                associated data: footer bytes 0..<288
//      304   32  digest: SHA-256 over the CRC32C of each 65536 bytes of the file before this
//                field (the last of them may be fewer), 4 bytes each
//      336   32  zero
//      368    2  format version, 1
//      370    2  zero
//      372    4  CRC32C of footer bytes 0..<372
//      376    8  magic "LDSEAEND"
//
// A file is a valid container if and only if
//   1. it ends with a footer whose magic and CRC32C are right and whose version is 1 (any other
//      version under a right CRC32C is a format from the future; every future format keeps the
//      last 16 bytes of this shape);
//   2. the header in the footer has the right magic, CRC32C and version;
//   3. the length of the segment, with 16 bytes for each chunk, 128 and 384, is the size of the
//      file; kind and content have one of their values, fields that are zero are zero; least is
//      not above greatest, and of a snapshot equal to it; the volume's size is a multiple of 512,
//      512 ... 2^63, where the content is a segment;
//   4. the bytes at offset 0 are the header that the footer repeats, and the digest is right;
//   5. under the key of that id, the data key's tag is right;
//   6. the footer's tag is right;
//   7. each chunk's tag is right.
// Who has no key (a server) checks 1-4. A reader of some bytes checks 1-3, 5, 6 and 7 for each
// chunk that it uses, and that header and footer agree when it reads the first chunk.
//
// What each check is for: CRC32C and digest find what storage and networks do to bytes, without a
// key; whoever changes bytes on purpose can compute them anew, as he could any digest that needs no
// key, so the digest is one that costs little (every byte lies under a tag as well). The tags
// cannot be made without the key. A chunk's associated data ties it to its container, its place and
// the end, the footer's tag ties what is told of the segment (so also its name) to the data key,
// the wrapping's tag ties the data key to the key file: chunks changed, cut off, reordered or taken
// from another container, a wrapped key of another container, another segment's footer or name are
// all refused. That a server shows an older state of a volume, or not all of it, no container can
// tell; the chain of digests inside shows what is missing between.
//
// Why nonces do not repeat: a data key seals one container; in it each chunk has its number and
// the footer a nonce that no number has (there are fewer than 2^64 chunks). Who sends a container
// twice from the middle seals the same bytes again, since a segment never changes. The wrapping
// key meets a random nonce for each container: fewer than 2^32 containers for each key file.
//
// What shows to who has no key: that it is history of logdisk, of which volume (UUID, size), which
// LSNs, from when to when it was written, of which kind, how long the segment is (so how much was
// written and how well it compressed), which segments follow each other, which are sealed by the
// same key. Not what was written, where on the volume, how often in between, names of marks,
// number of flushes; nor whether two segments hold the same, nor digests of content that could be
// compared with known content: the chain ids are keyed.

import BlockModel

/// Numbers of the format; see the head of this file.
public enum SealedFormat {
    public static let version: UInt16 = 1
    public static let headerBytes = 128
    public static let footerBytes = 384
    /// Bytes of the segment in a chunk.
    public static let chunkBytes = 64 << 10
    /// Bytes of the segment in the tail chunk, at the most.
    public static let tailBytes = SegmentFormat.footerBytes
    /// What a chunk takes beyond its content.
    public static let tagBytes = 16
    static let headerMagic: UInt64 = 0x4445_4C41_4553_444C  // "LDSEALED"
    static let footerMagic: UInt64 = 0x444E_4541_4553_444C  // "LDSEAEND"
    /// Where the footer's own tag stands, and what it covers.
    static let footerTagOffset = 288
    /// Number of footer bytes that the digest covers.
    public static let digestOffset = 304
    static let crcOffset = 372
    /// Longer segments are not possible (rule 3 of SegmentFormat.swift).
    static let plainBytesMax: UInt64 = 1 << 54

    /// Whether these are the last bytes of a container, at least 8: it needs a key.
    public static func isSealed(tail: UnsafeRawBufferPointer) -> Bool {
        guard tail.count >= 8, let base = tail.baseAddress else { return false }
        return base.load(tail.count - 8, as: UInt64.self) == footerMagic
    }
}

/// Where a segment's bytes lie in its container; follows from the length of either.
public struct SealedLayout: Hashable, Sendable {
    /// Length of the segment.
    public let plainBytes: UInt64

    /// nil: longer than any segment.
    public init?(plainBytes: UInt64) {
        guard plainBytes <= SealedFormat.plainBytesMax else { return nil }
        self.plainBytes = plainBytes
    }

    /// From the size of a container; nil where no container has that size.
    public init?(fileBytes: UInt64) {
        let fixed = SealedFormat.headerBytes + SealedFormat.footerBytes + SealedFormat.tagBytes
        guard fileBytes >= UInt64(fixed),
            fileBytes <= SealedFormat.plainBytesMax + SealedFormat.plainBytesMax / 2
        else { return nil }
        let stored = fileBytes - UInt64(fixed)
        let whole = UInt64(SealedFormat.chunkBytes + SealedFormat.tagBytes)
        // All chunks but the tail; what is too short to be one more lies in the tail alone.
        let tail = UInt64(SealedFormat.tailBytes)
        let body = stored > tail ? stored - tail : 0
        let chunks = (body + whole - 1) / whole
        let tags = chunks * UInt64(SealedFormat.tagBytes)
        guard stored >= tags else { return nil }
        self.init(plainBytes: stored - tags)
        guard self.fileBytes == fileBytes else { return nil }
    }

    /// Bytes before the tail chunk.
    var bodyBytes: UInt64 {
        plainBytes > UInt64(SealedFormat.tailBytes)
            ? plainBytes - UInt64(SealedFormat.tailBytes) : 0
    }
    /// The tail chunk included.
    public var chunkCount: UInt64 { tailNumber + 1 }
    /// The number of the tail chunk.
    public var tailNumber: UInt64 {
        let size = UInt64(SealedFormat.chunkBytes)
        return (bodyBytes + size - 1) / size
    }
    /// Size of the container.
    public var fileBytes: UInt64 { footerOffset + UInt64(SealedFormat.footerBytes) }
    public var footerOffset: UInt64 {
        UInt64(SealedFormat.headerBytes) + plainBytes + chunkCount * UInt64(SealedFormat.tagBytes)
    }

    /// The bytes of the segment that chunk `number` holds.
    public func plainRange(_ number: UInt64) -> Range<UInt64> {
        if number >= tailNumber { return bodyBytes..<plainBytes }
        let start = number * UInt64(SealedFormat.chunkBytes)
        return start..<min(start + UInt64(SealedFormat.chunkBytes), bodyBytes)
    }

    /// Where chunk `number` lies in the container, its tag included.
    public func fileRange(_ number: UInt64) -> Range<UInt64> {
        let plain = plainRange(number)
        let start =
            UInt64(SealedFormat.headerBytes) + plain.lowerBound
            + min(number, tailNumber) * UInt64(SealedFormat.tagBytes)
        return start..<start + UInt64(plain.count) + UInt64(SealedFormat.tagBytes)
    }

    /// The chunk that lies at byte `offset` of the container, between header and footer.
    public func chunk(atFileOffset offset: UInt64) -> UInt64 {
        let whole = UInt64(SealedFormat.chunkBytes + SealedFormat.tagBytes)
        if offset >= fileRange(tailNumber).lowerBound { return tailNumber }
        return (offset - UInt64(SealedFormat.headerBytes)) / whole
    }

    /// The chunk that holds byte `offset` of the segment, which has it.
    public func chunk(holding offset: UInt64) -> UInt64 {
        offset < bodyBytes ? offset / UInt64(SealedFormat.chunkBytes) : tailNumber
    }
}

/// Which part of a container a complaint is about.
public enum SealedPart: Hashable, Sendable {
    case header, footer, digest, dataKey
    case chunk(UInt64)
}

/// Why bytes are not a valid container (rules: head of SealedFormat.swift), or not ours.
public enum SealedError: Error, Hashable, Sendable {
    /// Too short, or without the magic at its end: not a container, or one that was cut off.
    case notSealed
    /// Made by a newer logdisk.
    case futureVersion(UInt16)
    /// A part does not have its checksum.
    case checksum(SealedPart)
    case malformed(SealedPart, rule: Int)
    /// A part was not made with the key, or is not the one that belongs there.
    case tag(SealedPart)
    /// Sealed with another key.
    case otherKey(SealingKeyID)
    /// The container tells of another segment than its name, or of another volume.
    case misplaced
}

extension SealedPart: CustomStringConvertible {
    public var description: String {
        switch self {
        case .header: "header"
        case .footer: "footer"
        case .digest: "file"
        case .dataKey: "data key"
        case .chunk(let number): "chunk \(number)"
        }
    }
}

extension SealedError: CustomStringConvertible {
    public var description: String {
        switch self {
        case .notSealed: "not sealed, or cut off"
        case .futureVersion(let version): "format version \(version) is from a newer logdisk"
        case .checksum(.digest): "SHA-256 of the file is wrong"
        case .checksum(let part): "checksum of the sealed \(part) is wrong"
        case .malformed(let part, let rule): "the sealed \(part) breaks rule \(rule)"
        case .tag(let part): "the sealed \(part) was changed"
        case .otherKey(let id): "sealed with key \(id)"
        case .misplaced: "it is sealed as another segment or of another volume"
        }
    }
}
