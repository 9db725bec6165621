// logdisk status: the state of a volume, mounted or not.

import ArgumentParser
import CommandText
import Foundation

struct Status: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "status",
        abstract: "Show the state of a volume.",
        discussion: """
            For a mounted volume: how far the log is (published, durable, applied, archived), \
            rates, ring, back-pressure, health. For one that is not mounted: what its log and \
            segments hold; nothing is changed.

              logdisk status /srv/vol
              logdisk status /mnt/vol --watch

            The keys of --json are stable. health is ok, degraded or failed.
            """)

    @Argument(help: ArgumentHelp("Volume or mount point.", valueName: "VOL|MNT"))
    var target: String

    @Flag(help: "Show it again every second, until interrupted.")
    var watch = false

    @OptionGroup var output: OutputOptions

    func run() throws {
        let location = VolumeLocation(target)
        var earlier: (report: StatusReport, at: ContinuousClock.Instant)?
        while true {
            let report = try Self.report(location)
            let now = ContinuousClock.now
            if output.json {
                try Terminal.json(report)
            } else {
                if watch, isatty(STDOUT_FILENO) == 1 { print("\u{1B}[H\u{1B}[2J", terminator: "") }
                let since = earlier.flatMap { $0.report.isMounted ? $0 : nil }
                Terminal.out(
                    report.text(since: since.map { ($0.report, ($0.at).seconds(to: now)) }))
            }
            guard watch else { return }
            fflush(nil)
            earlier = (report, now)
            sleep(1)
        }
    }

    private static func report(_ location: VolumeLocation) throws -> StatusReport {
        if let past = try location.pastClient() { return try past.get("/v1/status") }
        guard let holder = try location.holder(), holder.isMount else {
            return try OfflineStatus.report(location)
        }
        return try ControlClient(volume: location.path, object: location.object).get("/v1/status")
    }
}

extension ContinuousClock.Instant {
    func seconds(to later: ContinuousClock.Instant) -> Double {
        let length = later - self
        return Double(length.components.seconds) + Double(length.components.attoseconds) / 1e18
    }
}
