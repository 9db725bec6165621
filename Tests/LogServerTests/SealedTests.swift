// A server with sealed segments: it has no key, checks the chain and what it can of the bytes.

import BlockModel
import DiskIO
import Foundation
import History
import LogFormat
import ServerAPI
import Testing

@Suite struct SealedTests {
    private let maker = SegmentMaker()
    private let key = SealingKey.random()

    /// The container of a segment; `chainDigest` is its chain id.
    private func sealed(_ segment: MadeSegment) throws -> MadeSegment {
        final class Bytes { var bytes: [UInt8] = [] }
        let box = Bytes()
        let encoder = SealedEncoder<Never>(key: key) { box.bytes += $0 }
        segment.bytes.withUnsafeBytes { encoder.append($0) }
        let name = segment.name
        encoder.finish(kind: name.kind, first: name.first, last: name.last)
        let footer = try box.bytes.withUnsafeBytes { bytes in
            try SealedFooter.decode(
                UnsafeRawBufferPointer(rebasing: bytes.suffix(SealedFormat.footerBytes)),
                fileBytes: UInt64(bytes.count))
        }
        return MadeSegment(
            name: name, bytes: box.bytes,
            chainDigest: footer.label.content?.chainID.map { "\($0)" })
    }

    private func begun(_ server: TestServer) throws -> (TestClient, plain: MadeSegment, String?) {
        let client = server.client()
        try client.make("v", isSealed: true)
        let plain = maker.records(1...10)
        let first = try sealed(plain)
        try #require(try client.put("v", sealed(maker.snapshot(0))).code == "200")
        try #require(try client.put("v", first).code == "200")
        return (client, plain, first.chainDigest)
    }

    @Test func theChainIsCheckedByChainIDs() throws {
        let server = try TestServer()
        let (client, plain, id) = try begun(server)
        #expect(id != nil && id != plain.chainDigest)
        #expect(try client.state("v").head?.digest == id)
        let second = maker.log(11...20, after: plain)
        let foreign = maker.log(11...20, after: maker.records(1...10, fill: 3))
        #expect(try client.put("v", sealed(foreign), after: id).code == "409 fork")
        let token = server.token
        server.stop()
        let next = try TestServer(server.storage)
        let other = next.client(token)
        #expect(try other.put("v", sealed(second), after: plain.chainDigest).code == "409 fork")
        #expect(try other.commit("v", "none", sealed(second)).code == "404 missing")
        // The upload that was refused is still there; a container is never the same twice.
        #expect(try other.send("DELETE", "/v1/volumes/v/uploads/up-\(second.name)").code == "204")
        #expect(try other.put("v", sealed(second), after: id).code == "200")
        #expect(try other.state("v").head?.lsn == 20)
    }

    @Test func changedContainersAreRefused() throws {
        let server = try TestServer()
        let (client, plain, id) = try begun(server)
        let good = try sealed(maker.log(11...20, after: plain))
        let count = good.bytes.count
        for i in Array(0..<128) + stride(from: 128, to: count - 384, by: 61)
            + Array(count - 384..<count)
        {
            var changed = good
            changed.bytes[i] ^= 0x10
            #expect(try client.put("v", changed, after: id).code == "422 damaged", "byte \(i)")
        }
        // What is not sealed does not get in, nor into a plain volume what is.
        let open = maker.log(11...20, after: plain)
        #expect(try client.put("v", open, after: id).code == "422 damaged")
        try client.make("w")
        #expect(try client.put("w", sealed(plain)).code == "422 damaged")
        #expect(try client.make("w", isSealed: true).code == "409 other_volume")
        #expect(try client.put("v", good, after: id).code == "200")
    }

    @Test func retentionDropsWholeChains() throws {
        let clock = TestClock(maker.start + 10_000_000_000_000)
        let server = try TestServer { $0.clock = { clock.now } }
        let (client, plain, id) = try begun(server)
        #expect(try client.put("v", sealed(maker.snapshot(10))).code == "200")
        let next = maker.log(11...20, after: plain)
        #expect(try client.put("v", sealed(next), after: id).code == "200")
        let keep = RetentionRequest(keep: "every 1m")
        #expect(try client.send("PUT", "/v1/volumes/v/retention", json: keep).code == "200")
        let left = [maker.snapshot(10).name, next.name].map { "\($0)" }.sorted()
        for _ in 0..<20_000 where try client.segments("v") != left { usleep(1000) }
        #expect(try client.segments("v") == left)
    }
}
