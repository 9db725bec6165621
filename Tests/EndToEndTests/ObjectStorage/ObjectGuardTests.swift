// Who may see what lies in a bucket, and who keeps a second writer away: over TLS, sealed, and
// where the store does not look at conditions.

import CommandText
import Foundation
import ObjectEngines
import Testing

extension EndToEnd {
    @Suite struct ObjectGuardTests {
        @Test(needs(), needsEngine)
        func overTLSTheCertificateMustBeKnown() throws {
            try forEachEngine { engine, scratch in
                let (volume, points) = try makeReadVolume(scratch)
                let bucket = try TestBucket(engine, in: scratch)
                let secure = bucket.secureOptions
                let trusted = secure + ["--ca", engine.certificateFile]
                let add = ["remote", "add", volume.path, "far", bucket.url("vol")]
                let unknown = try volume.attempt(add + secure)
                #expect(unknown.status == 15, "\(engine): \(unknown)")
                #expect(unknown.errors.lowercased().contains("certificate"), "\(unknown)")
                #expect(unknown.errors.contains("--ca"), "\(unknown)")
                #expect(try engine.keys(in: bucket.name).isEmpty)
                try volume.logdisk(add + trusted)
                try volume.logdisk(["ship", volume.path, "--now"])
                try compareReading(volume, bucket.url("vol"), trusted, points)
                let noTLS = ["--endpoint", "http://127.0.0.1:\(engine.securePort)"]
                let plain = try volume.attempt(
                    ["points", bucket.url("vol")] + noTLS + secure.suffix(2))
                #expect(plain.status == 14, "\(plain)")
                #expect(plain.errors.contains("--endpoint"), "\(plain)")
            }
        }

        @Test(needs(), needsEngine)
        func sealedHistoryNeedsTheKey() throws {
            try forEachEngine { engine, scratch in
                let (volume, points) = try makeReadVolume(scratch)
                let bucket = try TestBucket(engine, in: scratch)
                let (url, key) = (bucket.url("vol"), scratch.path("key"))
                let sealed = ["--key-file", key]
                try volume.logdisk(["key", "create", key])
                try volume.logdisk(
                    ["remote", "add", volume.path, "far", url] + bucket.options + sealed)
                try volume.logdisk(["ship", volume.path, "--now"])
                for object in try engine.keys(in: bucket.name, prefix: "vol/segments/") {
                    let body = try engine.request("GET", "/\(bucket.name)/\(object)").body
                    let part = try #require(try plainText(volume))
                    #expect(!body.isEmpty && !Data(body).contains(part), "\(object)")
                }
                for (target, sum) in points {
                    #expect(try bucket.replayed(volume, at: target, sealed) == sum, "\(target)")
                }
                let wrong = scratch.path("wrong")
                try volume.logdisk(["key", "create", wrong])
                let output = scratch.path("nothing")
                for more in [[], ["--key-file", wrong]] {
                    let outcome = try volume.attempt(
                        ["replay", url, "--at", "now", "--output", output] + bucket.options + more)
                    #expect(outcome.status == 15, "\(outcome)")
                    #expect(outcome.errors.contains("hint: "), "\(outcome)")
                    #expect(!exists(output))
                }
                try volume.logdisk(["adopt", url, scratch.path("new")] + bucket.options + sealed)
                #expect(
                    try digest(scratch, scratch.path("new") + "/image.raw") == points.last?.1)
            }
        }

        /// Some of what the marks have: noise that no compression changes.
        private func plainText(_ volume: TestVolume) throws -> Data? {
            let image = URL(fileURLWithPath: volume.path + "/image.raw")
            let file = try FileHandle(forReadingFrom: image)
            defer { try? file.close() }
            try file.seek(toOffset: 65536)
            return try file.read(upToCount: 64)
        }

        /// Ceph of this age ignores conditions where objects have versions: nothing but the user's
        /// word keeps a second writer away, and `remote show` goes on saying so.
        @Test(needs(), needsEngine)
        func withoutConditionsOnlyWithTheUsersWord() throws {
            try forEachEngine { engine, scratch in
                let (volume, points) = try makeReadVolume(scratch)
                let bucket = try TestBucket(engine, in: scratch, .versioning)
                let url = bucket.url("vol")
                let add = ["remote", "add", volume.path, "far", url] + bucket.options
                let ignores = engine.kind == .ceph
                let added = try volume.attempt(add)
                #expect((added.status != 0) == ignores, "\(added)")
                if ignores {
                    #expect(added.errors.contains("--single-writer"), "\(added)")
                    #expect(!exists(volume.path + "/remotes/far.json"))
                    #expect(try engine.keys(in: bucket.name).isEmpty, "it leaves nothing behind")
                    try volume.logdisk(add + ["--single-writer"])
                }
                try volume.logdisk(["ship", volume.path, "--now"])
                try compareReading(volume, url, bucket.options, points)
                let shown = try volume.logdisk(["status", volume.path])
                #expect(shown.output.contains("--single-writer") == ignores, "\(shown)")
                #expect(try TestBucket.report(volume, "far").warning?.isEmpty != ignores)
            }
        }
    }
}
