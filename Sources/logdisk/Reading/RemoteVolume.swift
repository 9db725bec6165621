// A volume at a log server: its URL, and what is known of it once the server was asked.

import BlockModel
import CommandText
import Foundation
import History
import LogFormat
import ServerAPI
import Shipping
import Synchronization

/// One volume at a log server. Any thread may call; calls block.
final class RemoteVolume: Sendable {
    let url: String
    let files: RemoteAccessFiles
    private let opened = Mutex<(client: LogServerClient, volume: ArchivedVolume)?>(nil)

    init(url: String, _ files: RemoteAccessFiles) {
        (self.url, self.files) = (url, files)
    }

    /// Whether the user means a URL and no path.
    static func isURL(_ text: String) -> Bool { RemoteURL.isMeant(by: text) }

    /// Asks the server once; later calls give the same.
    func open(object: String) throws(CommandFailure) -> ArchivedVolume {
        if let known = opened.withLock({ $0?.volume }) { return known }
        let client = try client(object: object)
        let reply = try Self.state(client, object)
        guard let id = VolumeID(canonical: reply.uuid) else {
            throw CommandFailure(
                .unreachable, object, "the log server gives no usable answer", cause: reply.uuid)
        }
        let volume = ArchivedVolume(
            store: try Sealing.opened(
                RemoteStore(client), isSealed: reply.isSealed, id, key: files.key, object: object),
            volume: id, sizeBytes: reply.sizeBytes, head: reply.head?.stamp,
            leases: RemoteLeases(client: client, url: url))
        opened.withLock { $0 = (client, volume) }
        return volume
    }

    /// A client that reads, or that writes as `writer`. Asks for nothing yet.
    func client(
        writer: String? = nil, object: String
    ) throws(CommandFailure) -> LogServerClient {
        do throws(RemoteSetupError) {
            return try LogServerClient(
                RemoteURL(url),
                access: RemoteAccess(
                    tokenFile: files.token, caFiles: files.ca.map { [$0] } ?? [],
                    isCancelled: { Interruption.isRequested }), writer: writer)
        } catch {
            var failure = CommandFailure(error, object: object)
            failure.hint = error.hint ?? "look at --token-file and --ca"
            throw failure
        }
    }

    /// Its URL in parts.
    func address(object: String) throws(CommandFailure) -> RemoteURL {
        do throws(RemoteSetupError) { return try RemoteURL(url) } catch {
            throw CommandFailure(error, object: object)
        }
    }

    /// Where the volume stands at the server now.
    static func state(
        _ client: LogServerClient, _ object: String
    ) throws(CommandFailure) -> VolumeReply {
        guard let reply = try asking(object, { () throws(ShipError) in try client.volume() }) else {
            throw CommandFailure(
                .noSuchVolume, object, "the log server has no such volume",
                hint: "logdisk remote add VOL NAME \(object) makes it, from its machine")
        }
        return reply
    }
}

extension VolumeReply.Head {
    var stamp: Stamp { Stamp(lsn: LSN(lsn), wallNanoseconds: wallNanoseconds) }
}

/// Leases at the server. A token that may only read gets none: reading works without.
private struct RemoteLeases: LeaseTaker {
    let client: LogServerClient
    let url: String

    func hold(_ lease: Lease) throws -> (any ReadingLease)? {
        do throws(ShipError) {
            return try RemoteLease(
                client, purpose: lease.purpose, holder: Self.holder(lease),
                at: lease.at?.rawValue, segments: lease.segments?.map(\.description).sorted())
        } catch {
            switch error {
            case .refused, .rejected: return nil
            default: throw CommandFailure(error, object: url)
            }
        }
    }

    private static func holder(_ lease: Lease) -> String {
        "\(lease.holder) on \(ProcessInfo.processInfo.hostName)"
    }
}

extension RemoteLease: ReadingLease {}
