// CRC32C for rooms that may not see the C shim.

import CLinux

/// CRC32C (Castagnoli) of payloads.
public enum Checksum {
    /// The checksum of `bytes`, continued from that of the bytes before (0 to start).
    @inline(__always)
    public static func crc32c(
        _ bytes: UnsafeRawBufferPointer, continuing crc: UInt32 = 0
    ) -> UInt32 {
        guard let base = bytes.baseAddress, bytes.count > 0 else { return crc }
        return clinux_crc32c(crc, base, bytes.count)
    }
}
