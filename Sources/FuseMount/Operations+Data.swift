// Read, write, flush, discard: the way of every block. Runs on the worker threads; allocates
// nothing and counts no references. Ranges are cut to the device here, as a block device would.

import BlockModel
import CFuse
import CLinux

#if canImport(Glibc)
    import Glibc
#endif

extension Operations {
    /// Reads at or after the end give no bytes, reads across it those before it.
    static func read(_ request: fuse_req_t?, _ size: Int, _ offset: off_t) {
        withFile(request) { file in
            let start = UInt64(offset)  // the kernel refuses negative offsets
            guard start < file.byteCount else {
                fuse_reply_buf(request, nil, 0)
                return
            }
            let count = Int(min(UInt64(size), file.byteCount - start))
            guard let memory = pthread_getspecific(file.memoryKey),
                count <= ServedFile.transferBytesMax
            else {
                fuse_reply_err(request, EINVAL)  // max_read is part of the mount's options
                return
            }
            do throws(DeviceError) {
                try file.device.read(
                    into: UnsafeMutableRawBufferPointer(start: memory, count: count), at: start)
                fuse_reply_buf(request, memory.assumingMemoryBound(to: CChar.self), count)
            } catch {
                fuse_reply_err(request, error.rawValue)
            }
        }
    }

    /// `bytes` lives until the reply. A write beyond the end has no space; one across the end is
    /// short, but with O_DIRECT, where the kernel makes EIO of a short answer, it has no space.
    static func write(
        _ request: fuse_req_t?, _ bytes: UnsafePointer<CChar>?, _ size: Int, _ offset: off_t,
        _ info: UnsafeMutablePointer<fuse_file_info>?
    ) {
        withFile(request) { file in
            let start = UInt64(offset)
            guard start < file.byteCount || size == 0 else {
                fuse_reply_err(request, ENOSPC)
                return
            }
            let count = Int(min(UInt64(size), file.byteCount - min(start, file.byteCount)))
            if count < size, let info, info.pointee.flags & clinux_o_direct != 0 {
                fuse_reply_err(request, ENOSPC)
                return
            }
            do throws(DeviceError) {
                if count > 0 {
                    try file.device.write(
                        UnsafeRawBufferPointer(start: bytes, count: count), at: start)
                    file.noteWritten()
                }
                fuse_reply_write(request, count)
            } catch {
                fuse_reply_err(request, error.rawValue)
            }
        }
    }

    /// fsync and fdatasync; also what the kernel sends after each write of an O_SYNC or O_DSYNC
    /// file, before write(2) returns.
    static func flush(_ request: fuse_req_t?) {
        withFile(request) { file in
            file.pool.leaveToOthers()
            do throws(DeviceError) {
                try file.device.flush()
                fuse_reply_err(request, 0)
            } catch {
                fuse_reply_err(request, error.rawValue)
            }
        }
    }

    /// fallocate. Holes and zeros go to the device; reserving space that is there succeeds.
    static func allocate(
        _ request: fuse_req_t?, _ mode: Int32, _ offset: off_t, _ length: off_t
    ) {
        withFile(request) { file in
            fuse_reply_err(request, allocate(in: file, mode, UInt64(offset), UInt64(length)))
        }
    }

    /// 0 or an errno. The kernel has checked that offset and length are positive and their sum
    /// does not overflow.
    private static func allocate(
        in file: ServedFile, _ mode: Int32, _ offset: UInt64, _ length: UInt64
    ) -> Int32 {
        if file.isReadOnly { return EROFS }
        let end = offset + length
        let keepSize = clinux_falloc_keep_size
        let punchHole = clinux_falloc_punch_hole
        let zeroRange = clinux_falloc_zero_range
        if mode & (punchHole | zeroRange) == 0 {
            guard mode & ~keepSize == 0 else { return EOPNOTSUPP }
            return end <= file.byteCount ? 0 : ENOSPC
        }
        guard offset < file.byteCount else { return EINVAL }
        guard end <= file.byteCount || mode & keepSize != 0 else { return ENOSPC }
        let count = min(length, file.byteCount - offset)
        do throws(DeviceError) {
            switch mode {
            case punchHole | keepSize: try file.device.discard(offset: offset, count: count)
            case zeroRange, zeroRange | keepSize:
                try file.device.writeZeroes(offset: offset, count: count)
            default: return EOPNOTSUPP
            }
            file.noteWritten()
            return 0
        } catch {
            return error.rawValue
        }
    }
}
