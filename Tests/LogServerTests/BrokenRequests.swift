// Requests that are wrong in one of many ways, from a seed.

import DiskIO
import Foundation

struct BrokenRequests {
    let token: String
    let segment: MadeSegment

    private static let methods = [
        "GET", "PUT", "POST", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "CONNECT", "BREW",
        "get", "", "G\u{0}T", "GETGETGETGETGET",
    ]
    private static let words = [
        "v1", "volumes", "db1", "..", "%2e%2e", "uploads", "segments", "leases", "writer",
        "retention", "u", "", "health", "%00", "\u{0}", "a b", "\u{fffd}", "*", "{}", "'",
    ]
    private static let fields = [
        "Content-Length: -1", "Content-Length: 99999999999999999999", "Content-Length: 5",
        "Content-Length: 3\r\nContent-Length: 4", "Transfer-Encoding: chunked",
        "Transfer-Encoding: gzip, chunked", "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Upload-Offset: 18446744073709551615", "Upload-Offset: -1", "Upload-Offset: 0",
        "Range: bytes=0-18446744073709551615", "Range: bytes=--1", "Expect: 100-continue",
        "Connection: close", "Connection: upgrade\r\nUpgrade: websocket", "Host: \u{1}",
        "Authorization: Bearer", "Authorization: \u{ff}", "Logdisk-Writer: writer-1",
        ": empty", "No colon at all", "X: a\rb", "X: a\nb", " folded", "X\u{0}: y",
    ]

    /// The bytes of one.
    mutating func next(_ random: inout SeededRandom) -> [UInt8] {
        switch random.below(12) {
        case 0: return noise(&random, count: 1 + random.below(300))
        case 1: return Array("GET ".utf8) + noise(&random, count: random.below(2000))
        case 2:
            let name = String(repeating: "x", count: random.below(20_000))
            return Array("GET /\(name) HTTP/1.1\r\n\r\n".utf8)
        case 3:
            let field = "X-\(random.below(9)): " + String(repeating: "y", count: random.below(9000))
            let count = 1 + random.below(12)
            let head = String(repeating: field + "\r\n", count: count)
            return Array("GET /v1/health HTTP/1.1\r\n\(head)\r\n".utf8)
        case 4: return Array(whole(&random).prefix(random.below(200)))
        case 5:
            // Lines of chunks that are no numbers.
            let body = String(random.next(), radix: 16) + "\r\nabc\r\nzz\r\n\r\n"
            let head = "PATCH /v1/volumes/db1/uploads/u HTTP/1.1\r\nHost: x\r\n"
            return Array("\(head)Transfer-Encoding: chunked\r\n\r\n\(body)".utf8)
        case 6:
            var bytes = whole(&random)
            for _ in 0..<1 + random.below(4) {
                bytes[random.below(bytes.count)] = UInt8(random.below(256))
            }
            return bytes
        default: return whole(&random)
        }
    }

    private func noise(_ random: inout SeededRandom, count: Int) -> [UInt8] {
        (0..<count).map { _ in UInt8(truncatingIfNeeded: random.next()) }
    }

    private func whole(_ random: inout SeededRandom) -> [UInt8] {
        let method = Self.methods[random.below(Self.methods.count)]
        let path = (0..<1 + random.below(6)).map { _ in Self.words[random.below(Self.words.count)] }
            .joined(separator: "/")
        let version = ["HTTP/1.1", "HTTP/1.0", "HTTP/2", "HTTP/9.9", ""][random.below(5)]
        var text = "\(method) /\(path) \(version)\r\nHost: x\r\n"
        if random.chance(0.7) { text += "Authorization: Bearer \(token)\r\n" }
        for _ in 0..<random.below(4) {
            text += Self.fields[random.below(Self.fields.count)] + "\r\n"
        }
        let body = noise(&random, count: random.below(40))
        if random.chance(0.6) { text += "Content-Length: \(body.count)\r\n" }
        return Array((text + "\r\n").utf8) + body
    }
}
