// The filling of a volume that was mounted before it was here (FillRecord): first the state that it
// stands on becomes the base snapshot of its own history, then the image gets what it lacks of it.
// Killed in the first part it begins that again; in the second it goes on where it was.

import BlockModel
import CommandText
import DiskIO
import Foundation
import History
import LogFormat
import ProtectedVolume

extension VolumeService {
    private static let fillStep: UInt64 = 16 << 20
    private static let retrySeconds: UInt32 = 5

    /// Fills until it is done or the volume is closed; tries again what fails. For a thread of its
    /// own.
    func fillToTheEnd() {
        while !isStopping {
            do throws(CommandFailure) {
                // Held as long as the image is used: whoever closes it waits for that.
                try filling.withLock { _ throws(CommandFailure) in try fill() }
                problems.withLock { $0[.fill] = nil }
                return
            } catch {
                if isStopping { return }
                let text = "the rest of the volume cannot be fetched: \(error.sentence)"
                let isNew = problems.withLock { $0.updateValue(text, forKey: .fill) != text }
                if isNew { log.error("\(text)") }
            }
            for _ in 0..<Self.retrySeconds where !isStopping { sleep(1) }
        }
    }

    private func fill() throws(CommandFailure) {
        guard !isStopping else { return }
        guard var record = try FillRecord.read(path, object: object) else { return }
        tell(record.stage, 0)
        if record.stage == .remote, let image = ground.withLock({ $0.image }) {
            log.notice("fetching the state of lsn \(record.lsn) from \(record.url)")
            try writeBase(of: image.view, record)
            record.stage = .here
            try translating(object) { [record] in try record.write(to: path) }
            tell(.here, 0)
        }
        guard !isStopping else { return }
        if let thin = folder.image as? ThinFile {
            let own = try location.ownState(at: record.stamp)
            thinStorage?.stand(on: own)
            ground.withLock { $0 = VolumeGround(own: own) }
            log.notice("the base snapshot is here; \(record.url) is not needed any more")
            guard try fillImage(thin) else { return }
            try translating(object) {
                try thin.sync()
                // From here on the image counts as whole; the record goes after it.
                try DiskStorage().remove("\(path)/\(BranchRecord.presentName)")
                try DiskStorage().syncDirectory(path)
            }
        }
        try translating(object) { try FillRecord.remove(from: path) }
        filled.withLock { $0 = nil }
        log.notice("all of the volume is here")
    }

    private func writeBase(
        of view: PointInTimeView, _ record: FillRecord
    ) throws(CommandFailure) {
        do throws(HistoryError) {
            _ = try SnapshotWriter(store: store, identity: identity).write(
                view, at: record.stamp, predecessor: record.predecessor ?? .none,
                monitor: WorkMonitor(
                    report: { [self] in tell(.remote, $0.doneBytes) },
                    isCancelled: { [self] in isStopping }))
        } catch {
            // There already: it died before that was noted.
            if case .store(let failure) = error, failure.cause == .exists { return }
            throw CommandFailure(error, object: object)
        }
    }

    /// False when it was stopped.
    private func fillImage(_ thin: ThinFile) throws(CommandFailure) -> Bool {
        let total = folder.superblock.volumeBytes
        for start in stride(from: 0, to: total, by: UInt64.Stride(Self.fillStep)) {
            if isStopping { return false }
            let end = min(total, start + Self.fillStep)
            try translating(object) { _ = try thin.fill(start..<end) }
            tell(.here, end)
        }
        return true
    }

    /// For `status`.
    private func tell(_ stage: FillRecord.Stage, _ doneBytes: UInt64) {
        filled.withLock { filled in
            filled = filled.map {
                .init(
                    stage: stage.rawValue, url: $0.url, doneBytes: doneBytes,
                    totalBytes: $0.totalBytes)
            }
        }
    }
}
