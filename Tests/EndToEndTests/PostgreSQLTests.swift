// PostgreSQL under pgbench's load on ext4 on a volume: server and daemon killed together, the
// server started again, and brought back as it was at remembered times.

import Foundation
import Testing

extension EndToEnd {
    @Suite struct PostgreSQLTests {
        @Test(
            needs("root", "loop", "mount", "losetup", "mkfs.ext4", "initdb", "pgbench", "runuser"))
        func killedAndReplayed() throws {
            try Scratch.with { scratch in
                let (volume, files, server) = try PostgreSQL.onVolume(in: scratch, size: "512M")
                try server.command("pgbench", "-q", "-i", "-s", "1", "bench")
                try server.query("create table acked(id int primary key)")

                let load = try server.begin("pgbench", "-n", "-c", "3", "-T", "600", "bench")
                let writer = try server.begin("psql", "-qAtX", "bench")
                var remembered: [(target: String, rows: Int)] = []
                var rows = 0
                for round in 1...5 {
                    rows = try Self.insert(8 * round, writer, from: rows)
                    // The load goes on meanwhile: only this table stands still.
                    remembered.append((presentTime(), rows))
                }
                rows = try Self.insert(25, writer, from: rows)
                try volume.kill()
                server.kill()
                load.kill()
                writer.kill()
                try files.unmount()

                try volume.revive()
                try files.mount(volume.disk)
                try Self.check(files, rows: rows, "after the kill")
                try files.unmount()
                for (target, rows) in remembered {
                    let old = try MountedFileSystem(.ext4, in: scratch)
                    try old.mount(volume.replay(target))
                    try Self.check(old, rows: rows, target)
                    try old.unmount()
                }
                try volume.unmount()
                try volume.verify()
            }
        }

        /// A second server on a branch of the past, while the first one goes on.
        @Test(
            needs("root", "loop", "mount", "losetup", "mkfs.ext4", "initdb", "pgbench", "runuser"))
        func secondServerInThePast() throws {
            try Scratch.with { scratch in
                let (volume, files, server) = try PostgreSQL.onVolume(in: scratch, size: "512M")
                try server.command("pgbench", "-q", "-i", "-s", "1", "bench")
                try server.query("create table acked(id int primary key)")
                let load = try server.begin("pgbench", "-n", "-c", "2", "-T", "600", "bench")
                let writer = try server.begin("psql", "-qAtX", "bench")
                var remembered: [(target: String, rows: Int)] = []
                var rows = 0
                for round in 1...5 {
                    rows = try Self.insert(4 * round, writer, from: rows)
                    remembered.append((presentTime(), rows))
                }
                let folder = try scratch.newFolder("past")
                for (target, past) in remembered.reversed() {
                    let branch = scratch.newPath("branch")
                    try volume.logdisk(
                        ["mount", volume.path, folder, "--at", target, "--branch", branch])
                    let old = try MountedFileSystem(.ext4, in: scratch)
                    try old.mount(folder + "/disk.img")
                    try Self.check(old, rows: past, target)
                    try old.unmount()
                    try volume.logdisk(["unmount", folder])
                    try volume.logdisk(["branch", "delete", branch])
                    rows = try Self.insert(3, writer, from: rows)
                }
                load.kill()
                writer.kill()
                try server.stop()
                try Self.check(files, rows: rows, "the live one")
                try files.unmount()
                try volume.unmount()
                try volume.verify()
            }
        }

        /// Inserts one row after the other; each is answered when it is committed.
        private static func insert(_ count: Int, _ writer: Child, from rows: Int) throws -> Int {
            for row in rows + 1...rows + count {
                writer.send("insert into acked values (\(row)) returning id;")
                try #require(writer.line() == "\(row)")
            }
            return rows + count
        }

        /// Starts the server there: the acknowledged rows, no others, and money that adds up.
        private static func check(
            _ files: MountedFileSystem, rows: Int, _ context: String
        ) throws {
            let server = try PostgreSQL(in: files, initializing: false)
            try server.start()
            let found = try server.query("select count(*), coalesce(max(id), 0) from acked")
            #expect(found == "\(rows)|\(rows)", "\(context)")
            let sums = try server.query(
                """
                select (select sum(abalance) from pgbench_accounts)
                     = (select coalesce(sum(delta), 0) from pgbench_history),
                       (select sum(tbalance) from pgbench_tellers)
                     = (select sum(bbalance) from pgbench_branches)
                """)
            #expect(sums == "t|t", "\(context)")
            #expect(try server.query("select count(*) from pgbench_accounts") == "100000")
            try server.stop()
        }
    }
}
