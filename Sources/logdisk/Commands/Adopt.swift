// logdisk adopt: a volume comes back from a log server, on this machine, which writes it from then
// on.

import ArgumentParser
import BlockModel
import CommandText
import Foundation
import FuseMount

struct Adopt: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "adopt",
        abstract: "Bring a volume from a log server or object storage to this machine.",
        discussion: """
            Makes the volume anew in VOL, at its newest restorable point, and makes this machine \
            the one that writes it: shipments of the machine before are refused from then on, \
            while its own volume goes on there. It keeps its identity, and its records go on \
            behind those at the server.

              logdisk adopt https://backup:7340/vol /srv/vol --token-file token
              logdisk mount /srv/vol /mnt/vol
              logdisk adopt s3://bucket/vol /srv/vol --endpoint https://rgw.example

            Killed or without a network in the middle it has changed nothing, or it can be done \
            again.

            With --mount-first the volume can be used at once: what is not here yet is read from \
            the server, and the mount fetches it in the background. Until then the server is \
            needed: without it reads of what is not here fail, and the volume cannot be mounted.
            """)

    @Argument(
        help: ArgumentHelp(
            "The volume: https://HOST:PORT/VOLUME or s3://BUCKET/PREFIX.", valueName: "URL"))
    var url: String

    @Argument(help: ArgumentHelp("Folder of the volume; new or empty.", valueName: "VOL"))
    var volume: String

    @Option(
        help: ArgumentHelp(
            "Folder for log and history, on another disk or in memory.", valueName: "DIR"))
    var logDir: String?

    @Option(
        help: ArgumentHelp(
            "What the new volume calls the remote (default: the server's host, or the bucket).",
            valueName: "NAME"))
    var remoteName: String?

    @Option(
        help: ArgumentHelp(
            "Mount the volume there at once, and fill it in the background.", valueName: "MNT"))
    var mountFirst: String?

    @OptionGroup var remote: RemoteOptions

    @OptionGroup var writing: ObjectWriterOptions

    @OptionGroup var output: OutputOptions

    func run() throws {
        Interruption.begin()
        var access = remote.access
        try writing.apply(to: &access.object)
        let location = VolumeLocation(url, access)
        guard case .remote(let source) = location.source else {
            throw CommandFailure(
                .usage, url, "this is not the URL of a volume at a remote",
                hint: "https://HOST:PORT/VOLUME or s3://BUCKET/PREFIX; of a copy of a store: "
                    + "logdisk serve STORE")
        }
        try remote.check(location.source, url)
        if let unfit = writing.given, source.place.kind != .objectStorage {
            throw CommandFailure.unfit(unfit, for: url)
        }
        let plan = try AdoptionPlan(
            volume, logDirectory: logDir, source, remoteName: remoteName,
            mountsFirst: mountFirst != nil)
        if let mountFirst { try translating(mountFirst) { try FuseMount.check(mountFirst) } }
        // As long as it runs nothing is pruned there.
        let lease = HistoryLease.take(location, purpose: "adoption")
        defer { lease?.release() }
        let start = ContinuousClock.now
        let adoption = try Adoption(location, source, plan, isSilent: output.json)
        let outcome = try adoption.finish()
        lease?.release()
        if let mountFirst { return try mount(plan.path, on: mountFirst) }
        try tell(outcome, plan, location, seconds: start.seconds(to: .now))
    }

    private func mount(_ path: String, on mountPoint: String) throws {
        let words = [path, mountPoint] + (output.json ? ["--json"] : [])
        var command = try Mount.parse(words)
        command.volume = volume
        try command.run()
    }

    // MARK: - what is said

    private func tell(
        _ outcome: Adoption.Outcome, _ plan: AdoptionPlan, _ location: VolumeLocation,
        seconds: Double
    ) throws {
        let made = try VolumeLocation(plan.path).superblock()
        let isWhole = outcome.start == outcome.restored
        if output.json {
            return try Terminal.json(
                Adopted(
                    volume: plan.path, uuid: made.volume.description, sizeBytes: made.volumeBytes,
                    restored: StampJSON(outcome.restored), start: StampJSON(outcome.start),
                    isWhole: isWhole, generation: outcome.generation, seconds: seconds))
        }
        Terminal.out(
            """
            \(volume): \(url) as it was at \(outcome.restored.words), \
            \(ByteSize(bytes: made.volumeBytes))
            mount it with: logdisk mount \(volume) MNT
            """)
        if !isWhole {
            let first = outcome.restored.lsn.next
            Terminal.warn(
                "lsn \(first) to \(outcome.start.lsn) cannot be had back: damaged or missing at "
                    + "the server; the volume goes on behind them")
        }
    }

    private struct Adopted: Encodable {
        var volume: String
        var uuid: String
        var sizeBytes: UInt64
        var restored: StampJSON
        var start: StampJSON
        var isWhole: Bool
        var generation: UInt64
        var seconds: Double

        enum CodingKeys: String, CodingKey {
            case volume, uuid, restored, start, generation, seconds
            case sizeBytes = "size_bytes"
            case isWhole = "is_whole"
        }
    }
}
