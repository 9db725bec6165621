// Sets at a server, read back: each file in large ranges.

import ServerAPI
import Shipping
import Spread

extension ServerDevice {
    private func reading(_ file: String, _ set: String) -> ItemReading {
        ItemReading { target, offset throws(DeviceFailure) in
            try self.fill(target, file, set, at: offset)
        }
    }

    /// A whole file; for small ones and manifests.
    func contents(_ file: String, of set: String) throws(DeviceFailure) -> [UInt8] {
        try reading(file, set).contents()
    }

    /// Bytes of a file; fewer, or none, at its end.
    private func fill(
        _ target: UnsafeMutableRawBufferPointer, _ file: String, _ set: String, at offset: UInt64
    ) throws(DeviceFailure) -> Int {
        try ask { () throws(ShipError) in
            do throws(ShipError) {
                return try client.readFile(file, ofSet: set, into: target, at: offset)
            } catch {
                if case .rejected(let reply) = error, reply.code == .range { return 0 }
                throw error
            }
        }
    }

    func readItem(
        _ item: StoredItem, _ file: String, _ set: String,
        _ header: (SegmentHeader?) -> Void, _ body: (ItemPiece) throws -> Void
    ) throws {
        try reading(file, set).read(item, header, body)
    }
}
