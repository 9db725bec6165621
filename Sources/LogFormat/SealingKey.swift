// The key of a key file and what is derived from it (head of SealedFormat.swift). Values; the key's
// bytes leave only by `withBytes`, for who writes the file. Any thread may use it.

import BlockModel
import Crypto

/// Names a key without telling anything of it.
public struct SealingKeyID: Hashable, Sendable {
    /// The 16 bytes as two big-endian words.
    var high: UInt64
    var low: UInt64

    init(_ bytes: UnsafeRawPointer) {
        high = UInt64(bigEndian: bytes.loadUnaligned(as: UInt64.self))
        low = UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
    }

    func store(to target: UnsafeMutableRawPointer) {
        target.storeBytes(of: high.bigEndian, as: UInt64.self)
        target.storeBytes(of: low.bigEndian, toByteOffset: 8, as: UInt64.self)
    }
}

extension SealingKeyID: CustomStringConvertible {
    /// 32 hexadecimal digits.
    public var description: String {
        [high, low].map { word in
            let digits = String(word, radix: 16)
            return String(repeating: "0", count: 16 - digits.count) + digits
        }.joined()
    }
}

/// 32 secret bytes that seal the segments of any number of volumes.
public struct SealingKey: Sendable {
    public static let byteCount = 32

    private let key: SymmetricKey
    let wrappingKey: SymmetricKey
    public let id: SealingKeyID

    /// A new one from the system's random numbers.
    public static func random() -> SealingKey { SealingKey(SymmetricKey(size: .bits256)) }

    /// From 32 bytes; nil for any other number. They are copied.
    public init?(_ bytes: UnsafeRawBufferPointer) {
        guard bytes.count == Self.byteCount else { return nil }
        self.init(SymmetricKey(data: bytes))
    }

    private init(_ key: SymmetricKey) {
        self.key = key
        wrappingKey = Self.derive(key, "logdisk sealed wrap 1", count: 32)
        id = Self.derive(key, "logdisk sealed id 1", count: 16).withUnsafeBytes {
            SealingKeyID($0.baseAddress!)
        }
    }

    /// The 32 bytes, borrowed for the call.
    public func withBytes<R>(_ body: (UnsafeRawBufferPointer) throws -> R) rethrows -> R {
        try key.withUnsafeBytes(body)
    }

    /// What stands for `digest` outside: the same for the same digest, volume and key; nil where
    /// there is none.
    public func chainID(of digest: SegmentDigest?, volume: VolumeID) -> SegmentDigest? {
        guard let digest, digest != .none else { return nil }
        return chainKey(of: volume).chainID(of: digest)
    }

    func chainKey(of volume: VolumeID) -> ChainKey {
        var salt = [UInt8](repeating: 0, count: 16)
        salt.withUnsafeMutableBytes {
            $0.storeBytes(of: volume.high.bigEndian, as: UInt64.self)
            $0.storeBytes(of: volume.low.bigEndian, toByteOffset: 8, as: UInt64.self)
        }
        return ChainKey(key: Self.derive(key, salt: salt, "logdisk sealed chain 1", count: 32))
    }

    private static func derive(
        _ key: SymmetricKey, salt: [UInt8] = [], _ info: String, count: Int
    ) -> SymmetricKey {
        HKDF<SHA256>.deriveKey(
            inputKeyMaterial: key, salt: salt, info: Array(info.utf8), outputByteCount: count)
    }
}

/// Makes the chain ids of one volume.
struct ChainKey {
    fileprivate let key: SymmetricKey

    func chainID(of digest: SegmentDigest) -> SegmentDigest {
        var bytes = [UInt8](repeating: 0, count: 32)
        bytes.withUnsafeMutableBytes { digest.store(to: $0.baseAddress!) }
        return HMAC<SHA256>.authenticationCode(for: bytes, using: key).withUnsafeBytes {
            SegmentDigest($0.baseAddress!)
        }
    }
}
