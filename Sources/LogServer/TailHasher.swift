// The digest of bytes as they come, which can also be told of all but the last of them: a segment
// carries, near its end, the digest of what lies before: SHA-256, or in a container what
// SealedDigest says. Pure but for reading a file.

import Crypto
import DiskIO
import LogFormat
import ServerAPI

/// Hashes; keeps the last bytes back. A value.
struct TailHasher: Sendable {
    /// So many bytes are kept back.
    static let tailBytes = 512
    private let isSealed: Bool
    private var plain = SHA256()
    private var sealed = SealedDigest()
    private var tail: [UInt8] = []
    private var hashedBytes: UInt64 = 0

    /// Bytes so far.
    var byteCount: UInt64 { hashedBytes + UInt64(tail.count) }

    mutating func append(_ bytes: UnsafeRawBufferPointer) {
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
    func digest(without count: Int) -> String? {
        guard count <= tail.count else { return nil }
        var whole = self
        tail.withUnsafeBytes {
            whole.hash(UnsafeRawBufferPointer(rebasing: $0[..<(tail.count - count)]))
        }
        return isSealed ? "\(whole.sealed.finalize())" : whole.plain.finalize().hexadecimal
    }

    /// SHA-256 of all bytes; nil where another digest is taken of them.
    var sha256: String? { isSealed ? nil : digest(without: 0) }

    private mutating func hash(_ bytes: UnsafeRawBufferPointer) {
        if isSealed { sealed.update(bytes) } else { plain.update(bufferPointer: bytes) }
    }

    mutating func append(zeros count: UInt64) {
        let buffer = AlignedBuffer(count: 1 << 20)
        buffer.bytes.initializeMemory(as: UInt8.self, repeating: 0)
        var left = count
        while left > 0 {
            let piece = Int(min(left, UInt64(buffer.count)))
            append(UnsafeRawBufferPointer(rebasing: buffer.bytes[..<piece]))
            left -= UInt64(piece)
        }
    }

    /// Of the bytes of a file from `start` to `end`.
    init(
        _ file: StorageFile, from start: UInt64 = 0, to end: UInt64, isSealed: Bool
    ) throws(ErrorReply) {
        self.init(isSealed: isSealed)
        let buffer = AlignedBuffer(count: 1 << 20)
        var offset = start
        while offset < end {
            let count = Int(min(UInt64(buffer.count), end - offset))
            let target = UnsafeMutableRawBufferPointer(rebasing: buffer.bytes[..<count])
            let done: Int
            do throws(IOError) {
                done = try file.read(into: target, at: offset)
            } catch { throw ErrorReply(error) }
            guard done == count else {
                throw ErrorReply(.damaged, "the file is shorter than it was")
            }
            append(UnsafeRawBufferPointer(target))
            offset += UInt64(count)
        }
    }

    /// For the bytes of a container, or of a segment.
    init(isSealed: Bool) { self.isSealed = isSealed }
}

extension SHA256.Digest {
    /// 64 digits.
    var hexadecimal: String {
        let digits = Array("0123456789abcdef".utf8)
        return String(
            decoding: flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }, as: UTF8.self)
    }
}
