// What the user set for one remote of a volume, and what is remembered of it. Small files in the
// folder `remotes` of the volume, for its owner only:
//
//   NAME.json     RemoteConfig; the token is not in it, only the path of its file
//   NAME.state    ShipMemory; behind the truth at the worst
//
// Both are replaced as a whole. A running mount is told when a config changed.

import BlockModel
import CommandText
import DiskIO
import Foundation
import History
import Shipping

struct RemoteConfig: Codable, Hashable, Sendable {
    var name: String
    var url: String
    var tokenFile: String?
    var ca: [String] = []
    var keyFile: String?
    /// Local address or interface to connect from.
    var bind: String?
    /// The interface that is watched; nil: the one of the route to the remote.
    var interface: String?
    var when = "quiet"
    var quietBelow = "20%"
    var rateBytesPerSecond: UInt64?
    var lagSecondsMax: Int64?
    var backlogBytesMax: UInt64?
    var onBacklog = ShipSettings.OnBacklog.holdWrites
    var batchSeconds: Int64?
    /// The ladder of the remote.
    var keep: String?
    /// Who we are at the remote.
    var writer: String
    var isPaused = false
    /// Of an s3 URL.
    var object: ObjectSettings?
    /// nil: a further place for history.
    var role: Role?

    enum Role: String, Codable {
        /// Where the volume keeps its history: what is there is not kept here.
        case store
    }

    init(name: String, url: String) {
        self.name = name
        self.url = url
        var id = ""
        for _ in 0..<2 {
            let digits = String(UInt64.random(in: .min ... .max), radix: 16)
            id += String(repeating: "0", count: 16 - digits.count) + digits
        }
        writer = id
    }

    enum CodingKeys: String, CodingKey {
        case name, url, ca, bind, interface, when, keep, writer, role
        case tokenFile = "token_file"
        case object = "object_storage"
        case keyFile = "key_file"
        case quietBelow = "quiet_below"
        case rateBytesPerSecond = "rate_bytes_per_second"
        case lagSecondsMax = "max_lag_seconds"
        case backlogBytesMax = "max_backlog_bytes"
        case onBacklog = "on_backlog"
        case batchSeconds = "batch_seconds"
        case isPaused = "paused"
    }

    /// When and how fast.
    func settings() throws(CommandFailure) -> ShipSettings {
        var settings = ShipSettings()
        do throws(ShipSettingError) {
            settings.when = try ShipSettings.When(parsing: when)
        } catch {
            throw CommandFailure(
                .usage, "", "--when '\(when)' is not understood", cause: "\(error)",
                hint: "--when quiet, --when always or --when 22:00-06:00")
        }
        do throws(ShipSettingError) {
            settings.quietBelow = try ShipSettings.QuietBelow(
                parsing: quietBelow, rate: RateText.bytesPerSecond)
        } catch {
            throw CommandFailure(
                .usage, "", "--quiet-below '\(quietBelow)' is not understood", cause: "\(error)",
                hint: "--quiet-below 20% or --quiet-below 5MB/s")
        }
        settings.rateBytesPerSecond = rateBytesPerSecond
        settings.lagSecondsMax = lagSecondsMax
        settings.backlogBytesMax = backlogBytesMax
        settings.onBacklog = onBacklog
        if let batchSeconds { settings.batchSeconds = batchSeconds }
        return settings
    }
}

/// The remotes of one volume. A value; any thread may call.
struct RemoteFolder: Sendable {
    let volume: String
    /// The volume as the user named it.
    let object: String
    private let storage = DiskStorage()
    private static let suffix = ".json"
    private static let stateSuffix = ".state"

    var path: String { volume + "/remotes" }

    init(_ volume: String, object: String) {
        self.volume = volume
        self.object = object
    }

    /// 1 to 40 letters, digits, dots, dashes and underscores; the first is no dot.
    static func isName(_ name: String) -> Bool {
        (1...40).contains(name.utf8.count) && !name.hasPrefix(".") && !name.hasPrefix("-")
            && name.utf8.allSatisfy { byte in
                (0x30...0x39).contains(byte) || (0x41...0x5A).contains(byte)
                    || (0x61...0x7A).contains(byte) || [0x2D, 0x2E, 0x5F].contains(byte)
            }
    }

    func names() throws(CommandFailure) -> [String] {
        guard storage.isDirectory(path) else { return [] }
        return try translating(object) {
            try storage.list(path).filter { $0.hasSuffix(Self.suffix) }
                .map { String($0.dropLast(Self.suffix.count)) }.filter(Self.isName)
        }
    }

    func all() throws(CommandFailure) -> [RemoteConfig] {
        var found: [RemoteConfig] = []
        for name in try names() { found.append(try read(name)) }
        return found
    }

    func read(_ name: String) throws(CommandFailure) -> RemoteConfig {
        let file = "\(path)/\(name)\(Self.suffix)"
        guard Self.isName(name), storage.exists(file) else {
            let known = try names()
            throw CommandFailure(
                .noSuchVolume, object, "it has no remote '\(name)'",
                hint: known.isEmpty
                    ? "add one: logdisk remote add \(object) \(name) https://HOST:PORT/VOLUME"
                    : "its remotes: \(known.joined(separator: ", "))")
        }
        let bytes = try translating(object) { try storage.contents(of: file) }
        do {
            return try JSONDecoder().decode(RemoteConfig.self, from: Data(bytes))
        } catch {
            throw CommandFailure(
                .damaged, object, "the settings of remote '\(name)' are damaged", cause: file,
                hint: "mend the file, or remove the remote and add it again")
        }
    }

    func write(_ config: RemoteConfig) throws(CommandFailure) {
        try replace(config.name + Self.suffix, config)
    }

    private func replace(_ name: String, _ value: some Encodable) throws(CommandFailure) {
        try translating(object) {
            if !storage.isDirectory(path) {
                try storage.createDirectory(path)
                try storage.syncDirectory(volume)
            }
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
            let bytes = try encoder.encode(value)
            try bytes.withUnsafeBytes { try storage.replace(name, in: path, with: $0) }
        }
    }

    /// Forgets the remote; nothing is changed there.
    func remove(_ name: String) throws(CommandFailure) {
        _ = try names()
        try translating(object) {
            for suffix in [Self.suffix, Self.stateSuffix] {
                let file = "\(path)/\(name)\(suffix)"
                if storage.exists(file) { try storage.remove(file) }
            }
            try storage.syncDirectory(path)
        }
    }

    // MARK: - what is remembered

    /// Nothing where it cannot be read: then the remote is asked.
    func memory(_ name: String) -> ShipMemory {
        guard let bytes = try? storage.contents(of: "\(path)/\(name)\(Self.stateSuffix)") else {
            return ShipMemory()
        }
        return (try? JSONDecoder().decode(ShipMemory.self, from: Data(bytes))) ?? ShipMemory()
    }

    func remember(_ memory: ShipMemory, of name: String) throws(CommandFailure) {
        try replace(name + Self.stateSuffix, memory)
    }

    // MARK: - what must stay here

    /// Holds a rule back from what some remote has not acknowledged (R5). What a remote gives up
    /// as one interval may be thinned, but for the point where the interval begins.
    func bound(_ rule: inout RetentionRule) throws(CommandFailure) {
        for name in try names() {
            let memory = memory(name)
            let acked = memory.acked ?? .zero
            var bound = acked
            if let through = memory.dropThroughLSN {
                rule.pins.insert(acked)
                bound = LSN(through)
            }
            rule.unshippedAfter = min(rule.unshippedAfter ?? bound, bound)
        }
    }
}
