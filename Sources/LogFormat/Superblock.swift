// The superblock: what a volume is, and up to which LSN its image is synced.
//
// The file `superblock` has two slots of 4096 bytes, at 0 and 4096. A new state goes, durably, into
// the slot that does not hold the current one; so one write cut short leaves the older state.
// All numbers little-endian.
//
//   offset size  field
//        0    8  magic "LDSUPER1"
//        8    4  CRC32C of bytes 12..<4096
//       12    4  format version, 1
//       16    8  generation: rises with each write; even ones lie in slot 0, odd ones in slot 1
//       24   16  volume UUID
//       40    8  size of the volume in bytes
//       48    8  epoch
//       56    8  first LSN of the epoch
//       64    8  checkpoint LSN: the synced image holds every record up to it, but for what records
//                up to the durable LSN have overwritten
//       72    8  wall time of the last record known at that checkpoint (signed nanoseconds)
//       80    8  wall time of creation
//       88    8  size of a WAL file in bytes
//       96    8  bound of the WAL in bytes
//      104    8  default ring size in bytes
//      112    1  state: 1 being created, 2 ready
//      113    1  1 when closed cleanly: the log holds nothing past the checkpoint
//      114    6  zero
//      120    8  durable LSN: the log held every record up to it when this was written
//      128  384  zero
//      512 2+n   image path: length, UTF-8; relative to the volume's folder or absolute
//     2048 2+n   log folder: length, UTF-8; empty: the volume's folder
//
// A slot is valid if and only if magic, CRC32C and version are right, the texts are UTF-8 within
// their room and the sizes are plausible. The valid slot with the higher generation counts. A
// slot with right magic and CRC32C but a later version was written by a newer logdisk.

import BlockModel
import CLinux

public struct Superblock: Hashable, Sendable {
    public static let slotBytes = 4096
    public static let slotCount = 2
    public static let version: UInt32 = 1
    static let magic: UInt64 = 0x3152_4550_5553_444C
    public static let pathBytesMax = 1500
    /// Largest volume: 8 EiB less one sector, the largest file offset.
    public static let volumeBytesMax = UInt64(Int64.max) / 512 * 512

    /// A header and the longest record of the smallest ring.
    public static let walFileBytesMin = UInt64(WALFileHeader.byteCount) + (32 << 10)

    public enum State: UInt8, Sendable { case creating = 1, ready = 2 }

    public var generation: UInt64 = 0
    public var volume: VolumeID
    public var volumeBytes: UInt64
    public var epoch: UInt64 = 0
    public var epochFirstLSN = LSN(1)
    public var checkpoint = Stamp.zero
    /// The log reaches at least to here, or it is damaged: where the image lacks bytes of records
    /// up to the checkpoint, newer records up to this one have them.
    public var durableLSN = LSN.zero
    public var createdWall: Int64
    public var walFileBytes: UInt64
    public var walBytesMax: UInt64
    public var ringBytes: UInt64
    public var state = State.creating
    public var isClean = true
    public var imagePath: String
    public var logDirectory: String

    public init(
        volume: VolumeID, volumeBytes: UInt64, createdWall: Int64, walFileBytes: UInt64,
        walBytesMax: UInt64, ringBytes: UInt64, imagePath: String, logDirectory: String
    ) {
        self.volume = volume
        self.volumeBytes = volumeBytes
        self.createdWall = createdWall
        self.walFileBytes = walFileBytes
        self.walBytesMax = walBytesMax
        self.ringBytes = ringBytes
        self.imagePath = imagePath
        self.logDirectory = logDirectory
    }

    /// Offset of the slot that this generation lies in.
    public var slotOffset: UInt64 { (generation & 1) * UInt64(Self.slotBytes) }

    /// Fills `slot`, 4096 bytes.
    public func encode(to slot: UnsafeMutableRawBufferPointer) {
        precondition(slot.count == Self.slotBytes)
        precondition(imagePath.utf8.count <= Self.pathBytesMax)
        precondition(logDirectory.utf8.count <= Self.pathBytesMax)
        slot.initializeMemory(as: UInt8.self, repeating: 0)
        let fields = ByteFields(slot)
        fields.store(Self.magic, at: 0)
        fields.store(Self.version, at: 12)
        fields.store(generation, at: 16)
        fields.store(volume.high, at: 24)
        fields.store(volume.low, at: 32)
        fields.store(volumeBytes, at: 40)
        fields.store(epoch, at: 48)
        fields.store(epochFirstLSN.rawValue, at: 56)
        fields.store(checkpoint.lsn.rawValue, at: 64)
        fields.store(checkpoint.wallNanoseconds, at: 72)
        fields.store(createdWall, at: 80)
        fields.store(walFileBytes, at: 88)
        fields.store(walBytesMax, at: 96)
        fields.store(ringBytes, at: 104)
        fields.store(state.rawValue, at: 112)
        fields.store(UInt8(isClean ? 1 : 0), at: 113)
        fields.store(durableLSN.rawValue, at: 120)
        fields.storeText(imagePath, at: 512)
        fields.storeText(logDirectory, at: 2048)
        fields.store(clinux_crc32c(0, slot.baseAddress! + 12, Self.slotBytes - 12), at: 8)
    }

    public enum DecodeFailure: Error, Sendable, Hashable {
        case damaged
        case futureVersion(UInt32)
    }

    /// Reads one slot of 4096 bytes.
    public static func decode(
        _ slot: UnsafeRawBufferPointer
    ) -> Result<Superblock, DecodeFailure> {
        guard slot.count == slotBytes else { return .failure(.damaged) }
        let fields = ByteFields(reading: slot)
        guard fields.load(0, as: UInt64.self) == magic,
            fields.load(8, as: UInt32.self)
                == clinux_crc32c(0, slot.baseAddress! + 12, slotBytes - 12)
        else { return .failure(.damaged) }
        let found = fields.load(12, as: UInt32.self)
        guard found <= version else { return .failure(.futureVersion(found)) }
        guard found == version, let state = State(rawValue: fields.load(112, as: UInt8.self)),
            let imagePath = fields.loadText(512, limit: pathBytesMax),
            let logDirectory = fields.loadText(2048, limit: pathBytesMax)
        else { return .failure(.damaged) }
        var result = Superblock(
            volume: VolumeID(
                high: fields.load(24, as: UInt64.self), low: fields.load(32, as: UInt64.self)),
            volumeBytes: fields.load(40, as: UInt64.self),
            createdWall: fields.load(80, as: Int64.self),
            walFileBytes: fields.load(88, as: UInt64.self),
            walBytesMax: fields.load(96, as: UInt64.self),
            ringBytes: fields.load(104, as: UInt64.self), imagePath: imagePath,
            logDirectory: logDirectory)
        result.generation = fields.load(16, as: UInt64.self)
        result.epoch = fields.load(48, as: UInt64.self)
        result.epochFirstLSN = LSN(fields.load(56, as: UInt64.self))
        result.checkpoint = Stamp(
            lsn: LSN(fields.load(64, as: UInt64.self)),
            wallNanoseconds: fields.load(72, as: Int64.self))
        result.state = state
        result.isClean = fields.load(113, as: UInt8.self) == 1
        result.durableLSN = LSN(fields.load(120, as: UInt64.self))
        guard result.isPlausible else { return .failure(.damaged) }
        return .success(result)
    }

    private var isPlausible: Bool {
        volumeBytes > 0 && volumeBytes % UInt64(Sector.bytes) == 0
            && volumeBytes <= Self.volumeBytesMax
            && walFileBytes >= Self.walFileBytesMin && walFileBytes % 4096 == 0
            && ringBytes > 0
    }
}
