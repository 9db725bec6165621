// Forms that scripts and people rely on: error lines, tables, progress, status.

import CommandText
import Foundation
import Testing

@Suite struct FailureTests {
    @Test func textHasVerbObjectCauseAndHint() {
        let failure = CommandFailure(
            .noSuchVolume, "/v", "no volume there", cause: "no superblock",
            hint: "logdisk create /v --size 10G")
        #expect(
            failure.text(verb: "mount") == """
                logdisk: mount /v: no volume there (no superblock)
                hint: logdisk create /v --size 10G
                """)
        #expect(CommandFailure(.failed, "", "lost").text(verb: "points") == "logdisk: points: lost")
    }

    @Test func codesAreThoseOfTheManual() {
        #expect(
            ExitStatus.allCases.map(\.rawValue) == [0, 1, 3, 10, 11, 12, 13, 14, 15, 64, 130])
    }
}

@Suite struct TableTests {
    @Test func columnsAlign() {
        var table = TextTable([.left, .right, .left], header: ["name", "size", "what"])
        table.add(["a", "1", "x"])
        table.add(["long name", "1000", ""])
        #expect(table.text == "name       size  what\na             1  x\nlong name  1000\n")
    }
}

@Suite struct ProgressTests {
    let progress = ProgressText(label: "copy", totalBytes: 4 << 30)

    @Test func barFitsTheTerminal() {
        for width in [1, 20, 40, 80, 200] {
            let bar = progress.bar(doneBytes: 1 << 30, seconds: 10, width: width)
            #expect(bar.count < width)
        }
        #expect(
            progress.bar(doneBytes: 1 << 30, seconds: 10, width: 80)
                == "copy [#######......................] 25%  1 GiB of 4 GiB  102.4 MiB/s  30s left"
        )
    }

    @Test func lineForPipes() {
        #expect(progress.line(doneBytes: 0, seconds: 0) == "copy: 0%  0 B of 4 GiB")
        #expect(
            progress.line(doneBytes: 4 << 30, seconds: 4) == "copy: 100%  4 GiB of 4 GiB  1 GiB/s")
    }

    @Test func nothingToDoIsDone() {
        #expect(
            ProgressText(label: "x", totalBytes: 0).line(doneBytes: 0, seconds: 0)
                == "x: 100%  0 B of 0 B")
    }
}

@Suite struct StatusReportTests {
    var report: StatusReport {
        var report = StatusReport()
        report.volume = "/v\"1"
        report.isMounted = true
        report.mountPoint = "/m"
        report.ringBytes = 64 << 20
        report.ringUsedBytes = 16 << 20
        report.writes = 100
        report.writtenBytes = 100 * 4096
        report.uptimeSeconds = 10
        report.writersHeldSeconds = 1.255
        return report
    }

    @Test func jsonKeysAreStable() throws {
        var full = report
        full.pid = 1
        full.transport = ""
        full.durableTime = ""
        full.lastFlushTime = ""
        full.lastSnapshot = StatusReport.Snapshot(lsn: 0, time: "")
        let object = try JSONSerialization.jsonObject(with: JSONEncoder().encode(full))
        let keys = try #require(object as? [String: Any]).keys.sorted()
        #expect(
            keys == [
                "applied_lsn", "archived_lsn", "checkpoint_lsn", "durable_lsn", "durable_time",
                "epoch", "flushes", "health", "image_allocated_bytes", "image_path",
                "last_flush_time", "last_snapshot", "log_directory", "log_free_bytes",
                "mount_point", "mounted", "pid", "problems", "published_lsn", "read_bytes", "reads",
                "ring_bytes", "ring_used_bytes", "segment_bytes", "segment_count", "size_bytes",
                "transport", "unarchived_bytes", "uptime_seconds", "uuid", "volume", "wal_bytes",
                "wal_bytes_max", "writers_held",
                "writers_held_now", "writers_held_seconds", "writes", "written_bytes",
            ])
    }

    @Test func fillingIsTold() throws {
        func filling(_ stage: String, _ done: UInt64?, of total: UInt64) -> StatusReport.Filling {
            .init(stage: stage, url: "https://h:1/v", doneBytes: done, totalBytes: total)
        }
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        let some = filling("remote", 1_000_000, of: 4 << 20)
        let json = String(decoding: try encoder.encode(some), as: UTF8.self)
        #expect(
            json == "{\"done_bytes\":1000000,\"percent\":23,\"stage\":\"remote\","
                + "\"total_bytes\":4194304,\"url\":\"https://h:1/v\"}")
        #expect(
            try JSONDecoder().decode(StatusReport.Filling.self, from: Data(json.utf8)) == some)
        #expect(filling("here", 1 << 63 - 1, of: 1 << 63).percent == 99)
        let table: [(StatusReport.Filling?, String)] = [
            (some, "fetched from https://h:1/v: 976.6 KiB of 4 MiB (23%)"),
            (filling("here", 4 << 20, of: 4 << 20), "base snapshot: 4 MiB of 4 MiB (100%)"),
            (filling("remote", nil, of: 4 << 20), "goes on when it is mounted: the state is"),
        ]
        for (filling, text) in table {
            var filled = report
            filled.filling = filling
            #expect(filled.text().contains(text), "\(filled.text())")
        }
        #expect(!report.text().contains("filling"))
    }

    @Test func ratesComeFromTheInterval() {
        #expect(report.text().contains("10/s, 40 KiB/s  (100, 400 KiB since the mount)"))
        #expect(report.text(since: (StatusReport(), 2)).contains("50/s, 200 KiB/s"))
        #expect(report.text().contains("16 MiB of 64 MiB used (25%)"))
    }

    @Test func metricsHaveHelpAndType() {
        let lines = report.metrics.split(separator: "\n")
        #expect(lines.count % 3 == 0)
        for start in stride(from: 0, to: lines.count, by: 3) {
            let name = lines[start].split(separator: " ")[2]
            #expect(lines[start].hasPrefix("# HELP logdisk_"))
            #expect(lines[start + 1].hasPrefix("# TYPE \(name) "))
            #expect(lines[start + 2].hasPrefix("\(name){volume=\"/v\\\"1\"} "))
            #expect(name.hasSuffix("_total") == lines[start + 1].hasSuffix("counter"))
        }
    }
}
