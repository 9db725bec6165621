// A sealed remote in which one container was sealed with another key: it is lost, and says why; all
// else is had back.

import Foundation
import Testing

extension EndToEnd {
    @Suite struct OtherKeyTests {
        /// Ships the volume to two places at the server, each with its own key, and puts the newest
        /// container of the second in the place of the first one's. Returns what reads the first.
        private func exchangeNewest(
            _ volume: TestVolume, _ server: TestServer
        ) throws -> [String] {
            for name in ["mine", "other"] {
                let key = volume.scratch.path(name + ".key")
                try volume.logdisk(["key", "create", key])
                try volume.logdisk(
                    ["remote", "add", volume.path, name, server.url(name), "--key-file", key]
                        + server.options)
            }
            try volume.logdisk(["ship", volume.path, "--now"])
            let newest = try #require(
                server.segments("other").filter { $0.contains(".log.") }.max())
            #expect(server.segments("mine") == server.segments("other"))
            for name in ["mine", "other"] {
                try volume.logdisk(["verify", server.url(name)] + options(volume, server, name))
            }
            try volume.scratch.run(
                "cp", "\(server.store)/other/segments/\(newest)",
                "\(server.store)/mine/segments/\(newest)")
            return options(volume, server, "mine")
        }

        private func options(
            _ volume: TestVolume, _ server: TestServer, _ name: String
        ) -> [String] {
            server.options + ["--key-file", volume.scratch.path(name + ".key")]
        }

        @Test(needs())
        func oneContainerIsLostAndNoMore() throws {
            try Scratch.with { scratch in
                let (volume, points) = try makeReadVolume(scratch)
                try volume.mount()
                try fill(volume.disk, with: "three", count: 1 << 20)
                _ = try volume.mark("three")
                try volume.unmount()
                let server = try TestServer(in: scratch)
                let options = try exchangeNewest(volume, server)
                let url = server.url("mine")

                let verified = try volume.logdisk(["verify", url] + options, expecting: 13)
                #expect(verified.output.contains("sealed with another key"), "\(verified)")
                for (target, sum) in points.dropLast() {
                    let file = scratch.newPath("far")
                    try volume.logdisk(
                        ["replay", url, "--at", target, "--output", file] + options)
                    #expect(try digest(scratch, file) == sum, "\(target)")
                }
                let file = scratch.newPath("far")
                let refused = try volume.logdisk(
                    ["replay", url, "--at", "now", "--output", file] + options, expecting: 12)
                #expect(refused.errors.contains("sealed with another key"), "\(refused)")

                let new = TestVolume(
                    adopted: scratch.path("new"), in: scratch,
                    mountPoint: try scratch.newFolder("new-mnt"))
                let adopted = try volume.logdisk(["adopt", url, new.path] + options)
                #expect(adopted.errors.contains("cannot be had back"), "\(adopted)")
                #expect(try digest(scratch, new.replay("now")) == points.last?.1)
                try new.verify()
            }
        }

        /// The wrong key for all of it is still refused as that.
        @Test(needs())
        func theWrongKeyIsRefused() throws {
            try Scratch.with { scratch in
                let (volume, _) = try makeReadVolume(scratch)
                let server = try TestServer(in: scratch)
                let key = scratch.path("mine.key")
                try volume.logdisk(["key", "create", key])
                try volume.logdisk(
                    ["remote", "add", volume.path, "mine", server.url("mine"), "--key-file", key]
                        + server.options)
                try volume.logdisk(["ship", volume.path, "--now"])
                let wrong = scratch.path("wrong.key")
                try volume.logdisk(["key", "create", wrong])
                for verb in ["points", "verify"] {
                    let refused = try volume.logdisk(
                        [verb, server.url("mine"), "--key-file", wrong] + server.options,
                        expecting: 15)
                    #expect(refused.errors.contains("not the key of its history"), "\(refused)")
                    #expect(refused.errors.contains("hint: give the file of key "), "\(refused)")
                }
            }
        }
    }
}
