// Volumes at a log server: read by URL, and had back on another machine (another folder), also
// while the machine before still runs, and after kills in the middle.

import CommandText
import Foundation
import Testing

extension EndToEnd {
    @Suite struct RemoteReadTests {
        @Test(needs("curl"))
        func readCommandsAgreeWithTheVolume() throws {
            try Scratch.with { scratch in
                let (volume, points) = try makeReadVolume(scratch)
                let server = try TestServer(in: scratch)
                #expect(try server.ship(volume.path, as: "vol", writer: "first") == nil)
                try compareReading(volume, server.url("vol"), server.options, points)
                // On the server itself, too.
                try compareReading(volume, server.store + "/vol", [], points)
                let missing = try volume.logdisk(
                    ["points", server.url("other")] + server.options, expecting: 10)
                #expect(missing.errors.contains("no such volume"), "\(missing)")
                let bare = try volume.logdisk(["points", server.url("vol")], expecting: 15)
                #expect(bare.errors.contains("hint: "), "\(bare)")
                server.kill()
                let away = try volume.logdisk(
                    ["points", server.url("vol")] + server.options, expecting: 14)
                #expect(away.errors.contains("not reachable"), "\(away)")
            }
        }
    }

    @Suite struct AdoptTests {
        /// The volume at `path`, mounted as another machine would.
        private func secondMachine(_ volume: TestVolume, _ name: String) throws -> TestVolume {
            TestVolume(
                adopted: volume.scratch.path(name), in: volume.scratch,
                mountPoint: try volume.scratch.newFolder(name + "-mnt"))
        }

        @Test(needs("curl", "mkfs.ext4"))
        func volumeComesBackAndGoesOn() throws {
            try Scratch.with { scratch in
                let (volume, points) = try makeReadVolume(scratch)
                let server = try TestServer(in: scratch)
                #expect(try server.ship(volume.path, as: "vol", writer: "first") == nil)
                let new = try secondMachine(volume, "new")
                try volume.logdisk(["adopt", server.url("vol"), new.path] + server.options)
                #expect(!exists(new.path + ".adopting"))
                try new.verify()
                #expect(try digest(scratch, new.replay("now")) == points.last?.1)

                // It goes on: later records, later stamps, the same identity.
                let before = try new.status()
                try new.mount()
                try fill(new.disk, with: "three", count: 2 << 20)
                let mark = try new.mark("three")
                #expect(mark.lsn > before.publishedLSN)
                let three = try digest(scratch, new.disk)
                try new.unmount()
                try new.verify()

                // The machine before goes on, too, but not at the server.
                try volume.mount()
                try fill(volume.disk, with: "lost", count: 1 << 20)
                try volume.unmount()
                let refused = try #require(
                    try server.ship(volume.path, as: "vol", writer: "first"))
                #expect(refused.status == 409 && refused.code == "fenced", "\(refused)")
                try new.logdisk(["ship", new.path, "--now"])
                let all = points.dropLast() + [("mark:three", three), ("now", three)]
                for (target, sum) in all {
                    let file = scratch.newPath("replayed")
                    try volume.logdisk(
                        ["replay", server.url("vol"), "--at", target, "--output", file]
                            + server.options)
                    #expect(try digest(scratch, file) == sum, "\(target)")
                }
                try volume.logdisk(["verify", server.url("vol")] + server.options)
            }
        }

