// SQLite with its own write-ahead log on ext4 on a volume: killed between commits, opened again,
// and brought back as it was at remembered moments.

import Foundation
import Testing

extension EndToEnd {
    @Suite struct SQLiteTests {
        /// Inserts as many rows as it is told, one commit each, and says each that is acknowledged.
        private static let program = """
            import sqlite3, sys
            base = sqlite3.connect(sys.argv[1], isolation_level=None)
            base.execute("pragma journal_mode=wal")
            base.execute("pragma synchronous=full")
            base.execute("create table if not exists t(id integer primary key, words text)")
            row = base.execute("select coalesce(max(id), 0) from t").fetchone()[0]
            print("ready", row, flush=True)
            for line in sys.stdin:
                for _ in range(int(line)):
                    row += 1
                    base.execute("insert into t values(?, ?)", (row, str(row) * (row % 300)))
                    print(row, flush=True)
            """

        /// Looks without a trace of its own: on the copy it may change what it likes.
        private static let look = """
            import sqlite3, sys
            base = sqlite3.connect(sys.argv[1])
            assert base.execute("pragma integrity_check").fetchone()[0] == "ok"
            n, least, most = base.execute("select count(*), min(id), max(id) from t").fetchone()
            assert n == 0 or (least == 1 and most == n), (n, least, most)
            for row, words in base.execute("select id, words from t"):
                assert words == str(row) * (row % 300), row
            print(n)
            """

        @Test(needs("root", "loop", "mount", "losetup", "mkfs.ext4", "python3"))
        func killedAndReplayed() throws {
            try Scratch.with { scratch in
                let volume = try TestVolume(in: scratch, size: "128M")
                try volume.mount()
                let files = try MountedFileSystem(.ext4, in: scratch)
                try files.make(on: volume.disk)

                var remembered: [(target: String, rows: Int)] = []
                let writer = try Self.begin(files)
                for round in 1...5 {
                    let rows = try Self.insert(37 * round, writer, from: remembered.last?.rows ?? 0)
                    if round % 2 == 0 {
                        _ = try volume.mark("round-\(round)")
                        remembered.append(("mark:round-\(round)", rows))
                    } else {
                        remembered.append((presentTime(), rows))
                    }
                }
                var last = try #require(remembered.last).rows
                writer.send("1000000")
                for _ in 0..<200 { last = Int(try #require(writer.line())) ?? 0 }
                try volume.kill()
                // What it said until it noticed was acknowledged, too.
                while let line = writer.line(), let row = Int(line) { last = row }
                writer.kill()
                try files.unmount()

                try volume.revive()
                try files.mount(volume.disk)
                let rows = try Self.count(files)
                #expect(rows == last || rows == last + 1, "\(last) commits were acknowledged")
                let again = try Self.begin(files)
                _ = try Self.insert(10, again, from: rows)
                again.kill()
                try files.unmount()

                for (target, rows) in remembered {
                    let old = try MountedFileSystem(.ext4, in: scratch)
                    try old.mount(volume.replay(target))
                    #expect(try Self.count(old) == rows, "\(target)")
                    try old.unmount()
                }
                try volume.unmount()
                try volume.verify()
            }
        }

        static func begin(_ files: MountedFileSystem) throws -> Child {
            let child = try Child(
                ["python3", "-c", program, files.folder + "/base.db"], in: files.scratch)
            try #require(child.line()?.hasPrefix("ready") ?? false, "\(child.wait())")
            return child
        }

        /// The last row; all of them were acknowledged.
        static func insert(_ count: Int, _ writer: Child, from rows: Int) throws -> Int {
            writer.send("\(count)")
            for row in rows + 1...rows + count { try #require(writer.line() == "\(row)") }
            return rows + count
        }

        static func count(_ files: MountedFileSystem) throws -> Int {
            let outcome = try files.scratch.run(
                "python3", "-c", look, files.folder + "/base.db")
            return try #require(Int(outcome.output.trimmingCharacters(in: .newlines)))
        }
    }
}
