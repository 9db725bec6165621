// Encryption and decryption of one container's parts, in caller's memory (layout: head of
// SealedFormat.swift). Pure. A value without state: any number of threads may use one at once.

import BlockModel
import Crypto

/// The data key of one container, and what its chunks are tied to.
public struct SealedCipher: Sendable {
    public let header: SealedHeader
    private let dataKey: SymmetricKey
    /// SHA-256 of the header as four words in the order of its bytes.
    private let headerHash: SIMD4<UInt64>

    /// A fresh random data key, for a container that is to be written.
    public init(sealingWith key: SealingKey) {
        var nonce = [UInt8](repeating: 0, count: 12)
        nonce.withUnsafeMutableBytes { bytes in
            AES.GCM.Nonce().withUnsafeBytes { bytes.copyMemory(from: $0) }
        }
        self.init(sealingWith: key, dataKey: SymmetricKey(size: .bits256), nonce: nonce)
    }

    /// For golden bytes: with data key (32 bytes) and nonce (12) as given.
    package init(sealingWith key: SealingKey, dataKey: [UInt8], nonce: [UInt8]) {
        precondition(dataKey.count == 32 && nonce.count == 12)
        self.init(sealingWith: key, dataKey: SymmetricKey(data: dataKey), nonce: nonce)
    }

    private init(sealingWith key: SealingKey, dataKey: SymmetricKey, nonce: [UInt8]) {
        var wrapped = [UInt8](repeating: 0, count: 32 + SealedFormat.tagBytes)
        let associated = SealedHeader.associated(keyID: key.id, nonce: nonce)
        wrapped.withUnsafeMutableBytes { target in
            dataKey.withUnsafeBytes { plain in
                associated.withUnsafeBytes { associated in
                    Self.seal(
                        plain, key.wrappingKey, Self.nonce(nonce), associated, into: target)
                }
            }
        }
        self.init(
            SealedHeader(keyID: key.id, nonce: nonce, wrapped: wrapped), dataKey: dataKey)
    }

    /// Of a container that is there (rule 5).
    public init(opening header: SealedHeader, with key: SealingKey) throws(SealedError) {
        guard header.keyID == key.id else { throw .otherKey(header.keyID) }
        let associated = SealedHeader.associated(keyID: key.id, nonce: header.nonce)
        var plain = [UInt8](repeating: 0, count: 32)
        let isRight = plain.withUnsafeMutableBytes { target in
            header.wrapped.withUnsafeBytes { wrapped in
                associated.withUnsafeBytes { associated in
                    Self.open(
                        wrapped, key.wrappingKey, Self.nonce(header.nonce), associated,
                        into: target)
                }
            }
        }
        guard isRight else { throw .tag(.dataKey) }
        self.init(header, dataKey: SymmetricKey(data: plain))
    }

    private init(_ header: SealedHeader, dataKey: SymmetricKey) {
        self.header = header
        self.dataKey = dataKey
        headerHash = SHA256.hash(data: header.bytes).withUnsafeBytes {
            $0.loadUnaligned(as: SIMD4<UInt64>.self)
        }
    }

    /// Encrypts chunk `number`; `target` has 16 bytes more than `plain`.
    public func seal(
        chunk number: UInt64, isTail: Bool, _ plain: UnsafeRawBufferPointer,
        into target: UnsafeMutableRawBufferPointer
    ) {
        precondition(target.count == plain.count + SealedFormat.tagBytes)
        withUnsafeBytes(of: associated(number, isTail)) {
            Self.seal(plain, dataKey, Self.nonce(number), $0, into: target)
        }
    }

    /// Decrypts chunk `number` (rule 7); `target` has 16 bytes less than `sealed`. What is in it
    /// after a throw is not defined.
    public func open(
        chunk number: UInt64, isTail: Bool, _ sealed: UnsafeRawBufferPointer,
        into target: UnsafeMutableRawBufferPointer
    ) throws(SealedError) {
        precondition(sealed.count == target.count + SealedFormat.tagBytes)
        let isRight = withUnsafeBytes(of: associated(number, isTail)) {
            Self.open(sealed, dataKey, Self.nonce(number), $0, into: target)
        }
        guard isRight else { throw .tag(.chunk(number)) }
    }

