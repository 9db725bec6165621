// Runs in trouble, with the program as a user has it: a device that hangs, one that is declared
// failed, a file that is never still.

import CommandText
import Foundation
import Testing

extension EndToEnd {
    @Suite struct SpreadTroubleTests {
        private func makeSource(
            _ scratch: Scratch, count: Int, bytes: Int
        ) throws -> String {
            let source = try scratch.newFolder("source")
            for i in 0..<count {
                try scratch.run(
                    "bash", "-c", "head -c \(bytes) /dev/urandom > \"$0\"", "\(source)/f\(i)")
            }
            return source
        }

        private func expectRestored(
            _ scratch: Scratch, _ source: String, _ devices: [String]
        ) throws {
            let output = scratch.newPath("restored")
            let named = devices.flatMap { ["--device", $0] }
            let back = try scratch.start(
                [Machine.logdisk, "spread", "restore", "--set", "s", "--output", output] + named,
                input: nil
            ).wait()
            try #require(back.status == 0, "\(back)")
            for name in try FileManager.default.contentsOfDirectory(atPath: source) {
                #expect(
                    FileManager.default.contentsEqual(
                        atPath: "\(source)/\(name)", andPath: "\(output)/source/\(name)"),
                    "\(name)")
            }
        }

        /// A file system that is frozen answers nothing at all.
        @Test(needs("root", "loop", "mkfs.ext4", "fsfreeze"))
        func aDeviceThatHangs() throws {
            try Scratch.with { scratch in
                let source = try makeSource(scratch, count: 20, bytes: 200_000)
                let disk = scratch.newPath("disk")
                try scratch.run("truncate", "-s", "64M", disk)
                let system = try MountedFileSystem(.ext4, in: scratch)
                try system.make(on: disk)
                let good = try scratch.newFolder("good")
                let log = scratch.path("log")
                let child = try scratch.start(
                    [
                        Machine.logdisk, "spread", "run", source, "--set", "s", "--timeout", "2s",
                        "--events", log, "--device", "dir:\(system.folder)?rate=1M/s", "--device",
                        "dir:\(good)",
                    ], input: nil)
                let work = system.folder + "/.s.unfinished/files/source"
                eventually("a file on the device") {
                    let names = try? FileManager.default.contentsOfDirectory(atPath: work)
                    return !(names ?? []).isEmpty
                }
                scratch.onEnd { _ = try? scratch.attempt("fsfreeze", "-u", system.folder) }
                try scratch.run("fsfreeze", "-f", system.folder)
                // A thread in a frozen file system keeps its process: thawed when it was left out.
                eventually("the device is left out") {
                    let text = (try? String(contentsOfFile: log, encoding: .utf8)) ?? ""
                    return text.contains("no answer for 2 seconds")
                }
                eventually("the set is complete") { access("\(good)/s/MANIFEST", F_OK) == 0 }
                try scratch.run("fsfreeze", "-u", system.folder)
                let outcome = child.wait()
                #expect(outcome.status == 0, "\(outcome)")
                try expectRestored(scratch, source, ["dir:\(good)"])
            }
        }

        /// With two copies of everything, either of the devices that are left has all of it.
        @Test(needs())
        func alsoRewriteWritten() throws {
            try Scratch.with { scratch in
                let source = try makeSource(scratch, count: 24, bytes: 200_000)
                let folders = try ["a", "b", "c"].map { try scratch.newFolder($0) }
                let devices = folders.map { "dir:\($0)?rate=2M/s" }
                let named = devices.flatMap { ["--device", $0] }
                let child = try scratch.start(
                    [
                        Machine.logdisk, "spread", "run", source, "--set", "s", "--copies", "2",
                        "--also-rewrite-written",
                    ] + named, input: nil)
                let work = folders[0] + "/.s.unfinished/files/source"
                eventually("files on the device") {
                    let names = try? FileManager.default.contentsOfDirectory(atPath: work)
                    return (names ?? []).count > 2
                }
                try scratch.logdisk("spread", "fail", devices[0])
                let outcome = child.wait()
                try #require(outcome.status == 0, "\(outcome)")
                #expect(outcome.errors.contains("planned again"), "\(outcome)")
                for folder in folders.dropFirst() {
                    try expectRestored(scratch, source, ["dir:\(folder)"])
                }
            }
        }

        @Test(needs())
        func aFileThatIsNeverStill() throws {
            try Scratch.with { scratch in
                let source = try makeSource(scratch, count: 3, bytes: 600_000)
                let writer = try Child(
                    [
                        "bash", "-c", "while sleep 0.02; do echo x >> \"$0\"; done",
                        "\(source)/f1",
                    ], in: scratch)
                let folder = try scratch.newFolder("a")
                let outcome = try scratch.start(
                    [
                        Machine.logdisk, "spread", "run", source, "--set", "s", "--device",
                        "dir:\(folder)?rate=2M/s",
                    ], input: nil
                ).wait()
                writer.kill()
                #expect(outcome.status == 3, "\(outcome)")
                #expect(
                    outcome.errors.contains("source/f1: it changes while it is read"),
                    "\(outcome)")
                let list = try scratch.logdisk(
                    "spread", "list", "--device", "dir:\(folder)")
                #expect(list.output.contains("files missing"), "\(list)")
                try FileManager.default.removeItem(atPath: "\(source)/f1")
                let output = scratch.path("restored")
                let back = try scratch.logdisk(
                    "spread", "restore", "--set", "s", "--output", output, "--device",
                    "dir:\(folder)", "source/f0", "source/f2")
                #expect(back.output.contains("2 files"), "\(back)")
            }
        }
    }
}
