// From a shipper's status, or from what is remembered of a remote, to the report for people and
// programs.

import BlockModel
import CommandText
import DiskIO
import Foundation
import History
import Shipping

extension RemoteReport {
    private init(_ config: RemoteConfig, _ memory: ShipMemory) {
        self.init()
        name = config.name
        url = config.url
        interface = config.interface
        isPaused = config.isPaused
        ackedLSN = memory.ackedLSN
        if memory.ackedLSN != nil, memory.ackedWallNanoseconds != 0 {
            ackedTime = TimeText.rfc3339(memory.ackedWallNanoseconds)
        }
        problem = memory.standing
        drops = UInt64(memory.dropCount)
        lastDropTime = memory.lastDropWallNanoseconds.map { TimeText.rfc3339($0) }
        when = config.when
        quietBelow = config.quietBelow
        rateBytesPerSecond = config.rateBytesPerSecond
        lagSecondsMax = config.lagSecondsMax
        backlogBytesMax = config.backlogBytesMax
        onBacklog = config.onBacklog.rawValue
        keep = config.keep
        isSealed = config.keyFile != nil
        isStore = config.role == .store ? true : nil
        if config.object?.isSingleWriter == true {
            warning = "--single-writer: nothing but you keeps a second writer away"
        }
    }

    init(_ config: RemoteConfig, _ status: ShipStatus) {
        self.init(config, status.memory)
        interface = status.interface
        isPaused = status.isPaused
        state = "\(status.decision)"
        stateKind = status.decision.kind
        lagRecords = status.lagRecords
        lagBytes = status.lagBytes
        lagSeconds = status.lagSeconds
        if let sending = status.sending {
            self.sending = sending.name
            sendingBytes = sending.progress.doneBytes
            sendingTotalBytes = sending.progress.totalBytes
        }
        shippedBytes = status.shippedBytes
        shippedSegments = status.shippedSegments
        failure = status.failure
        isHoldingWriters = status.isHoldingWriters
        if problem == nil { problem = Self.problem(status) }
        decisions = status.decisions.map {
            Decision(
                time: TimeText.rfc3339($0.wallNanoseconds / 1_000_000 * 1_000_000), kind: $0.kind,
                text: $0.text)
        }
    }

    private static func problem(_ status: ShipStatus) -> String? {
        if status.isHoldingWriters { return "as much waits as may: writers are held" }
        if status.needsUser { return status.failure }
        if let bound = status.settings.lagSecondsMax, status.lagSeconds > bound + 60,
            status.failure != nil
        {
            return "it lags more than \(DurationText(seconds: bound)) behind"
        }
        return nil
    }

    /// Of a volume that is not mounted: what waits is counted from what lies in its folder.
    init(
        _ config: RemoteConfig, _ memory: ShipMemory, newest: LSN,
        segments: [StoredSegment], unarchivedBytes: UInt64
    ) {
        self.init(config, memory)
        let acked = memory.acked ?? .zero
        lagRecords = newest > acked ? newest.rawValue - acked.rawValue : 0
        if lagRecords > 0 {
            lagBytes =
                segments.filter { $0.name.kind != .snapshot && $0.name.last > acked }
                .reduce(0) { $0 + $1.byteCount } + unarchivedBytes
        }
        state =
            memory.standing.map { "stopped: \($0)" }
            ?? (isPaused ? "paused" : "not mounted: nothing is shipped")
        stateKind = memory.standing != nil ? "hold:standing" : "hold:unmounted"
    }
}

extension StatusReport {
    /// The remotes of a volume that is not mounted.
    mutating func fillRemotes(_ location: VolumeLocation, _ store: DirectoryStore) {
        let folder = RemoteFolder(location.path, object: location.object)
        guard let configs = try? folder.all(), !configs.isEmpty else { return }
        let segments = (try? store.list()) ?? []
        remotes = configs.map {
            RemoteReport(
                $0, folder.memory($0.name), newest: LSN(durableLSN),
                segments: segments, unarchivedBytes: unarchivedBytes)
        }
        fillRemoteProblems()
    }

    mutating func fillRemoteProblems() {
        for remote in remotes ?? [] {
            guard let problem = remote.problem else { continue }
            problems.append("remote \(remote.name): \(problem)")
            if health == .ok { health = .degraded }
        }
    }
}
