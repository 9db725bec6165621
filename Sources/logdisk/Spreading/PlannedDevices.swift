// Devices as a plan needs them: what is known without a driver, nothing opened.

import CommandText
import Foundation
import Spread

enum PlannedDevices {
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
}
