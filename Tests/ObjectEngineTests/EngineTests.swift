// The engines themselves: what logdisk relies on is there, and what the page on object storage says
// of them is true. Nothing of logdisk's own client is used. A kind that is not here is skipped;
// with CI set in the environment it fails.

import Foundation
import ObjectEngines
import Synchronization
import Testing

/// Skipped, with the reason, where the kind is not installed; fails then in CI.
private func needs(_ kind: ObjectEngine.Kind) -> ConditionTrait {
    .enabled(
        if: ObjectEngine.Kind.toTest.contains(kind), "\(kind) is \(kind.missing ?? "here")")
}

/// Runs `body` on so many threads at once and waits for all.
private func inParallel(_ count: Int, _ body: @escaping @Sendable (Int) -> Void) {
    let group = DispatchGroup()
    for number in 0..<count {
        group.enter()
        Thread.detachNewThread {
            body(number)
            group.leave()
        }
    }
    group.wait()
}

/// Who won and what the others were told.
private final class Race: Sendable {
    let winners = Mutex<[UInt8]>([])
    let others = Mutex<[String]>([])
}

@Suite struct EngineTests {
    @Test(needs(.seaweedFS)) func seaweedFSIsHere() throws {
        #expect(try ObjectEngine.shared(.seaweedFS).kind == .seaweedFS)
    }

    @Test(needs(.ceph)) func cephIsHere() throws {
        #expect(try ObjectEngine.shared(.ceph).kind == .ceph)
    }

    @Test(arguments: ObjectEngine.Kind.toTest) func putGetListDelete(kind: ObjectEngine.Kind) throws
    {
        let engine = try ObjectEngine.shared(kind)
        let bucket = try engine.newBucket()
        let body = (0..<300_000).map { UInt8(truncatingIfNeeded: $0 &* 31) }
        let put = try engine.request(
            "PUT", "/\(bucket)/a/1", headers: ["x-amz-meta-sha256": "abc"], body: body)
        #expect(put.status == 200)
        let get = try engine.request("GET", "/\(bucket)/a/1")
        #expect(get.status == 200 && get.body == body && get.headers["x-amz-meta-sha256"] == "abc")
        let part = try engine.request(
            "GET", "/\(bucket)/a/1", headers: ["range": "bytes=1000-1999"])
        #expect(part.status == 206 && part.body == Array(body[1000..<2000]))
        #expect(try engine.keys(in: bucket) == ["a/1"])
        #expect(try engine.keys(in: bucket, prefix: "b/") == [])
        #expect(try engine.request("DELETE", "/\(bucket)/a/1").status == 204)
        #expect(try engine.request("GET", "/\(bucket)/a/1").code == "NoSuchKey")
        #expect(try engine.keys(in: bucket) == [])
    }

