// Shipping over a network of its own: a computer with a volume, a log server, and a third host
// whose traffic goes over the same cable. The rates are those of the cable (tc), not of this
// machine.

import Foundation
import Testing

extension EndToEnd {
    @Suite struct NetworkTests {
        /// What `remote show --json` says, as far as it matters here.
        private struct Shown: Decodable {
            struct Decision: Decodable {
                var kind: String
                var time: String
            }
            var decisions: [Decision]
            var stateKind: String
            var lagRecords: UInt64
            var shippedBytes: UInt64
        }

        /// The three hosts, with a server and a mounted volume.
        private struct World {
            let network: TestNetwork
            let server: TestServer
            let volume: TestVolume

            init(_ scratch: Scratch, rateMbit: Int, address: String? = nil) throws {
                network = try TestNetwork(
                    in: scratch, hosts: ["writer", "server", "other"], rateMbit: rateMbit)
                let network = network
                server = try TestServer(
                    in: scratch, withTLS: true, address: address ?? network.address(of: "server")
                ) { network.on("server", $0) }
                volume = try TestVolume(in: scratch, size: "64M")
            }

            func logdisk(_ words: [String], expecting status: Int32 = 0) throws -> Outcome {
                let all = network.on("writer", [Machine.logdisk] + words)
                let outcome = try volume.scratch.start(all, input: nil).wait()
                try #require(outcome.status == status, "\(outcome)")
                return outcome
            }

            func add(_ options: String...) throws {
                _ = try logdisk(
                    ["remote", "add", volume.path, "far", server.url("vol")] + server.options
                        + options)
            }

            func mount() throws { _ = try logdisk(["mount", volume.path, volume.mountPoint]) }

            func shown() throws -> Shown {
                let words = try volume.logdisk(["remote", "show", volume.path, "far", "--json"])
                let decoder = JSONDecoder()
                decoder.keyDecodingStrategy = .convertFromSnakeCase
                return try decoder.decode(Shown.self, from: Data(words.output.utf8))
            }

            /// What the network carries for others meanwhile, from the writer's host outwards.
            func startTraffic(seconds: Int) throws -> Child {
                let scratch = volume.scratch
                let sink = try Child(network.on("other", ["iperf3", "-s", "-1"]), in: scratch)
                let words = [
                    "iperf3", "-c", network.address(of: "other"), "-t", "\(seconds)", "-J",
                ]
                // The sink may need a moment until it listens.
                eventually("the sink listens") {
                    let table = try? scratch.start(
                        network.on("other", ["cat", "/proc/net/tcp6"]), input: nil
                    ).wait().output
                    return table?.contains(":1451 ") ?? false || sink.hasEnded
                }
                return try Child(network.on("writer", words), in: scratch)
            }

            /// Bits a second that the traffic reached.
            static func rate(_ traffic: Child) throws -> Double {
                let outcome = traffic.wait()
                let whole =
                    try JSONSerialization.jsonObject(with: Data(outcome.output.utf8))
                    as? [String: Any]
                let end = whole?["end"] as? [String: Any]
                let sum = end?["sum_received"] as? [String: Any]
                return try #require(sum?["bits_per_second"] as? Double, "\(outcome)")
            }
        }

        @Test(needs("root", "ip", "tc", "nsenter", "iperf3", "openssl"))
        func waitsForTheTrafficOfOthers() throws {
            try Scratch.with { scratch in
                let world = try World(scratch, rateMbit: 50)
                try world.add("--when", "quiet", "--quiet-below", "500KB/s", "--max-lag", "1h")
                try world.mount()
                try eventually("the base is there") { try world.shown().lagRecords == 0 }
                let alone = try World.rate(world.startTraffic(seconds: 4))
                let traffic = try world.startTraffic(seconds: 40)
                try eventually("the traffic counts") {
                    let (sent, _) = try world.network.traffic(of: "writer")
                    return sent > 60 << 20
                }
                let before = try world.shown().shippedBytes
                try fill(world.volume.disk, with: "a", count: 4 << 20)
                try eventually("it waits for the traffic") {
                    try world.shown().stateKind == "hold:traffic"
                }
                let held = try world.shown()
                #expect(held.lagRecords > 0 && held.shippedBytes == before)
                // Nobody slows the others down while it waits.
                let shared = try World.rate(traffic)
                #expect(shared >= 0.95 * alone, "\(shared) of \(alone)")
                #expect(try world.shown().shippedBytes == before)
                try eventually("it goes on when it is quiet") { try world.shown().lagRecords == 0 }
                let kinds = try world.shown().decisions.map(\.kind)
                let waited = try #require(kinds.lastIndex(of: "hold:traffic"), "\(kinds)")
                #expect(kinds[waited...].contains("ship:quiet"), "\(kinds)")
                try world.volume.unmount()
                #expect(
                    TestServer.segments(world.volume.path) == world.server.segments("vol"))
            }
        }

        @Test(needs("root", "ip", "tc", "nsenter", "iperf3", "openssl"))
        func maxLagOverrulesTheTraffic() throws {
            try Scratch.with { scratch in
                let world = try World(scratch, rateMbit: 50)
                let rate = ["--rate", "300KB/s"]
                try world.add(
                    "--when", "quiet", "--quiet-below", "500KB/s", "--max-lag", "5s", rate[0],
                    rate[1])
                try world.mount()
                try eventually("the base is there") { try world.shown().lagRecords == 0 }
                let alone = try World.rate(world.startTraffic(seconds: 4))
                let traffic = try world.startTraffic(seconds: 30)
                try fill(world.volume.disk, with: "a", count: 1 << 20)
                try eventually("it ships all the same") { try world.shown().lagRecords == 0 }
                let decisions = try world.shown().decisions
                #expect(!traffic.hasEnded, "it had ended before \(presentTime()): \(decisions)")
                #expect(decisions.contains { $0.kind == "ship:max-lag" }, "\(decisions)")
                // 300 KB/s of 50 Mbit/s are 5 %.
                let shared = try World.rate(traffic)
                #expect(shared >= 0.9 * alone, "\(shared) of \(alone)")
                try world.volume.unmount()
            }
        }

        /// Also over IPv6: the cable is out for a while, the writer goes on, nothing is lost.
        @Test(needs("root", "ip", "tc", "nsenter", "openssl"))
        func theCableIsPulled() throws {
            try Scratch.with { scratch in
                let world = try World(scratch, rateMbit: 200, address: "[fd73::2]")
                try world.add("--when", "always")
                try world.mount()
                try fill(world.volume.disk, with: "a", count: 1 << 20)
                try eventually("the first is there") { try world.shown().lagRecords == 0 }
                try world.network.setConnected("writer", false)
                for word in ["b", "c", "d"] {
                    try fill(world.volume.disk, with: word, count: 1 << 20)
                    _ = try world.volume.mark(word)
                }
                #expect(try world.shown().lagRecords > 0)
                try world.network.setConnected("writer", true)
                try eventually("the rest follows") { try world.shown().lagRecords == 0 }
                let now = try digest(scratch, world.volume.disk)
                try world.volume.unmount()
                let file = scratch.newPath("far")
                _ = try world.logdisk(
                    ["replay", world.server.url("vol"), "--at", "mark:d", "--output", file]
                        + world.server.options)
                #expect(try digest(scratch, file) == now)
                #expect(
                    TestServer.segments(world.volume.path) == world.server.segments("vol"))
            }
        }
    }
}
