// Restore drills: what passes, what fails, what is kept of each, and that nothing else is left of
// them, however they end.

import CommandText
import Foundation
import Testing

extension EndToEnd {
    @Suite struct DrillTests {
        /// A mounted volume with content, and a folder for what drills keep meanwhile.
        private struct Place {
            let scratch: Scratch
            let volume: TestVolume
            let temporary: String

            init(_ scratch: Scratch) throws {
                self.scratch = scratch
                volume = try TestVolume(in: scratch, size: "4M")
                temporary = try scratch.newFolder("tmp")
                try volume.mount()
                try fill(volume.disk, with: "content", count: 1 << 20)
            }

            func begin(_ words: [String]) throws -> Child {
                let child = try Child(
                    [Machine.logdisk, "drill"] + words, in: scratch,
                    environment: ["TMPDIR": temporary])
                child.endInput()
                return child
            }

            @discardableResult
            func drill(
                _ words: String..., expecting status: Int32 = 0,
                sourceLocation: SourceLocation = #_sourceLocation
            ) throws -> Outcome {
                let outcome = try begin([volume.path] + words).wait()
                try #require(outcome.status == status, "\(outcome)", sourceLocation: sourceLocation)
                return outcome
            }

            /// The lines of drills.jsonl.
            var records: [DrillRecord] {
                get throws {
                    let path = volume.path + "/drills.jsonl"
                    guard access(path, F_OK) == 0 else { return [] }
                    return try String(contentsOfFile: path, encoding: .utf8)
                        .split(separator: "\n")
                        .map { try JSONDecoder().decode(DrillRecord.self, from: Data($0.utf8)) }
                }
            }

            /// Neither files, mounts, leases nor branches.
            func expectNothingLeft(sourceLocation: SourceLocation = #_sourceLocation) throws {
                let files = try FileManager.default.contentsOfDirectory(atPath: temporary)
                #expect(files == [], sourceLocation: sourceLocation)
                #expect(
                    Scratch.mountPoints(below: temporary) == [], sourceLocation: sourceLocation)
                let leases = volume.path + "/leases"
                let held = (try? FileManager.default.contentsOfDirectory(atPath: leases)) ?? []
                #expect(held == [], sourceLocation: sourceLocation)
            }
        }

