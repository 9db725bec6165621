// One piece of memory in a gathered write; laid out like `struct iovec`.

#if canImport(Glibc)
    import Glibc
#endif

/// Borrowed bytes for a gathered write. The memory must live until the call returns.
public struct IOVector: @unchecked Sendable {
    // @unchecked: a borrowed pointer; the caller of the write keeps the memory still.
    var raw: iovec

    public init(base: UnsafeRawPointer, count: Int) {
        raw = iovec(iov_base: UnsafeMutableRawPointer(mutating: base), iov_len: count)
    }

    public var count: Int { raw.iov_len }
    public var base: UnsafeRawPointer { UnsafeRawPointer(raw.iov_base) }

    mutating func dropFirst(_ count: Int) {
        raw.iov_base += count
        raw.iov_len -= count
    }
}
