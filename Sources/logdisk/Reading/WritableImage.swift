// A past point of a volume as the path of a file that can be written to: a branch in a temporary
// folder, served by a process of its own. `end` takes all of it away.

import CommandText
import Foundation
import FuseMount
import History

/// The file, from `init` to `end`. One thread.
final class WritableImage {
    /// What programs open.
    let path: String
    private let folder: String
    private let object: String
    private var isThere = true

    private static let attempts = 100
    private static let attemptMicroseconds: UInt32 = 20_000

    private var branch: String { folder + "/branch" }
    private var mountPoint: String { folder + "/mnt" }

    /// Of `state`, a past one of the volume in `location`. What is written lies in a temporary
    /// folder.
    init(of location: VolumeLocation, _ state: PastState) throws(CommandFailure) {
        object = location.object
        folder = try TemporaryFolder.make("drill", object: object)
        path = folder + "/mnt/disk.img"
        do throws(CommandFailure) {
            mkdir(mountPoint, 0o700)
            try BranchMaker.make(branch, of: location, on: state)
            let report = try BackgroundProcess.start(
                ["mount", branch, mountPoint, "--report-start"], logPath: branch + "/mount.log")
            switch report {
            case .ready: break
            case .failed(_, let message):
                throw CommandFailure(
                    .failed, location.object, "the branch cannot be mounted", cause: message)
            case .died:
                throw CommandFailure(
                    .failed, location.object, "the branch's process died while starting")
            }
        } catch {
            try? end()
            throw error
        }
    }

    deinit { try? end() }

    /// Idempotent. Throws when somebody still uses the file; then it stays.
    func end() throws(CommandFailure) {
        guard isThere else { return }
        isThere = false
        if FuseMount.source(of: mountPoint) != nil, let client = try VolumeLocation(branch).client()
        {
            try unmount(client)
        }
        if access(branch + "/" + BranchRecord.fileName, F_OK) == 0 {
            _ = try BranchMaker.remove(branch, parent: nil)
        }
        rmdir(mountPoint)
        rmdir(folder)
    }

    private func unmount(_ client: ControlClient) throws(CommandFailure) {
        for attempt in 1...Self.attempts {
            do throws(CommandFailure) {
                let reply = try translating(object) { () -> AcceptedReply in
                    try client.postToTheEnd("/v1/unmount", [String: Int]())
                }
                // It is a child of this process, and exists until it is waited for.
                while waitpid(reply.pid, nil, WNOHANG) == 0 { usleep(5_000) }
                return
            } catch {
                // A process or a loop device that is just ending lets go in a moment.
                guard error.status == .inUse else { throw error }
                guard attempt == Self.attempts else {
                    usleep(Self.attemptMicroseconds)
                    continue
                }
                throw CommandFailure(
                    .inUse, object, "the check has left the image in use", cause: error.sentence,
                    hint: "end that, then: logdisk unmount \(mountPoint); "
                        + "logdisk branch delete \(branch)")
            }
        }
    }
}
