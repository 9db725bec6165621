// logdisk ship: what is not at the remotes yet goes now. Asks the running mount; of a volume that
// is not mounted this process ships.

import ArgumentParser
import BlockModel
import CommandText
import Foundation
import History
import Shipping

struct Ship: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ship", abstract: "Send what is not at the remotes yet.",
        discussion: """
            Without --now the schedule counts: the network has to be quiet, or it is the hour. \
            A mounted volume ships in the background by itself; --wait waits until everything \
            that is there now has been acknowledged. One that is not mounted is shipped by this \
            command, to the end.

              logdisk ship /srv/vol --now --wait
              logdisk ship /srv/vol home
            """)

    @Argument(help: ArgumentHelp("Volume or mount point.", valueName: "VOL"))
    var volume: String

    @Argument(help: ArgumentHelp("The remote; without it all of them.", valueName: "NAME"))
    var name: String?

    @Flag(help: "Whatever the traffic, the hours and the server's load.")
    var now = false

    @Flag(help: "Until the remotes have acknowledged everything that is there now.")
    var wait = false

    @OptionGroup var output: OutputOptions

    func run() throws {
        Interruption.begin()
        let location = VolumeLocation(volume)
        let folder = try RemoteCommand.folder(location)
        let known = try folder.names()
        if let name { _ = try folder.read(name) }
        let names = name.map { [$0] } ?? known
        guard !names.isEmpty else {
            throw CommandFailure(
                .usage, volume, "it has no remote",
                hint: "logdisk remote add \(volume) NAME https://HOST:PORT/VOLUME")
        }
        if let client = try location.client() {
            try ask(client, names)
        } else {
            try shipUnmounted(location, folder, names)
        }
    }

    // MARK: - mounted

    private func ask(_ client: ControlClient, _ names: [String]) throws {
        let status: StatusReport = try client.get("/v1/status")
        var target = status.durableLSN
        if now {
            for name in names {
                let point: PointReply = try client.post("/v1/ship", NameRequest(name: name))
                target = max(target, point.lsn)
            }
        }
        if wait { try Self.follow(client, names, through: target, isSilent: output.json) }
        try report(try (client.get("/v1/remotes") as [RemoteReport]), names)
    }

    /// Waits until the remotes have everything up to `target`; shows how far they are.
    static func follow(
        _ client: ControlClient, _ names: [String], through target: UInt64, isSilent: Bool
    ) throws {
        let progress = ProgressReporter("ship", totalBytes: 0, isSilent: isSilent)
        defer { progress.finish() }
        var start: UInt64?
        var vain = VainWait()
        while true {
            let all: [RemoteReport] = try client.get("/v1/remotes")
            let open = all.filter { remote in
                names.contains(remote.name) && remote.ackedLSN.map { $0 < target } ?? true
            }
            for remote in open where remote.stateKind == "hold:standing" || remote.isPaused {
                throw CommandFailure(
                    .refused, client.object, "remote \(remote.name) does not ship",
                    cause: remote.problem ?? remote.state,
                    hint: "when the cause is gone: logdisk remote resume \(client.object) "
                        + remote.name)
            }
            guard !open.isEmpty else { return }
            let left = open.reduce(0) { $0 + $1.lagBytes }
            start = max(start ?? left, left)
            try progress.update((start ?? left) - left, of: start)
            if let remote = vain.isLost(open) {
                throw CommandFailure(
                    .unreachable, client.object, "remote \(remote.name) takes nothing",
                    cause: remote.failure,
                    hint: "the mount goes on trying; logdisk remote list \(client.object)")
            }
            usleep(100_000)
        }
    }

    private func report(_ all: [RemoteReport], _ names: [String]) throws {
        let chosen = all.filter { names.contains($0.name) }
        if output.json { return try Terminal.json(chosen) }
        for remote in chosen { Terminal.out("\(volume): \(remote.name): \(remote.line)") }
    }

    // MARK: - not mounted

    private func shipUnmounted(
        _ location: VolumeLocation, _ folder: RemoteFolder, _ names: [String]
    ) throws {
        var reports: [RemoteReport] = []
        try VolumeService.withUnmounted(location, purpose: "shipping") {
            service throws(CommandFailure) in
            try service.archive(through: service.volume.durableStamp.lsn)
            let shipping = VolumeShipping(service)
            for name in names {
                let config = try folder.read(name)
                guard !config.isPaused else {
                    throw CommandFailure(
                        .refused, volume, "remote \(name) is paused",
                        hint: "logdisk remote resume \(volume) \(name)")
                }
                let (shipper, _) = try shipping.shipper(config)
                try ShipRun(object: volume, isSilent: output.json).toTheEnd(
                    shipper, through: service.volume.durableStamp.lsn, now: now)
                reports.append(RemoteReport(config, shipper.status()))
            }
        }
        try report(reports, names)
    }
}

/// Whether waiting for remotes is in vain: after a minute in which one fails and none moves.
private struct VainWait {
    private static let most = Duration.seconds(60)

    private var moved = ContinuousClock.now
    private var bytes: [UInt64] = []

    /// The remote that fails.
    mutating func isLost(_ open: [RemoteReport]) -> RemoteReport? {
        let now = open.flatMap { remote -> [UInt64] in
            [remote.shippedBytes, remote.sendingBytes, remote.ackedLSN ?? 0]
        }
        if now != bytes { (bytes, moved) = (now, .now) }
        guard ContinuousClock.now - moved > Self.most else { return nil }
        return open.first { $0.failure != nil }
    }
}