    /// The footer, and the digest in it. `digest` is over all bytes before the footer.
    public func footer(
        _ label: SealedLabel, over digest: inout SealedDigest
    ) -> (bytes: [UInt8], digest: SegmentDigest) {
        var bytes = footerBytes(label)
        bytes.withUnsafeBytes { digest.update($0) }
        let sum = digest.finalize()
        SealedFooter.seal(&bytes, digest: sum)
        return (bytes, sum)
    }

    /// The footer's bytes before the digest: 304.
    private func footerBytes(_ label: SealedLabel) -> [UInt8] {
        var bytes = SealedFooter.encodeBeforeTag(header, label)
        var tag = [UInt8](repeating: 0, count: SealedFormat.tagBytes)
        tag.withUnsafeMutableBytes { target in
            bytes.withUnsafeBytes { associated in
                Self.seal(
                    UnsafeRawBufferPointer(start: nil, count: 0), dataKey,
                    Self.nonce(Self.footerNonce), associated, into: target)
            }
        }
        bytes += tag
        return bytes
    }

    /// Checks a footer's tag (rule 6). `source` are the 384 bytes it was read from.
    public func check(footer source: UnsafeRawBufferPointer) throws(SealedError) {
        precondition(source.count == SealedFormat.footerBytes)
        let tag = SealedFormat.footerTagOffset..<SealedFormat.digestOffset
        let isRight = Self.open(
            UnsafeRawBufferPointer(rebasing: source[tag]), dataKey, Self.nonce(Self.footerNonce),
            UnsafeRawBufferPointer(rebasing: source[..<SealedFormat.footerTagOffset]),
            into: UnsafeMutableRawBufferPointer(start: nil, count: 0))
        guard isRight else { throw .tag(.footer) }
    }

    // MARK: - AES-256-GCM

    private static let footerNonce = [UInt8](repeating: 255, count: 12)

    private func associated(
        _ number: UInt64, _ isTail: Bool
    ) -> (UInt64, UInt64, UInt64, UInt64, UInt64, UInt64) {
        (
            headerHash[0], headerHash[1], headerHash[2], headerHash[3], number.littleEndian,
            UInt64(isTail ? 1 : 0).littleEndian
        )
    }

    private static func nonce(_ number: UInt64) -> AES.GCM.Nonce {
        withUnsafeBytes(of: (number.littleEndian, UInt32(0))) {
            nonce(UnsafeRawBufferPointer(rebasing: $0[..<12]))
        }
    }

    private static func nonce(_ bytes: some Collection<UInt8>) -> AES.GCM.Nonce {
        do {
            return try AES.GCM.Nonce(data: Array(bytes))
        } catch {
            preconditionFailure("a nonce has 12 bytes: \(error)")
        }
    }

    private static func seal(
        _ plain: UnsafeRawBufferPointer, _ key: SymmetricKey, _ nonce: AES.GCM.Nonce,
        _ associated: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer
    ) {
        do {
            let box = try AES.GCM.seal(plain, using: key, nonce: nonce, authenticating: associated)
            box.ciphertext.withUnsafeBytes { target.copyMemory(from: $0) }
            box.tag.withUnsafeBytes {
                UnsafeMutableRawBufferPointer(rebasing: target[plain.count...]).copyMemory(from: $0)
            }
        } catch {
            preconditionFailure("AES-256-GCM takes 32 bytes of key and 12 of nonce: \(error)")
        }
    }

    private static func open(
        _ sealed: UnsafeRawBufferPointer, _ key: SymmetricKey, _ nonce: AES.GCM.Nonce,
        _ associated: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer
    ) -> Bool {
        let length = sealed.count - SealedFormat.tagBytes
        do {
            let box = try AES.GCM.SealedBox(
                nonce: nonce, ciphertext: UnsafeRawBufferPointer(rebasing: sealed[..<length]),
                tag: UnsafeRawBufferPointer(rebasing: sealed[length...]))
            let plain = try AES.GCM.open(box, using: key, authenticating: associated)
            plain.withUnsafeBytes { target.copyMemory(from: $0) }
            return true
        } catch {
            return false
        }
    }
}
