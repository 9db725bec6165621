// Ships by hand to the end: for a volume that no mount ships.

import BlockModel
import CommandText
import Foundation
import Shipping

/// Drives a shipper on the calling thread.
struct ShipRun {
    /// The volume as the user named it.
    let object: String
    let isSilent: Bool

    private static let failuresMax = 5

    /// Ships until everything is there. `now`: whatever the schedule says.
    func toTheEnd(
        _ shipper: Shipper, through target: LSN, now: Bool
    ) throws(CommandFailure) {
        let progress = ProgressReporter("ship", totalBytes: 0, isSilent: isSilent)
        let watcher = Thread {
            while !shipper.isEnding {
                if Interruption.isRequested { shipper.stop() }
                usleep(100_000)
            }
        }
        watcher.start()
        defer {
            shipper.stop()
            progress.finish()
        }
        if now { shipper.shipNow() }
        var failures = 0
        while true {
            let decision = shipper.turn()
            try Interruption.check()
            let status = shipper.status()
            try progress.update(
                status.shippedBytes, of: status.shippedBytes + status.lagBytes)
            guard case .hold(let reason, let nanoseconds) = decision else { continue }
            switch reason {
            case .upToDate: return
            case .standing(let text):
                throw CommandFailure(
                    .refused, object, "remote \(shipper.setup.name) does not ship", cause: text,
                    hint: "when the cause is gone: logdisk remote resume \(object) "
                        + shipper.setup.name)
            case .failed(let text, _):
                failures += 1
                // A cut is mended at once; a server that is not there is for later.
                guard failures < Self.failuresMax else {
                    let acked = shipper.acked.map { "lsn \($0)" } ?? "nothing"
                    throw CommandFailure(
                        status.needsUser ? .refused : .unreachable, object,
                        "remote \(shipper.setup.name) has \(acked) of lsn \(target)", cause: text,
                        hint: "try again later; what is there is not sent again")
                }
            default: break
            }
            try rest(nanoseconds ?? 1_000_000_000)
        }
    }

    private func rest(_ nanoseconds: Int64) throws(CommandFailure) {
        let end = ContinuousClock.now + .nanoseconds(nanoseconds)
        while ContinuousClock.now < end {
            try Interruption.check()
            usleep(UInt32(min(nanoseconds / 1000, 50_000)))
        }
    }
}
