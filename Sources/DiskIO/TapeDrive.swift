// A tape drive: records and filemarks one after the other, written only behind what is there. Two
// behind one class: the system's `st` driver, and a file that is like a tape.
//
// The file is in the format of the SIMH simulators (".tap"): a record is its length as 4 bytes
// little-endian, the bytes, a zero where their number is odd, and the length again; a filemark is
// four zero bytes; the data ends with the file, or with the first thing that is none of these.
//
// Threads: one.

import CLinux

#if canImport(Glibc)
    import Glibc
#endif

/// What is read at the head.
public enum TapeMark: Sendable, Hashable {
    /// A record of so many bytes.
    case record(Int)
    case filemark
    /// Nothing is recorded from here on.
    case end
}

open class TapeDrive: @unchecked Sendable {
    // @unchecked: one thread at a time.
    public let path: String
    /// The longest record.
    public static let recordBytesMax = 1 << 20

    public init(path: String) { self.path = path }

    /// Opens a character device as a drive, anything else as a file, which is made if `creates`.
    public static func open(_ path: String, creates: Bool) throws(IOError) -> TapeDrive {
        var info = stat()
        if stat(path, &info) == 0, info.st_mode & S_IFMT == S_IFCHR {
            return try SystemTape(path: path)
        }
        return try FileTape(path: path, creates: creates)
    }

    open func rewind() throws(IOError) { throw IOError(.read, path, ENOSYS) }
    /// Where the head is; for `seek`.
    open func position() throws(IOError) -> UInt64 { throw IOError(.read, path, ENOSYS) }
    open func seek(to position: UInt64) throws(IOError) { throw IOError(.read, path, ENOSYS) }
    /// Reads the next record, or passes a filemark. A record longer than `target` is EOVERFLOW.
    open func read(into target: UnsafeMutableRawBufferPointer) throws(IOError) -> TapeMark {
        throw IOError(.read, path, ENOSYS)
    }
    /// Writes a record here; what was behind is gone.
    open func write(_ record: UnsafeRawBufferPointer) throws(IOError) {
        throw IOError(.write, path, ENOSYS)
    }
    /// Writes a filemark; everything before it is on the tape when this returns.
    open func writeFilemark() throws(IOError) { throw IOError(.write, path, ENOSYS) }
}

/// A file that is like a tape.
public final class FileTape: TapeDrive, @unchecked Sendable {
    // @unchecked: one thread at a time.
    private let file: StorageFile
    private var head: UInt64 = 0

    init(path: String, creates: Bool) throws(IOError) {
        let storage = DiskStorage()
        let options =
            creates
            ? OpenOptions(.readWrite, creation: .ifMissing)
            : OpenOptions(.readOnly)
        file = try storage.open(path, options)
        super.init(path: path)
    }

    public override func rewind() throws(IOError) { head = 0 }
    public override func position() throws(IOError) -> UInt64 { head }
    public override func seek(to position: UInt64) throws(IOError) { head = position }

    private func word(_ offset: UInt64) throws(IOError) -> UInt32? {
        var value: UInt32 = 0
        var count = 0
        var failure: IOError?
        withUnsafeMutableBytes(of: &value) { target in
            do throws(IOError) {
                count = try file.read(into: target, at: offset)
            } catch { failure = error }
        }
        if let failure { throw failure }
        return count == 4 ? UInt32(littleEndian: value) : nil
    }

    public override func read(
        into target: UnsafeMutableRawBufferPointer
    ) throws(IOError) -> TapeMark {
        guard let length = try word(head) else { return .end }
        if length == 0 {
            head += 4
            return .filemark
        }
        let padded = UInt64(length) + UInt64(length & 1)
        guard length <= Self.recordBytesMax, try word(head + 4 + padded) == length else {
            return .end
        }
        guard Int(length) <= target.count else { throw IOError(.read, path, EOVERFLOW) }
        let piece = UnsafeMutableRawBufferPointer(rebasing: target[..<Int(length)])
        try file.readZeroExtended(into: piece, at: head + 4)
        head += 8 + padded
        return .record(Int(length))
    }

    public override func write(_ record: UnsafeRawBufferPointer) throws(IOError) {
        precondition(record.count > 0 && record.count <= Self.recordBytesMax)
        if try file.size() != head { try file.truncate(to: head) }
        let padded = UInt64(record.count + record.count & 1)
        try write(UInt32(record.count), at: head)
        try file.write(record, at: head + 4)
        if record.count & 1 == 1 { try file.truncate(to: head + 4 + padded) }
        try write(UInt32(record.count), at: head + 4 + padded)
        head += 8 + padded
    }

    private func write(_ value: UInt32, at offset: UInt64) throws(IOError) {
        var failure: IOError?
        withUnsafeBytes(of: value.littleEndian) { bytes in
            do throws(IOError) { try file.write(bytes, at: offset) } catch { failure = error }
        }
        if let failure { throw failure }
    }

    public override func writeFilemark() throws(IOError) {
        if try file.size() != head { try file.truncate(to: head) }
        try write(0, at: head)
        head += 4
        try file.sync()
    }
}

/// A drive of the system, by its device that does not rewind (/dev/nst0).
public final class SystemTape: TapeDrive, @unchecked Sendable {
    // @unchecked: one thread at a time.
    private let descriptor: Int32

    init(path: String) throws(IOError) {
        descriptor = Glibc.open(path, O_RDWR | O_CLOEXEC)
        guard descriptor >= 0 else { throw IOError(.open, path, errno) }
        super.init(path: path)
        try check(.open, Int64(clinux_tape_variable_blocks(descriptor)))
    }

    deinit { close(descriptor) }

    private func check(_ operation: IOError.Operation, _ result: Int64) throws(IOError) {
        if result < 0 { throw IOError(operation, path, Int32(-result)) }
    }

    public override func rewind() throws(IOError) {
        try check(.read, Int64(clinux_tape_rewind(descriptor)))
    }

    public override func position() throws(IOError) -> UInt64 {
        let block = clinux_tape_tell(descriptor)
        try check(.read, block)
        return UInt64(block)
    }

    public override func seek(to position: UInt64) throws(IOError) {
        try check(.read, Int64(clinux_tape_seek(descriptor, Int64(position))))
    }

    public override func read(
        into target: UnsafeMutableRawBufferPointer
    ) throws(IOError) -> TapeMark {
        let before = try position()
        let count = Glibc.read(descriptor, target.baseAddress, target.count)
        if count > 0 { return .record(count) }
        // The end of the data is an error, or no progress.
        if count < 0, errno != EIO { throw IOError(.read, path, errno) }
        return count == 0 && (try position()) > before ? .filemark : .end
    }

    public override func write(_ record: UnsafeRawBufferPointer) throws(IOError) {
        let count = Glibc.write(descriptor, record.baseAddress, record.count)
        guard count == record.count else {
            throw IOError(.write, path, count < 0 ? errno : ENOSPC)
        }
    }

    public override func writeFilemark() throws(IOError) {
        try check(.sync, Int64(clinux_tape_write_filemark(descriptor)))
    }
}
