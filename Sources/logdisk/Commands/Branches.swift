// logdisk branches, logdisk branch delete.

import ArgumentParser
import CommandText
import DiskIO
import Foundation
import History
import ProtectedVolume

struct Branches: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "branches",
        abstract: "List the branches of a volume.",
        discussion: """
            A branch is a writable copy of a past state, made by logdisk mount VOL MNT --at TARGET \
            --branch DIR. It keeps the state that it stands on from being pruned.

              logdisk branches /srv/vol
            """)

    @Argument(help: ArgumentHelp("The volume.", valueName: "VOL"))
    var volume: String

    @OptionGroup var output: OutputOptions

    func run() throws {
        let location = VolumeLocation(volume)
        let leases = try location.leases()
        let branches = try translating(volume) { try leases.branches() }
        let found = branches.map { Self.describe($0.lease) }
        if output.json { return try Terminal.json(found) }
        if found.isEmpty { return Terminal.out("\(volume) has no branches") }
        var table = TextTable([.left, .left, .left])
        for branch in found {
            table.add([branch.path, "lsn \(branch.lsn) of \(branch.time ?? "?")", branch.state])
        }
        Terminal.out(table.text)
    }

    private struct Branch: Encodable {
        var path: String
        var lsn: UInt64
        var time: String?
        var state: String
    }

    private static func describe(_ lease: Lease) -> Branch {
        let record = (try? BranchRecord.read(lease.holder, object: lease.holder)).flatMap { $0 }
        let storage = DiskStorage()
        let state =
            if !storage.exists("\(lease.holder)/superblock") {
                "gone"
            } else if let holder = VolumeFolder.holder(lease.holder, on: storage) {
                holder.purpose
            } else {
                "at rest"
            }
        return Branch(
            path: lease.holder, lsn: lease.at?.rawValue ?? 0, time: record?.time, state: state)
    }
}

struct BranchCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "branch",
        abstract: "Delete a branch of a volume.",
        subcommands: [BranchDelete.self])
}

struct BranchDelete: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "delete",
        abstract: "Delete a branch with its history; the volume below stays as it is.",
        discussion: """
              logdisk branch delete /srv/try
            """)

    @Argument(help: ArgumentHelp("The folder of the branch.", valueName: "DIR"))
    var directory: String

    @Option(
        help: ArgumentHelp(
            "The volume that it stands on, where the branch's folder is gone already.",
            valueName: "VOL"))
    var parent: String?

    @OptionGroup var output: OutputOptions

    func run() throws {
        let path = PathText.canonical(directory)
        let others = try BranchMaker.remove(directory, parent: parent)
        if output.json { return try Terminal.json(["deleted": path]) }
        if !others.isEmpty {
            Terminal.warn("\(path) stays: it also holds \(others.sorted().joined(separator: ", "))")
        }
        Terminal.out("\(directory): deleted")
    }
}
