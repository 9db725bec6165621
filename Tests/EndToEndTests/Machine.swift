// What this machine has: tools, rights, and the program under test. A test that lacks something is
// skipped with the reason; with CI set in the environment nothing may be missing, and it fails.

import Foundation
import Testing

enum Machine {
    static let isCI = ProcessInfo.processInfo.environment["CI"].map { !$0.isEmpty } ?? false

    /// Beside the test program, where the build puts both.
    static let logdisk: String = {
        if let given = ProcessInfo.processInfo.environment["LOGDISK_BINARY"] { return given }
        let own = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
        return own.deletingLastPathComponent().appendingPathComponent("logdisk").path
    }()

    static let postgresFolder: String? = {
        let root = "/usr/lib/postgresql"
        let versions = (try? FileManager.default.contentsOfDirectory(atPath: root)) ?? []
        let folders = versions.sorted { (Int($0) ?? 0) < (Int($1) ?? 0) }.map {
            "\(root)/\($0)/bin"
        }
        return folders.last { access($0 + "/initdb", X_OK) == 0 }
    }()

    /// What of `tools` is not here. "root", "fuse", "loop", "logdisk" and "initdb" are known, too.
    static func missing(_ tools: [String]) -> [String] {
        let standard = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        let path = (ProcessInfo.processInfo.environment["PATH"] ?? "") + ":" + standard
        let folders = path.split(separator: ":")
        return tools.filter { tool in
            switch tool {
            case "root": geteuid() != 0
            case "fuse": access("/dev/fuse", R_OK | W_OK) != 0
            case "loop": access("/dev/loop-control", R_OK | W_OK) != 0
            case "logdisk": access(logdisk, X_OK) != 0
            case "initdb": postgresFolder == nil
            default: !folders.contains { access("\($0)/\(tool)", X_OK) == 0 }
            }
        }
    }
}

func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }

/// Skips the test, with the reason, where something is missing; in CI lets it run and fail.
func needs(_ tools: String...) -> ConditionTrait {
    let missing = Machine.missing(tools + ["fuse", "logdisk"])
    return .enabled(
        if: missing.isEmpty || Machine.isCI,
        "not here: \(missing.joined(separator: ", ")) (tools/setup --tests installs what it can)")
}

/// All end-to-end tests, one after the other: they share loop devices and the machine's disks.
@Suite(.serialized) struct EndToEnd {}
