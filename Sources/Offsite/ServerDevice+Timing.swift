// How fast a server takes files: tried out in a set of its own, which never becomes visible and is
// removed again. What a test that was cut short leaves there is removed by the next one.

import Crypto
import ServerAPI
import Shipping
import Spread

extension ServerDevice {
    private static let namePrefix = "measure-"

    func measuredTiming() throws(DeviceFailure) -> DeviceTiming? {
        let state = try ask { () throws(ShipError) in try client.backup() }
        guard state.access != "read-only" else { return nil }
        for set in state.sets where !set.isComplete && set.name == Self.namePrefix + set.id {
            // Another run may measure just now.
            try? client.removeSet(set.id)
        }
        let id = (0..<16).map { _ in UInt8.random(in: .min ... .max) }.hexText
        let request = SetRequest(
            name: Self.namePrefix + id, deviceID: id, createdNanoseconds: 0)
        _ = try ask { () throws(ShipError) in try client.beginSet(id, request) }
        defer { try? client.removeSet(id) }
        func write(_ bytes: UnsafeRawBufferPointer, _ number: UInt64) throws(DeviceFailure) {
            var file = OutgoingFile(set: id, name: ServerAPI.itemFile(number), headBytes: 0)
            file.pending = Array(bytes)
            let digest = Array(SHA256.hash(data: file.pending)).hexText
            try file.finish(head: [], sha256: digest, self)
        }
        return try ItemCost.timing(
            small: { number, bytes throws(DeviceFailure) in try write(bytes, UInt64(number)) },
            large: { bytes throws(DeviceFailure) in try write(bytes, 1 << 20) },
            sync: { () throws(DeviceFailure) in })
    }
}
