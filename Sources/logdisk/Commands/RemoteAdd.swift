// logdisk remote add: names a log server for a volume, and tries it at once.

import ArgumentParser
import CommandText
import DiskIO
import Foundation
import History
import LogFormat
import ProtectedVolume
import ServerAPI
import Shipping

extension ShipSettings.OnBacklog: ExpressibleByArgument {}

struct RemoteAdd: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "add",
        abstract: "Ship the history of a volume to a log server or to object storage.",
        discussion: """
            The volume gets the name in the URL's path at the server, or that of its folder. The \
            server is tried at once and told of the volume, unless --offline.

              logdisk remote add /srv/vol home https://logs.example:7000/vol --token-file t
              logdisk remote add /srv/vol far https://far.example:7000 --token-file t \\
                  --when 22:00-06:00 --max-lag 24h --rate 5MB/s --keep "every 24h, 1h 1y"
              logdisk remote add /srv/vol cloud s3://bucket/vol --credentials keys \\
                  --endpoint https://rgw.example --path-style

            On object storage nothing of ours runs: what --keep lets go is removed by the mount.
            logdisk remote probe tells beforehand what a store can do.
            """)

    @OptionGroup var target: RemoteName

    @Argument(
        help: ArgumentHelp(
            "Where: https://HOST:PORT/VOLUME or s3://BUCKET/PREFIX.", valueName: "URL"))
    var url: String

    @Option(
        help: ArgumentHelp(
            "For https://: the file with the token; mode 0600.", valueName: "FILE"))
    var tokenFile: String?

    @Option(
        help: ArgumentHelp(
            "Certificates to trust instead of the system's, PEM; may be repeated.",
            valueName: "FILE"))
    var ca: [String] = []

    @Option(help: ArgumentHelp("Encrypt with this key before it leaves.", valueName: "FILE"))
    var keyFile: String?

    @Option(
        help: ArgumentHelp(
            "Ship while the network is quiet (default), always, or at these hours, local time.",
            valueName: "quiet|always|22:00-06:00"))
    var when = "quiet"

    @Option(
        help: ArgumentHelp(
            "So much traffic of others counts as quiet: a share of the link's speed, or a rate.",
            valueName: "20%|5MB/s"))
    var quietBelow = "20%"

    @Option(
        help: ArgumentHelp(
            "The interface whose traffic counts; else that of the route there.",
            valueName: "NAME"))
    var interface: String?

    @Option(help: ArgumentHelp("Address or interface to connect from.", valueName: "ADDR"))
    var bind: String?

    @Option(help: ArgumentHelp("Never faster than this.", valueName: "50MB/s"))
    var rate: String?

    @Option(
        help: ArgumentHelp(
            "Ship whatever the traffic once a record has waited for so long.", valueName: "TIME"))
    var maxLag: String?

    @Option(help: ArgumentHelp("Let no more than this wait.", valueName: "SIZE"))
    var maxBacklog: String?

    @Option(
        help: ArgumentHelp(
            "At --max-backlog: hold the writers, or give up the points that wait.",
            valueName: "hold-writes|drop-to-gap"))
    var onBacklog = ShipSettings.OnBacklog.holdWrites

    @Option(
        help: ArgumentHelp(
            "Collect records for so long before they go (default 15s).", valueName: "TIME"))
    var batch: String?

    @Option(
        help: ArgumentHelp(
            "What the remote keeps; see logdisk help prune. Without it everything.",
            valueName: "LADDER"))
    var keep: String?

    @Flag(help: "Do not try the remote now.")
    var offline = false

    @OptionGroup var object: ObjectOptions

    @OptionGroup var writing: ObjectWriterOptions

    @OptionGroup var output: OutputOptions

    func run() throws {
        Interruption.begin()
        let location = target.location
        let folder = try RemoteCommand.folder(location)
        guard RemoteFolder.isName(target.name) else {
            throw CommandFailure(
                .usage, target.volume, "'\(target.name)' cannot be the name of a remote",
                hint: "up to 40 letters, digits and - . _")
        }
        guard try !folder.names().contains(target.name) else {
            throw CommandFailure(
                .usage, target.volume, "it has a remote '\(target.name)' already",
                hint: "logdisk remote remove \(target.volume) \(target.name)")
        }
        let config = try config(location)
        let found = offline ? nil : try attempt(config, location)
        try folder.write(config)
        try RemoteCommand.tellMount(location)
        try tell(config, found)
    }

    private func config(_ location: VolumeLocation) throws(CommandFailure) -> RemoteConfig {
        var config = RemoteConfig(name: target.name, url: try address(location))
        try setAccess(&config)
        config.ca = ca.map { PathText.canonical($0) }
        config.keyFile = keyFile.map { PathText.canonical($0) }
        config.bind = bind
        if let interface {
            guard NetworkInterfaces.exists(interface) else {
                throw CommandFailure(
                    .usage, target.volume, "there is no interface '\(interface)'",
                    hint: "ls /sys/class/net")
            }
            config.interface = interface
        }
        config.when = when
        config.quietBelow = quietBelow
        if let rate {
            do throws(ShipSettingError) {
                config.rateBytesPerSecond = try RateText.bytesPerSecond(rate)
            } catch {
                throw CommandFailure(
                    .usage, "", "--rate '\(rate)' is not understood", cause: "\(error)",
                    hint: "for example --rate 50MB/s")
            }
        }
        config.lagSecondsMax = try maxLag.map { text throws(CommandFailure) in
            try OptionText.duration(text, "--max-lag")
        }
        config.backlogBytesMax = try maxBacklog.map { text throws(CommandFailure) in
            try OptionText.size(text, "--max-backlog")
        }
        config.onBacklog = onBacklog
        config.batchSeconds = try batch.map { text throws(CommandFailure) in
            try OptionText.duration(text, "--batch")
        }
        if let keep { config.keep = try Pruning.ladder(keep, target.volume).description }
        _ = try config.settings()
        if let path = config.keyFile {
            _ = try translating(target.volume) { try KeyFile.read(path) }
        }
        do throws(RemoteSetupError) {
            _ = try config.open { Interruption.isRequested }
        } catch { throw CommandFailure(error, object: url) }
        return config
    }

    /// What opens it, by the kind of the remote.
    private func setAccess(_ config: inout RemoteConfig) throws(CommandFailure) {
        let isObject = config.place.kind == .objectStorage
        let token = tokenFile.map { _ in "--token-file" }
        if let unfit = isObject ? token : object.given ?? writing.given {
            throw .unfit(unfit, for: config.url)
        }
        config.tokenFile = tokenFile.map { PathText.canonical($0) }
        guard isObject else { return }
        var settings = object.settings
        try writing.apply(to: &settings)
        config.object = settings
    }

    /// With the name of the folder where the URL names no volume.
    private func address(_ location: VolumeLocation) throws(CommandFailure) -> String {
        do throws(RemoteSetupError) {
            return try RemotePlace.url(url, for: location.path)
        } catch { throw CommandFailure(error, object: url) }
    }

    // MARK: - the first try

    private func attempt(
        _ config: RemoteConfig, _ location: VolumeLocation
    ) throws(CommandFailure) -> VolumeReply {
        let superblock = try location.superblock()
        let remote: any VolumeRemote
        do throws(RemoteSetupError) {
            remote = try config.open { Interruption.isRequested }
        } catch { throw CommandFailure(error, object: url) }
        defer { remote.rest() }
        do throws(ShipError) {
            return try remote.target.attach(config.request(VolumeService.identity(superblock)))
        } catch {
            var failure = CommandFailure(error, remote: config.url)
            if case .fenced = error {
                failure.hint =
                    "choose another name in the URL; or, if the machine that writes "
                    + "there is gone: logdisk adopt \(config.url) NEW-VOL"
            } else if failure.status == .unreachable {
                failure.hint = "add it all the same with --offline: it is tried again and again"
            }
            throw failure
        }
    }

    private struct Added: Encodable {
        var name: String
        var url: String
        var interface: String?
        var isNew: Bool?
        var headLSN: UInt64?

        enum CodingKeys: String, CodingKey {
            case name, url, interface
            case isNew = "new"
            case headLSN = "head_lsn"
        }
    }

    private func tell(_ config: RemoteConfig, _ found: VolumeReply?) throws {
        let interface = config.watchedInterface()
        if output.json {
            return try Terminal.json(
                Added(
                    name: config.name, url: config.url, interface: interface,
                    isNew: found.map { $0.head == nil }, headLSN: found?.head?.lsn))
        }
        var text = "\(target.volume): remote \(config.name) is \(config.url)"
        if let found {
            text += found.head.map { "; it has records up to lsn \($0.lsn)" } ?? "; it is new there"
            if let keep = found.keep { text += "; it keeps \(keep)" }
        } else {
            text += "; it was not tried"
        }
        if config.when == "quiet" {
            text +=
                interface.map { "\nships while others use less than \(config.quietBelow) of \($0)" }
                ?? "\nno interface is known to lead there: ships whatever the traffic"
        }
        Terminal.out(text)
    }
}
