// The digest of an item that is read back in pieces.

import Crypto

struct ItemHash {
    private var hasher = SHA256()
    private(set) var count: UInt64 = 0
    private static let zeros = [UInt8](repeating: 0, count: 1 << 16)

    mutating func update(_ piece: ItemPiece) {
        switch piece {
        case .bytes(let bytes):
            hasher.update(bufferPointer: bytes)
            count += UInt64(bytes.count)
        case .hole(let length):
            var left = length
            Self.zeros.withUnsafeBytes { zeros in
                while left > 0 {
                    let piece = Int(min(left, UInt64(zeros.count)))
                    hasher.update(bufferPointer: UnsafeRawBufferPointer(rebasing: zeros[..<piece]))
                    left -= UInt64(piece)
                }
            }
            count += length
        }
    }

    func finish() -> ContentDigest { ContentDigest(hasher.finalize()) }
}
