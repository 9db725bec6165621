// Our end of a connection: a local address, or an interface by its name.
//
// An address sets the source of the packets, not their way: with several interfaces the routing
// table chooses that, by the destination, unless it has rules for sources. An interface is bound to
// by its index (SO_BINDTOIFINDEX, allowed to everybody since Linux 5.7): then packets leave by it
// whatever the routing table prefers, and answers are taken from it only.

import Glibc
import NIOCore

package struct LocalEnd {
    private let text: String
    /// nil where the text is meant to be an interface.
    package let address: SocketAddress?

    package init(_ text: String) {
        self.text = text
        let isBracketed = text.hasPrefix("[") && text.hasSuffix("]")
        let plain = isBracketed ? String(text.dropFirst().dropLast()) : text
        address = try? SocketAddress(ipAddress: plain, port: 0)
    }

    /// Looked up anew for every connection: interfaces come and go.
    var interfaceIndex: Int? {
        let index = if_nametoindex(text)
        return index > 0 ? Int(index) : nil
    }

    /// The addresses of `host` that are of the family of our own. Blocks for the look-up.
    func peers(_ host: String, _ port: Int) -> [SocketAddress] {
        guard let address else { return [] }
        var hints = addrinfo()
        hints.ai_family = address.protocol == .inet6 ? AF_INET6 : AF_INET
        hints.ai_socktype = CInt(SOCK_STREAM.rawValue)
        var list: UnsafeMutablePointer<addrinfo>?
        guard getaddrinfo(host, "\(port)", &hints, &list) == 0 else { return [] }
        defer { freeaddrinfo(list) }
        var found: [SocketAddress] = []
        var next = list
        while let entry = next?.pointee {
            entry.ai_addr.withMemoryRebound(to: sockaddr_storage.self, capacity: 1) { storage in
                if hints.ai_family == AF_INET6 {
                    storage.withMemoryRebound(to: sockaddr_in6.self, capacity: 1) {
                        found.append(SocketAddress($0.pointee))
                    }
                } else {
                    storage.withMemoryRebound(to: sockaddr_in.self, capacity: 1) {
                        found.append(SocketAddress($0.pointee))
                    }
                }
            }
            next = entry.ai_next
        }
        return found
    }

    /// The address to connect from, as text: of an interface its first one now.
    package var sourceAddress: String? {
        if let address { return address.ipAddress }
        let devices = (try? System.enumerateDevices()) ?? []
        return devices.first { $0.name == text && $0.address?.ipAddress != nil }?.address?.ipAddress
    }

    /// Whether it can be used now; otherwise why not.
    package func check() throws(RemoteSetupError) {
        if let address {
            let devices = (try? System.enumerateDevices()) ?? []
            let plain = address.ipAddress
            guard devices.contains(where: { $0.address?.ipAddress == plain }) else {
                throw RemoteSetupError(
                    "\(text) is not an address of this machine", hint: "ip address")
            }
        } else if interfaceIndex == nil {
            throw RemoteSetupError(
                "\(text) is neither an address nor an interface of this machine", hint: "ip link")
        }
    }
}
