// Small valid segments of one made-up volume.

import BlockModel
import Crypto
import DiskIO
import Foundation
import History
import LogFormat

/// A segment and what is sent along with it.
struct MadeSegment {
    var name: SegmentName
    var bytes: [UInt8]
    /// What a log behind names.
    var chainDigest: String?

    /// The one in the footer.
    var digest: String {
        bytes.suffix(48).prefix(32).map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }

    var sha256: String {
        SHA256.hash(data: bytes).map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }
}

/// Makes segments of one volume.
struct SegmentMaker {
    var volume = VolumeID(high: 0x0102_0304_0506_4708, low: 0x890A_0B0C_0D0E_0F10)
    var volumeBytes: UInt64 = 1 << 20
    /// Wall time of LSN 0; each record is a second later.
    var start: Int64 = 1_700_000_000_000_000_000

    func stamp(_ lsn: UInt64) -> Stamp {
        Stamp(lsn: LSN(lsn), wallNanoseconds: start + Int64(lsn) * 1_000_000_000)
    }

    /// A log or merged segment of writes of one sector, each filled with `fill`.
    func records(
        _ lsns: ClosedRange<UInt64>, after digest: SegmentDigest = .none,
        kind: SegmentKind = .log, fill: UInt8 = 7, isNoise: Bool = false
    ) -> MadeSegment {
        let box = Bytes()
        let encoder = SegmentEncoder<Never>(
            header: SegmentHeader(
                kind: kind, volume: volume, epoch: 1, volumeBytes: volumeBytes,
                first: stamp(lsns.lowerBound), predecessor: digest, blockBytes: 4096)
        ) { box.bytes += $0 }
        var random = SeededRandom(seed: 1)
        var payload = [UInt8](repeating: fill, count: Sector.bytes)
        for lsn in lsns {
            if isNoise {
                for i in payload.indices { payload[i] = UInt8(truncatingIfNeeded: random.next()) }
            }
            payload.withUnsafeBytes { bytes in
                encoder.append(
                    LogRecord(
                        header: RecordHeader(
                            stamp: stamp(lsn), kind: .write,
                            extent: Extent(start: lsn % (volumeBytes / 512), count: 1),
                            payloadBytes: bytes.count, payloadCRC: Checksum.crc32c(bytes)),
                        payload: bytes))
            }
        }
        let footer = encoder.finish()
        let own: SegmentDigest? =
            kind == .log ? footer.digest : digest == .none ? nil : digest
        return MadeSegment(
            name: SegmentName(
                first: LSN(lsns.lowerBound), last: LSN(lsns.upperBound), kind: kind),
            bytes: box.bytes, chainDigest: own.map { "\($0)" })
    }

    /// A log that follows another segment.
    func log(_ lsns: ClosedRange<UInt64>, after: MadeSegment) -> MadeSegment {
        records(lsns, after: after.chainDigest.flatMap(Self.digest) ?? .none)
    }

    func snapshot(_ lsn: UInt64, fill: UInt8 = 1) -> MadeSegment {
        let box = Bytes()
        let encoder = SegmentEncoder<Never>(
            header: SegmentHeader(
                kind: .snapshot, volume: volume, epoch: 1, volumeBytes: volumeBytes,
                first: stamp(lsn), blockBytes: 4096)
        ) { box.bytes += $0 }
        encoder.beginExtent(Extent(start: 0, count: 8))
        [UInt8](repeating: fill, count: 4096).withUnsafeBytes { encoder.appendData($0) }
        _ = encoder.finish()
        return MadeSegment(name: .snapshot(LSN(lsn)), bytes: box.bytes)
    }

    static func digest(_ text: String) -> SegmentDigest? {
        let digits = Array(text)
        guard digits.count == 64 else { return nil }
        let bytes = stride(from: 0, to: 64, by: 2).compactMap {
            UInt8(String(digits[$0...$0 + 1]), radix: 16)
        }
        return bytes.count == 32 ? bytes.withUnsafeBytes { SegmentDigest($0.baseAddress!) } : nil
    }

    private final class Bytes {
        var bytes: [UInt8] = []
    }
}
