// The digest of bytes as they come, which can also be told of all but the last of them: a segment
// carries, near its end, the digest of what lies before: SHA-256, or in a container what
// SealedDigest says. Pure.

import Crypto
import LogFormat

/// Hashes; keeps the last bytes back. A value.
package struct TailHasher: Sendable {
    /// So many bytes are kept back.
    package static let tailBytes = 512
    private let isSealed: Bool
    private var plain = SHA256()
    private var sealed = SealedDigest()
    /// The last bytes, up to `tailBytes`.
    package private(set) var tail: [UInt8] = []
    private var hashedBytes: UInt64 = 0

    /// Bytes so far.
    package var byteCount: UInt64 { hashedBytes + UInt64(tail.count) }

    package mutating func append(_ bytes: UnsafeRawBufferPointer) {
        let keep = Self.tailBytes
        if bytes.count < keep {
            tail += bytes
            let surplus = tail.count - keep
            guard surplus > 0 else { return }
            tail.withUnsafeBytes { hash(UnsafeRawBufferPointer(rebasing: $0[..<surplus])) }
            tail.removeFirst(surplus)
            hashedBytes += UInt64(surplus)
        } else {
            tail.withUnsafeBytes { hash($0) }
            hash(UnsafeRawBufferPointer(rebasing: bytes[..<(bytes.count - keep)]))
            hashedBytes += UInt64(tail.count + bytes.count - keep)
            tail = Array(bytes[(bytes.count - keep)...])
        }
    }

    /// Of all bytes but the last `count`, at most `tailBytes`; nil where there are not so many.
    package func digest(without count: Int) -> String? {
        guard count <= tail.count else { return nil }
        var whole = self
        tail.withUnsafeBytes {
            whole.hash(UnsafeRawBufferPointer(rebasing: $0[..<(tail.count - count)]))
        }
        return isSealed ? "\(whole.sealed.finalize())" : whole.plain.finalize().hexadecimal
    }

    /// SHA-256 of all bytes; nil where another digest is taken of them.
    package var sha256: String? { isSealed ? nil : digest(without: 0) }

    private mutating func hash(_ bytes: UnsafeRawBufferPointer) {
        if isSealed { sealed.update(bytes) } else { plain.update(bufferPointer: bytes) }
    }

    /// For the bytes of a container, or of a segment.
    package init(isSealed: Bool) { self.isSealed = isSealed }
}

extension SHA256.Digest {
    /// 64 digits.
    package var hexadecimal: String {
        let digits = Array("0123456789abcdef".utf8)
        return String(
            decoding: flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }, as: UTF8.self)
    }
}
