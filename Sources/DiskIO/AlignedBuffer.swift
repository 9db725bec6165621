// Memory that O_DIRECT accepts.

#if canImport(Glibc)
    import Glibc
#endif

/// Page-aligned, zero-filled memory with one owner; freed when the owner goes.
/// Not synchronised: who shares it orders the access.
public final class AlignedBuffer: @unchecked Sendable {
    // @unchecked: the pointer never changes; what it points at is ordered by whoever shares it.
    public let base: UnsafeMutableRawPointer
    public let count: Int
    public static let alignment = 4096
    private static let largePage = 2 << 20

    /// `count` bytes, rounded up to whole pages. Traps when memory cannot be had.
    public init(count: Int) {
        precondition(count >= 0)
        let rounded = max(
            (count + Self.alignment - 1) / Self.alignment * Self.alignment, Self.alignment)
        let memory = mmap(
            nil, rounded, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
        guard let memory, memory != MAP_FAILED else {
            preconditionFailure("no memory for a buffer of \(rounded) bytes")
        }
        // Large buffers in large pages: each transfer to or from them looks up fewer.
        if rounded >= Self.largePage { madvise(memory, rounded, Int32(MADV_HUGEPAGE)) }
        base = memory
        self.count = rounded
    }

    deinit { munmap(base, count) }

    public var bytes: UnsafeMutableRawBufferPointer {
        UnsafeMutableRawBufferPointer(start: base, count: count)
    }
}