        @Test(needs("curl"))
        func keepsARecord() throws {
            try Scratch.with { scratch in
                let place = try Place(scratch)
                let volume = place.volume
                let expected = try digest(scratch, volume.disk)
                let check = "sha256sum \"$LOGDISK_IMAGE\" | grep -q \(expected)"
                let words = try place.drill("--check", check, "--json").output
                let passed = try JSONDecoder().decode(DrillRecord.self, from: Data(words.utf8))
                #expect(passed.result == .passed && passed.exitCode == 0 && passed.check == check)
                #expect(passed.target == "latest" && passed.lsn > 0 && passed.by.contains("@"))
                #expect(try volume.status().lastDrill == passed)
                #expect(try metric("logdisk_drill_passed", volume) == "1")

                try fill(volume.disk, with: "other", count: 1 << 20)
                let failed = try place.drill("--check", check, expecting: 1)
                #expect(failed.errors.contains("the check did not pass (exit code 1)"))
                #expect(failed.errors.contains("hint: ") && failed.output.contains("failed at"))
                #expect(try volume.status().lastDrill?.result == .failed)
                #expect(try metric("logdisk_drill_passed", volume) == "0")
                #expect(
                    try metric("logdisk_drill_timestamp_seconds", volume)
                        == "\(place.records[1].unixTime)")
                // The state of then is still good.
                try place.drill("--check", check, "--at", "lsn:\(passed.lsn)")

                let signalled = try place.drill("--check", "kill -9 $$", expecting: 1)
                #expect(signalled.errors.contains("ended by a signal"), "\(signalled)")
                try place.drill("--check", "exit 3", expecting: 1)
                try volume.unmount()
                try place.drill("--check", "test -n \"$LOGDISK_TIME\"", "--at", "lsn:0")
                let records = try place.records
                #expect(records.first == passed)
                #expect(
                    records.map(\.result) == [
                        .passed, .failed, .passed, .failed, .failed, .passed,
                    ])
                #expect(records.map(\.exitCode) == [0, 1, 0, nil, 3, 0])
                #expect(records.last?.lsn == 0 && records.last?.target == "lsn:0")
                #expect(try volume.status().lastDrill == records.last)
                #expect(try volume.logdisk(["status", volume.path]).output.contains("last drill"))
                try place.expectNothingLeft()
                try volume.verify()
            }
        }

        /// The value on the page that a mount serves.
        private func metric(_ name: String, _ volume: TestVolume) throws -> String? {
            let page = try volume.scratch.run(
                "curl", "-sS", "--unix-socket", volume.path + "/control.sock",
                "http://localhost/metrics"
            ).output
            let line = page.split(separator: "\n").first { $0.hasPrefix(name + "{") }
            return line?.split(separator: " ").last.map { String($0) }
        }

        @Test(needs("root", "loop", "mount", "losetup", "mkfs.ext4", "e2fsck"))
        func writableChecks() throws {
            try Scratch.with { scratch in
                let place = try Place(scratch)
                let volume = place.volume
                let before = try digest(scratch, volume.disk)
                let overwrite =
                    "dd if=/dev/zero of=\"$LOGDISK_IMAGE\" bs=1M count=2 conv=notrunc,fsync"
                try place.drill("--check", overwrite, expecting: 1)
                try place.expectNothingLeft()
                try place.drill(
                    "--writable", "--check",
                    "\(overwrite) && head -c 2M /dev/zero | cmp -n 2M - \"$LOGDISK_IMAGE\"")
                try place.expectNothingLeft()
                try place.drill("--writable", "--check", "\(overwrite); exit 7", expecting: 1)
                try place.expectNothingLeft()
                // A loop device lets go of the file a moment after the file system is unmounted.
                let folder = try scratch.newFolder("checked")
                let mounting = """
                    set -e
                    mkfs.ext4 -q -F "$LOGDISK_IMAGE"
                    mount -o loop "$LOGDISK_IMAGE" \(folder)
                    echo there > \(folder)/file
                    umount \(folder)
                    e2fsck -f -n "$LOGDISK_IMAGE"
                    """
                for _ in 0..<3 { try place.drill("--writable", "--check", mounting) }
                try place.expectNothingLeft()
                #expect(try digest(scratch, volume.disk) == before)
                try volume.unmount()
                try place.drill("--writable", "--check", overwrite)
                try place.expectNothingLeft()
                #expect(try digest(scratch, volume.replay("now")) == before)
                #expect(try place.records.count == 7)
                try volume.verify()
            }
        }

        /// A check that leaves the image in use is told so, and the rest goes with its user.
        @Test(needs())
        func aCheckThatHoldsOn() throws {
            try Scratch.with { scratch in
                let place = try Place(scratch)
                let held = scratch.path("held")
                let check = "sleep 600 < \"$LOGDISK_IMAGE\" & echo $! > \(held)"
                let outcome = try place.drill("--writable", "--check", check, expecting: 11)
                #expect(outcome.errors.contains("in use"), "\(outcome)")
                #expect(outcome.errors.contains("hint: "), "\(outcome)")
                let text = try String(contentsOfFile: held, encoding: .utf8)
                let process = try #require(
                    pid_t(text.trimmingCharacters(in: .whitespacesAndNewlines)))
                #expect(kill(process, SIGKILL) == 0)
                eventually("the end of the check's child") { !isAlive(process) }
                for mount in Scratch.mountPoints(below: place.temporary) {
                    try place.volume.logdisk(["unmount", mount])
                }
                for branch in try FileManager.default.contentsOfDirectory(atPath: place.temporary) {
                    try place.volume.logdisk(
                        ["branch", "delete", "\(place.temporary)/\(branch)/branch"])
                }
                try place.volume.unmount()
                try place.volume.verify()
            }
        }

        @Test(needs())
        func randomPoints() throws {
            try Scratch.with { scratch in
                let place = try Place(scratch)
                let volume = place.volume
                for round in 0..<5 { try fill(volume.disk, with: "r \(round)", count: 1 << 18) }
                let last = try volume.status().durableLSN
                let copy = scratch.path("copy")
                for _ in 0..<8 {
                    try place.drill("--at", "random", "--check", "cp \"$LOGDISK_IMAGE\" \(copy)")
                    let record = try #require(place.records.last)
                    #expect(record.target == "random" && record.lsn <= last)
                    let replayed = try volume.replay("lsn:\(record.lsn)")
                    #expect(try digest(scratch, copy) == digest(scratch, replayed))
                }
                #expect(try Set(place.records.map(\.lsn)).count > 1)
                try place.expectNothingLeft()
                try volume.unmount()
            }
        }

        @Test(needs())
        func refusals() throws {
            try Scratch.with { scratch in
                let place = try Place(scratch)
                let table: [([String], Int32, String)] = [
                    (["--check", ""], 64, "--check is empty"),
                    (["--check", " \n "], 64, "--check is empty"),
                    ([], 64, "--check"),
                    (["--check", "true", "--at", "nonsense"], 64, "nonsense"),
                    (["--check", "true", "--at", "nonsense", "--every", "1d"], 64, "nonsense"),
                    (["--check", "true", "--at", "lsn:99999"], 12, "lsn:99999"),
                    (["--check", "true", "--at", "mark:none"], 12, "none"),
                    (["--check", "true", "--every", "0s"], 64, "too short"),
                    (["--check", "true", "--every", "-1d"], 64, "-1d"),
                    (["--check", "true", "--every", "often"], 64, "often"),
                ]
                for (words, status, text) in table {
                    let outcome = try place.begin([place.volume.path] + words).wait()
                    #expect(outcome.status == status, "\(outcome)")
                    #expect(outcome.errors.contains(text), "\(outcome)")
                    try place.expectNothingLeft()
                }
                for words in [[], ["--every", "1d"]] {
                    let none = try place.begin([scratch.path("none"), "--check", "true"] + words)
                    #expect(none.wait().status == 10)
                }
                #expect(try place.records == [])
                // What could not be run did not pass: that is kept, and said in words.
                for check in ["/no/such/check", "no-such-check 1", place.temporary] {
                    let outcome = try place.drill("--check", check, expecting: 1)
                    #expect(outcome.errors.contains("could not be run"), "\(outcome)")
                    #expect(outcome.errors.contains("hint: "), "\(outcome)")
                }
                #expect(try place.records.map(\.exitCode) == [127, 127, 126])
                try place.expectNothingLeft()
                try place.volume.unmount()
            }
        }

        @Test(needs(), arguments: [[], ["--writable"], ["--every", "1d"]])
        func interrupted(_ options: [String]) throws {
            try Scratch.with { scratch in
                let place = try Place(scratch)
                let started = scratch.path("started")
                let isOver = options.contains("--every")
                // Of one that is repeated the wait for the next is interrupted.
                let wait = isOver ? "" : "; sleep 600 < \"$LOGDISK_IMAGE\""
                let check = "echo $$ > \(started).1; mv \(started).1 \(started)" + wait
                let drill = try place.begin([place.volume.path, "--check", check] + options)
                eventually("the check") { access(started, F_OK) == 0 }
                if isOver {
                    try eventually("the record") { try place.records.count == 1 }
                }
                let text = try String(contentsOfFile: started, encoding: .utf8)
                let shell = try #require(
                    pid_t(text.trimmingCharacters(in: .whitespacesAndNewlines)))
                #expect(kill(drill.process, SIGINT) == 0)
                let outcome = drill.wait()
                #expect(outcome.status == 130, "\(outcome)")
                #expect(!isAlive(shell) && children(of: shell) == [], "\(outcome)")
                try place.expectNothingLeft()
                #expect(try place.records.count == (isOver ? 1 : 0))
                try place.volume.unmount()
                try place.volume.verify()
            }
        }

        @Test(needs())
        func again() throws {
            try Scratch.with { scratch in
                let place = try Place(scratch)
                // One that fails does not end it.
                let drill = try place.begin([
                    place.volume.mountPoint, "--check", "exit 2", "--every", "1s", "--json",
                ])
                try eventually("three drills") { try place.records.count >= 3 }
                #expect(kill(drill.process, SIGTERM) == 0)
                let outcome = drill.wait()
                #expect(outcome.status == 130, "\(outcome)")
                let records = try place.records
                #expect(records.allSatisfy { $0.result == .failed && $0.exitCode == 2 })
                try place.expectNothingLeft()
                try place.volume.unmount()
            }
        }
    }
}
