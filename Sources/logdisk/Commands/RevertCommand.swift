// logdisk revert: the volume itself goes back to a past point of it, and the future that it leaves
// stays restorable.

import ArgumentParser
import BlockModel
import CommandText
import Foundation
import History
import Synchronization

struct RevertCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "revert",
        abstract: "Bring the volume itself back to some point.",
        discussion: """
            What differs is written anew, so nothing is lost: the state from before gets the mark \
            before-revert-N and stays restorable, like everything between it and the point. The \
            forms of TARGET: logdisk help replay.

            The volume must not be mounted; or, with --force, nobody may have its disk.img open: \
            file systems unmounted, loop devices detached. Who opens it meanwhile gets EBUSY.

              logdisk revert /srv/vol --at mark:before-upgrade
              logdisk revert /srv/vol --at mark:before-revert-1     undoes that

            Interrupted or killed, the volume is somewhere between: the same command goes on.
            """)

    @Argument(help: ArgumentHelp("Volume or mount point.", valueName: "VOL"))
    var volume: String

    @Option(
        parsing: .unconditional, help: ArgumentHelp("The point to go back to.", valueName: "TARGET")
    )
    var at: String

    @Flag(help: "Go back to the last flush at or before the point.")
    var barrier = false

    @Flag(help: "Do it on a mounted volume, while nobody has the file open.")
    var force = false

    @OptionGroup var options: OutputOptions

    func run() throws {
        Interruption.begin()
        let target = try VolumeHistory.target(at, "--at")
        let location = VolumeLocation(volume)
        try location.mustBeLive()
        let client = try location.client()
        if client != nil, !force {
            let place = try location.holder()?.mountPoint
            throw CommandFailure(
                .inUse, volume, "the volume is mounted", cause: place,
                hint: "logdisk unmount \(place ?? volume), or add --force when nobody has its "
                    + "disk.img open")
        }
        let point = try VolumeHistory(location).resolve(target, barrier: barrier)
        if !options.json { Terminal.error("\(at) is \(point.stamp.words)") }
        let start = ContinuousClock.now
        let reply =
            if let client {
                try ask(client, point.stamp.lsn)
            } else {
                try revert(location, to: point.stamp.lsn)
            }
        try tell(reply, start.seconds(to: .now))
    }

    private func revert(_ location: VolumeLocation, to lsn: LSN) throws(CommandFailure)
        -> RevertReply
    {
        let progress = MonitoredProgress("revert", totalBytes: 0, isSilent: options.json)
        defer { progress.finish() }
        return try VolumeService.withUnmounted(location, purpose: "revert", onFull: .fail) {
            service throws(CommandFailure) in
            try service.closeGap()
            return try service.revert(to: lsn, isMounted: false, monitor: progress.monitor)
        }
    }

    /// The mount does it. Interrupted, this asks it to stop and waits for what it says.
    private func ask(_ client: ControlClient, _ lsn: LSN) throws -> RevertReply {
        try withExtendedLifetime(StopOnInterruption(client)) {
            try client.postToTheEnd("/v1/revert", RevertRequest(lsn: lsn.rawValue))
        }
    }

    // MARK: - what is said

    private func tell(_ reply: RevertReply, _ seconds: Double) throws {
        if options.json {
            return try Terminal.json(RevertJSON(target: at, reply: reply, seconds: seconds))
        }
        let point = "lsn:\(reply.lsn) (\(reply.time))"
        guard let before = reply.before?.name else {
            return Terminal.out("\(volume): it is as it was at \(point) already; nothing written")
        }
        let time = DurationText(seconds: Int64(seconds.rounded(.up)))
        var text = "\(volume): as it was at \(point); "
        text += "\(ByteSize(bytes: reply.writtenBytes)) written"
        if reply.zeroedBytes > 0 { text += ", \(ByteSize(bytes: reply.zeroedBytes)) discarded" }
        Terminal.out(text + " in \(time)\nthe state from before is mark:\(before)")
    }

    private struct RevertJSON: Encodable {
        var target: String
        var reply: RevertReply
        var seconds: Double

        enum CodingKeys: String, CodingKey { case target, seconds }

        func encode(to encoder: any Encoder) throws {
            try reply.encode(to: encoder)
            var more = encoder.container(keyedBy: CodingKeys.self)
            try more.encode(target, forKey: .target)
            try more.encode(seconds, forKey: .seconds)
        }
    }
}

/// As long as it lives: once this command is interrupted, asks the mount to stop reverting, until
/// it has.
private final class StopOnInterruption: Sendable {
    private let hasEnded = Flag()

    private final class Flag: Sendable {
        let value = Atomic<Bool>(false)  // a lone flag: relaxed
    }

    init(_ client: ControlClient) {
        let hasEnded = hasEnded
        Thread.detachNewThread {
            while !hasEnded.value.load(ordering: .relaxed) {
                usleep(50_000)
                guard Interruption.isRequested else { continue }
                let _: AcceptedReply? = try? client.postToTheEnd("/v1/revert/stop", [String: Int]())
            }
        }
    }

    deinit { hasEnded.value.store(true, ordering: .relaxed) }
}
