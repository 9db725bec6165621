// A volume on a real object storage: what is shipped there is read there, by every command; who may
// not, and what is missing, is told with its exit code, and never with a secret.

import CommandText
import Foundation
import ObjectEngines
import Testing

extension EndToEnd {
    @Suite struct ObjectReadTests {
        @Test(needs(), needsEngine)
        func readCommandsAgreeWithTheVolume() throws {
            try forEachEngine { engine, scratch in
                let (volume, points) = try makeReadVolume(scratch)
                let bucket = try TestBucket(engine, in: scratch)
                let url = bucket.url("vol")
                let added = try volume.logdisk(
                    ["remote", "add", volume.path, "far", url] + bucket.options)
                #expect(added.output.contains("new there"), "\(added)")
                let shipped = try volume.logdisk(["ship", volume.path, "--now"])
                try compareReading(volume, url, bucket.options, points)
                // Keys that only read are enough to read.
                try volume.logdisk(["points", url] + bucket.options(engine.reader))
                let shown = try volume.logdisk(["remote", "show", volume.path, "far"])
                #expect(shown.output.contains("s3://\(bucket.name)/vol"), "\(shown)")
                try bucket.checkSecrets(volume, [added, shipped, shown])
                // What was read is not kept from pruning any more.
                eventually("the leases end") {
                    ((try? engine.keys(in: bucket.name, prefix: "vol/leases/")) ?? ["?"]).isEmpty
                }
            }
        }

        @Test(needs(), needsEngine)
        func whatIsWrongIsTold() throws {
            try forEachEngine { engine, scratch in
                let volume = try TestVolume(in: scratch, size: "1M")
                let bucket = try TestBucket(engine, in: scratch)
                let good = bucket.options
                let (wrong, reader) = (
                    try bucket.options(engine.wrong), try bucket.options(engine.reader)
                )
                let unknown = try bucket.options(.init(access: "NOBODY", secret: "nothing"))
                let add = ["remote", "add", volume.path, "far"]
                let away = ["--endpoint", "http://127.0.0.1:9"] + good.suffix(2)
                let table: [(words: [String], status: Int32, text: String)] = [
                    (["points", bucket.url("vol")] + good, 10, "has no such volume"),
                    (["points", "s3://no-such-bucket/vol"] + good, 10, "there is no bucket"),
                    (["points", bucket.url("vol")] + wrong, 15, "secret key is wrong"),
                    (["points", bucket.url("vol")] + unknown, 15, "access key"),
                    (["points", bucket.url("vol")] + away, 14, "not reachable"),
                    (add + [bucket.url("vol")] + wrong, 15, "secret key is wrong"),
                    (add + [bucket.url("vol")] + reader, 15, "may not"),
                    (add + ["s3://no-such-bucket/vol"] + good, 10, "there is no bucket"),
                    (add + [bucket.url("vol")] + away, 14, "cannot be used"),
                    (["remote", "probe", bucket.url("vol")] + wrong, 15, "secret key is wrong"),
                    (["remote", "probe", bucket.url("vol")] + reader, 15, "may not"),
                    (["adopt", bucket.url("vol"), scratch.path("new")] + good, 10, "no such"),
                    (
                        ["create", scratch.path("new"), "--size", "1M", "--store"]
                            + [bucket.url("new")] + reader, 15, "may not"
                    ),
                    (
                        ["create", scratch.path("new"), "--size", "1M", "--store"]
                            + ["s3://no-such-bucket/new"] + good, 10, "there is no bucket"
                    ),
                ]
                for row in table {
                    let outcome = try scratch.start([Machine.logdisk] + row.words, input: nil)
                        .wait()
                    #expect(outcome.status == row.status, "\(outcome)")
                    #expect(outcome.errors.contains(row.text), "\(outcome)")
                    #expect(outcome.errors.contains("hint: "), "\(outcome)")
                    try bucket.checkSecrets(volume, [outcome])
                    #expect(!exists(scratch.path("new")), "\(outcome)")
                    #expect(!exists(volume.path + "/remotes/far.json"), "\(outcome)")
                }
            }
        }

        @Test(needs(), needsEngine)
        func theProbeTellsWhatTheStoreDoes() throws {
            try forEachEngine { engine, scratch in
                let bucket = try TestBucket(engine, in: scratch)
                let words = ["remote", "probe", bucket.url("vol")] + bucket.options
                let told = try scratch.start([Machine.logdisk] + words, input: nil).wait()
                #expect(told.status == 0, "\(told)")
                for text in ["create-only put", "a second writer is kept away", "clock"] {
                    #expect(told.output.contains(text), "\(told)")
                }
                let json = try scratch.start(
                    [Machine.logdisk] + words + ["--json"], input: nil
                ).wait()
                let values = try #require(
                    try JSONSerialization.jsonObject(with: Data(json.output.utf8))
                        as? [String: Any])
                #expect(values["guarded"] as? Bool == true && values["usable"] as? Bool == true)
                #expect(try engine.keys(in: bucket.name).isEmpty, "it leaves nothing behind")
            }
        }

        /// Keys in the environment, as programs for S3 have them.
        @Test(needs(), needsEngine)
        func keysInTheEnvironment() throws {
            try forEachEngine { engine, scratch in
                let (volume, points) = try makeReadVolume(scratch)
                let bucket = try TestBucket(engine, in: scratch)
                let environment = [
                    "AWS_ACCESS_KEY_ID": engine.writer.access,
                    "AWS_SECRET_ACCESS_KEY": engine.writer.secret,
                    "AWS_ENDPOINT_URL": engine.endpoint,
                ]
                func run(_ words: [String]) throws {
                    let child = try Child(
                        [Machine.logdisk] + words, in: scratch, environment: environment)
                    child.endInput()
                    let outcome = child.wait()
                    try #require(outcome.status == 0, "\(outcome)")
                    try bucket.checkSecrets(volume, [outcome])
                }
                try run(["remote", "add", volume.path, "far", bucket.url("vol")])
                try run(["ship", volume.path, "--now"])
                let file = scratch.newPath("far")
                try run(["replay", bucket.url("vol"), "--at", "now", "--output", file])
                #expect(try digest(scratch, file) == points.last?.1)
            }
        }
    }
}
