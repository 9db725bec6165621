// Little-endian fields at fixed offsets, with bounds that hold in every build.

/// Loads and stores integers at byte offsets of borrowed memory. Traps on offsets outside: callers
/// check lengths first, so that bad input is an error and never a trap.
public struct ByteFields {
    let memory: UnsafeMutableRawBufferPointer

    public init(_ memory: UnsafeMutableRawBufferPointer) { self.memory = memory }
    /// For reading only.
    public init(reading memory: UnsafeRawBufferPointer) {
        self.memory = UnsafeMutableRawBufferPointer(mutating: memory)
    }

    public func load<T: FixedWidthInteger & BitwiseCopyable>(_ offset: Int, as: T.Type) -> T {
        T(littleEndian: memory.loadUnaligned(fromByteOffset: offset, as: T.self))
    }

    public func store<T: FixedWidthInteger & BitwiseCopyable>(_ value: T, at offset: Int) {
        memory.storeBytes(of: value.littleEndian, toByteOffset: offset, as: T.self)
    }

    /// UTF-8 text with a 16-bit length before it; nil when the length is past `limit` or no UTF-8.
    func loadText(_ offset: Int, limit: Int) -> String? {
        let count = Int(load(offset, as: UInt16.self))
        guard count <= limit else { return nil }
        return String(
            validating: memory[(offset + 2)..<(offset + 2 + count)], as: UTF8.self)
    }

    func storeText(_ text: String, at offset: Int) {
        let bytes = Array(text.utf8)
        store(UInt16(bytes.count), at: offset)
        for (index, byte) in bytes.enumerated() { memory[offset + 2 + index] = byte }
    }
}
