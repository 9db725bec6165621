// Devices and sources of the spread commands: from what the user typed to what the room Spread
// works with.

import CommandText
import DiskIO
import Foundation
import ObjectStorage
import Offsite
import Shipping
import Spread

extension DeviceArguments {
    /// The devices, each with what does the work.
    func opened() throws(CommandFailure) -> [(spec: DeviceSpec, device: BackupDevice)] {
        var opened: [(spec: DeviceSpec, device: BackupDevice)] = []
        for spec in try specs() { opened.append((spec, try SpreadPlaces.device(spec))) }
        return opened
    }
}

/// Reads a plan that `spread plan` wrote.
enum PlanFile {
    static func read(_ path: String) throws(CommandFailure) -> SpreadPlanFile {
        let file: StorageFile
        do throws(IOError) {
            file = try DiskStorage().open(path, OpenOptions(.readOnly))
        } catch {
            throw CommandFailure(error, object: path)
        }
        var position: UInt64 = 0
        do throws(SpreadPlanFile.Fault<IOError>) {
            return try SpreadPlanFile.read { (target) throws(IOError) -> Int in
                let count = try file.read(into: target, at: position)
                position += UInt64(count)
                return count
            }
        } catch {
            switch error {
            case .source(let failure): throw CommandFailure(failure, object: path)
            case .syntax(let at, let expected):
                throw CommandFailure(
                    .usage, path, "this is no plan", cause: "at byte \(at): \(expected) expected",
                    hint: "logdisk spread plan --output \(path) makes one")
            case .invalid(let reason):
                throw CommandFailure(
                    .usage, path, "this plan cannot be carried out", cause: reason,
                    hint: "plan again with logdisk spread plan")
            }
        }
    }
}

enum SpreadPlaces {
    static func device(_ spec: DeviceSpec) throws(CommandFailure) -> BackupDevice {
        switch spec.driver {
        case .dir: return FolderDevice(name: spec.name, folder: spec.address)
        case .stream:
            return TapeDevice(name: spec.name, path: spec.address, capacity: spec.capacity)
        case .iso:
            return OpticalDevice(name: spec.name, image: spec.address, capacity: spec.capacity)
        case .https, .http: return try server(spec)
        case .s3: return try bucket(spec)
        }
    }

    /// Nothing is sent yet.
    private static func server(_ spec: DeviceSpec) throws(CommandFailure) -> BackupDevice {
        let environment = ProcessInfo.processInfo.environment
        func path(_ option: String, _ variable: String) -> String? {
            let text = spec.driverOptions[option] ?? environment[variable] ?? ""
            return text.isEmpty ? nil : PathText.canonical(text)
        }
        do throws(RemoteSetupError) {
            let url = try RemoteURL(spec.url ?? "")
            let access = RemoteAccess(
                tokenFile: path("token-file", "LOGDISK_TOKEN_FILE"),
                caFiles: path("ca", "LOGDISK_CA").map { [$0] } ?? [])
            return try ServerDevice(name: spec.name, url, access: access)
        } catch {
            throw CommandFailure(
                .usage, spec.name, error.what,
                hint: error.hint ?? "https://HOST:PORT/NAME?token-file=FILE&ca=FILE")
        }
    }

    /// Nothing is sent yet.
    private static func bucket(_ spec: DeviceSpec) throws(CommandFailure) -> BackupDevice {
        let options = spec.driverOptions
        var object = ObjectOptions()
        (object.endpoint, object.region) = (options["endpoint"], options["region"])
        object.credentials = options["credentials"]
        object.pathStyle = try flag(options["path-style"], "path-style", spec)
        var place = RemotePlace(url: spec.url ?? "")
        place.object = object.settings
        place.caFiles = options["ca"].map { [PathText.canonical($0)] } ?? []
        do throws(RemoteSetupError) {
            return try ObjectDevice(
                name: spec.name, ObjectURL(place.url),
                access: place.objectAccess { Interruption.isRequested })
        } catch {
            throw CommandFailure(
                .usage, spec.name, error.what,
                hint: error.hint
                    ?? "s3://BUCKET/PREFIX?endpoint=URL&region=R&credentials=FILE&path-style=1")
        }
    }

    private static func flag(
        _ text: String?, _ option: String, _ spec: DeviceSpec
    ) throws(CommandFailure) -> Bool {
        switch text {
        case nil, "0"?, "no"?: return false
        case "1"?, "yes"?: return true
        default:
            throw CommandFailure(
                .usage, spec.name, "\(option) is 1 or 0", hint: "\(option)=1")
        }
    }

    /// A device inside a source would be read while it is written; a source inside a device would
    /// grow by what it gives. `paths` are canonical.
    static func checkNesting(
        _ sources: [(origin: String, path: String)], _ specs: [DeviceSpec]
    ) throws(CommandFailure) {
        for spec in specs where spec.url == nil {
            let device = PathText.canonical(spec.address)
            for source in sources {
                if PathText.lies(device, in: source.path) {
                    throw CommandFailure(
                        .usage, "", "the device \(spec.name) lies in the source \(source.origin)",
                        hint: "take another device, or sources beside it")
                }
                if spec.driver == .dir, PathText.lies(source.path, in: device) {
                    throw CommandFailure(
                        .usage, "", "the source \(source.origin) lies on the device \(spec.name)",
                        hint: "take another device: this backup would go with its source")
                }
            }
        }
    }

    // MARK: - sources

    static func open(_ texts: [String]) throws(CommandFailure) -> [SpreadSource] {
        guard !texts.isEmpty else {
            throw CommandFailure(
                .usage, "", "no source is given", hint: "name folders, files, disks or vol:VOL@now")
        }
        var sources: [SpreadSource] = []
        var seen: Set<String> = []
        for text in texts {
            // The states and the log of one volume are different sources.
            let isPlace = !["vol:", "log:", "id:"].contains { text.hasPrefix($0) }
            guard seen.insert(isPlace ? PathText.canonical(text) : text).inserted else {
                throw CommandFailure(
                    .usage, text, "the same source is given twice", hint: "name it once")
            }
            sources.append(try open(text))
        }
        return sources
    }

    static func open(_ text: String) throws(CommandFailure) -> SpreadSource {
        if text.hasPrefix("vol:") { return try VolumeSource.state(text) }
        if text.hasPrefix("log:") { return try VolumeSource.history(text) }
        do throws(SourceFailure) {
            if text.hasPrefix("id:") {
                return try SpreadSource(contentID: String(text.dropFirst(3)), origin: text)
            }
            return try SpreadSource(path: text, origin: text)
        } catch {
            throw CommandFailure(
                error.isMissing ? .failed : .usage, "", "the source \(error.origin) cannot be read",
                cause: error.reason, hint: "name folders, files, disks, vol:VOL@now or log:VOL")
        }
    }

    /// Where sources lie, as far as they are files.
    static func paths(_ texts: [String]) -> [(origin: String, path: String)] {
        texts.compactMap { text in
            if text.hasPrefix("id:") { return nil }
            if text.hasPrefix("vol:") || text.hasPrefix("log:") {
                let name = text.dropFirst(4)
                let volume = name.lastIndex(of: "@").map { String(name[..<$0]) } ?? String(name)
                return (text, VolumeLocation(volume).path)
            }
            return (text, PathText.canonical(text))
        }
    }
}
