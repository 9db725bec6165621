// logdisk spread list, verify, forget, fail: sets on devices, without any catalogue.

import ArgumentParser
import CommandText
import DiskIO
import Foundation
import History
import Spread

struct SpreadList: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "list", abstract: "Show the sets on devices.",
        discussion: "From the devices alone. With --set the files of one set.")

    @OptionGroup var devices: DeviceArguments

    @Option(help: ArgumentHelp("Show the files of this set.", valueName: "NAME"))
    var set: String?

    @OptionGroup var output: OutputOptions

    func run() throws {
        Interruption.begin()
        let found = try SetPlace.find(devices, name: set, isQuiet: output.json)
        if let set {
            let one = try found.one(set)
            return output.json ? try Terminal.json(SetJSON(one, withFiles: true)) : files(one)
        }
        if output.json { return try Terminal.json(found.sets.map { SetJSON($0) }) }
        if found.sets.isEmpty { return Terminal.out("no sets") }
        var table = TextTable(
            [.left, .left, .right, .right, .left, .left],
            header: ["SET", "MADE", "FILES", "SIZE", "STATE", "DEVICES"])
        for one in found.sets {
            let manifest = one.manifest
            table.add([
                one.name, manifest.map { TimeText.rfc3339($0.identity.created) } ?? "-",
                manifest.map { "\($0.fileCount)" } ?? "-",
                manifest.map { "\(ByteSize(bytes: $0.totalBytes))" } ?? "-", one.stateWord,
                one.holders.map(\.device.name).joined(separator: " ")
                    + one.missingDevices.map { " (missing: \($0))" }.joined(),
            ])
        }
        Terminal.out(table.text)
    }

    private func files(_ one: FoundSet) {
        guard let manifest = one.manifest else { return }
        for (index, source) in manifest.sources.enumerated() {
            for row in source.table.rows.indices where source.table.rows[row].isFile {
                let entry = source.table.rows[row]
                let note = entry.isIncomplete ? "  (not in the set)" : ""
                Terminal.out("\(entry.size)\t\(manifest.text(index, row))\(note)")
            }
        }
    }
}

struct SetJSON: Encodable {
    struct Device: Encodable {
        var name: String
        var present: Bool
        var failed: Bool
        var bytes: UInt64
        var items: Int
    }
    struct File: Encodable {
        var path: String
        var size: UInt64
        var incomplete: Bool
    }
    var name: String
    var id: String?
    var state: String
    var created: String?
    var completed: String?
    var files: Int?
    var bytes: UInt64?
    var devices: [Device]
    var content: [File]?

    init(_ set: FoundSet, withFiles: Bool = false) {
        name = set.name
        id = set.id?.hexText
        state = set.stateWord
        guard let manifest = set.manifest else {
            devices = set.places.map {
                Device(name: $0.device.name, present: true, failed: false, bytes: 0, items: 0)
            }
            return
        }
        created = TimeText.rfc3339(manifest.identity.created)
        completed = TimeText.rfc3339(manifest.completed)
        files = manifest.fileCount
        bytes = manifest.totalBytes
        let present = Set(set.places.compactMap(\.index))
        devices = manifest.devices.enumerated().map { index, device in
            let held = manifest.items.filter { $0.device == index }
            return Device(
                name: device.name, present: present.contains(index), failed: device.hasFailed,
                bytes: held.reduce(0) { $0 + $1.size }, items: held.count)
        }
        guard withFiles else { return }
        content = manifest.sources.enumerated().flatMap { index, source in
            source.table.rows.indices.filter { source.table.rows[$0].isFile }.map { row in
                File(
                    path: manifest.text(index, row), size: source.table.rows[row].size,
                    incomplete: source.table.rows[row].isIncomplete)
            }
        }
    }
}

