// What signals do to a mount's process: SIGTERM and SIGINT unmount. When the mount is in use it
// vanishes from the tree and ends with its last user; a second signal takes it away from its users.
// SIGHUP is ignored.

import Foundation
import FuseMount
import Logging

enum UnmountOnSignal {
    /// Before any thread is started, so that none takes a signal away from `begin`.
    static func prepare() {
        SignalMask.block([SIGINT, SIGTERM])
        signal(SIGHUP, SIG_IGN)
        signal(SIGPIPE, SIG_IGN)
    }

    /// A thread that waits for signals until the process ends.
    static func begin(_ mount: FuseMount, _ log: Logger) {
        Thread { wait(mount, log) }.start()
    }

    private static func wait(_ mount: FuseMount, _ log: Logger) {
        var mode = UnmountMode.whenFree
        while true {
            let signal = SignalMask.wait(for: [SIGINT, SIGTERM])
            log.notice("signal \(signal): unmounting")
            do throws(MountError) {
                try mount.requestUnmount(mode)
            } catch {
                if case .busy = error, mode == .whenFree {
                    log.warning(
                        "\(error); the mount ends with its last user, or at the next signal")
                    try? mount.requestUnmount(.lazy)
                } else {
                    log.error("\(error)")
                }
            }
            mode = .abort
        }
    }
}
