// What a view keeps of the blocks it has read: of compressed ones the bytes, of others checksums of
// their pieces, so that a small read needs no more than it asks for and is checked all the same.
// A sealed store keeps decrypted chunks in one.
//
// Two generations in each part: what is used moves to the young one; when that has its share, it
// becomes the old one and what was old is dropped. So nothing is sorted, and nothing in use lost.

import CLinux
import LogFormat
import Synchronization

/// Checksums of the pieces of a block whose own checksum was right.
final class PieceChecks: Sendable {
    static let pieceBytes = 4096
    private let sums: [UInt32]

    init(_ block: UnsafeRawBufferPointer) {
        sums = stride(from: 0, to: block.count, by: Self.pieceBytes).map { start in
            let end = min(start + Self.pieceBytes, block.count)
            return Self.sum(UnsafeRawBufferPointer(rebasing: block[start..<end]))
        }
    }

    /// Whether `bytes`, whole pieces from offset `start` on, are what they were.
    func fit(_ bytes: UnsafeRawBufferPointer, from start: Int) -> Bool {
        var position = 0
        while position < bytes.count {
            let end = min(position + Self.pieceBytes, bytes.count)
            let piece = UnsafeRawBufferPointer(rebasing: bytes[position..<end])
            guard Self.sum(piece) == sums[(start + position) / Self.pieceBytes] else {
                return false
            }
            position = end
        }
        return true
    }

    private static func sum(_ bytes: UnsafeRawBufferPointer) -> UInt32 {
        bytes.baseAddress.map { clinux_crc32c(0, $0, bytes.count) } ?? 0
    }
}

/// The blocks of one view. Any thread may call; two that miss the same block at once both read it.
final class BlockCache: Sendable {
    struct Key: Hashable {
        var source: Int
        var number: Int
    }
    fileprivate enum Content {
        case bytes(RawMemory)
        case checks(PieceChecks)
    }
    private struct Part {
        var young: [Key: Content] = [:]
        var old: [Key: Content] = [:]
        /// Bytes of the young generation.
        var weight = 0

        mutating func find(_ key: Key, share: Int) -> Content? {
            if let found = young[key] { return found }
            guard let found = old.removeValue(forKey: key) else { return nil }
            add(found, key, share: share)
            return found
        }

        mutating func add(_ content: Content, _ key: Key, share: Int) {
            if young.updateValue(content, forKey: key) == nil { weight += content.weight }
            guard weight > share else { return }
            old = young
            young = [:]
            weight = 0
        }
    }
    private final class Lane: Sendable {
        let part = Mutex(Part())
    }
    private static let laneCount = 16

    private let lanes = (0..<BlockCache.laneCount).map { _ in Lane() }
    /// Bytes of one generation of one part.
    private let share: Int

    /// Keeps up to about `bytesMax` bytes.
    init(bytesMax: Int) { share = bytesMax / 2 / Self.laneCount }

    func block<Failure: Error>(
        _ key: Key, read: () throws(Failure) -> RawMemory
    ) throws(Failure) -> RawMemory {
        if case .bytes(let memory) = find(key) { return memory }
        let memory = try read()
        add(.bytes(memory), key)
        return memory
    }

    func checks(_ key: Key) -> PieceChecks? {
        if case .checks(let checks) = find(key) { checks } else { nil }
    }

    func add(_ checks: PieceChecks, _ key: Key) { add(.checks(checks), key) }

    private func find(_ key: Key) -> Content? {
        lane(key).part.withLock { $0.find(key, share: share) }
    }

    private func add(_ content: Content, _ key: Key) {
        lane(key).part.withLock { $0.add(content, key, share: share) }
    }

    private func lane(_ key: Key) -> Lane {
        lanes[(key.source &* 31 &+ key.number) & (Self.laneCount - 1)]
    }
}

extension BlockCache.Content {
    /// Bytes of memory, roughly.
    fileprivate var weight: Int {
        switch self {
        case .bytes(let memory): memory.count + 128
        case .checks: 192
        }
    }
}
