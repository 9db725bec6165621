// The joint between a virtual disk and what shows it to the world (FUSE today).

/// Why a block device request failed; raw values are errno numbers, so the reply needs no table.
public struct DeviceError: Error, RawRepresentable, Sendable, Hashable {
    public var rawValue: Int32
    public init(rawValue: Int32) { self.rawValue = rawValue }

    public static let io = DeviceError(rawValue: 5)  // EIO
    public static let noSpace = DeviceError(rawValue: 28)  // ENOSPC
    public static let invalid = DeviceError(rawValue: 22)  // EINVAL
    public static let readOnly = DeviceError(rawValue: 30)  // EROFS
    public static let shuttingDown = DeviceError(rawValue: 108)  // ESHUTDOWN
}

/// A virtual disk of fixed size. Every method may be called from many threads at once. Offsets and
/// counts are bytes and need no alignment; the caller keeps ranges inside `byteCount`. Memory
/// handed in is borrowed for the length of the call. A class, so that a call is one indirect jump.
open class BlockDevice: @unchecked Sendable {
    // @unchecked: subclasses synchronise their own state.
    public init() {}

    /// Size in bytes; never changes.
    open var byteCount: UInt64 { 0 }
    open var isReadOnly: Bool { false }

    /// Fills `target` with the bytes at `offset`.
    open func read(
        into target: UnsafeMutableRawBufferPointer, at offset: UInt64
    ) throws(DeviceError) { throw .io }

    /// Orders the write; later reads see it. Durable after the next `flush` that begins later.
    open func write(_ source: UnsafeRawBufferPointer, at offset: UInt64) throws(DeviceError) {
        throw .readOnly
    }

    /// Returns when every write that completed before the call is durable.
    open func flush() throws(DeviceError) {}

    /// The range is not needed any more and reads as zeros from here on.
    open func discard(offset: UInt64, count: UInt64) throws(DeviceError) { throw .readOnly }

    /// The range reads as zeros from here on.
    open func writeZeroes(offset: UInt64, count: UInt64) throws(DeviceError) { throw .readOnly }
}
