// Backups spread over real file systems, with the program as a user has it, compared by rsync.

import CommandText
import Foundation
import Testing

extension EndToEnd {
    @Suite struct SpreadTests {
        /// A tree of everything that names and files can be, made by a shell.
        private func hostileTree(_ scratch: Scratch) throws -> String {
            let source = try scratch.newFolder("source")
            try scratch.run(
                "bash", "-c",
                """
                set -e
                cd "$0"
                mkdir -p plain 'with blank' empty 'deep/er/and/deep/er/still'
                for i in $(seq 1 300); do echo "file $i" > plain/f$i; done
                head -c 3000000 /dev/urandom > large
                head -c 5000001 /dev/urandom > 'with blank/larger'
                printf x > "$(printf 'new\\nline')"
                printf x > "$(printf 'not\\377utf8')"
                printf x > -- '-dash' ; printf x > '%41' ; printf x > '*?[a]' ; printf x > '"q"'
                printf x > "deep/$(printf '%0200d' 7)"
                ln plain/f1 plain/hard1 ; ln large deep/hard-large
                ln -s ../nowhere plain/dangling ; ln -s . plain/loop
                truncate -s 20M sparse
                printf data | dd of=sparse bs=1 seek=9000000 conv=notrunc status=none
                truncate -s 1M hole
                mkfifo fifo ; mknod null c 1 3
                setfattr -n user.colour -v blue plain/f2
                setfattr -n user.folder -v yes empty
                chmod 4755 plain/f3 ; chmod 000 plain/f4 ; chown 1234:4321 plain/f5
                touch -d '1999-12-31 23:59:59.123456789' plain/f6
                touch -h -d '2001-01-01' plain/dangling
                chmod 1777 empty ; touch -d '2002-02-02 02:02:02.2' empty deep/er plain .
                """, source)
            return source
        }

        /// What rsync would change to make `restored` equal to `source`: nothing.
        private func expectEqual(
            _ scratch: Scratch, _ source: String, _ restored: String,
            sourceLocation: SourceLocation = #_sourceLocation
        ) throws {
            let outcome = try scratch.run(
                "rsync", "-nacHAXSi", "--delete", "--devices", "--specials", source + "/",
                restored + "/")
            #expect(outcome.output.isEmpty, "\(outcome.output)", sourceLocation: sourceLocation)
        }

        private func mounted(
            _ scratch: Scratch, _ kind: FileSystemKind, megabytes: Int
        ) throws -> MountedFileSystem {
            let disk = scratch.newPath("disk")
            try scratch.run("truncate", "-s", "\(megabytes)M", disk)
            let system = try MountedFileSystem(kind, in: scratch)
            try system.make(on: disk)
            return system
        }

        @Test(needs("rsync", "setfattr", "root", "loop", "mkfs.ext4", "mkfs.xfs", "mkfs.btrfs"))
        func hostileTreeOverFourFileSystems() throws {
            try Scratch.with { scratch in
                let source = try hostileTree(scratch)
                let systems = [
                    try mounted(scratch, .ext4, megabytes: 64),
                    try mounted(scratch, .xfs, megabytes: 320),
                    try mounted(scratch, .btrfs, megabytes: 160),
                ]
                let memory = try scratch.newFolder("memory")
                try scratch.run("mount", "-t", "tmpfs", "-o", "size=64M", "tmpfs", memory)
                let devices = (systems.map(\.folder) + [memory]).flatMap {
                    ["--device", "dir:\($0)"]
                }
                let run = ["spread", "run", source, "--set", "s"] + devices
                let outcome = try scratch.start([Machine.logdisk] + run, input: nil).wait()
                try #require(outcome.status == 0, "\(outcome)")
                let verify = try scratch.start(
                    [Machine.logdisk, "spread", "verify"] + devices, input: nil
                ).wait()
                #expect(verify.status == 0, "\(verify)")
                let output = scratch.path("restored")
                let back = try scratch.start(
                    [Machine.logdisk, "spread", "restore", "--set", "s", "--output", output]
                        + devices, input: nil
                ).wait()
                try #require(back.status == 0, "\(back)")
                try expectEqual(scratch, source, output + "/source")
                // A name that exists; then a set that goes.
                let again = try scratch.start([Machine.logdisk] + run, input: nil).wait()
                #expect(again.status == 64, "\(again)")
                let forget = try scratch.start(
                    [Machine.logdisk, "spread", "forget", "--set", "s"] + devices, input: nil
                ).wait()
                #expect(forget.status == 0, "\(forget)")
                for folder in systems.map(\.folder) + [memory] {
                    #expect(access(folder + "/s", F_OK) != 0)
                }
            }
        }

