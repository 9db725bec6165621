// The status for people.

extension StatusReport {
    /// Aligned lines. `earlier` with the seconds since gives rates of that interval (status
    /// --watch); without it rates are averages since the mount.
    public func text(since earlier: (report: StatusReport, seconds: Double)? = nil) -> String {
        var table = TextTable([.left, .left])
        if let past {
            table.add(["volume", "\(volume)  (\(size(sizeBytes)))"])
            table.add(["as it was at", "lsn \(past.lsn) of \(past.time)"])
            table.add(["health", ([health.rawValue] + problems).joined(separator: "; ")])
            table.add(["mounted", mountedText])
            table.add(["reads", "\(reads), \(size(readBytes))"])
            return table.text
        }
        table.add(["volume", "\(volume)  (\(size(sizeBytes)), \(uuid))"])
        table.add(["health", ([health.rawValue] + problems).joined(separator: "; ")])
        table.add(["mounted", mountedText])
        table.add(["image", "\(imagePath)  (\(size(imageAllocatedBytes)) on disk)"])
        if let filling { table.add(["filling", text(of: filling)]) }
        table.add(["log", "\(logDirectory)  (\(size(logFreeBytes)) free)"])
        table.add(["durable", "lsn \(durableLSN)" + (durableTime.map { " at \($0)" } ?? "")])
        table.add(["marks of the log", marksText])
        table.add(["last flush", lastFlushTime ?? (isMounted ? "none yet" : "not known")])
        table.add([
            "last snapshot", lastSnapshot.map { "lsn \($0.lsn) at \($0.time)" } ?? "none",
        ])
        if let lastDrill { table.add(["last drill", lastDrill.words]) }
        table.add([
            "WAL",
            "\(size(walBytes)) of at most \(size(walBytesMax)), "
                + "\(size(unarchivedBytes)) not archived yet",
        ])
        table.add(["segments", "\(segmentCount), \(size(segmentBytes))"])
        for remote in remotes ?? [] { table.add(["remote \(remote.name)", remote.line]) }
        if isMounted { addLoad(to: &table, since: earlier) }
        return table.text
    }

    private var mountedText: String {
        guard isMounted else { return "no" }
        let process = pid.map { ", process \($0)" } ?? ""
        let time = DurationText(seconds: Int64(uptimeSeconds))
        let way = transport.map { ", by \($0)" } ?? ""
        return "\(mountPoint ?? "yes")  (for \(time)\(process)\(way))"
    }

    private func text(of filling: Filling) -> String {
        let what =
            filling.stage == "remote"
            ? "the state is fetched from \(filling.url)" : "the image is made of the base snapshot"
        guard let done = filling.doneBytes, let percent = filling.percent else {
            return "goes on when it is mounted: \(what)"
        }
        return "\(what): \(size(done)) of \(size(filling.totalBytes)) (\(percent)%)"
    }

    private var marksText: String {
        "published \(publishedLSN), applied \(appliedLSN), checkpoint \(checkpointLSN), "
            + "archived \(archivedLSN)"
    }

    private func addLoad(
        to table: inout TextTable, since earlier: (report: StatusReport, seconds: Double)?
    ) {
        let fill = ringBytes == 0 ? 0 : ringUsedBytes * 100 / ringBytes
        table.add(["ring", "\(size(ringUsedBytes)) of \(size(ringBytes)) used (\(fill)%)"])
        let base = earlier?.report ?? StatusReport()
        let seconds = max(earlier?.seconds ?? uptimeSeconds, 0.001)
        func rate(_ now: UInt64, _ then: UInt64) -> UInt64 {
            now > then ? UInt64(Double(now - then) / seconds) : 0
        }
        table.add([
            "writes",
            "\(rate(writes, base.writes))/s, \(size(rate(writtenBytes, base.writtenBytes)))/s"
                + "  (\(writes), \(size(writtenBytes)) since the mount)",
        ])
        table.add([
            "reads",
            "\(rate(reads, base.reads))/s, \(size(rate(readBytes, base.readBytes)))/s"
                + "  (\(reads), \(size(readBytes)))",
        ])
        table.add(["flushes", "\(rate(flushes, base.flushes))/s  (\(flushes))"])
        let hundredths = Int(writersHeldSeconds * 100 + 0.5)
        let held = "\(hundredths / 100).\(hundredths % 100 / 10)\(hundredths % 10)"
        table.add([
            "back-pressure",
            "\(writersHeldNow) writers held now; \(writersHeld) holds, \(held) s in all",
        ])
    }

    private func size(_ bytes: UInt64) -> String { ByteSize(bytes: bytes).description }
}
