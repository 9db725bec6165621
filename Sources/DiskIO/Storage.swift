// The door to the disk. `Storage` is a place with named files, `StorageFile` one open file. Two
// families stand behind it: `DiskStorage` (the system's files) and `SimulatedStorage` (in memory,
// with a fault model, for the tests). Classes with overridden primitives rather than protocols:
// a call costs one indirect jump and never an allocation or a witness look-up (docs/adr/0001).

/// How a file is opened.
public struct OpenOptions: Sendable {
    public enum Access: Sendable { case readOnly, readWrite }
    public enum Creation: Sendable {
        /// The file must exist.
        case never
        /// Created where missing, kept where present.
        case ifMissing
        /// Must not exist (EEXIST).
        case exclusively
    }
    public var access: Access
    public var creation: Creation
    /// O_DIRECT: offsets, lengths and addresses in multiples of 512 bytes; falls back to cached
    /// input and output where the file system refuses it.
    public var isDirect: Bool

    public init(_ access: Access, creation: Creation = .never, isDirect: Bool = false) {
        self.access = access
        self.creation = creation
        self.isDirect = isDirect
    }
}

/// Whether a write may return before it is durable.
public enum Durability: Sendable {
    /// Durable at the next `sync`.
    case deferred
    /// Durable when the call returns (RWF_DSYNC).
    case immediate
}

/// One open file or block device. Any thread may call at once, as with pread and pwrite; ranges
/// that overlap in concurrent calls give either content. Closed at the latest by deinit.
open class StorageFile: @unchecked Sendable {
    // @unchecked: subclasses keep immutable state or lock.
    /// For messages.
    public let path: String

    public init(path: String) { self.path = path }

    /// Reads up to `target.count` bytes at `offset`; fewer only at the end of the file.
    open func read(
        into target: UnsafeMutableRawBufferPointer, at offset: UInt64
    ) throws(IOError) -> Int { throw IOError(.read, path, 38) }

    /// Primitive: writes some bytes of the vectors, at least one; may be short.
    open func writeSome(
        _ vectors: UnsafeBufferPointer<IOVector>, at offset: UInt64, _ durability: Durability
    ) throws(IOError) -> Int { throw IOError(.write, path, 38) }

    /// Makes every completed write durable, and the size (fdatasync). After an error nothing is
    /// known of any deferred write: never call again and believe it.
    open func sync() throws(IOError) { throw IOError(.sync, path, 38) }

    open func size() throws(IOError) -> UInt64 { throw IOError(.size, path, 38) }
    open func truncate(to size: UInt64) throws(IOError) { throw IOError(.truncate, path, 38) }
    /// Reserves space; the range reads as zeros where nothing was written. Extends the size.
    open func allocate(offset: UInt64, count: UInt64) throws(IOError) {
        throw IOError(.allocate, path, 38)
    }
    /// Makes the range read as zeros and gives the space back where the file system can.
    open func punchHole(offset: UInt64, count: UInt64) throws(IOError) {
        throw IOError(.punch, path, 38)
    }
    /// The next range at or after `offset` that may hold other bytes than zero; nil at the end.
    open func nextData(from offset: UInt64) throws(IOError) -> Range<UInt64>? {
        let end = try size()
        return offset < end ? offset..<end : nil
    }
    /// Writes what is deferred in the range to the disk now, and waits for it. Only `sync` makes
    /// durable; but an error means the same as an error of `sync`, which may not tell it again.
    open func writeBack(offset: UInt64, count: UInt64) throws(IOError) {}
    /// Begins to write what is dirty of a range, and does not wait: so that a sync at the end finds
    /// little to do. A hint; errors show at the sync.
    open func startWriteBack(offset: UInt64, count: UInt64) {}
    /// Hint, before other threads have the file: from now on small pieces in no order are read and
    /// written. The cache reads nothing ahead, and gets what is written in small units: each small
    /// write into a large one costs the kernel a walk through all its blocks (ext4, Linux 6.16 and
    /// later).
    open func expectSmallAccess() {}
    /// Hint: the cache drops what it holds of the file, in whatever units, but for what is not
    /// written back yet.
    open func forgetCached() {}
    /// Exclusive advisory lock until close; false when another holder has it.
    open func tryLock() throws(IOError) -> Bool { throw IOError(.lock, path, 38) }
    /// Whether this is a block device (its size cannot change).
    open var isBlockDevice: Bool { false }
    /// Idempotent.
    open func close() {}
}