        /// A device is unmounted while it is written to, another one is too small.
        @Test(needs("rsync", "root", "loop", "mkfs.ext4"))
        func pulledAndFull() throws {
            try Scratch.with { scratch in
                let source = try scratch.newFolder("source")
                for i in 0..<40 {
                    try scratch.run(
                        "bash", "-c", "head -c 500000 /dev/urandom > \"$0\"", "\(source)/f\(i)")
                }
                let pulled = try mounted(scratch, .ext4, megabytes: 64)
                let full = try scratch.newFolder("full")
                try scratch.run("mount", "-t", "tmpfs", "-o", "size=4M", "tmpfs", full)
                let good = try scratch.newFolder("good")
                let child = try scratch.start(
                    [
                        Machine.logdisk, "spread", "run", source, "--set", "s", "--device",
                        "dir:\(pulled.folder)?rate=2M/s", "--device", "dir:\(full)", "--device",
                        "dir:\(good)?rate=8M/s",
                    ], input: nil)
                let work = pulled.folder + "/.s.unfinished/files/source"
                eventually("a file on the device") {
                    !((try? FileManager.default.contentsOfDirectory(atPath: work)) ?? []).isEmpty
                }
                try scratch.run("umount", "-l", pulled.folder)
                // The file system lives on as long as it is used: an operator knows better.
                try scratch.logdisk("spread", "fail", "dir:\(pulled.folder)?rate=2M/s")
                let outcome = child.wait()
                try #require(outcome.status == 0, "\(outcome)")
                #expect(outcome.errors.contains("planned again"), "\(outcome)")
                let output = scratch.path("restored")
                try scratch.logdisk(
                    "spread", "restore", "--set", "s", "--output", output, "--device",
                    "dir:\(full)", "--device", "dir:\(good)")
                try expectEqual(scratch, source, output + "/source")
            }
        }

        /// SIGINT and SIGKILL: nothing is visible, and the same command goes on.
        @Test(needs("rsync"), arguments: [SIGINT, SIGKILL])
        func interrupted(_ signal: Int32) throws {
            try Scratch.with { scratch in
                let source = try scratch.newFolder("source")
                for i in 0..<30 {
                    try scratch.run(
                        "bash", "-c", "head -c 300000 /dev/urandom > \"$0\"", "\(source)/f\(i)")
                }
                let folders = [try scratch.newFolder("a"), try scratch.newFolder("b")]
                let slow = folders.flatMap { ["--device", "dir:\($0)?rate=1M/s"] }
                let words = [Machine.logdisk, "spread", "run", source, "--set", "s"]
                let child = try scratch.start(words + slow, input: nil)
                eventually("a file on a device") {
                    let work = folders[0] + "/.s.unfinished/files/source"
                    let names = try? FileManager.default.contentsOfDirectory(atPath: work)
                    return names.map { $0.count > 2 } ?? false
                }
                kill(child.process, signal)
                let outcome = child.wait()
                #expect(outcome.status == (signal == SIGINT ? 130 : 128 + SIGKILL), "\(outcome)")
                let list = try scratch.logdisk(
                    "spread", "list", "--device", "dir:\(folders[0])", "--device",
                    "dir:\(folders[1])")
                #expect(list.output.contains("unfinished"), "\(list)")
                let devices = folders.flatMap { ["--device", "dir:\($0)"] }
                let again = try scratch.start(words + devices, input: nil).wait()
                try #require(again.status == 0, "\(again)")
                #expect(again.errors.contains("going on"), "\(again)")
                let output = scratch.path("restored")
                try scratch.run(
                    Machine.logdisk, "spread", "restore", "--set", "s", "--output", output,
                    devices[0], devices[1], devices[2], devices[3])
                try expectEqual(scratch, source, output + "/source")
            }
        }