    @Test(arguments: ObjectEngine.Kind.toTest) func keysMayDoWhatTheySay(
        kind: ObjectEngine.Kind
    ) throws {
        let engine = try ObjectEngine.shared(kind)
        let bucket = try engine.newBucket()
        let path = "/\(bucket)/object"
        #expect(try engine.request("PUT", path, body: [1]).status == 200)
        #expect(try engine.request("GET", path, key: engine.reader).body == [1])
        let put = try engine.request("PUT", path, body: [2], key: engine.reader)
        #expect(put.status == 403 && put.code == "AccessDenied")
        let delete = try engine.request("DELETE", path, key: engine.reader)
        #expect(delete.status == 403)
        #expect(
            try engine.request("GET", path, key: engine.wrong).code == "SignatureDoesNotMatch")
        let nobody = ObjectEngine.Key(access: "NOBODY", secret: "nothing")
        #expect(try engine.request("GET", path, key: nobody).code == "InvalidAccessKeyId")
        #expect(try engine.request("GET", path).body == [1])
        #expect(try engine.request("GET", "/bucket-none/object").code == "NoSuchBucket")
        #expect(try engine.request("PUT", "/bucket-none/object").code == "NoSuchBucket")
    }

    /// Races of parallel creates: of each, how many were told that they won. Several at once, since
    /// SeaweedFS takes seconds for each whose creates meet.
    private func race(
        _ engine: ObjectEngine, _ bucket: String, rounds: Int, width: Int = 8
    ) throws -> [Int] {
        let races = (0..<rounds).map { _ in Race() }
        for batch in stride(from: 0, to: rounds, by: 20) {
            let size = min(20, rounds - batch)
            inParallel(size * width) { number in
                let (round, writer) = (batch + number / width, number % width)
                let answer = try? engine.request(
                    "PUT", "/\(bucket)/race/\(round)", headers: ["if-none-match": "*"],
                    body: [UInt8](repeating: UInt8(writer), count: 300))
                if answer?.status == 200 {
                    races[round].winners.withLock { $0.append(UInt8(writer)) }
                } else {
                    races[round].others.withLock { $0.append(answer?.code ?? "none") }
                }
            }
        }
        return try races.enumerated().map { round, race in
            let won = race.winners.withLock { $0 }
            for code in race.others.withLock({ $0 }) {
                #expect(code == "PreconditionFailed" || code == "ConditionalRequestConflict")
            }
            if won.count == 1 {
                let stored = try engine.request("GET", "/\(bucket)/race/\(round)").body
                #expect(stored == [UInt8](repeating: won[0], count: 300))
            }
            return won.count
        }
    }

    @Test(arguments: ObjectEngine.Kind.toTest) func oneOfManyCreates(
        kind: ObjectEngine.Kind
    ) throws {
        let engine = try ObjectEngine.shared(kind)
        let winners = try race(engine, engine.newBucket(), rounds: 200)
        #expect(winners == [Int](repeating: 1, count: 200))
    }

    /// Ceph of this age does not look at the condition where objects have versions.
    @Test(arguments: ObjectEngine.Kind.toTest) func createsWithVersions(
        kind: ObjectEngine.Kind
    ) throws {
        let engine = try ObjectEngine.shared(kind)
        let winners = try race(engine, engine.newBucket(.versioning), rounds: 20)
        let each = kind == .ceph ? 8 : 1
        #expect(winners == [Int](repeating: each, count: 20))
    }

    @Test(arguments: ObjectEngine.Kind.toTest) func whatIsLockedStays(
        kind: ObjectEngine.Kind
    ) throws {
        let engine = try ObjectEngine.shared(kind)
        let bucket = try engine.newBucket(.objectLock)
        let put = try engine.request("PUT", "/\(bucket)/a", body: [1])
        let version = try #require(put.headers["x-amz-version-id"])
        // Hides it; the version stays.
        #expect(try engine.request("DELETE", "/\(bucket)/a").status == 204)
        #expect(try engine.request("GET", "/\(bucket)/a").status == 404)
        let delete = try engine.request("DELETE", "/\(bucket)/a", query: ["versionId": version])
        #expect(delete.status == 403 && delete.code == "AccessDenied")
        let get = try engine.request("GET", "/\(bucket)/a", query: ["versionId": version])
        #expect(get.body == [1])
    }

    /// A byte that changes on the way: who notices, by what. SeaweedFS does not look at the digest
    /// that is signed, Ceph not at the newer kind of checksum.
    @Test(arguments: ObjectEngine.Kind.toTest) func bytesThatChangeOnTheWay(
        kind: ObjectEngine.Kind
    ) throws {
        let engine = try ObjectEngine.shared(kind)
        let bucket = try engine.newBucket()
        let proxy = try ObjectProxy(toPort: engine.port) { _ in .flipRequest(at: 2) }
        let body = Array("hello".utf8)
        func put(_ headers: [String: String]) throws -> Int {
            try SignedRequest(method: "PUT", path: "/\(bucket)/a", headers: headers, body: body)
                .send(toPort: proxy.port, key: engine.writer, region: engine.region).status
        }
        #expect(try put([:]) == (kind == .ceph ? 400 : 200))
        // Of "hello".
        let sha256 = "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ="
        #expect(try put(["x-amz-checksum-sha256": sha256]) == 400)
        #expect(try put(["content-md5": "XUFAKrxLKna5cZ2REBfFkg=="]) == 400)
    }

    /// Killed and started again, both parts, and nothing that was answered is missing.
    @Test(arguments: ObjectEngine.Kind.toTest) func killedPartsComeBack(
        kind: ObjectEngine.Kind
    ) throws {
        let engine = try ObjectEngine.own(kind)
        defer { engine.stop() }
        let bucket = try engine.newBucket()
        var stored: [String: [UInt8]] = [:]
        func put(_ name: String) throws {
            let body = [UInt8](repeating: UInt8(stored.count + 1), count: 100_000)
            let answer = try engine.request("PUT", "/\(bucket)/\(name)", body: body)
            #expect(answer.status == 200)
            stored[name] = body
        }
        for part in ObjectEngine.Part.allCases {
            for number in 0..<5 { try put("\(part)-\(number)") }
            engine.kill(part)
            if part == .gateway {
                #expect(throws: EngineFailure.self) { try engine.request("GET", "/\(bucket)/x") }
            }
            try engine.start(part)
            try engine.waitUntilReady()
            for (name, body) in stored {
                #expect(try engine.request("GET", "/\(bucket)/\(name)").body == body)
            }
        }
    }
}
