// The point at which something went wrong, found on real file systems: a planted corruption, and a
// table of SQLite that was dropped.

import Foundation
import Testing

extension EndToEnd {
    @Suite struct BisectTests {
        struct Found: Decodable {
            struct Point: Decodable { var lsn: UInt64 }
            struct Try: Decodable { var lsn: UInt64, verdict: String }
            var good: Point
            var bad: Point
            var candidates: Int
            var tries: [Try]
        }

        func bisect(
            _ volume: TestVolume, good: UInt64, bad: UInt64, _ options: [String] = [],
            script: String
        ) throws -> Found {
            let words =
                ["bisect", volume.path, "--good", "lsn:\(good)", "--bad", "lsn:\(bad)", "--json"]
                + options + ["--", "sh", "-c", script]
            let found = try JSONDecoder().decode(
                Found.self, from: Data(try volume.logdisk(words).output.utf8))
            let most = Int.bitWidth - found.candidates.leadingZeroBitCount
            #expect(found.tries.count - 2 <= most, "\(found)")
            return found
        }

        @Test(needs("root", "loop", "mount", "losetup", "mkfs.ext4", "e2fsck", "dd"))
        func aPlantedCorruption() throws {
            let seed = freshSeed()
            var generator = SeededGenerator(seed: seed)
            try Scratch.with { scratch in
                let volume = try TestVolume(in: scratch, size: "64M")
                try volume.mount()
                let files = try MountedFileSystem(.ext4, in: scratch)
                try files.make(on: volume.disk)
                try files.write(["begin": 1])
                try files.unmount()
                let good = try volume.mark("good").lsn
                try files.mount(volume.disk)
                for index in 0..<15 { try files.write(["a-\(index)": generator.next()]) }
                try files.unmount()
                let before = try volume.mark("before").lsn
                // The superblock and the group descriptors, gone bad.
                try scratch.run(
                    "dd", "if=/dev/urandom", "of=\(volume.disk)", "bs=1k", "seek=1", "count=8",
                    "conv=notrunc,fsync")
                let after = try volume.mark("after").lsn
                for _ in 0..<10 {
                    try scratch.run(
                        "dd", "if=/dev/urandom", "of=\(volume.disk)", "bs=1k", "seek=60000",
                        "count=4", "conv=notrunc,fsync")
                }
                let bad = try volume.mark("bad").lsn
                // A state between two unmounts wants its journal first: of a copy.
                let copy = scratch.path("copy.img")
                let script = """
                    cp --sparse=always "$LOGDISK_IMAGE" \(copy) && chmod u+w \(copy)
                    e2fsck -E journal_only -p \(copy) || exit 1
                    e2fsck -f -n \(copy)
                    """
                for isMounted in [true, false] {
                    if !isMounted { try volume.unmount() }
                    let found = try bisect(volume, good: good, bad: bad, script: script)
                    #expect(found.good.lsn >= before && found.good.lsn < after, "\(found) \(seed)")
                    #expect(found.bad.lsn > before && found.bad.lsn <= after, "\(found) \(seed)")
                    #expect(found.candidates > 15)
                    let exact = try bisect(
                        volume, good: found.good.lsn, bad: found.bad.lsn, ["--every-write"],
                        script: script)
                    #expect(exact.bad.lsn == exact.good.lsn + 1, "\(exact) \(seed)")
                    #expect(exact.good.lsn >= before && exact.bad.lsn < after, "\(exact) \(seed)")
                }
                try volume.verify()
            }
        }

        /// Where there is no FUSE the past images are files.
        @Test(needs("root", "mount", "unshare", "mknod"))
        func withoutFUSE() throws {
            try Scratch.with { scratch in
                let volume = try TestVolume(in: scratch, size: "8M")
                try volume.mount()
                let good = try volume.mark("good").lsn
                var right: UInt64 = 0
                for index in 0..<9 {
                    if index == 6 { right = try volume.mark("right").lsn }
                    let text = index < 6 ? "fine" : "wrong"
                    try scratch.run(
                        "sh", "-c",
                        "echo \(text) \(index) | dd of=\(volume.disk) conv=notrunc,fsync")
                }
                let bad = try volume.mark("bad").lsn
                try volume.unmount()
                let bare =
                    "mount -t tmpfs tmpfs /dev && mknod /dev/null c 1 3"
                    + " && mknod /dev/urandom c 1 9 && exec \"$@\""
                let words = [
                    "unshare", "--mount", "sh", "-c", bare, "sh", Machine.logdisk, "bisect",
                    volume.path, "--good", "lsn:\(good)", "--bad", "lsn:\(bad)", "--every-write",
                    "--json", "--", "sh", "-c",
                    "test -r \"$LOGDISK_IMAGE\" && ! head -c 9 \"$LOGDISK_IMAGE\" | grep wrong",
                ]
                let outcome = try scratch.start(words, input: nil).wait()
                try #require(outcome.status == 0, "\(outcome)")
                let found = try JSONDecoder().decode(Found.self, from: Data(outcome.output.utf8))
                #expect(found.bad.lsn == found.good.lsn + 1, "\(found)")
                #expect(found.good.lsn >= right && found.good.lsn <= right + 2, "\(found)")
                try volume.verify()
            }
        }

        @Test(
            needs("root", "loop", "mount", "losetup", "mkfs.ext4", "e2fsck", "debugfs", "python3"))
        func aDroppedTable() throws {
            try Scratch.with { scratch in
                let volume = try TestVolume(in: scratch, size: "64M")
                try volume.mount()
                let files = try MountedFileSystem(.ext4, in: scratch)
                try files.make(on: volume.disk)
                let base = files.folder + "/base.db"
                func sql(_ words: String) throws {
                    try scratch.run(
                        "python3", "-c",
                        """
                        import sqlite3, sys
                        base = sqlite3.connect(sys.argv[1], isolation_level=None)
                        base.execute(sys.argv[2])
                        """, base, words)
                }
                try sql("create table people(name)")
                try sql("create table log(id integer primary key, words)")
                try files.sync()
                let good = try volume.mark("good").lsn
                for id in 0..<20 { try sql("insert into log values(\(id), 'before')") }
                let before = try volume.mark("before").lsn
                try sql("drop table people")
                try files.sync()  // SQLite's journal is gone for good
                let after = try volume.mark("after").lsn
                for id in 20..<40 { try sql("insert into log values(\(id), 'after')") }
                let bad = try volume.mark("bad").lsn
                try files.unmount()
                let work = try scratch.newFolder("work")
                let script = """
                    cd \(work) && rm -f * || exit 200
                    cp --sparse=always "$LOGDISK_IMAGE" copy.img || exit 200
                    chmod u+w copy.img && e2fsck -p copy.img; test $? -le 1 || exit 125
                    debugfs -R 'dump /base.db base.db' copy.img
                    debugfs -R 'dump /base.db-journal base.db-journal' copy.img
                    test -s base.db-journal || rm -f base.db-journal
                    python3 -c 'import sqlite3
                    sqlite3.connect("base.db").execute("select * from people").fetchall()'
                    """
                let found = try bisect(volume, good: good, bad: bad, script: script)
                #expect(found.bad.lsn > before && found.bad.lsn <= after, "\(found)")
                #expect(found.good.lsn >= before && found.good.lsn < after, "\(found)")
                #expect(found.candidates >= 40)
                try volume.logdisk([
                    "revert", volume.path, "--at", "lsn:\(found.good.lsn)", "--force",
                ])
                try files.mount(volume.disk)
                try sql("select * from people")
                try files.unmount()
                try volume.unmount()
                try volume.verify()
            }
        }
    }
}