struct SpreadVerify: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "verify", abstract: "Read sets back and check every digest.",
        discussion: """
            Exit codes: 0 all is well, 3 devices are missing and the rest is well, 13 damaged. \
            What is damaged and has a good copy elsewhere is said, too.
            """)

    @OptionGroup var devices: DeviceArguments

    @Option(help: ArgumentHelp("Only this set.", valueName: "NAME"))
    var set: String?

    @OptionGroup var output: OutputOptions

    private struct JSON: Encodable {
        struct Fault: Encodable {
            var device: String
            var path: String
            var offset: UInt64
            var size: UInt64
            var reason: String
        }
        var set: String
        var items: Int
        var bytes: UInt64
        var faults: [Fault]
        var lost: [String]
        var missingDevices: [String]

        enum CodingKeys: String, CodingKey {
            case set, items, bytes, faults, lost
            case missingDevices = "missing_devices"
        }
    }

    func run() throws {
        Interruption.begin()
        let found = try SetPlace.find(devices, name: set, isQuiet: output.json)
        let sets =
            try set.map { name throws(CommandFailure) in [try found.one(name)] } ?? found.sets
        var worst = ExitStatus.done
        var all: [JSON] = []
        for one in sets where one.isComplete || one.isDamaged {
            let (status, json) = try check(one)
            all.append(json)
            if status == .damaged || worst == .done { worst = status }
        }
        if output.json { try Terminal.json(all) }
        if !found.failures.isEmpty, worst == .done { worst = .incomplete }
        guard worst == .done else {
            throw ReportedFailure(
                status: worst,
                message: worst == .damaged
                    ? "logdisk: spread verify: damage was found\nhint: what has a good copy is "
                        + "restored from it; make the set anew"
                    : "logdisk: spread verify: not everything is at hand\nhint: name all devices "
                        + "of the set")
        }
    }

    private func check(_ one: FoundSet) throws -> (ExitStatus, JSON) {
        var json = JSON(
            set: one.name, items: 0, bytes: 0, faults: [], lost: [],
            missingDevices: one.missingDevices)
        guard let manifest = one.manifest else {
            if !output.json { Terminal.out("set \(one.name): no valid manifest") }
            return (.damaged, json)
        }
        let present = Set(one.places.compactMap(\.index))
        let total = manifest.items.reduce(UInt64(0)) {
            present.contains($1.device) ? $0 + $1.size : $0
        }
        let progress = ProgressReporter(
            "verify \(one.name)", totalBytes: total, isSilent: output.json)
        var verifier = SetVerifier()
        verifier.isCancelled = { Interruption.isRequested }
        verifier.progress = { try? progress.update($0) }
        let result: SetVerification
        do {
            result = try verifier.verify(one)
        } catch is CancellationError {
            progress.finish()
            throw CommandFailure.interrupted
        }
        progress.finish()
        (json.items, json.bytes, json.lost) = (result.items, result.bytes, result.lost)
        json.faults = result.faults.map {
            .init(
                device: $0.device, path: $0.path, offset: $0.offset, size: $0.size,
                reason: $0.reason)
        }
        if !output.json { say(one, result) }
        if !result.faults.isEmpty || !one.manifestIsDamaged.isEmpty { return (.damaged, json) }
        return (result.lost.isEmpty && one.missingDevices.isEmpty ? .done : .incomplete, json)
    }

    private func say(_ one: FoundSet, _ result: SetVerification) {
        Terminal.out(
            "set \(one.name): \(result.items) items, \(ByteSize(bytes: result.bytes)) read; "
                + "\(result.faults.count) damaged, \(result.lost.count) files cannot be had")
        for name in one.missingDevices { Terminal.out("  device missing: \(name)") }
        for name in one.manifestIsDamaged { Terminal.out("  manifest lost or damaged: \(name)") }
        for fault in result.faults.prefix(100) {
            Terminal.out(
                "  \(fault.path), byte \(fault.offset), \(fault.size) bytes, on "
                    + "\(fault.device): \(fault.reason)")
        }
        for path in result.lost.prefix(100) { Terminal.out("  cannot be had: \(path)") }
    }
}

