// Several hosts on one machine: a network namespace each, all on one switch, every cable with a
// bounded rate (tc tbf). The switch is a bridge in a namespace of its own, so that nothing of it
// shows in the machine's own network, and everything goes when the namespaces do.
//
//     writer ──eth0──┐
//     server ──eth0──┼── switch
//     other  ──eth0──┘
//
// A process is put on a host by its network namespace alone: it sees the machine's files and
// mounts. /sys/class/net still shows the machine's interfaces there, /proc/net the host's.

import Foundation
import Testing

/// The hosts of one test; cleared with its scratch folder.
final class TestNetwork {
    private let scratch: Scratch
    private let prefix: String
    private let hosts: [String]

    /// Links of `rateMbit` in each direction. The hosts are told apart from those of other runs.
    init(in scratch: Scratch, hosts: [String], rateMbit: Int) throws {
        self.scratch = scratch
        self.hosts = hosts
        prefix = "logdisk-\(getpid())-\(UInt32.random(in: 0..<1 << 16))-"
        for name in hosts + ["switch"] {
            let space = prefix + name
            try scratch.run("ip", "netns", "add", space)
            scratch.onEnd { _ = try? scratch.attempt("ip", "netns", "delete", space) }
            try ip(name, "link", "set", "lo", "up")
        }
        try ip("switch", "link", "add", "bridge", "type", "bridge")
        try ip("switch", "link", "set", "bridge", "up")
        for (i, name) in hosts.enumerated() {
            let port = "port\(i)"
            try ip(
                "switch", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns",
                prefix + name)
            try ip("switch", "link", "set", port, "master", "bridge")
            try ip("switch", "link", "set", port, "up")
            try ip(name, "address", "add", address(of: name) + "/24", "dev", "eth0")
            try ip(name, "address", "add", address6(of: name) + "/64", "dev", "eth0", "nodad")
            try ip(name, "link", "set", "eth0", "up")
            try limit(name, "eth0", rateMbit)
            try limit("switch", port, rateMbit)
        }
    }

    func address(of host: String) -> String { "10.73.0.\(number(of: host))" }

    func address6(of host: String) -> String { "fd73::\(number(of: host))" }

    /// `words`, to be run on `host`.
    func on(_ host: String, _ words: [String]) -> [String] {
        ["nsenter", "--net=/run/netns/\(prefix)\(host)"] + words
    }

    /// Bytes that `host` has sent and received so far.
    func traffic(of host: String) throws -> (sent: UInt64, received: UInt64) {
        let table = try scratch.start(on(host, ["cat", "/proc/net/dev"]), input: nil).wait().output
        let line = try #require(table.split(separator: "\n").first { $0.contains("eth0:") })
        let fields = line.split(separator: ":")[1].split(separator: " ").compactMap { UInt64($0) }
        try #require(fields.count >= 9)
        return (fields[8], fields[0])
    }

    /// Takes the cable of `host` out, or puts it back.
    func setConnected(_ host: String, _ isConnected: Bool) throws {
        let index = try #require(hosts.firstIndex(of: host))
        try ip("switch", "link", "set", "port\(index)", isConnected ? "up" : "down")
    }

    private func number(of host: String) -> Int { (hosts.firstIndex(of: host) ?? 0) + 1 }

    private func ip(_ host: String, _ words: String...) throws {
        let outcome = try scratch.start(["ip", "-n", prefix + host] + words, input: nil).wait()
        try #require(outcome.status == 0, "\(outcome)")
    }

    private func limit(_ host: String, _ link: String, _ rateMbit: Int) throws {
        let words = [
            "tc", "-n", prefix + host, "qdisc", "add", "dev", link, "root", "tbf", "rate",
            "\(rateMbit)mbit", "burst", "\(max(16, rateMbit / 4))kb", "latency", "50ms",
        ]
        let outcome = try scratch.start(words, input: nil).wait()
        try #require(outcome.status == 0, "\(outcome)")
    }
}
