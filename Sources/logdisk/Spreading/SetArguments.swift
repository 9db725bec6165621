// What the verbs share that read sets: which one, on which devices.

import ArgumentParser
import CommandText
import DiskIO
import Foundation
import Spread

struct SetPlace {
    var sets: [FoundSet]
    var failures: [(device: String, failure: DeviceFailure)]

    /// Asks the devices; `name` restricts to one set. Says which devices could not be asked.
    static func find(
        _ devices: DeviceArguments, name: String? = nil, isQuiet: Bool = false
    ) throws(CommandFailure) -> SetPlace {
        let opened = try devices.opened()
        let (sets, failures) = SetFinder.find(opened.map(\.device), name: name)
        guard failures.count < opened.count else {
            let isDenied = failures.allSatisfy { $0.failure.isDenied }
            throw CommandFailure(
                isDenied ? .refused : .unreachable, name ?? "", "no device can be read",
                cause: words(failures),
                hint: isDenied
                    ? CommandFailure.deniedHint : "mount or attach them, then try again")
        }
        if !isQuiet, !failures.isEmpty { Terminal.warn(words(failures)) }
        return SetPlace(sets: sets, failures: failures)
    }

    private static func words(
        _ failures: [(device: String, failure: DeviceFailure)]
    ) -> String {
        failures.map { "\($0.device) is \($0.failure.word): \($0.failure.reason)" }
            .joined(separator: "; ")
    }

    /// The one set of this name that can be read.
    func one(_ name: String) throws(CommandFailure) -> FoundSet {
        let complete = sets.filter { $0.name == name && $0.isComplete }
        if complete.count == 1 { return complete[0] }
        if complete.count > 1 {
            throw CommandFailure(
                .usage, name, "the devices hold different sets of this name",
                cause: complete.map { $0.places.map(\.device.name).joined(separator: ", ") }
                    .joined(separator: " and "), hint: "name the devices of one of them")
        }
        if sets.contains(where: { $0.name == name && $0.manifest == nil && $0.isDamaged }) {
            throw CommandFailure(
                .damaged, name, "no device at hand has a valid manifest of this set",
                hint: "name more of its devices; docs/spreading.md tells what dd can do")
        }
        if sets.contains(where: { $0.name == name }) {
            throw CommandFailure(
                .noSuchVolume, name, "this set never became complete",
                hint: "run it again, or drop it: logdisk spread forget --set \(name)")
        }
        throw CommandFailure(
            .noSuchVolume, name, "there is no set of this name on the devices",
            hint: "logdisk spread list shows what there is")
    }
}

extension FoundSet {
    var isDamaged: Bool { manifest == nil && places.contains { $0.set.state != .unfinished } }

    /// What it is, in a word.
    var stateWord: String {
        if isDamaged { return "damaged" }
        if !isComplete { return "unfinished" }
        if !missingDevices.isEmpty { return "devices missing" }
        if !manifestIsDamaged.isEmpty { return "a manifest is lost" }
        if manifest.map({ $0.incompleteCount > 0 }) ?? false { return "files missing" }
        return "complete"
    }
}
