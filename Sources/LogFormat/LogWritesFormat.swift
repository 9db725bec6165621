// The log format of the kernel's dm-log-writes (drivers/md/dm-log-writes.c): what it calls
// "braindead simple", and what `replay-log` of xfstests and QEMU's blklogwrites read and write.
//
// All numbers are little-endian. Everything is counted in sectors of the size that the super
// names; offsets on the disk as well as lengths in the log.
//
// Super, at byte 0, in a whole sector
//   offset size  field
//        0    8  magic 0x006a736677736872
//        8    8  version, 1
//       16    8  number of entries
//       24    4  sector size in bytes
//
// Then the entries. Each is a header in a whole sector, and then, unless it is a discard, its data:
// as many sectors as it names.
//        0    8  first sector on the disk
//        8    8  number of sectors                                  (0 for flush and mark)
//       16    8  flags: 1 flush, 2 FUA, 4 discard, 8 mark, 16 metadata
//       24    8  data length: of a mark the bytes of its name, else 0 (or at most the data's bytes)
//       32    n  name of a mark, in the same sector; the rest of the sector is zero
//
// There are no checksums: damage of data does not show. What is checked: magic and version; the
// sector size is a power of two, 512 ... 1 MiB; no flags but these; no entry without flags and
// sectors; sectors inside 2^63 bytes; a name fits its sector; the file goes on to the end of the
// last entry.

import BlockModel

/// Why bytes are not a log of dm-log-writes. `entry` counts from 0.
public enum LogWritesError: Error, Hashable, Sendable {
    case notALog
    case futureVersion(UInt64)
    case sectorBytes(UInt32)
    /// The file ends before the end of this entry.
    case cutOff(entry: UInt64, of: UInt64)
    case unknownFlags(entry: UInt64, UInt64)
    /// Neither flags nor sectors.
    case empty(entry: UInt64)
    /// Sectors or lengths that cannot be.
    case outOfRange(entry: UInt64)
}

extension LogWritesError: CustomStringConvertible {
    public var description: String {
        switch self {
        case .notALog: "it does not begin with the magic of dm-log-writes"
        case .futureVersion(let version): "version \(version) of the format is not known"
        case .sectorBytes(let bytes): "a sector size of \(bytes) bytes cannot be"
        case .cutOff(let entry, let count): "it ends in entry \(entry) of \(count)"
        case .unknownFlags(let entry, let flags):
            "entry \(entry) has unknown flags, 0x\(String(flags, radix: 16))"
        case .empty(let entry): "entry \(entry) says nothing"
        case .outOfRange(let entry): "entry \(entry) has a length or place that cannot be"
        }
    }
}

/// What an entry is. Raw values are on disk.
public struct LogWritesFlags: OptionSet, Hashable, Sendable {
    public let rawValue: UInt64
    public init(rawValue: UInt64) { self.rawValue = rawValue }

    /// Everything before was flushed.
    public static let flush = LogWritesFlags(rawValue: 1)
    /// Durable when it was complete.
    public static let fua = LogWritesFlags(rawValue: 2)
    public static let discard = LogWritesFlags(rawValue: 4)
    public static let mark = LogWritesFlags(rawValue: 8)
    /// A hint only.
    public static let metadata = LogWritesFlags(rawValue: 16)
    static let known: UInt64 = 31
}

/// The super: first sector of a log.
public struct LogWritesSuper: Hashable, Sendable {
    public static let magic: UInt64 = 0x006a_7366_7773_6872
    public static let version: UInt64 = 1
    /// Bytes that a decoder needs.
    public static let usedBytes = 28

    public var entryCount: UInt64
    public var sectorBytes: Int

    public init(entryCount: UInt64, sectorBytes: Int = Sector.bytes) {
        self.entryCount = entryCount
        self.sectorBytes = sectorBytes
    }

