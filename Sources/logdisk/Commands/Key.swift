// logdisk key create and show: the file that seals history before it leaves the machine.

import ArgumentParser
import CommandText
import DiskIO
import History
import LogFormat

struct Key: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "key",
        abstract: "Make the key that encrypts history before it leaves this machine.",
        subcommands: [KeyCreate.self, KeyShow.self])
}

struct KeyCreate: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "create",
        abstract: "Make a key file that only you can read.",
        discussion: """
            A remote with a key gets sealed segments: it can keep, check and prune them, but not \
            read them. Without the key nobody can, you neither: keep a copy of the file at a \
            place that burns with neither this machine nor the remote.

              logdisk key create ~/logdisk.key
              logdisk remote add /srv/vol offsite https://host:8443/vol --key-file ~/logdisk.key
            """)

    @Argument(help: ArgumentHelp("The file to be made; it must not exist.", valueName: "FILE"))
    var file: String

    @OptionGroup var output: OutputOptions

    func run() throws {
        let key = SealingKey.random()
        do throws(KeyFileError) {
            try KeyFile.create(file, key, in: DiskStorage())
        } catch { throw CommandFailure(error, object: file) }
        if output.json { return try Terminal.json(["file": file, "key_id": "\(key.id)"]) }
        Terminal.out("\(file): key \(key.id)")
        Terminal.out(
            "Keep a copy where neither this machine nor the remote can take it along:"
                + " without it nobody reads what it seals.")
    }
}

struct KeyShow: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "show",
        abstract: "Check a key file and print its id, never the key.",
        discussion: """
            The id also stands in every segment that the key has sealed; logdisk names it when \
            another key is given.

              logdisk key show ~/logdisk.key
            """)

    @Argument(help: ArgumentHelp("The key file.", valueName: "FILE"))
    var file: String

    @OptionGroup var output: OutputOptions

    func run() throws {
        let key: SealingKey
        do throws(KeyFileError) {
            key = try KeyFile.read(file)
        } catch { throw CommandFailure(error, object: file) }
        if output.json { return try Terminal.json(["file": file, "key_id": "\(key.id)"]) }
        Terminal.out("\(file): key \(key.id)")
    }
}
