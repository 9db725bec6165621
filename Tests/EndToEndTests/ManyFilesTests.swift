// Spreading a hundred thousand files: everything that names and files can be comes back equal, and
// memory stays within its bound.

import Foundation
import Testing

extension EndToEnd {
    @Suite struct ManyFilesTests {
        private static let count = 100_000

        private func devices(_ scratch: Scratch) throws -> [String] {
            try ["a", "b", "c"].map { try scratch.newFolder($0) }
        }

        private func words(_ verb: String, _ folders: [String]) -> [String] {
            [Machine.logdisk, "spread", verb, "--set", "s"]
                + folders.flatMap { ["--device", "dir:\($0)"] }
        }

        /// Compared by rsync; where paths are too long for rsync, by a listing.
        @Test(needs("rsync", "python3", "root"))
        func hostileTree() throws {
            try Scratch.with { scratch in
                let source = try scratch.newFolder("source")
                try HostileTree.make(source, count: Self.count, seed: 2_028, in: scratch)
                let folders = try devices(scratch)
                let output = scratch.path("restored")
                scratch.onEnd {
                    for folder in folders + [output] {
                        _ = try? scratch.attempt("rm", "-rf", folder)
                    }
                }
                let parts = ["\(source)/wide", "\(source)/deep"]
                let run = try scratch.start(words("run", folders) + parts, input: nil).wait()
                try #require(run.status == 0, "\(run)")
                let back = try scratch.start(
                    words("restore", folders) + ["--output", output], input: nil
                ).wait()
                try #require(back.status == 0, "\(back)")
                #expect(!back.errors.contains("could not be set"), "\(back)")
                let outcome = try scratch.run(
                    "rsync", "-nacHAXSi", "--delete", "--devices", "--specials",
                    "\(source)/wide/", "\(output)/wide/")
                #expect(outcome.output.isEmpty, "\(outcome.output.prefix(2000))")
                let before = try HostileTree.listing("\(source)/deep", in: scratch)
                #expect(before.split(separator: "\n").count > Self.count / 25)
                #expect(try HostileTree.listing("\(output)/deep", in: scratch) == before)
                #expect(
                    try allocated("\(output)/wide", scratch)
                        <= allocated("\(source)/wide", scratch) * 21 / 20, "holes are holes")
            }
        }

        /// In bytes.
        private func allocated(_ folder: String, _ scratch: Scratch) throws -> Int {
            let outcome = try scratch.run("du", "-s", "--block-size=1", folder)
            return try #require(Int(outcome.output.prefix { $0 != "\t" }))
        }

        /// 64 MiB and 200 bytes a file, by the most that the process ever had.
        @Test(needs("python3"))
        func memory() throws {
            try Scratch.with { scratch in
                let source = try scratch.newFolder("source")
                try scratch.run("python3", "-c", Self.plainTree, source, "\(Self.count)")
                let folders = try devices(scratch)
                let limit = (64 << 20) + 200 * Self.count
                let run = try peak(words("run", folders) + [source], scratch)
                #expect(run <= limit, "run: \(run) of \(limit) bytes")
                let output = scratch.path("restored")
                let restore = try peak(
                    words("restore", folders) + ["--output", output], scratch)
                #expect(restore <= limit, "restore: \(restore) of \(limit) bytes")
                try scratch.run("diff", "-r", source, output + "/source")
            }
        }

        /// The most memory that a command took, in bytes; it must end well.
        private func peak(_ command: [String], _ scratch: Scratch) throws -> Int {
            let outcome = try scratch.start(["python3", "-c", Self.measured] + command, input: nil)
                .wait()
            try #require(outcome.status == 0, "\(outcome)")
            let last = try #require(outcome.output.split(separator: "\n").last)
            return try #require(Int(last))
        }

        private static let plainTree = #"""
            import os, sys
            os.chdir(sys.argv[1])
            for number in range(int(sys.argv[2])):
                if number % 100 == 0:
                    folder = f"folder{number // 100:04}"
                    os.mkdir(folder)
                with open(f"{folder}/file{number:06}", "w") as file:
                    file.write(str(number) if number % 10 == 0 else "")
            """#

        private static let measured = #"""
            import resource, subprocess, sys
            code = subprocess.run(sys.argv[1:]).returncode
            print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)
            sys.exit(code)
            """#
    }
}
