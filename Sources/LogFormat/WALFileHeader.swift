// The head of a WAL file: which volume, which place in the order of files, which salt.
//
// A WAL file has a fixed size. Its first 4096 bytes are the header, in two equal copies of one
// sector each (at 0 and 512) so that a damaged sector costs nothing; records follow from 4096 on
// (RecordHeader.swift). The file's name is its sequence in 12 digits and `.wal`. A file is made, or
// made again when its records are not needed any more, under another name; it gets this one when
// header, size and the cleared place of its first record are durable. All numbers little-endian.
//
//   offset size  field
//        0    8  magic "LDWAL001"
//        8    4  CRC32C of bytes 12..<512
//       12    4  format version, 1
//       16   16  volume UUID
//       32    8  sequence: rises by one with each file, also over epochs
//       40    8  epoch
//       48    8  first LSN of the epoch: records of earlier epochs from it on do not count
//       56    4  salt of the epoch
//       60    4  zero
//       64    8  size of the file in bytes
//       72  440  zero

import BlockModel
import CLinux

public struct WALFileHeader: Hashable, Sendable {
    /// Bytes before the first record.
    public static let byteCount = 4096
    static let copyBytes = Sector.bytes
    public static let version: UInt32 = 1
    static let magic: UInt64 = 0x3130_304C_4157_444C

    public var volume: VolumeID
    public var sequence: UInt64
    public var epoch: UInt64
    public var epochFirstLSN: LSN
    public var salt: UInt32
    public var fileBytes: UInt64

    public init(
        volume: VolumeID, sequence: UInt64, epoch: UInt64, epochFirstLSN: LSN, salt: UInt32,
        fileBytes: UInt64
    ) {
        self.volume = volume
        self.sequence = sequence
        self.epoch = epoch
        self.epochFirstLSN = epochFirstLSN
        self.salt = salt
        self.fileBytes = fileBytes
    }

    /// The name of the file with this sequence.
    public static func fileName(sequence: UInt64) -> String {
        let digits = String(sequence)
        return String(repeating: "0", count: max(0, 12 - digits.count)) + digits + ".wal"
    }

    /// The sequence in a file's name; nil for other names. Never more than 12 digits, so that
    /// counting on from it cannot overflow.
    public static func sequence(fileName: String) -> UInt64? {
        guard fileName.hasSuffix(".wal"), fileName.utf8.count == 16,
            let value = UInt64(fileName.dropLast(4)),
            Self.fileName(sequence: value) == fileName
        else { return nil }
        return value
    }

    /// Fills 4096 bytes.
    public func encode(to target: UnsafeMutableRawBufferPointer) {
        precondition(target.count == Self.byteCount)
        target.initializeMemory(as: UInt8.self, repeating: 0)
        for copy in 0..<2 {
            let start = copy * Self.copyBytes
            let slot = UnsafeMutableRawBufferPointer(
                rebasing: target[start..<(start + Self.copyBytes)])
            let fields = ByteFields(slot)
            fields.store(Self.magic, at: 0)
            fields.store(Self.version, at: 12)
            fields.store(volume.high, at: 16)
            fields.store(volume.low, at: 24)
            fields.store(sequence, at: 32)
            fields.store(epoch, at: 40)
            fields.store(epochFirstLSN.rawValue, at: 48)
            fields.store(salt, at: 56)
            fields.store(fileBytes, at: 64)
            fields.store(clinux_crc32c(0, slot.baseAddress! + 12, Self.copyBytes - 12), at: 8)
        }
    }

    public enum DecodeFailure: Error, Sendable, Hashable {
        case damaged
        case futureVersion(UInt32)
    }

    /// Reads the header from the first bytes of a file; either copy suffices.
    public static func decode(
        _ source: UnsafeRawBufferPointer
    ) -> Result<WALFileHeader, DecodeFailure> {
        var failure = DecodeFailure.damaged
        for copy in 0..<2 where source.count >= (copy + 1) * copyBytes {
            let start = copy * copyBytes
            let slot = UnsafeRawBufferPointer(rebasing: source[start..<(start + copyBytes)])
            let fields = ByteFields(reading: slot)
            guard fields.load(0, as: UInt64.self) == magic,
                fields.load(8, as: UInt32.self)
                    == clinux_crc32c(0, slot.baseAddress! + 12, copyBytes - 12)
            else { continue }
            let found = fields.load(12, as: UInt32.self)
            guard found == version else {
                failure = found > version ? .futureVersion(found) : .damaged
                continue
            }
            let header = WALFileHeader(
                volume: VolumeID(
                    high: fields.load(16, as: UInt64.self), low: fields.load(24, as: UInt64.self)),
                sequence: fields.load(32, as: UInt64.self),
                epoch: fields.load(40, as: UInt64.self),
                epochFirstLSN: LSN(fields.load(48, as: UInt64.self)),
                salt: fields.load(56, as: UInt32.self),
                fileBytes: fields.load(64, as: UInt64.self))
            guard header.fileBytes >= UInt64(byteCount), header.fileBytes <= 1 << 40,
                header.fileBytes % 4096 == 0
            else { continue }
            return .success(header)
        }
        return .failure(failure)
    }
}
