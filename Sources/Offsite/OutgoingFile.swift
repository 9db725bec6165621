// A file on its way to a server: what the server has acknowledged, and the bytes behind it, which
// stay here until it has them too. A value of the device that sends it.

import ServerAPI
import Shipping
import Spread

struct OutgoingFile {
    let set: String
    let name: String
    let headBytes: Int
    /// Bytes of the content that the server has.
    private(set) var sent: UInt64 = 0
    /// Those behind, at most one request's worth.
    var pending: [UInt8] = []
    /// A request of this file may have reached the server.
    private(set) var isBegun = false
    private static let stepsMax = 16

    init(set: String, name: String, headBytes: Int) {
        (self.set, self.name, self.headBytes) = (set, name, headBytes)
    }

    private func place(_ offset: UInt64) -> LogServerClient.FilePlace {
        .init(set: set, name: name, headBytes: headBytes, offset: offset)
    }

    /// Sends what is pending.
    mutating func send(_ device: ServerDevice) throws(DeviceFailure) {
        let (start, bytes) = (sent, pending)
        try advance(to: start + UInt64(bytes.count), device) { (place) throws(ShipError) in
            try Self.with(bytes, from: Int(place.offset - start)) { (rest) throws(ShipError) in
                _ = try device.client.append(rest, at: place)
            }
        }
        pending.removeAll(keepingCapacity: true)
    }

    /// Appends zeros; nothing is pending.
    mutating func sendZeros(_ count: UInt64, _ device: ServerDevice) throws(DeviceFailure) {
        let end = sent + count
        try advance(to: end, device) { (place) throws(ShipError) in
            _ = try device.client.appendZeros(end - place.offset, at: place)
        }
    }

    /// Sends what is pending with the head, and ends the file.
    mutating func finish(
        head: [UInt8], sha256: String, _ device: ServerDevice
    ) throws(DeviceFailure) {
        let (start, bytes) = (sent, pending)
        let end = start + UInt64(bytes.count)
        try advance(to: end, endsFile: true, device) { (place) throws(ShipError) in
            let body = head + bytes[Int(place.offset - start)...]
            try Self.with(body, from: 0) { (body) throws(ShipError) in
                _ = try device.client.finishFile(body, at: place, total: end, sha256: sha256)
            }
        }
        pending.removeAll(keepingCapacity: true)
    }

    /// Carries out `request` until the server stands at `end`. What the server says of where it
    /// stands is believed as long as it lies between here and there.
    private mutating func advance(
        to end: UInt64, endsFile: Bool = false, _ device: ServerDevice,
        _ request: (LogServerClient.FilePlace) throws(ShipError) -> Void
    ) throws(DeviceFailure) {
        var position = sent
        for _ in 0..<Self.stepsMax {
            var stands: UInt64?
            var isStale = false
            try device.ask { () throws(ShipError) in
                let isFirst = !isBegun
                isBegun = true
                do throws(ShipError) {
                    try request(place(position))
                } catch {
                    guard case .rejected(let reply) = error, reply.code == .offset else {
                        throw error
                    }
                    stands = reply.bytes ?? 0
                    isStale = isFirst
                }
            }
            guard let now = stands else {
                sent = end
                return
            }
            if isStale {
                // What an item of this number has left that was given up.
                try device.ask { () throws(ShipError) in
                    try device.client.removeFile(name, ofSet: set)
                }
                continue
            }
            guard (sent...end).contains(now) else { break }
            position = now
            if now == end, !endsFile {
                sent = end
                return
            }
        }
        throw .broken("the server has lost the file \(name) on its way")
    }

    private static func with(
        _ bytes: [UInt8], from start: Int,
        _ body: (UnsafeRawBufferPointer) throws(ShipError) -> Void
    ) throws(ShipError) {
        var failure: ShipError?
        bytes.withUnsafeBytes { all in
            do throws(ShipError) {
                try body(UnsafeRawBufferPointer(rebasing: all[start...]))
            } catch { failure = error }
        }
        if let failure { throw failure }
    }
}
