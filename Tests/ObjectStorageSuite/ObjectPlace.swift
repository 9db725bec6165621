// A bucket to test on, at whatever store: a fake one or a real engine. Each test takes a prefix of
// its own.

import BlockModel
import Foundation
import History
import LogFormat
import ObjectStorage
import SegmentStoreSuite
import ServerAPI
import Shipping

/// Where a store answers, and the keys to it.
public struct ObjectPlace: Sendable {
    public var endpoint: String
    public var bucket: String
    public var accessKey: String
    public var secretKey: String
    public var sessionToken: String?
    public var region = "us-east-1"
    /// For what a test wants otherwise.
    public var change: @Sendable (inout ObjectAccess) -> Void = { _ in }
    /// Keeps the store.
    public var keeper: (any Sendable)?

    public init(
        endpoint: String, bucket: String, accessKey: String, secretKey: String,
        sessionToken: String? = nil
    ) {
        self.endpoint = endpoint
        self.bucket = bucket
        self.accessKey = accessKey
        self.secretKey = secretKey
        self.sessionToken = sessionToken
    }

    public var access: ObjectAccess {
        var keys = ["AWS_ACCESS_KEY_ID": accessKey, "AWS_SECRET_ACCESS_KEY": secretKey]
        keys["AWS_SESSION_TOKEN"] = sessionToken
        var access = ObjectAccess(environment: keys)
        access.endpoint = endpoint
        access.region = region
        access.isPathStyle = true
        change(&access)
        return access
    }

    /// A prefix that nobody else uses.
    public func freshPrefix() -> String {
        "volume-" + String(UInt64.random(in: .min ... .max), radix: 16)
    }

    public func client(_ prefix: String) throws -> ObjectClient {
        try ObjectClient(ObjectURL("s3://\(bucket)/\(prefix)"), access: access)
    }

    /// A volume below a prefix, as `writer` sees it; nil: a reader.
    public func volume(
        _ prefix: String, writer: String?, graceSeconds: Int64 = 86_400
    ) throws -> ObjectVolume {
        ObjectVolume(try client(prefix), writer: writer, graceSeconds: graceSeconds)
    }

    /// The same, made for the segments of SegmentMaker.
    public func attached(
        _ prefix: String, writer: String = "writer", graceSeconds: Int64 = 86_400,
        keep: String? = nil
    ) throws -> ObjectVolume {
        let volume = try volume(prefix, writer: writer, graceSeconds: graceSeconds)
        _ = try volume.attach(Self.request(writer: writer, keep: keep))
        return volume
    }

    /// The volume of SegmentMaker.
    public static func request(writer: String, keep: String? = nil) -> VolumeRequest {
        let maker = SegmentMaker(seed: 0)
        return VolumeRequest(
            uuid: "\(maker.volume)", sizeBytes: maker.volumeBytes, writer: writer,
            host: "host of \(writer)", isSealed: false, keep: keep)
    }
}

/// One segment in memory as a source, and as a shipment.
public final class MemorySource: SegmentStore {
    public let name: SegmentName
    public let bytes: [UInt8]

    public init(_ segment: (name: SegmentName, bytes: [UInt8])) {
        (name, bytes) = (segment.name, segment.bytes)
    }

    public var label: String { "source" }

    public func list() -> [StoredSegment] {
        [StoredSegment(name: name, byteCount: UInt64(bytes.count))]
    }

    public func read(
        _ name: SegmentName, into target: UnsafeMutableRawBufferPointer, at offset: UInt64
    ) throws(StoreError) {
        guard name == self.name else { throw StoreError(.read, "\(name)", .missing) }
        guard Int(offset) + target.count <= bytes.count else {
            throw StoreError(.read, "\(name)", .short)
        }
        target.copyBytes(from: bytes[Int(offset)..<Int(offset) + target.count])
    }

    public func upload() throws(StoreError) -> any SegmentUpload {
        throw StoreError(.put, label, .refused("a source"))
    }

    public func delete(_ name: SegmentName) throws(StoreError) {
        throw StoreError(.delete, label, .refused("a source"))
    }

    /// The digest in its footer.
    public var digest: SegmentDigest { Self.digest(bytes.suffix(48).prefix(32)) }

    public static func digest(_ bytes: some Collection<UInt8>) -> SegmentDigest {
        Array(bytes).withUnsafeBytes { bytes in
            bytes.baseAddress.map { SegmentDigest($0) } ?? .none
        }
    }

    public func shipment(after head: VolumeReply.Head? = nil, isGap: Bool = false) -> Shipment {
        let digest = self.digest
        return Shipment(
            name: name, byteCount: UInt64(bytes.count), source: self, uploadID: "\(digest)",
            digest: { () throws(StoreError) in digest },
            after: name.kind == .snapshot ? nil : head?.digest.flatMap(Self.digest(hex:)),
            isGap: isGap)
    }

    private static func digest(hex text: String) -> SegmentDigest? {
        var bytes: [UInt8] = []
        var rest = text[...]
        while !rest.isEmpty {
            guard let byte = UInt8(rest.prefix(2), radix: 16) else { return nil }
            bytes.append(byte)
            rest = rest.dropFirst(2)
        }
        return bytes.count == 32 ? digest(bytes) : nil
    }
}

extension SegmentStore {
    /// All of a segment.
    public func content(_ name: SegmentName, _ count: Int) throws -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        try bytes.withUnsafeMutableBytes { try read(name, into: $0, at: 0) }
        return bytes
    }

    /// All segments with their bytes.
    public func everything() throws -> [SegmentName: [UInt8]] {
        var found: [SegmentName: [UInt8]] = [:]
        for segment in try list() {
            found[segment.name] = try content(segment.name, Int(segment.byteCount))
        }
        return found
    }
}