extension StorageFile {
    /// Writes all of `source` at `offset`.
    public final func write(
        _ source: UnsafeRawBufferPointer, at offset: UInt64, _ durability: Durability = .deferred
    ) throws(IOError) {
        var done = 0
        while done < source.count {
            var vector = IOVector(
                base: source.baseAddress! + done, count: source.count - done)
            // The vector lives on this frame for the length of the call.
            let written: Int
            do {
                written = try withUnsafePointer(to: &vector) { pointer throws(IOError) in
                    try writeSome(
                        UnsafeBufferPointer(start: pointer, count: 1), at: offset + UInt64(done),
                        durability)
                }
            }
            done += written
        }
    }

    /// Writes all bytes of the vectors, one after the other, at `offset`. The vectors' memory is
    /// used as scratch: on return their contents are undefined.
    public final func write(
        vectors: UnsafeMutableBufferPointer<IOVector>, at offset: UInt64,
        _ durability: Durability = .deferred
    ) throws(IOError) {
        var first = 0
        var position = offset
        while first < vectors.count {
            var written = try writeSome(
                UnsafeBufferPointer(rebasing: vectors[first...]), at: position, durability)
            position += UInt64(written)
            while first < vectors.count, written >= vectors[first].count {
                written -= vectors[first].count
                first += 1
            }
            if written > 0 { vectors[first].dropFirst(written) }
        }
    }

    /// Reads exactly `target.count` bytes; what lies past the end of the file reads as zeros.
    public final func readZeroExtended(
        into target: UnsafeMutableRawBufferPointer, at offset: UInt64
    ) throws(IOError) {
        let count = try read(into: target, at: offset)
        if count < target.count {
            UnsafeMutableRawBufferPointer(rebasing: target[count...]).initializeMemory(
                as: UInt8.self, repeating: 0)
        }
    }
}

/// A place with files, by path. Paths are as the caller gives them. Any thread may call.
open class Storage: @unchecked Sendable {
    // @unchecked: subclasses keep immutable state or lock.
    public init() {}

    open func open(_ path: String, _ options: OpenOptions) throws(IOError) -> StorageFile {
        throw IOError(.open, path, 38)
    }
    /// Renames, replacing `target` when it exists. Durable after `syncDirectory` of the parent.
    open func rename(_ source: String, to target: String) throws(IOError) {
        throw IOError(.rename, source, 38)
    }
    open func remove(_ path: String) throws(IOError) { throw IOError(.remove, path, 38) }
    /// Creates one folder; EEXIST when there is something already.
    open func createDirectory(_ path: String) throws(IOError) {
        throw IOError(.createDirectory, path, 38)
    }
    /// Names in the folder, sorted, without `.` and `..`.
    open func list(_ path: String) throws(IOError) -> [String] { throw IOError(.list, path, 38) }
    /// Makes creations, renames and removals in the folder durable.
    open func syncDirectory(_ path: String) throws(IOError) {
        throw IOError(.syncDirectory, path, 38)
    }
    open func exists(_ path: String) -> Bool { false }
    open func isDirectory(_ path: String) -> Bool { false }
    /// Bytes that a caller without privilege may still write on the file system of `path`.
    open func freeBytes(_ path: String) throws(IOError) -> UInt64 {
        throw IOError(.size, path, 38)
    }
    /// Bytes on disk of the file (less than its size where it has holes).
    open func allocatedBytes(_ path: String) throws(IOError) -> UInt64 {
        throw IOError(.size, path, 38)
    }
    /// Makes `target`, an empty file, share the blocks of `source`; false where that cannot be.
    open func clone(_ source: StorageFile, to target: StorageFile) -> Bool { false }
}

extension Storage {
    /// Writes a small file so that it is either wholly there or not at all: temporary name, sync,
    /// rename, sync of the folder. `directory` has no trailing slash.
    public final func replace(
        _ name: String, in directory: String, with bytes: UnsafeRawBufferPointer
    ) throws(IOError) {
        let temporary = "\(directory)/\(name).tmp"
        if exists(temporary) { try remove(temporary) }
        let file = try open(temporary, OpenOptions(.readWrite, creation: .exclusively))
        defer { file.close() }
        try file.write(bytes, at: 0)
        try file.sync()
        try rename(temporary, to: "\(directory)/\(name)")
        try syncDirectory(directory)
    }

    /// The whole content of a file of at most `limit` bytes; EFBIG beyond.
    public final func contents(of path: String, limit: Int = 16 << 20) throws(IOError) -> [UInt8] {
        let file = try open(path, OpenOptions(.readOnly))
        defer { file.close() }
        let size = try file.size()
        guard size <= UInt64(limit) else { throw IOError(.read, path, 27) }
        var bytes = [UInt8](repeating: 0, count: Int(size))
        var failure: IOError?
        bytes.withUnsafeMutableBytes { target in
            do throws(IOError) {
                try file.readZeroExtended(into: target, at: 0)
            } catch { failure = error }
        }
        if let failure { throw failure }
        return bytes
    }
}
