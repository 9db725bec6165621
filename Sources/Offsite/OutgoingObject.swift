// An object on its way to a bucket: parts go as they are full, but for the first, which waits for
// the head that is known at the end. Holds two parts at most, besides those under way.

import ObjectStorage
import Shipping

/// One thread.
final class OutgoingObject {
    private let upload: ObjectFileUpload
    private let partBytes: Int
    /// The first part without the head, when it is full.
    private var first: [UInt8]?
    private var pending: [UInt8] = []
    /// Stores take 10,000 parts of an object.
    private static let partsMax: UInt64 = 9_000

    init(_ folder: ObjectFolder, _ name: String, expectedBytes: UInt64) {
        upload = folder.upload(name)
        let least = (expectedBytes / Self.partsMax / (1 << 20) + 1) << 20
        partBytes = max(folder.partBytes, Int(clamping: least))
    }

    func append(_ bytes: UnsafeRawBufferPointer) throws(ShipError) {
        var rest = UnsafeRawBufferPointer(rebasing: bytes[...])
        while !rest.isEmpty {
            // Only when more comes: the last part may be short, and an object in one put is
            // cheaper.
            if pending.count == partBytes { try flush() }
            let piece = rest.prefix(partBytes - pending.count)
            pending.append(contentsOf: piece)
            rest = UnsafeRawBufferPointer(rebasing: rest.dropFirst(piece.count))
        }
    }

    private func flush() throws(ShipError) {
        if first == nil { first = pending } else { try upload.add(pending) }
        pending = []
    }

    func finish(head: [UInt8]) throws(ShipError) {
        if first == nil {
            first = pending
        } else if !pending.isEmpty {
            try upload.add(pending)
        }
        pending = []
        try upload.finish(first: head + (first ?? []))
    }

    func abandon() { upload.abandon() }
}