        /// A volume as it was, and its history, over three devices; replayed from what comes back.
        /// The log may lie apart.
        @Test(needs(), arguments: [false, true])
        func aVolume(_ isApart: Bool) throws {
            try Scratch.with { scratch in
                let logs = isApart ? ["--log-dir", try scratch.newFolder("logs")] : []
                let volume = try TestVolume(in: scratch, ["--size", "32M"] + logs)
                try volume.mount()
                try fill(volume.disk, with: "then", count: 4 << 20)
                _ = try volume.mark("then")
                let then = try digest(scratch, volume.disk)
                try fill(volume.disk, with: "later", count: 2 << 20)
                let folders = try ["a", "b", "c"].map { try scratch.newFolder($0) }
                let devices = folders.flatMap { ["--device", "dir:\($0)"] }
                let run = try scratch.start(
                    [
                        Machine.logdisk, "spread", "run", "vol:\(volume.path)@mark:then",
                        "log:\(volume.path)", "--set", "s",
                    ] + devices, input: nil
                ).wait()
                try #require(run.status == 0, "\(run)")
                try volume.unmount()
                let output = scratch.path("restored")
                let back = try scratch.start(
                    [Machine.logdisk, "spread", "restore", "--set", "s", "--output", output]
                        + devices, input: nil
                ).wait()
                try #require(back.status == 0, "\(back)")
                let state = "\(output)/vol@mark:then.img"
                #expect(try digest(scratch, state) == then)
                let replayed = scratch.path("replayed")
                try scratch.logdisk(
                    "replay", "\(output)/vol", "--at", "mark:then", "--output", replayed)
                #expect(try digest(scratch, replayed) == then)
            }
        }

        @Test(needs("root", "loop"))
        func aBlockDevice() throws {
            try Scratch.with { scratch in
                let file = scratch.path("disk")
                try scratch.run("bash", "-c", "head -c 3145728 /dev/urandom > \"$0\"", file)
                let disk = try LoopDevice.attach(file, in: scratch)
                let folders = try ["a", "b"].map { try scratch.newFolder($0) }
                let devices = folders.flatMap { ["--device", "dir:\($0)"] }
                let run = try scratch.start(
                    [Machine.logdisk, "spread", "run", disk, "--set", "s"] + devices, input: nil
                ).wait()
                try #require(run.status == 0, "\(run)")
                let output = scratch.path("restored")
                let back = try scratch.start(
                    [Machine.logdisk, "spread", "restore", "--set", "s", "--output", output]
                        + devices, input: nil
                ).wait()
                try #require(back.status == 0, "\(back)")
                let name = disk.split(separator: "/").last.map(String.init) ?? ""
                #expect(try digest(scratch, "\(output)/\(name)") == digest(scratch, file))
            }
        }

        /// A split file by dd alone, from the headers that head shows.
        @Test(needs())
        func reassembledByDD() throws {
            try Scratch.with { scratch in
                let file = scratch.path("large")
                try scratch.run("bash", "-c", "head -c 1234567 /dev/urandom > \"$0\"", file)
                let folders = try ["a", "b", "c"].map { try scratch.newFolder($0) }
                let devices = folders.flatMap { ["--device", "dir:\($0)"] }
                let run = try scratch.start(
                    [Machine.logdisk, "spread", "run", file, "--set", "s"] + devices, input: nil
                ).wait()
                try #require(run.status == 0, "\(run)")
                let whole = scratch.path("whole")
                try scratch.run(
                    "bash", "-c",
                    """
                    set -e
                    for part in "$1"/s/segments/* "$2"/s/segments/* "$3"/s/segments/*; do
                        offset=$(head -c 4096 "$part" | sed -n 's/^offset //p')
                        dd if="$part" of="$0" bs=4096 skip=1 oflag=seek_bytes seek="$offset" \
                            conv=notrunc status=none
                    done
                    """, whole, folders[0], folders[1], folders[2])
                #expect(try digest(scratch, whole) == digest(scratch, file))
            }
        }
    }
}
