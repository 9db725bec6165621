// What every verb of `logdisk spread` that plans takes: sources, devices, and how to divide.

import ArgumentParser
import CommandText
import Foundation
import Shipping
import Spread

extension SpreadMode: ExpressibleByArgument {}
extension SpreadOrder: ExpressibleByArgument {}

/// The devices of a command line.
struct DeviceArguments: ParsableArguments {
    @Option(
        name: .customLong("device"),
        help: ArgumentHelp(
            "A backup device, DRIVER:ADDRESS?OPTIONS; may be given several times. Drivers: dir, "
                + "https, stream, iso. Options: capacity=25G, site=NAME, rate=40MB/s, weight=2, "
                + "of https also token-file=FILE and ca=FILE; joined by &.", valueName: "D"))
    var names: [String] = []

    /// Reads the names; the same device twice is refused.
    func specs() throws(CommandFailure) -> [DeviceSpec] {
        if names.isEmpty {
            throw CommandFailure(
                .usage, "", "no device is given", hint: "for example --device dir:/mnt/backup1")
        }
        var specs: [DeviceSpec] = []
        var places: [String: String] = [:]
        for name in names {
            let spec: DeviceSpec
            do throws(DeviceSpec.Failure) {
                spec = try DeviceSpec(parsing: name)
            } catch {
                throw CommandFailure(
                    .usage, name, "this is no device", cause: error.reason,
                    hint: "for example --device 'dir:/mnt/backup1?capacity=25G'")
            }
            let place = DevicePlace(spec)
            for identity in place.identities {
                if let other = places.updateValue(name, forKey: identity) {
                    throw CommandFailure(
                        .usage, name, "the same device is given twice", cause: "as \(other)",
                        hint: "name each device once")
                }
            }
            specs.append(spec)
        }
        return specs
    }
}

/// Where a device lies, as far as that can be known without a driver.
struct DevicePlace {
    /// Absolute, links resolved; nil: no place in the file system.
    let path: String?
    private let info: stat?

    init(_ spec: DeviceSpec) {
        if let url = spec.url {
            path = nil
            info = nil
            address = (try? RemotePlace(url: url).canonicalURL()) ?? url
            return
        }
        let path = PathText.canonical(spec.address)
        var info = stat()
        self.info = stat(path, &info) == 0 ? info : nil
        self.path = path
        address = path
    }

    private let address: String

    /// Two devices that share one of these are the same.
    var identities: [String] {
        guard let info else { return [address] }
        return [address, "inode \(info.st_dev):\(info.st_ino)"]
    }

    /// The file system that it lies on.
    var fileSystem: UInt64? { info.map { UInt64($0.st_dev) } }
    var isFolder: Bool { info.map { $0.st_mode & S_IFMT == S_IFDIR } ?? false }
    var exists: Bool { info != nil }

    /// Bytes that a user may still write there.
    var free: UInt64? {
        guard let path, exists else { return nil }
        var status = statvfs()
        guard statvfs(path, &status) == 0 else { return nil }
        return UInt64(status.f_bavail).multipliedReportingOverflow(by: UInt64(status.f_frsize))
            .partialValue
    }
}

/// How files are divided.
struct PlanArguments: ParsableArguments {
    @Option(help: ArgumentHelp("How to divide.", valueName: "MODE"))
    var mode = SpreadMode.balanced

    @Option(help: ArgumentHelp("How the list is sorted by size.", valueName: "ORDER"))
    var order = SpreadOrder.descending

    @Option(help: ArgumentHelp("Each byte on so many devices, at so many sites.", valueName: "K"))
    var copies = 1

    @Option(
        help: ArgumentHelp("Also split files that are larger than this.", valueName: "SIZE"))
    var splitOver: String?

    @Option(
        help: ArgumentHelp(
            "What a file costs besides its bytes, as bytes; counts as load. run measures it where "
                + "it is not given.", valueName: "SIZE"))
    var itemCost: String?

    @Option(
        help: ArgumentHelp(
            "A folder of a source that stays on one device; may be given several times.",
            valueName: "DIR"))
    var keepTogether: [String] = []

    /// The planner's options. Folders are looked up among `sources`; with `isList` they are paths
    /// of the list.
    func options(sources: [String], isList: Bool) throws(CommandFailure) -> SpreadOptions {
        var options = SpreadOptions()
        options.mode = mode
        options.order = order
        options.copies = copies
        if let splitOver { options.splitOver = try OptionText.size(splitOver, "--split-over") }
        if let itemCost { options.itemCost = try OptionText.size(itemCost, "--item-cost") }
        for folder in keepTogether {
            if isList {
                options.keepTogether.append(
                    .init(source: 0, path: Self.trimmed(Array(folder.utf8))))
            } else {
                options.keepTogether.append(try Self.folder(folder, in: sources))
            }
        }
        return options
    }

    private static func folder(
        _ name: String, in sources: [String]
    ) throws(CommandFailure) -> SpreadOptions.Folder {
        let path = PathText.canonical(name)
        for (index, source) in sources.enumerated() {
            let top = PathText.canonical(source)
            if path == top { return .init(source: index, path: []) }
            let prefix = top == "/" ? top : top + "/"
            if path.hasPrefix(prefix) {
                return .init(source: index, path: Array(path.dropFirst(prefix.count).utf8))
            }
        }
        throw CommandFailure(
            .usage, name, "--keep-together names a folder outside all sources",
            hint: "name a folder below a source")
    }

    private static func trimmed(_ path: [UInt8]) -> [UInt8] {
        var path = path[...]
        while path.last == UInt8(ascii: "/") { path = path.dropLast() }
        return Array(path)
    }
}

extension CommandFailure {
    /// What the planner refuses, in the words of the command line.
    init(_ error: SpreadError, object: String) {
        let (status, hint): (ExitStatus, String) =
            switch error {
            case .noDevice: (.usage, "for example --device dir:/mnt/backup1")
            case .noDeviceAvailable: (.unreachable, "mount or connect one, then try again")
            case .tooManyDevices, .tooLarge: (.usage, "divide it into several jobs")
            case .tooFewDevices: (.usage, "name more devices, or fewer --copies")
            case .doesNotFit:
                (.failed, "add a device, raise a capacity, or leave sources out")
            case .togetherDoesNotFit:
                (.failed, "let it be divided: leave --keep-together out for it")
            case .togetherIsEmpty: (.usage, "name a folder that holds files")
            case .balancedOnly: (.usage, "leave it out, or plan with --mode balanced")
            case .badOption: (.usage, "logdisk help spread plan")
            }
        self.init(status, object, "\(error)", hint: hint)
    }
}
