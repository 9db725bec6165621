// logdisk spread restore: a set, or some of its paths, back as files.

import ArgumentParser
import CommandText
import DiskIO
import Foundation
import Spread

struct SpreadRestore: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "restore", abstract: "Bring a set back, or single paths of it.",
        discussion: """
            Paths begin with the name of a source, as spread list --set shows them; id:SHA256 \
            names a file by its content. Where devices are missing the rest is restored: the \
            end is 3, with what is missing and where it lies.
            """)

    @Argument(help: ArgumentHelp("Only these, with everything below.", valueName: "PATH"))
    var paths: [String] = []

    @OptionGroup var devices: DeviceArguments

    @Option(help: ArgumentHelp("Which set.", valueName: "NAME"))
    var set: String

    @Option(
        name: .shortAndLong,
        help: ArgumentHelp("Folder to restore into: new, or empty.", valueName: "DIR"))
    var output: String

    @OptionGroup var options: OutputOptions

    private struct JSON: Encodable {
        struct Missing: Encodable {
            var path: String
            var reason: String
        }
        var set: String
        var output: String
        var files: Int
        var bytes: UInt64
        var missing: [Missing]
        var missingDevices: [String]

        enum CodingKeys: String, CodingKey {
            case set, output, files, bytes, missing
            case missingDevices = "missing_devices"
        }
    }

    func run() throws {
        Interruption.begin()
        let target = PathText.canonical(output)
        try checkOutput(target)
        let found = try SetPlace.find(devices, name: set, isQuiet: options.json)
        let one = try found.one(set)
        let parent = PathText.parent(of: target)
        let name = Array(target.split(separator: "/").last.map(String.init)?.utf8 ?? "".utf8)
        let hidden = Array(".".utf8) + name + Array(".unfinished-\(getpid())".utf8)
        let report: RestoreReport = try translating(set) {
            let folder = try Folder(parent)
            try folder.removeTree(hidden)
            try folder.createFolder(hidden, permissions: 0o755)
            do {
                let report = try restore(one, into: try folder.folder(hidden))
                if folder.exists(name) { try folder.removeFolder(name) }
                try folder.rename(hidden, to: name, in: folder)
                try folder.sync()
                return report
            } catch {
                try? folder.removeTree(hidden)
                throw error
            }
        }
        try tell(one, report)
    }

    private func checkOutput(_ target: String) throws(CommandFailure) {
        let storage = DiskStorage()
        guard storage.exists(target) else {
            guard storage.isDirectory(PathText.parent(of: target)) else {
                throw CommandFailure(
                    .usage, set, "the folder \(PathText.parent(of: target)) does not exist",
                    hint: "mkdir -p \(PathText.parent(of: target))")
            }
            return
        }
        let names = try translating(set) { try storage.list(target) }
        guard names.isEmpty else {
            throw CommandFailure(
                .usage, set, "\(output) is not empty", hint: "name a new folder")
        }
    }

    private func restore(_ one: FoundSet, into folder: Folder) throws -> RestoreReport {
        let progress = ProgressReporter(
            "restore \(set)", totalBytes: one.manifest?.totalBytes ?? 0, isSilent: options.json)
        defer { progress.finish() }
        guard
            let restorer = SetRestorer(
                one, into: folder, isCancelled: { Interruption.isRequested },
                progress: { try? progress.update($0) })
        else { throw CommandFailure(.damaged, set, "it has no manifest") }
        let unknown = restorer.select(paths.map { Spread.PathText.bytes($0) ?? Array($0.utf8) })
        if let first = unknown.first {
            throw CommandFailure(
                .usage, set, "there is no \(Spread.PathText.text(first)) in this set",
                hint: "logdisk spread list --set \(set) names what there is")
        }
        do {
            return try restorer.restore()
        } catch is CancellationError {
            throw CommandFailure.interrupted
        }
    }

    private func tell(_ one: FoundSet, _ report: RestoreReport) throws {
        if options.json {
            try Terminal.json(
                JSON(
                    set: set, output: output, files: report.files, bytes: report.bytes,
                    missing: report.missing.map { .init(path: $0.path, reason: $0.reason) },
                    missingDevices: one.missingDevices))
        } else {
            Terminal.out(
                "\(output): \(report.files) files, \(ByteSize(bytes: report.bytes)), of the set "
                    + set)
        }
        if report.unsetCount > 0 {
            Terminal.warn(
                "\(report.unsetCount) owners, modes, times or attributes could not be set: "
                    + report.unset.joined(separator: "; "))
        }
        guard report.missing.isEmpty else {
            var lines = [
                "logdisk: spread restore \(set): done, but \(report.missing.count) are missing:"
            ]
            for missing in report.missing.prefix(100) {
                lines.append("  \(missing.path): \(missing.reason)")
            }
            if report.missing.count > 100 { lines.append("  and more; --json lists all") }
            lines.append(
                one.missingDevices.isEmpty
                    ? "hint: logdisk spread verify shows what is damaged"
                    : "hint: attach \(one.missingDevices.joined(separator: ", "))")
            let isDamaged = report.missing.contains { $0.isDamaged }
            throw ReportedFailure(
                status: isDamaged ? .damaged : .incomplete, message: lines.joined(separator: "\n"))
        }
    }
}
