// The transaction of PostgreSQL that dropped a table, found by `logdisk bisect` while the server
// goes on: each try starts a second server on a branch of the past and asks it for the table.

import Foundation
import Testing

extension EndToEnd.BisectTests {
    @Test(
        needs("root", "loop", "mount", "losetup", "mkfs.ext4", "initdb", "runuser"))
    func aDroppedTableOfPostgreSQL() throws {
        try Scratch.with { scratch in
            let (volume, files, server) = try PostgreSQL.onVolume(in: scratch, size: "256M")
            try server.query("create table people(name text); create table work(id int)")
            let good = try volume.mark("good").lsn
            for id in 0..<10 { try server.query("insert into people values ('name \(id)')") }
            let before = try volume.mark("before").lsn
            try server.query("drop table people")
            let after = try volume.mark("after").lsn
            for id in 0..<10 { try server.query("insert into work values (\(id))") }
            let bad = try volume.mark("bad").lsn

            let script = try script(volume)
            let found = try bisect(volume, good: good, bad: bad, script: script)
            // Answered commits are durable: the flush of this one lies between the two marks.
            #expect(found.good.lsn >= before && found.good.lsn < after, "\(found)")
            #expect(found.bad.lsn > before && found.bad.lsn <= after, "\(found)")
            #expect(found.candidates >= 20, "one for each transaction at least: \(found)")
            #expect(
                try volume.logdisk(["branches", volume.path, "--json"]).output
                    .filter { !$0.isWhitespace } == "[]")

            // The live server never noticed, and the table is there where bisect says.
            #expect(try server.query("select count(*) from work") == "10")
            try server.stop()
            try files.unmount()
            let old = try MountedFileSystem(.ext4, in: scratch)
            try old.mount(volume.replay("lsn:\(found.good.lsn)"))
            let second = try PostgreSQL(in: old, initializing: false)
            try second.start()
            #expect(try second.query("select count(*) from people") == "10")
            try second.stop()
            try old.unmount()
            try volume.unmount()
            try volume.verify()
        }
    }

    /// Ends with 0 where the table is, with 1 where it is not, and stops the search when it cannot
    /// tell.
    private func script(_ volume: TestVolume) throws -> String {
        let work = try volume.scratch.newFolder("work")
        for name in ["mnt", "files"] {
            try #require(mkdir("\(work)/\(name)", 0o755) == 0)
        }
        try #require(mkdir(work + "/sockets", 0o777) == 0)
        try #require(chmod(work + "/sockets", 0o777) == 0)
        let tools = try #require(Machine.postgresFolder)
        return """
            set -e -u
            as_server() { runuser -u postgres -- env -C / PGHOST=\(work)/sockets "$@"; }
            stop() {
                set +e
                as_server \(tools)/pg_ctl stop -w -s -m immediate -D \(work)/files/data
                umount \(work)/files
                losetup --detach "$device"
                # A loop device may let go a moment later.
                for i in $(seq 200); do
                    \(Machine.logdisk) unmount \(work)/mnt && break || sleep 0.05
                done
                \(Machine.logdisk) branch delete \(work)/branch
            }
            \(Machine.logdisk) mount \(volume.path) \(work)/mnt --at "lsn:$LOGDISK_LSN" \
                --branch \(work)/branch || exit 200
            device=$(losetup --find --show --direct-io=on \(work)/mnt/disk.img) || exit 200
            mount -t ext4 "$device" \(work)/files || exit 200
            rm -f \(work)/files/data/postmaster.pid
            as_server \(tools)/pg_ctl start -w -s -D \(work)/files/data -l \(work)/files/data/log \
                -o "\(PostgreSQL.options(sockets: work + "/sockets"))" || exit 200
            there=$(as_server \(tools)/psql -qAtX -c "select to_regclass('people') is not null" \
                bench) || there=unknown
            stop
            case $there in t) exit 0 ;; f) exit 1 ;; *) exit 200 ;; esac
            """
    }
}
