// Real segments of one volume, one after the other, each following the one before as stores that
// check what they take want it: a snapshot at LSN 0 first, then logs and merged segments.

import BlockModel
import History
import LogFormat

/// Makes valid segments. One thread.
public final class SegmentMaker {
    public let volume = VolumeID(high: 0x1111_2222_3333_4444, low: 0x8555_6666_7777_9999)
    public let volumeBytes: UInt64 = 64 << 20
    private var last = Stamp(lsn: .zero, wallNanoseconds: 1_700_000_000_000_000_000)
    /// Of the log segment made last.
    private var digest = SegmentDigest.none
    private var state: UInt64

    public init(seed: UInt64) { state = seed | 1 }

    /// Another one that goes on from here with other bytes. Seeds count without their lowest bit.
    public func fork(seed: UInt64) -> SegmentMaker {
        let other = SegmentMaker(seed: seed)
        other.last = last
        other.digest = digest
        return other
    }

    /// Goes on where `other` is.
    public func adopt(_ other: SegmentMaker) {
        last = other.last
        digest = other.digest
    }

    /// The LSN made last.
    public var lsn: LSN { last.lsn }

    private func random() -> UInt64 {
        state ^= state << 13
        state ^= state >> 7
        state ^= state << 17
        return state
    }

    /// The snapshot of an empty volume at the LSN made last.
    public func snapshot() -> (name: SegmentName, bytes: [UInt8]) {
        let header = header(.snapshot, first: last, after: .none)
        let (bytes, _) = encode(header) { _ in }
        return (.snapshot(last.lsn), bytes)
    }

    /// A log of `records` writes, together about `bytes` long; what is written cannot be
    /// compressed. It follows the log made last.
    public func log(records: Int, bytes: Int) -> (name: SegmentName, bytes: [UInt8]) {
        let first = Stamp(
            lsn: last.lsn.next, wallNanoseconds: last.wallNanoseconds + 1000)
        let size = max(1, bytes / records / Sector.bytes) * Sector.bytes
        let header = header(.log, first: first, after: digest)
        let (content, footer) = encode(header) { encoder in
            for i in 0..<records {
                var payload = [UInt8](repeating: 0, count: min(size, 1 << 20))
                for k in stride(from: 0, to: payload.count, by: 8) {
                    withUnsafeBytes(of: random()) { word in
                        for j in 0..<8 { payload[k + j] = word[j] }
                    }
                }
                last = Stamp(
                    lsn: LSN(first.lsn.rawValue + UInt64(i)),
                    wallNanoseconds: first.wallNanoseconds + Int64(i))
                payload.withUnsafeBytes { payload in
                    encoder.append(
                        LogRecord(
                            header: RecordHeader(
                                stamp: last, kind: .write,
                                extent: Extent(
                                    start: random() % 65_536,
                                    count: UInt64(payload.count / Sector.bytes)),
                                payloadBytes: payload.count,
                                payloadCRC: Checksum.crc32c(payload)),
                            payload: payload))
                }
            }
        }
        digest = footer.digest
        return (SegmentName(first: first.lsn, last: last.lsn, kind: .log), content)
    }

    private func header(
        _ kind: SegmentKind, first: Stamp, after: SegmentDigest
    ) -> SegmentHeader {
        SegmentHeader(
            kind: kind, volume: volume, epoch: 1, volumeBytes: volumeBytes, first: first,
            predecessor: after, blockBytes: 64 << 10)
    }

    private func encode(
        _ header: SegmentHeader, _ fill: (SegmentEncoder<Never>) -> Void
    ) -> ([UInt8], SegmentFooter) {
        let target = Bytes()
        let encoder = SegmentEncoder<Never>(header: header) { target.bytes += $0 }
        fill(encoder)
        let footer = encoder.finish()
        return (target.bytes, footer)
    }

    private final class Bytes { var bytes: [UInt8] = [] }
}