        @Test(needs("curl"))
        func newestRecordsThatAreDamagedAreLeftBehind() throws {
            try Scratch.with { scratch in
                let (volume, points) = try makeReadVolume(scratch)
                try volume.mount()
                try fill(volume.disk, with: "three", count: 1 << 20)
                try volume.unmount()
                let server = try TestServer(in: scratch)
                #expect(try server.ship(volume.path, as: "vol", writer: "first") == nil)
                let segments = server.store + "/vol/segments"
                let last = try #require(
                    try FileManager.default.contentsOfDirectory(atPath: segments)
                        .filter { $0.contains(".log.") }.max())
                let file = try #require(FileHandle(forUpdatingAtPath: "\(segments)/\(last)"))
                let end = try file.seekToEnd()
                try file.seek(toOffset: end - 100)
                try file.write(contentsOf: Data([1, 2, 3, 4, 5]))
                try file.close()
                let new = try secondMachine(volume, "new")
                let head = try #require(try server.state("vol").head?["lsn"] as? Int)
                let adopted = try volume.logdisk(
                    ["adopt", server.url("vol"), new.path] + server.options)
                #expect(adopted.errors.contains("cannot be had back"), "\(adopted)")
                #expect(try digest(scratch, new.replay("now")) == points.last?.1)
                try new.verify()
                try new.mount()
                #expect(try new.mark("on").lsn > head)
                try new.unmount()
            }
        }

        @Test(needs("curl"))
        func killedAdoptionsCanBeDoneAgain() throws {
            try Scratch.with { scratch in
                let (volume, points) = try makeReadVolume(scratch)
                let server = try TestServer(in: scratch)
                #expect(try server.ship(volume.path, as: "vol", writer: "first") == nil)
                let new = try secondMachine(volume, "new")
                let logs = try scratch.newFolder("logs")
                let words =
                    ["adopt", server.url("vol"), new.path, "--log-dir", logs] + server.options
                var random = SeededGenerator(seed: freshSeed())
                for round in 0..<12 {
                    let child = try scratch.start([Machine.logdisk] + words, input: nil)
                    usleep(UInt32(random.below(120_000)))
                    child.kill()
                    if exists(new.path) { break }
                    #expect(round >= 0)
                }
                if !exists(new.path) { try volume.logdisk(words) }
                #expect(!exists(new.path + ".adopting"))
                try new.verify()
                #expect(try digest(scratch, new.replay("now")) == points.last?.1)
                try new.mount()
                try new.unmount()
                let again = try volume.logdisk(words, expecting: 64)
                #expect(again.errors.contains("not empty"), "\(again)")
            }
        }

        @Test(needs("curl"))
        func mountedFirstItFillsAlsoAfterKills() throws {
            try Scratch.with { scratch in
                let (volume, points) = try makeReadVolume(scratch)
                let server = try TestServer(in: scratch)
                #expect(try server.ship(volume.path, as: "vol", writer: "first") == nil)
                let new = try secondMachine(volume, "new")
                let filling = new.path + "/filling.json"
                try volume.logdisk(
                    ["adopt", server.url("vol"), new.path, "--mount-first", new.mountPoint]
                        + server.options)
                try checkFilling(new, server)
                #expect(try digest(scratch, new.disk) == points.last?.1)
                try fill(new.disk, with: "three", count: 300_000)
                let three = try digest(scratch, new.disk)
                _ = try new.mark("three")
                for _ in 0..<3 {
                    try new.kill()
                    try new.revive()
                    #expect(try digest(scratch, new.disk) == three)
                }
                eventually("all of it is here") { !exists(filling) }
                #expect(!exists(new.path + "/image.present"))
                #expect(try new.status().filling == nil)
                server.kill()
                // An ordinary volume now.
                #expect(try digest(scratch, new.disk) == three)
                try new.unmount()
                try new.verify()
                try new.mount()
                #expect(try digest(scratch, new.disk) == three)
                try new.unmount()
                #expect(try digest(scratch, new.replay("mark:three")) == three)
                // History here begins with the adoption; what was before stays at the server.
                try volume.logdisk(
                    ["replay", new.path, "--at", "mark:two", "--output", scratch.path("two")],
                    expecting: 12)
            }
        }

        /// How far the filling is, as long as it is.
        private func checkFilling(_ new: TestVolume, _ server: TestServer) throws {
            guard let filling = try new.status().filling else { return }
            #expect(["remote", "here"].contains(filling.stage))
            #expect(filling.url == server.url("vol"))
            #expect(filling.totalBytes == (try new.status().sizeBytes))
            let done = try #require(filling.doneBytes)
            #expect(done <= filling.totalBytes && (0...100).contains(filling.percent ?? -1))
        }

        /// Without the server a volume that is not here yet says so; it never shows wrong bytes.
        @Test(needs("curl"))
        func mountedFirstWithoutTheServer() throws {
            try Scratch.with { scratch in
                let (volume, points) = try makeReadVolume(scratch)
                let server = try TestServer(in: scratch)
                #expect(try server.ship(volume.path, as: "vol", writer: "first") == nil)
                let new = try secondMachine(volume, "new")
                try volume.logdisk(
                    ["adopt", server.url("vol"), new.path, "--mount-first", new.mountPoint]
                        + server.options)
                server.kill()
                let read = try scratch.attempt("sha256sum", new.disk)
                #expect(
                    read.status != 0 || read.output.prefix(64) == points.last?.1 ?? "", "\(read)")
                try new.kill()
                try new.clearDeadMount()
                if exists(new.path + "/filling.json"),
                    let text = try? String(
                        contentsOfFile: new.path + "/filling.json", encoding: .utf8),
                    text.contains("\"remote\"")
                {
                    let filling = try #require(try new.status().filling)
                    #expect(filling.stage == "remote" && filling.url == server.url("vol"))
                    #expect(filling.doneBytes == nil && filling.percent == nil)
                    #expect(filling.totalBytes == (try new.status().sizeBytes))
                    let away = try volume.logdisk(
                        ["mount", new.path, new.mountPoint], expecting: 14)
                    #expect(away.errors.contains("still lies at"), "\(away)")
                }
                try server.start()
                try new.mount()
                #expect(try digest(scratch, new.disk) == points.last?.1)
                eventually("all of it is here") { !exists(new.path + "/filling.json") }
                try new.unmount()
                try new.verify()
            }
        }
    }
}
