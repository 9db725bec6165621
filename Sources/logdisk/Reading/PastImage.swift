// A past point of a volume as the path of a file, for programs that want one: a mount served by
// this process, without writing the volume out; where there is no FUSE, a sparse copy.
//
// `end` takes mount and folder away. Only a SIGKILL of this process leaves them: an empty folder
// below a dead mount, which `umount` removes.

import BlockModel
import CommandText
import DiskIO
import Foundation
import FuseMount
import History

/// The file, from `init` to `end`. One thread; any number may read the file.
final class PastImage {
    /// What programs open: a file of the volume's size, read only.
    let path: String
    private let folder: String
    private let object: String
    private var served: Served?

    private static let fileName = "disk.img"
    private static let attempts = 100
    private static let attemptMicroseconds: UInt32 = 20_000

    /// A mount and what it shows.
    private final class Served: Sendable {
        let device: PastDevice
        let mount: FuseMount
        let hasEnded = DispatchSemaphore(value: 0)

        init(_ view: PointInTimeView, on folder: String) throws(MountError) {
            device = PastDevice(view)
            mount = try FuseMount(
                device: device, mountPoint: folder,
                options: MountOptions(
                    fileName: PastImage.fileName, fileSystemName: "logdisk-past"))
        }

        func start() {
            Thread.detachNewThread { [self] in
                // A connection that breaks gives the readers errors: they tell.
                try? mount.run()
                hasEnded.signal()
            }
        }
    }

    init(_ view: PointInTimeView, object: String) throws(CommandFailure) {
        self.object = object
        let folder = try TemporaryFolder.make("past", object: object)
        self.folder = folder
        path = "\(folder)/\(Self.fileName)"
        do throws(MountError) {
            let served = try Served(view, on: folder)
            served.start()
            self.served = served
        } catch {
            switch error {
            case .noDevice, .helperMissing, .notPermitted: break
            default:
                rmdir(folder)
                throw CommandFailure(error, object: object)
            }
            do throws(CommandFailure) {
                try copy(view)
            } catch {
                rmdir(folder)
                throw error
            }
        }
    }

    deinit { try? end() }

    /// Why a read of the file failed: what a program said then is no verdict.
    var failure: HistoryError? { served?.device.failure }

    /// Takes the file away. Throws when somebody still uses it; then it goes with its last user.
    /// Idempotent.
    func end() throws(CommandFailure) {
        guard let served else {
            unlink(path)
            rmdir(folder)
            return
        }
        self.served = nil
        defer { rmdir(folder) }
        for attempt in 1...Self.attempts {
            do throws(MountError) {
                try served.mount.requestUnmount(.whenFree)
                served.hasEnded.wait()
                return
            } catch {
                if error == .notMounted { return }
                // A process that is just dying lets go in a moment.
                if case .busy = error, attempt < Self.attempts {
                    usleep(Self.attemptMicroseconds)
                    continue
                }
                try? served.mount.requestUnmount(.lazy)
                throw CommandFailure(error, object: object)
            }
        }
    }

    private func copy(_ view: PointInTimeView) throws(CommandFailure) {
        let path = path
        _ = try translating(object) {
            try Replay(view).write(
                toFile: path, in: DiskStorage(),
                monitor: WorkMonitor(isCancelled: { Interruption.isRequested }))
        }
        chmod(path, 0o400)
    }
}
