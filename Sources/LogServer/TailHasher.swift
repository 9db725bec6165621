// SHA-256 over bytes as they come, which can also tell the digest of all but the last of them: a
// segment carries, near its end, the digest of what lies before. Pure but for reading a file.

import Crypto
import DiskIO
import ServerAPI

/// Hashes; keeps the last bytes back. A value.
struct TailHasher: Sendable {
    /// So many bytes are kept back.
    static let tailBytes = 512
    private var hasher = SHA256()
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
            hasher.update(data: tail[..<surplus])
            tail.removeFirst(surplus)
            hashedBytes += UInt64(surplus)
        } else {
            hasher.update(data: tail)
            hasher.update(
                bufferPointer: UnsafeRawBufferPointer(rebasing: bytes[..<(bytes.count - keep)]))
            hashedBytes += UInt64(tail.count + bytes.count - keep)
            tail = Array(bytes[(bytes.count - keep)...])
        }
    }

    /// Of all bytes but the last `count`, at most `tailBytes`; nil where there are not so many.
    func digest(without count: Int = 0) -> String? {
        guard count <= tail.count else { return nil }
        var whole = hasher
        whole.update(data: tail[..<(tail.count - count)])
        return whole.finalize().hexadecimal
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
    init(_ file: StorageFile, from start: UInt64 = 0, to end: UInt64) throws(ErrorReply) {
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

    init() {}
}

extension SHA256.Digest {
    /// 64 digits.
    var hexadecimal: String {
        let digits = Array("0123456789abcdef".utf8)
        return String(
            decoding: flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }, as: UTF8.self)
    }
}
