// A bucket at a real engine (Tests/ObjectEngines), and the files with the keys to it.

import CommandText
import Foundation
import ObjectEngines
import Testing

struct TestBucket {
    let engine: ObjectEngine
    let name: String
    private let scratch: Scratch
    private let keys: String

    init(
        _ engine: ObjectEngine, in scratch: Scratch, _ options: ObjectEngine.BucketOption...
    ) throws {
        self.engine = engine
        self.scratch = scratch
        name = try engine.newBucket(options)
        keys = try Self.file(engine.writer, in: scratch)
    }

    /// Of a volume there.
    func url(_ volume: String) -> String { "s3://\(name)/\(volume)" }

    /// What opens it, to write.
    var options: [String] { place + ["--credentials", keys] }

    /// The same with other keys.
    func options(_ key: ObjectEngine.Key) throws -> [String] {
        place + ["--credentials", try Self.file(key, in: scratch)]
    }

    /// What opens it over TLS, but for the certificate.
    var secureOptions: [String] {
        ["--endpoint", engine.secureEndpoint, "--region", engine.region, "--credentials", keys]
    }

    /// Where it is, without keys.
    var place: [String] { ["--endpoint", engine.endpoint, "--region", engine.region] }

    private static func file(_ key: ObjectEngine.Key, in scratch: Scratch) throws -> String {
        let path = scratch.newPath("keys")
        try key.profile.write(toFile: path, atomically: false, encoding: .utf8)
        try #require(chmod(path, 0o600) == 0)
        return path
    }

    /// A volume that keeps its history there.
    func newVolume(_ volume: String, _ more: [String]) throws -> TestVolume {
        try TestVolume(in: scratch, name: volume, ["--store", url(volume)] + options + more)
    }

    /// What a remote of `volume` says of itself.
    static func report(_ volume: TestVolume, _ remote: String) throws -> RemoteReport {
        let words = try volume.logdisk(["remote", "show", volume.path, remote, "--json"])
        return try JSONDecoder().decode(RemoteReport.self, from: Data(words.output.utf8))
    }

    /// The state of a volume there, written out; its digest.
    func replayed(
        _ volume: TestVolume, at target: String, _ more: [String] = []
    ) throws -> String {
        let file = scratch.newPath("far")
        try volume.logdisk(
            ["replay", url("vol"), "--at", target, "--output", file] + options + more)
        return try digest(scratch, file)
    }

    /// No secret is in what was said or kept in the folder of a volume.
    func checkSecrets(_ volume: TestVolume, _ outcomes: [Outcome] = []) throws {
        let secrets = [engine.writer, engine.reader, engine.wrong].flatMap { key in
            [key.secret, key.access]
        }
        let found = try scratch.attempt(
            "grep", "-rlF", "-e", engine.writer.secret, "-e", engine.wrong.secret,
            volume.path + "/remotes", volume.path + "/mount.log")
        #expect(found.output.isEmpty, "\(found)")
        for outcome in outcomes {
            #expect(!secrets.contains { (outcome.output + outcome.errors).contains($0) })
        }
    }
}

/// The engines that are here, one after the other.
func forEachEngine(_ body: (ObjectEngine, Scratch) throws -> Void) throws {
    for kind in ObjectEngine.Kind.toTest {
        let engine = try ObjectEngine.shared(kind)
        try Scratch.with { scratch in try body(engine, scratch) }
    }
}

/// Skips the test where no engine is installed; in CI lets it run and fail.
var needsEngine: ConditionTrait {
    .enabled(
        if: !ObjectEngine.Kind.toTest.isEmpty,
        "no object storage is installed: tools/setup --tests, tools/setup --ceph")
}
