// How `spread fail` reaches a run: a folder of the run's own, in which a request is a file. The run
// looks every tenth of a second. Only the same user's runs can be reached.
//
//   FOLDER/PROCESS/set           the set's name
//   FOLDER/PROCESS/devices       names of the devices, a line each
//   FOLDER/PROCESS/fail-N        request: device N has failed; removed when the run has taken it

import CommandText
import Foundation

struct RunControl {
    let folder: String
    private let devices: [String]

    private static var base: String {
        if let given = ProcessInfo.processInfo.environment["XDG_RUNTIME_DIR"], !given.isEmpty {
            return "\(given)/logdisk-spread"
        }
        return geteuid() == 0 ? "/run/logdisk-spread" : "/tmp/logdisk-spread-\(geteuid())"
    }

    /// For a run of this process; nil where no folder can be made: then nobody can reach it.
    init?(set: String, devices: [String]) {
        self.devices = devices
        folder = "\(Self.base)/\(getpid())"
        guard Self.makePrivate(Self.base) else { return nil }
        try? FileManager.default.removeItem(atPath: folder)
        guard mkdir(folder, 0o700) == 0,
            (try? set.write(toFile: "\(folder)/set", atomically: true, encoding: .utf8)) != nil,
            (try? devices.joined(separator: "\n").write(
                toFile: "\(folder)/devices", atomically: true, encoding: .utf8)) != nil
        else { return nil }
    }

    private static func makePrivate(_ path: String) -> Bool {
        mkdir(path, 0o700)
        var info = stat()
        return lstat(path, &info) == 0 && info.st_mode & S_IFMT == S_IFDIR
            && info.st_uid == geteuid() && info.st_mode & 0o077 == 0
    }

    /// Names of devices that an operator has declared failed since the last call.
    func requests() -> [String] {
        var found: [String] = []
        for (index, device) in devices.enumerated() {
            let path = "\(folder)/fail-\(index)"
            if access(path, F_OK) == 0 {
                unlink(path)
                found.append(device)
            }
        }
        return found
    }

    func end() { try? FileManager.default.removeItem(atPath: folder) }

    // MARK: - the other side

    struct Running {
        var process: pid_t
        var set: String
        var devices: [String]
    }

    /// Runs of this user.
    static func running() -> [Running] {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: base)) ?? []
        return names.sorted().compactMap { name in
            guard let process = pid_t(name) else { return nil }
            guard kill(process, 0) == 0 || errno == EPERM else {
                try? FileManager.default.removeItem(atPath: "\(base)/\(name)")
                return nil
            }
            func text(_ file: String) -> String? {
                try? String(contentsOfFile: "\(base)/\(name)/\(file)", encoding: .utf8)
            }
            guard let set = text("set"), let devices = text("devices") else { return nil }
            return Running(
                process: process, set: set,
                devices: devices.split(separator: "\n").map(String.init))
        }
    }

    /// Asks the run to take its device `index` as failed; false when it ended before it looked.
    static func fail(_ run: Running, _ index: Int) -> Bool {
        let path = "\(base)/\(run.process)/fail-\(index)"
        guard FileManager.default.createFile(atPath: path, contents: nil) else { return false }
        while access(path, F_OK) == 0 {
            guard kill(run.process, 0) == 0, !Interruption.isRequested else { return false }
            usleep(20_000)
        }
        return access("\(base)/\(run.process)", F_OK) == 0
    }
}
