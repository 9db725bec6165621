// WAL files made by hand for the tests of recovery, and small helpers.

import BlockModel
import CLinux
import DiskIO
import LogFormat
import WriteLog

/// Writes WAL files record by record, valid or not, on a simulated disk.
struct LogMaker {
    static let directory = "/wal"
    let storage: SimulatedStorage
    var volume = VolumeID(high: 0x1111, low: 0x2222)
    var epoch: UInt64 = 1
    var epochFirstLSN = LSN(1)
    var salt: UInt32 = 0xABCD_1234
    var fileBytes: UInt64 = 12288

    init(storage: SimulatedStorage = SimulatedStorage(seed: 1)) throws {
        self.storage = storage
        if !storage.exists(Self.directory) { try storage.createDirectory(Self.directory) }
    }

    func path(_ sequence: UInt64) -> String {
        Self.directory + "/" + WALFileHeader.fileName(sequence: sequence)
    }

    /// The bytes of a write of one sector whose content is told by its LSN.
    func record(_ lsn: UInt64, claims durable: UInt64 = 0) -> [UInt8] {
        record(
            RecordHeader(
                stamp: Stamp(lsn: LSN(lsn), wallNanoseconds: Int64(lsn) * 10), kind: .write,
                extent: Extent(start: lsn % 8, count: 1), payloadBytes: 512, payloadCRC: 0,
                durableLSN: LSN(durable)), payload: Self.payload(lsn))
    }

    func record(_ header: RecordHeader, payload: [UInt8]) -> [UInt8] {
        var header = header
        header.payloadCRC = payload.withUnsafeBytes { clinux_crc32c(0, $0.baseAddress, $0.count) }
        var bytes = [UInt8](repeating: 0, count: header.logBytes)
        bytes.withUnsafeMutableBytes { target in
            guard let base = target.baseAddress else { return }
            header.encodeUnpublished(to: base, salt: salt)
            base.storeBytes(of: RecordHeader.magic.littleEndian, as: UInt32.self)
            payload.withUnsafeBytes {
                UnsafeMutableRawBufferPointer(rebasing: target[512...]).copyMemory(from: $0)
            }
        }
        return bytes
    }

    static func payload(_ lsn: UInt64) -> [UInt8] {
        (0..<512).map { UInt8(truncatingIfNeeded: lsn &* 37 &+ UInt64($0)) }
    }

    func header(_ sequence: UInt64) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: WALFileHeader.byteCount)
        bytes.withUnsafeMutableBytes {
            WALFileHeader(
                volume: volume, sequence: sequence, epoch: epoch, epochFirstLSN: epochFirstLSN,
                salt: salt, fileBytes: fileBytes
            ).encode(to: $0)
        }
        return bytes
    }

    /// A whole file of full size: header, records, zeros.
    func content(_ sequence: UInt64, _ records: [[UInt8]]) -> [UInt8] {
        let used = header(sequence) + records.joined()
        return used + [UInt8](repeating: 0, count: Int(fileBytes) - used.count)
    }

    func put(_ bytes: [UInt8], as sequence: UInt64) throws {
        let file = try storage.open(
            path(sequence), OpenOptions(.readWrite, creation: .ifMissing))
        defer { file.close() }
        try file.truncate(to: 0)
        try write(bytes, to: file)
        try file.sync()
    }

    private func write(_ bytes: [UInt8], to file: StorageFile) throws {
        var failure: IOError?
        bytes.withUnsafeBytes { bytes in
            do throws(IOError) { try file.write(bytes, at: 0) } catch { failure = error }
        }
        if let failure { throw failure }
    }

    /// What recovery reads: the contents, and the records that were redone.
    func read(
        checkpoint: UInt64 = 0, durable: UInt64 = 0
    ) throws -> (contents: LogContents, redone: [(lsn: UInt64, payload: [UInt8])]) {
        var redone: [(lsn: UInt64, payload: [UInt8])] = []
        let contents = try readLog(
            in: Self.directory, on: storage, volume: volume,
            checkpoint: Stamp(lsn: LSN(checkpoint), wallNanoseconds: Int64(checkpoint) * 10),
            durable: LSN(durable)
        ) { record in
            redone.append((record.header.stamp.lsn.rawValue, Array(record.payload)))
        }
        return (contents, redone)
    }
}

/// A clock that moves only when told.
final class SteppedClock: WallClock, @unchecked Sendable {
    // @unchecked: one test is one thread where it is stepped.
    var now: Int64 = 1000

    override func nanoseconds() -> Int64 { now }
}

/// Puts the right checksum into a header copy at `offset` of a WAL file.
func fixChecksum(_ bytes: inout [UInt8], _ offset: Int) {
    let crc = bytes[offset + 12..<offset + 512].withUnsafeBytes {
        clinux_crc32c(0, $0.baseAddress, $0.count)
    }
    for i in 0..<4 { bytes[offset + 8 + i] = UInt8(truncatingIfNeeded: crc >> (8 * UInt32(i))) }
}