struct SpreadForget: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "forget", abstract: "Remove sets from devices.",
        discussion: """
            By name, or all that a ladder does not keep: of each span of its grid the last set \
            stays (docs/retention.md tells of ladders). Devices that can only be written once \
            keep what they have.

              logdisk spread forget --device dir:/mnt/a --keep "1d 7d, 7d 56d"
            """)

    @OptionGroup var devices: DeviceArguments

    @Option(help: ArgumentHelp("Remove this set, complete or not.", valueName: "NAME"))
    var set: String?

    @Option(
        parsing: .unconditional, help: ArgumentHelp("Keep by this ladder.", valueName: "LADDER"))
    var keep: String?

    @Flag(help: "Remove nothing; say what would go.")
    var dryRun = false

    @OptionGroup var output: OutputOptions

    private struct JSON: Encodable {
        var removed: [String]
        var kept: [String]
    }

    func run() throws {
        Interruption.begin()
        guard (set == nil) != (keep == nil) else {
            throw CommandFailure(
                .usage, "", "name a set or a ladder", hint: "--set NAME, or --keep \"1d 30d\"")
        }
        let found = try SetPlace.find(devices, name: set, isQuiet: output.json)
        let going: [FoundSet]
        if let set {
            going = found.sets.filter { $0.name == set }
            guard !going.isEmpty else { _ = try found.one(set); return }
        } else {
            let ladder = try Pruning.ladder(keep ?? "", "")
            going = SetAgeing.forgotten(found.sets, by: ladder, now: VolumeHistory.clock())
        }
        var failed: [String] = []
        for one in going where !dryRun {
            for place in one.places {
                do throws(DeviceFailure) {
                    try place.device.remove(place.set)
                } catch {
                    failed.append("\(one.name) on \(place.device.name): \(error.reason)")
                }
            }
        }
        let names = going.map(\.name)
        let kept = found.sets.map(\.name).filter { !names.contains($0) }
        if output.json {
            try Terminal.json(JSON(removed: names, kept: kept))
        } else {
            for name in names { Terminal.out("\(dryRun ? "would remove" : "removed"): \(name)") }
            if keep != nil { for name in kept { Terminal.out("kept: \(name)") } }
        }
        guard failed.isEmpty else {
            throw CommandFailure(
                .failed, set ?? "", "not everything could be removed",
                cause: failed.joined(separator: "; "))
        }
        if !found.failures.isEmpty {
            throw ReportedFailure(
                status: .incomplete,
                message: "logdisk: spread forget: devices were away; they keep their part")
        }
    }
}

/// Which sets a ladder keeps.
enum SetAgeing {
    /// Of each span of a rung's grid the last complete set stays, and the newest of all; what is
    /// older than the last rung goes. Sets that are not complete are left alone.
    static func forgotten(_ sets: [FoundSet], by ladder: Ladder, now: Int64) -> [FoundSet] {
        let dated = sets.compactMap { set in
            set.isComplete ? set.manifest.map { (set: set, made: $0.identity.created) } : nil
        }.sorted { $0.made > $1.made }
        var filled: Set<[Int64]> = []
        return dated.enumerated().filter { index, one in
            let isNewest = index == 0
            let age = max(0, now - one.made)
            guard let rung = ladder.rungs.firstIndex(where: { age <= $0.span }) else {
                return !isNewest
            }
            switch ladder.rungs[rung].spacing {
            case .every: return false
            case .newest: return !isNewest
            case .grid(let spacing):
                // The newest is the last of its span, too.
                let isLast = filled.insert([Int64(rung), one.made / spacing]).inserted
                return !isLast && !isNewest
            }
        }.map(\.element.set)
    }
}

struct SpreadFail: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "fail", abstract: "Tell a run that one of its devices has failed.",
        discussion: "The run leaves the device out and writes what it was to get to the others.")

    @Argument(help: ArgumentHelp("The device, as the run names it.", valueName: "DEVICE"))
    var device: String

    @Option(help: ArgumentHelp("Only of the run that writes this set.", valueName: "NAME"))
    var set: String?

    @OptionGroup var output: OutputOptions

    func run() throws {
        Interruption.begin()
        let runs = RunControl.running().filter { run in
            (set == nil || run.set == set) && run.devices.contains(device)
        }
        guard !runs.isEmpty else {
            throw CommandFailure(
                .noSuchVolume, device, "no run of yours writes to this device",
                hint: "name it as the run does, with its options")
        }
        var told: [String] = []
        for run in runs {
            guard let index = run.devices.firstIndex(of: device) else { continue }
            if RunControl.fail(run, index) { told.append(run.set) }
        }
        guard !told.isEmpty else {
            throw CommandFailure(.failed, device, "the run ended before it was told")
        }
        if output.json { return try Terminal.json(["device": [device], "sets": told]) }
        Terminal.out("\(device): left out of \(told.joined(separator: ", "))")
    }
}
