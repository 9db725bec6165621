// logdisk access: who may use a log server's store. Works beside a running server, which looks at
// the files for each request.

import ArgumentParser
import CommandText
import DiskIO
import LogServer

struct AccessCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "access",
        abstract: "Tokens for a log server: make, list, revoke.",
        discussion: """
            A token is shown once and kept nowhere. It is for volumes by pattern, at one of three \
            levels: read-only; append-only (the default: makes volumes and adds to them, never \
            deletes or overwrites history); full.

              logdisk access create /srv/logs --name db1 --volumes 'db1*' | tail -n1 > token
              logdisk access list /srv/logs
              logdisk access revoke /srv/logs --name db1
            """, subcommands: [Create.self, List.self, Revoke.self])

    /// The tokens of the store in `path`.
    private static func folder(_ path: String) throws(CommandFailure) -> AccessFolder {
        do throws(ServerStoreError) {
            return AccessFolder(try ServerStore(opening: Serve.path(path), in: DiskStorage()))
        } catch {
            throw CommandFailure(error, object: path)
        }
    }

    struct Create: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "create", abstract: "Make a token; it is the last line of the output.",
            discussion: "  logdisk access create /srv/logs --name db1 --volumes 'db1*'")

        @Argument(help: ArgumentHelp("The folder with the store.", valueName: "STORE"))
        var store: String

        @Option(
            name: .long, help: ArgumentHelp("Who it is for, to revoke it by.", valueName: "NAME"))
        var name: String

        @Option(
            name: .long,
            help: ArgumentHelp(
                "The volumes it is for, * and ? as in a shell; may be repeated.",
                valueName: "GLOB"))
        var volumes: [String] = ["*"]

        @Flag(name: .long, help: "It reads, and leases what it reads.")
        var readOnly = false

        @Flag(name: .long, help: "It adds, too, but deletes nothing (default).")
        var appendOnly = false

        @Flag(name: .long, help: "It deletes segments and changes ladders, too.")
        var full = false

        @OptionGroup var output: OutputOptions

        func run() throws {
            guard [readOnly, appendOnly, full].filter(\.self).count <= 1 else {
                throw CommandFailure(
                    .usage, store, "--read-only, --append-only and --full exclude each other",
                    hint: "give one of them")
            }
            let level: AccessLevel = readOnly ? .readOnly : full ? .full : .appendOnly
            let folder = try AccessCommand.folder(store)
            let token: String
            do throws(AccessError) {
                token = try folder.create(
                    name: name, level: level, volumes: volumes, now: VolumeHistory.clock())
            } catch { throw CommandFailure(error, object: store) }
            if output.json {
                return try Terminal.json(
                    MadeJSON(name: name, level: level, volumes: volumes, token: token))
            }
            Terminal.out("token of \(name), \(level.rawValue), volumes \(words(volumes)):")
            Terminal.out(token)
        }

        private struct MadeJSON: Encodable {
            var name: String
            var level: AccessLevel
            var volumes: [String]
            var token: String
        }
    }

    struct List: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "list", abstract: "The tokens of a store, without their secrets.",
            discussion: "  logdisk access list /srv/logs")

        @Argument(help: ArgumentHelp("The folder with the store.", valueName: "STORE"))
        var store: String

        @OptionGroup var output: OutputOptions

        func run() throws {
            let folder = try AccessCommand.folder(store)
            let found: (records: [AccessRecord], unreadable: [String])
            do throws(AccessError) {
                found = try folder.list()
            } catch { throw CommandFailure(error, object: store) }
            if output.json {
                try Terminal.json(
                    ListJSON(
                        tokens: found.records.map {
                            TokenJSON(
                                name: $0.name, level: $0.level, volumes: $0.volumes,
                                created: TimeText.rfc3339($0.createdNanoseconds))
                        }, unreadable: found.unreadable))
            } else {
                var table = TextTable(
                    [.left, .left, .left, .left], header: ["NAME", "LEVEL", "VOLUMES", "MADE"])
                for record in found.records {
                    table.add([
                        record.name, record.level.rawValue, words(record.volumes),
                        TimeText.rfc3339(record.createdNanoseconds),
                    ])
                }
                Terminal.out(found.records.isEmpty ? "there are no tokens" : table.text)
            }
            if let name = found.unreadable.first {
                throw CommandFailure(AccessError.unreadable(name), object: store)
            }
        }

        private struct ListJSON: Encodable {
            var tokens: [TokenJSON]
            var unreadable: [String]
        }

        private struct TokenJSON: Encodable {
            var name: String
            var level: AccessLevel
            var volumes: [String]
            var created: String
        }
    }

    struct Revoke: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "revoke", abstract: "Refuse a token from now on.",
            discussion: "  logdisk access revoke /srv/logs --name db1")

        @Argument(help: ArgumentHelp("The folder with the store.", valueName: "STORE"))
        var store: String

        @Option(name: .long, help: ArgumentHelp("The token's name.", valueName: "NAME"))
        var name: String

        @OptionGroup var output: OutputOptions

        func run() throws {
            let folder = try AccessCommand.folder(store)
            do throws(AccessError) {
                try folder.revoke(name: name)
            } catch { throw CommandFailure(error, object: store) }
            if output.json { return try Terminal.json(["revoked": name]) }
            Terminal.out("the token of \(name) is refused from now on")
        }
    }
}

private func words(_ volumes: [String]) -> String { volumes.joined(separator: " ") }
