// While a command reads history, pruning leaves it alone.

import Foundation
import History

enum HistoryLease {
    /// Keeps all segments of the volume as long as the result lives. nil where no lease can be
    /// had, such as on a read-only file system or of a volume whose superblock is lost: then a
    /// segment that goes away meanwhile is an error, never a wrong byte.
    static func take(_ location: VolumeLocation, purpose: String) -> (any ReadingLease)? {
        guard let leases = try? location.leaseTaker() else { return nil }
        return try? leases.hold(Lease(purpose: purpose, holder: "process \(getpid())"))
    }
}
