// Interfaces of this machine as the kernel tells of them: counters, speed, and which one leads to
// an address. The tables are read by pure functions; only `counters`, `speed` and `leading` touch
// /sys and /proc.

import Foundation

/// An address of IPv4 or IPv6 as its bytes.
public struct NetworkAddress: Hashable, Sendable {
    /// 4 or 16.
    public var bytes: [UInt8]

    public init?(_ bytes: [UInt8]) {
        guard bytes.count == 4 || bytes.count == 16 else { return nil }
        let mapped = [UInt8](repeating: 0, count: 10) + [0xFF, 0xFF]
        self.bytes = bytes.starts(with: mapped) && bytes.count == 16 ? Array(bytes[12...]) : bytes
    }

    /// Reads `10.1.2.3` or `fe80::1`, with or without a zone.
    public init?(_ text: String) {
        let plain = String(text.prefix { $0 != "%" })
        var v4 = in_addr()
        if inet_pton(AF_INET, plain, &v4) == 1 {
            self.init(withUnsafeBytes(of: &v4) { Array($0) })
            return
        }
        var v6 = in6_addr()
        guard inet_pton(AF_INET6, plain, &v6) == 1 else { return nil }
        self.init(withUnsafeBytes(of: &v6) { Array($0) })
    }

    public var isLoopback: Bool {
        bytes.count == 4
            ? bytes[0] == 127 : bytes.dropLast().allSatisfy { $0 == 0 } && bytes.last == 1
    }

    func hasPrefix(_ prefix: [UInt8], bits: Int) -> Bool {
        guard prefix.count == bytes.count, (0...bytes.count * 8).contains(bits) else {
            return false
        }
        for i in 0..<bits where (bytes[i / 8] ^ prefix[i / 8]) & (0x80 >> UInt8(i % 8)) != 0 {
            return false
        }
        return true
    }
}

/// The routes of this machine.
public struct RouteTable: Sendable {
    private struct Route {
        var prefix: [UInt8]
        var bits: Int
        var metric: UInt32
        var interface: String
    }
    private var routes: [Route] = []

    /// From the texts of /proc/net/route and /proc/net/ipv6_route.
    public init(ipv4: String, ipv6: String) {
        for line in ipv4.split(separator: "\n").dropFirst() { addIPv4(line) }
        for line in ipv6.split(separator: "\n") { addIPv6(line) }
    }

    /// `eth0 0001A8C0 00000000 0001 0 0 100 00FFFFFF …`: numbers in the machine's byte order.
    private mutating func addIPv4(_ line: Substring) {
        let fields = line.split(whereSeparator: { $0 == "\t" || $0 == " " })
        guard fields.count >= 8, let target = UInt32(fields[1], radix: 16),
            let flags = UInt32(fields[3], radix: 16), flags & 1 != 0,  // RTF_UP
            let metric = UInt32(fields[6]), let mask = UInt32(fields[7], radix: 16)
        else { return }
        let prefix = withUnsafeBytes(of: target.littleEndian) { Array($0) }
        routes.append(
            Route(
                prefix: prefix, bits: mask.nonzeroBitCount, metric: metric,
                interface: String(fields[0])))
    }

    /// `PREFIX(32 digits) BITS SOURCE BITS NEXTHOP METRIC … FLAGS INTERFACE`.
    private mutating func addIPv6(_ line: Substring) {
        let fields = line.split(separator: " ")
        guard fields.count >= 10, fields[0].utf8.count == 32,
            let bits = Int(fields[1], radix: 16), let metric = UInt32(fields[5], radix: 16),
            let flags = UInt32(fields[8], radix: 16), flags & 1 != 0, flags & 0x200 == 0
        else { return }  // not up, or a route that refuses
        var prefix: [UInt8] = []
        var rest = fields[0]
        while let byte = UInt8(rest.prefix(2), radix: 16), rest.count >= 2 {
            prefix.append(byte)
            rest = rest.dropFirst(2)
        }
        guard prefix.count == 16 else { return }
        routes.append(
            Route(prefix: prefix, bits: bits, metric: metric, interface: String(fields[9])))
    }

    /// The interface of the most special route to `address`; nil where none leads there.
    public func interface(to address: NetworkAddress) -> String? {
        if address.isLoopback { return "lo" }
        return routes.filter { address.hasPrefix($0.prefix, bits: $0.bits) }
            .max { ($0.bits, $1.metric) < ($1.bits, $0.metric) }?.interface
    }
}

/// The kernel's view of interfaces.
public enum NetworkInterfaces {
    private static func text(_ path: String) -> String? {
        FileManager.default.contents(atPath: path).map { String(decoding: $0, as: UTF8.self) }
    }

    private static func number(_ path: String) -> UInt64? {
        text(path).flatMap { UInt64($0.filter { !$0.isWhitespace }) }
    }

    public static func exists(_ interface: String) -> Bool { bytes(interface) != nil }

    /// Bytes received and sent since the interface came up; nil where there is none.
    public static func bytes(_ interface: String) -> UInt64? {
        // Not /sys/class/net: that shows the interfaces of the network namespace in which it was
        // mounted, this one those of our own.
        text("/proc/net/dev").flatMap { bytes(of: interface, in: $0) }
    }

    /// The same from the text of /proc/net/dev: two lines of headings, then `name:` and eight
    /// numbers received (bytes first) and eight sent.
    package static func bytes(of interface: String, in table: String) -> UInt64? {
        for line in table.split(separator: "\n").dropFirst(2) {
            guard let colon = line.lastIndex(of: ":"),
                line[..<colon].drop(while: { $0 == " " }) == interface[...]
            else { continue }
            let numbers = line[line.index(after: colon)...].split(separator: " ")
            guard numbers.count >= 9, let received = UInt64(numbers[0]),
                let sent = UInt64(numbers[8])
            else { return nil }
            return received &+ sent
        }
        return nil
    }

    /// Bytes a second that the link can carry; nil where the kernel does not know (loopback,
    /// bridges, most virtual interfaces).
    public static func speed(_ interface: String) -> UInt64? {
        // In megabits; -1 where it is not known.
        guard let megabits = number("/sys/class/net/\(interface)/speed"), megabits > 0,
            megabits < 1 << 31
        else { return nil }
        return megabits * 125_000
    }

    /// The interface that leads to `address` now.
    public static func leading(to address: NetworkAddress) -> String? {
        RouteTable(
            ipv4: text("/proc/net/route") ?? "", ipv6: text("/proc/net/ipv6_route") ?? ""
        ).interface(to: address)
    }

    /// The addresses of a host, by name or as written. Blocks while names are resolved.
    public static func addresses(of host: String) -> [NetworkAddress] {
        if let address = NetworkAddress(host) { return [address] }
        var hints = addrinfo()
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        var list: UnsafeMutablePointer<addrinfo>?
        guard getaddrinfo(host, nil, &hints, &list) == 0 else { return [] }
        defer { freeaddrinfo(list) }
        var found: [NetworkAddress] = []
        var next = list
        while let entry = next?.pointee {
            var name = [CChar](repeating: 0, count: Int(NI_MAXHOST))
            if getnameinfo(
                entry.ai_addr, entry.ai_addrlen, &name, socklen_t(name.count), nil, 0,
                NI_NUMERICHOST) == 0,
                let address = NetworkAddress(
                    String(
                        decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) },
                        as: UTF8.self))
            {
                found.append(address)
            }
            next = entry.ai_next
        }
        return found
    }
}
