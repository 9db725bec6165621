// A job as a plan needs it: devices with what is known of them, and their places checked.

import CommandText
import Foundation
import Spread

enum PlannedJob {
    /// The planner's devices. A folder that is not there is a device that is away. Devices on one
    /// file system share what is free there: any data that fits there at all fits so.
    static func devices(_ specs: [DeviceSpec]) throws(CommandFailure) -> [SpreadDevice] {
        let places = specs.map { DevicePlace($0) }
        var sharers: [UInt64: UInt64] = [:]
        for place in places where place.isFolder {
            if let fileSystem = place.fileSystem { sharers[fileSystem, default: 0] += 1 }
        }
        var devices = SpreadDevice.devices(specs)
        for (index, spec) in specs.enumerated() where spec.driver == .dir {
            let place = places[index]
            guard place.exists else {
                devices[index].isAvailable = false
                continue
            }
            guard place.isFolder else {
                throw CommandFailure(
                    .usage, spec.name, "dir: names a folder, this is none",
                    hint: "mount the device and name the folder")
            }
            if let free = place.free, let fileSystem = place.fileSystem {
                devices[index].free = free / (sharers[fileSystem] ?? 1)
            }
        }
        return devices
    }

    /// A device inside a source would be backed up into itself; a source inside a device would
    /// be mixed with sets.
    static func checkPlaces(
        _ sources: [String], _ specs: [DeviceSpec]
    ) throws(CommandFailure) {
        for spec in specs {
            guard let device = DevicePlace(spec).path else { continue }
            for name in sources where !name.hasPrefix("id:") {
                let source = PathText.canonical(name)
                if PathText.lies(device, in: source) {
                    throw CommandFailure(
                        .usage, spec.name, "the device lies inside the source \(name)",
                        hint: "name a device elsewhere, or sources beside it")
                }
                if PathText.lies(source, in: device) {
                    throw CommandFailure(
                        .usage, name, "the source lies inside the device \(spec.name)",
                        hint: "name a source elsewhere")
                }
            }
        }
    }
}
