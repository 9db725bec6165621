// A volume at a log server, over HTTPS.

import History
import ServerAPI
import Shipping

/// Any thread may call; calls block.
final class LogServerRemote: VolumeRemote {
    private let client: LogServerClient
    private let serverTarget: LogServerTarget

    /// Reads the token and the certificates; connects to nothing yet.
    init(
        _ url: RemoteURL, _ access: RemoteAccess, writer: String?
    ) throws(RemoteSetupError) {
        client = try LogServerClient(url, access: access, writer: writer)
        serverTarget = LogServerTarget(client)
    }

    var target: any ShipTarget { serverTarget }

    func store() -> any SegmentStore { RemoteStore(client) }

    func takeOver(_ request: WriterRequest) throws(ShipError) -> VolumeReply {
        try client.takeOver(request)
    }

    func lease(_ request: LeaseRequest) throws(ShipError) -> any ReadingLease {
        try RemoteLease(
            client, purpose: request.purpose, holder: request.holder, at: request.at,
            segments: request.segments)
    }

    func rest() { client.closeIdleConnections() }
}

extension RemoteLease: ReadingLease {}
