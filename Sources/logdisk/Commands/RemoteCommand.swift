// logdisk remote: where a volume's history is shipped to. The settings lie in the volume's folder;
// a running mount is told when they change.

import ArgumentParser
import CommandText
import DiskIO
import Foundation
import History
import ServerAPI
import Shipping

struct RemoteCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "remote",
        abstract:
            "Ship the history of a volume to log servers and object storage: add, list, show, "
            + "remove, pause, probe.",
        discussion: """
            A mount ships to each remote in order, when it may: while the network is quiet, \
            always, or at hours of the day. --max-lag overrules that. What a remote has not \
            acknowledged is never thinned here.

              logdisk remote add /srv/vol home https://logs.example:7000/vol --token-file t
              logdisk remote show /srv/vol home
              logdisk remote pause /srv/vol home
              logdisk remote probe s3://bucket/vol --endpoint https://rgw.example
            """,
        subcommands: [
            RemoteAdd.self, RemoteList.self, RemoteShow.self, RemoteRemove.self, RemotePause.self,
            RemoteResume.self, RemoteProbe.self,
        ])

    /// Lets a running mount read the settings again. Without a mount nothing is to be told.
    static func tellMount(_ location: VolumeLocation) throws {
        guard let client = try location.client() else { return }
        let _: [RemoteReport] = try client.post("/v1/remotes/reload")
    }

    static func folder(_ location: VolumeLocation) throws -> RemoteFolder {
        try location.mustBeLive()
        _ = try location.superblock()
        return RemoteFolder(location.path, object: location.object)
    }

    /// Of the mount, or from what lies in the folder.
    static func reports(_ location: VolumeLocation) throws -> [RemoteReport] {
        if let client = try location.client() { return try client.get("/v1/remotes") }
        return try OfflineStatus.report(location).remotes ?? []
    }
}

/// `VOL` of the subcommands.
struct VolumeOfRemotes: ParsableArguments {
    @Argument(help: ArgumentHelp("Volume or mount point.", valueName: "VOL"))
    var volume: String
}

/// `VOL NAME` of the subcommands.
struct RemoteName: ParsableArguments {
    @Argument(help: ArgumentHelp("Volume or mount point.", valueName: "VOL"))
    var volume: String

    @Argument(help: ArgumentHelp("The remote.", valueName: "NAME"))
    var name: String

    var location: VolumeLocation { VolumeLocation(volume) }
}

struct RemoteList: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "list", abstract: "List the remotes of a volume, with their lag.",
        discussion: "  logdisk remote list /srv/vol")

    @OptionGroup var target: VolumeOfRemotes
    @OptionGroup var output: OutputOptions

    func run() throws {
        let location = VolumeLocation(target.volume)
        _ = try RemoteCommand.folder(location)
        let reports = try RemoteCommand.reports(location)
        if output.json { return try Terminal.json(reports) }
        guard !reports.isEmpty else {
            return Terminal.out("\(target.volume): it has no remotes")
        }
        var table = TextTable([.left, .left, .left, .left])
        for report in reports {
            table.add([report.name, report.url, report.lagText, report.problem ?? report.state])
        }
        Terminal.out(table.text)
    }
}

struct RemoteShow: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "show", abstract: "Show a remote: its lag, why it ships or waits, decisions.",
        discussion: "  logdisk remote show /srv/vol home")

    @OptionGroup var target: RemoteName
    @OptionGroup var output: OutputOptions

    func run() throws {
        let folder = try RemoteCommand.folder(target.location)
        _ = try folder.read(target.name)
        let reports = try RemoteCommand.reports(target.location)
        guard let report = reports.first(where: { $0.name == target.name }) else {
            throw CommandFailure(
                .failed, target.volume, "the mount does not know the remote '\(target.name)'",
                hint: "look at its log: mount.log in the volume's folder")
        }
        if output.json { return try Terminal.json(report) }
        Terminal.out(report.text)
    }
}

struct RemoteRemove: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "remove", abstract: "Ship there no more; what is there stays.",
        discussion: "  logdisk remote remove /srv/vol home")

    @OptionGroup var target: RemoteName
    @OptionGroup var output: OutputOptions

    func run() throws {
        let folder = try RemoteCommand.folder(target.location)
        let config = try folder.read(target.name)
        guard config.role != .store else {
            throw CommandFailure(
                .usage, target.volume, "the volume keeps its history there", cause: config.url,
                hint: "logdisk remote pause \(target.volume) \(target.name) only stops for a while")
        }
        try folder.remove(target.name)
        try RemoteCommand.tellMount(target.location)
        if output.json { return try Terminal.json(["removed": config.name, "url": config.url]) }
        Terminal.out(
            "\(target.volume): remote \(config.name) removed; what is at \(config.url) stays there")
    }
}

struct RemotePause: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "pause", abstract: "Ship nothing until logdisk remote resume.",
        discussion: "  logdisk remote pause /srv/vol home")

    @OptionGroup var target: RemoteName
    @OptionGroup var output: OutputOptions

    func run() throws { try Self.set(target, output, isPaused: true) }

    static func set(_ target: RemoteName, _ output: OutputOptions, isPaused: Bool) throws {
        let folder = try RemoteCommand.folder(target.location)
        var config = try folder.read(target.name)
        config.isPaused = isPaused
        try folder.write(config)
        if let client = try target.location.client() {
            let _: [RemoteReport] = try client.post("/v1/remotes/reload")
        } else if !isPaused {
            var memory = folder.memory(target.name)
            memory.standing = nil
            try folder.remember(memory, of: target.name)
        }
        if output.json { return try Terminal.json(["name": target.name, "paused": "\(isPaused)"]) }
        let words = isPaused ? "paused" : "goes on"
        Terminal.out("\(target.volume): remote \(target.name) \(words)")
    }
}

struct RemoteResume: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "resume",
        abstract: "Ship again, after a pause or after what had stopped it for good.",
        discussion: "  logdisk remote resume /srv/vol home")

    @OptionGroup var target: RemoteName
    @OptionGroup var output: OutputOptions

    func run() throws { try RemotePause.set(target, output, isPaused: false) }
}
