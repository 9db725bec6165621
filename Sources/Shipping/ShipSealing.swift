// The one place where a key comes between the local segments and what leaves the machine. Without
// a key segments go as they are.

import BlockModel
import History
import LogFormat

/// What a remote gets of the segments of one volume. One thread.
final class ShipSealing {
    private let key: SealingKey?
    private let volume: VolumeID
    private var sources: [ObjectIdentifier: SealingSource] = [:]

    /// nil: plain.
    init(_ key: SealingKey?, volume: VolumeID) {
        self.key = key
        self.volume = volume
    }

    /// What stands for a digest outside.
    func outside(_ digest: SegmentDigest) -> SegmentDigest {
        key?.chainID(of: digest, volume: volume) ?? digest
    }

    /// A segment of `store` as it goes. What is sealed once keeps its bytes until it is forgotten,
    /// so that an upload that was cut goes on.
    func shipment(
        _ segment: CataloguedSegment, in store: any SegmentStore, after: SegmentDigest?, isGap: Bool
    ) throws(StoreError) -> Shipment {
        guard let key else {
            return Shipment(
                name: segment.name, byteCount: segment.footer.fileBytes, source: store,
                uploadID: "\(segment.footer.digest)",
                digest: { () throws(StoreError) in segment.footer.digest }, after: after,
                isGap: isGap)
        }
        let source = sources[ObjectIdentifier(store)] ?? SealingSource(store, key: key)
        sources[ObjectIdentifier(store)] = source
        let sealed = try source.prepare(
            StoredSegment(name: segment.name, byteCount: segment.footer.fileBytes))
        return Shipment(
            name: segment.name, byteCount: sealed.byteCount, source: source,
            uploadID: sealed.uploadID,
            digest: { () throws(StoreError) in try source.digest(segment.name) }, after: after,
            isGap: isGap)
    }

    /// It is there.
    func forget(_ name: SegmentName, in store: any SegmentStore) {
        sources[ObjectIdentifier(store)]?.forget(name)
    }
}

extension SegmentDigest {
    /// Reads 64 hexadecimal digits.
    init?(hexadecimal text: String) {
        var bytes: [UInt8] = []
        var rest = text[...]
        guard text.utf8.count == 64 else { return nil }
        while !rest.isEmpty {
            guard let byte = UInt8(rest.prefix(2), radix: 16) else { return nil }
            bytes.append(byte)
            rest = rest.dropFirst(2)
        }
        self = bytes.withUnsafeBytes { SegmentDigest($0.baseAddress!) }  // 32 bytes
    }
}