    /// One sector.
    public func encode() -> [UInt8] {
        sector(of: sectorBytes) { target in
            target.store(Self.magic, at: 0)
            target.store(Self.version, at: 8)
            target.store(entryCount, at: 16)
            target.store(UInt32(sectorBytes), at: 24)
        }
    }

    /// From the first bytes of a log, as many as there are.
    public static func decode(_ source: UnsafeRawBufferPointer) throws(LogWritesError) -> Self {
        guard source.count >= usedBytes, let base = source.baseAddress,
            base.load(0, as: UInt64.self) == magic
        else { throw .notALog }
        let version = base.load(8, as: UInt64.self)
        guard version == Self.version else { throw .futureVersion(version) }
        let bytes = base.load(24, as: UInt32.self)
        guard bytes >= 512, bytes <= 1 << 20, bytes & (bytes - 1) == 0 else {
            throw .sectorBytes(bytes)
        }
        return Self(entryCount: base.load(16, as: UInt64.self), sectorBytes: Int(bytes))
    }
}

/// The header of an entry.
public struct LogWritesEntry: Hashable, Sendable {
    /// Bytes of a header before the name of a mark.
    public static let usedBytes = 32

    public var sector: UInt64
    public var sectorCount: UInt64
    public var flags: LogWritesFlags
    /// The bytes of a mark's name.
    public var name: [UInt8]

    public init(
        _ flags: LogWritesFlags, sector: UInt64 = 0, sectorCount: UInt64 = 0, name: [UInt8] = []
    ) {
        self.sector = sector
        self.sectorCount = sectorCount
        self.flags = flags
        self.name = name
    }

    /// Sectors of data behind the header.
    public var dataSectors: UInt64 { flags.contains(.discard) ? 0 : sectorCount }

    /// One sector of `sectorBytes`, which has room for the name.
    public func encode(sectorBytes: Int = Sector.bytes) -> [UInt8] {
        precondition(name.count <= sectorBytes - Self.usedBytes)
        return LogFormat.sector(of: sectorBytes) { target in
            target.store(sector, at: 0)
            target.store(sectorCount, at: 8)
            target.store(flags.rawValue, at: 16)
            target.store(UInt64(name.count), at: 24)
            for (i, byte) in name.enumerated() { target.store(byte, at: Self.usedBytes + i) }
        }
    }

    /// Reads the header of entry `number` from its sector. What passes can be used in arithmetic:
    /// both `sector + sectorCount` and its bytes stay below 2^63.
    public static func decode(
        _ source: UnsafeRawBufferPointer, number: UInt64
    ) throws(LogWritesError) -> Self {
        precondition(source.count >= usedBytes)
        let base = source.baseAddress!
        let sector = base.load(0, as: UInt64.self)
        let count = base.load(8, as: UInt64.self)
        let flags = base.load(16, as: UInt64.self)
        let length = base.load(24, as: UInt64.self)
        guard flags & ~LogWritesFlags.known == 0 else {
            throw .unknownFlags(entry: number, flags)
        }
        guard flags != 0 || count > 0 else { throw .empty(entry: number) }
        let sectorsMax = (UInt64(1) << 63) / UInt64(source.count)
        guard sector <= sectorsMax, count <= sectorsMax - sector else {
            throw .outOfRange(entry: number)
        }
        let isMark = flags & LogWritesFlags.mark.rawValue != 0
        let lengthMax = isMark ? UInt64(source.count - usedBytes) : count * UInt64(source.count)
        guard length <= lengthMax else { throw .outOfRange(entry: number) }
        return Self(
            LogWritesFlags(rawValue: flags), sector: sector, sectorCount: count,
            name: isMark ? Array(source[usedBytes..<usedBytes + Int(length)]) : [])
    }
}

/// A sector of zeros that `fill` writes into.
private func sector(of count: Int, fill: (UnsafeMutableRawPointer) -> Void) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: count)
    bytes.withUnsafeMutableBytes { fill($0.baseAddress!) }
    return bytes
}
