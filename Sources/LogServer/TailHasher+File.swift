// Digests of files of the server: what a TailHasher makes of bytes that lie on a disk.

import DiskIO
import History
import ServerAPI

extension TailHasher {
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
}
