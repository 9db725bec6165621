// Thinning of a volume's history, as the command and the mount both do it: pins and leases from
// their files, one run at a time by a lock file.

import BlockModel
import CommandText
import DiskIO
import History
import LogFormat
import ProtectedVolume

struct Pruning: Sendable {
    let store: DirectoryStore
    let volume: VolumeID
    /// The folder that `segments` lies in.
    let logDirectory: String
    /// What a branch stands on.
    let base: PastState?
    /// The volume as the user named it, for messages.
    let object: String
    /// The volume's folder.
    let path: String

    private static let lockName = "prune.lock"

    var pins: PinFile { PinFile(storage: DiskStorage(), directory: logDirectory) }

    var thinning: Thinning {
        let leases = LeaseFolder(storage: DiskStorage(), logDirectory: logDirectory)
        return Thinning(store: store, volume: volume, base: base?.view) { try leases.current() }
    }

    /// The ladder at `now`, with the pins.
    func rule(_ ladder: Ladder, now: Int64) throws(CommandFailure) -> RetentionRule {
        var rule = RetentionRule(ladder, now: now)
        rule.pins = try translatingPins { Set(try pins.pins().map(\.lsn)) }
        try RemoteFolder(path, object: object).bound(&rule)
        return rule
    }

    func run(
        _ rule: RetentionRule, monitor: WorkMonitor
    ) throws(CommandFailure) -> ThinningResult {
        try locked {
            // Once more, now that nobody else can change them.
            var rule = rule
            rule.pins = Set(try pins.pins().map(\.lsn))
            try RemoteFolder(path, object: object).bound(&rule)
            return try thinning.run(rule, monitor: monitor)
        }
    }

    /// Runs `body` while no other process prunes or changes the pins.
    func locked<R>(_ body: () throws -> R) throws(CommandFailure) -> R {
        try translatingPins {
            let path = "\(logDirectory)/\(Self.lockName)"
            let file = try DiskStorage().open(
                path, OpenOptions(.readWrite, creation: .ifMissing))
            defer { file.close() }
            guard try file.tryLock() else {
                throw CommandFailure(
                    .inUse, object, "its history is being pruned already", cause: path,
                    hint: "try again when that has ended")
            }
            return try body()
        }
    }

    func translatingPins<R>(_ body: () throws -> R) throws(CommandFailure) -> R {
        try translating(object) {
            do {
                return try body()
            } catch let error as PinFile.Unreadable {
                throw CommandFailure(
                    .damaged, object, "the list of pins is damaged", cause: "\(error)",
                    hint: "mend it or remove it, then pin again")
            }
        }
    }

    static func ladder(_ text: String, _ object: String) throws(CommandFailure) -> Ladder {
        do throws(LadderError) {
            return try Ladder(parsing: text)
        } catch {
            throw CommandFailure(
                .usage, object, "--keep '\(text)' is no ladder", cause: "\(error)",
                hint: "for example --keep \"every 24h, 1m 7d, 1h 30d, 1d 1y\"")
        }
    }
}

extension VolumeHistory {
    /// What prunes this history; a volume whose superblock is lost is not pruned.
    func pruning() throws(CommandFailure) -> Pruning {
        try location.mustBeVolume()
        try location.mustHaveBase()
        guard let superblock else {
            throw missingNewest
                ?? CommandFailure(.damaged, location.object, "the superblock is damaged")
        }
        return Pruning(
            store: location.segmentStore(superblock), volume: superblock.volume,
            logDirectory: VolumeFolder.logDirectory(location.path, superblock),
            base: ground.base, object: location.object, path: location.path)
    }
}
