// fallocate: discard, write zeroes. Ranges are cut to the device here, as a block device would.

import BlockModel
import CFuse
import CLinux

#if canImport(Glibc)
    import Glibc
#endif

extension Operations {
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
