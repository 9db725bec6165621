// A volume at a remote: its URL, and what is known of it once the remote was asked.

import BlockModel
import CommandText
import Foundation
import History
import LogFormat
import ServerAPI
import Shipping
import Synchronization

/// One volume at a remote. Any thread may call; calls block.
final class RemoteVolume: Sendable {
    let url: String
    let files: RemoteAccessFiles
    private let opened = Mutex<ArchivedVolume?>(nil)

    init(url: String, _ files: RemoteAccessFiles) {
        (self.url, self.files) = (url, files)
    }

    var place: RemotePlace { RemotePlace(url: url, files) }

    /// Asks the remote once; later calls give the same.
    func open(object: String) throws(CommandFailure) -> ArchivedVolume {
        if let known = opened.withLock({ $0 }) { return known }
        let remote = try remote(object: object)
        let reply = try Self.state(remote, object)
        guard let id = VolumeID(canonical: reply.uuid) else {
            throw CommandFailure(
                .unreachable, object, "\(place.kind.words) gives no usable answer",
                cause: reply.uuid)
        }
        let volume = ArchivedVolume(
            store: try Sealing.opened(
                remote.store(), isSealed: reply.isSealed, id, key: files.key, object: object),
            volume: id, sizeBytes: reply.sizeBytes, head: reply.head?.stamp,
            leases: RemoteLeases(remote: remote, url: url))
        opened.withLock { $0 = volume }
        return volume
    }

    /// What speaks to it, to read, or to write as `writer`. Asks for nothing yet.
    func remote(
        writer: String? = nil, object: String
    ) throws(CommandFailure) -> any VolumeRemote {
        do throws(RemoteSetupError) {
            return try place.open(writer: writer, isCancelled: { Interruption.isRequested })
        } catch {
            var failure = CommandFailure(error, object: object)
            failure.hint = error.hint ?? place.kind.setupHint
            throw failure
        }
    }

    /// Where the volume stands there now.
    static func state(
        _ remote: any VolumeRemote, _ object: String
    ) throws(CommandFailure) -> VolumeReply {
        let known = try asking(object) { () throws(ShipError) in try remote.target.state() }
        guard let known else {
            throw CommandFailure(
                .noSuchVolume, object, "\(RemoteKind(url: object).words) has no such volume",
                hint: "logdisk remote add VOL NAME \(object) makes it, from its machine")
        }
        return known
    }
}

extension VolumeReply.Head {
    var stamp: Stamp { Stamp(lsn: LSN(lsn), wallNanoseconds: wallNanoseconds) }
}

/// Leases at the remote. Who may only read gets none: reading works without.
private struct RemoteLeases: LeaseTaker {
    let remote: any VolumeRemote
    let url: String

    func hold(_ lease: Lease) throws -> (any ReadingLease)? {
        do throws(ShipError) {
            return try remote.lease(
                LeaseRequest(
                    purpose: lease.purpose,
                    holder: "\(lease.holder) on \(ProcessInfo.processInfo.hostName)",
                    at: lease.at?.rawValue,
                    segments: lease.segments?.map(\.description).sorted()))
        } catch {
            switch error {
            case .refused, .rejected: return nil
            default: throw CommandFailure(error, object: url)
            }
        }
    }
}
