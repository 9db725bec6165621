// Why a certificate was not accepted, in words. TLS says only that the check failed; to name the
// cause, the certificate is fetched once more and looked at. Nothing is sent on that connection.

import Foundation
import NIOCore
import NIOPosix
import NIOSSL
import Synchronization

package enum CertificateProblem {
    /// Of the server that `url` names.
    package static func words(_ url: RemoteURL, _ access: RemoteAccess) -> String {
        let tls = try? access.tlsContext()
        return words(ServerPlace(url: url, tls: tls, access: access))
    }

    /// Blocks for one more connection, a few seconds at the most.
    static func words(_ place: ServerPlace) -> String {
        guard let certificate = fetch(place) else { return "it is not valid" }
        let now = Int(Date().timeIntervalSince1970)
        if certificate.notValidAfter < now {
            return "it expired at \(text(certificate.notValidAfter))"
        }
        if certificate.notValidBefore > now {
            return "it is not valid before \(text(certificate.notValidBefore))"
        }
        return "it is not signed by an authority that is trusted here"
    }

    private static func text(_ time: Int) -> String {
        Date(timeIntervalSince1970: Double(time)).formatted(.iso8601)
    }

    private static func fetch(_ place: ServerPlace) -> NIOSSLCertificate? {
        guard let tls = place.tls, let bootstrap = try? ServerConnection.boundBootstrap(place)
        else { return nil }
        let name = place.url.isAddress ? nil : place.url.host
        let seen = ServerPlace.group.any().makePromise(of: NIOSSLCertificate?.self)
        let ready =
            bootstrap
            .connectTimeout(.seconds(3))
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    let handler = try NIOSSLClientHandler(
                        context: tls, serverHostname: name,
                        customVerificationCallback: { chain, verdict in
                            seen.succeed(chain.first)
                            verdict.succeed(.failed)
                        })
                    try channel.pipeline.syncOperations.addHandler(handler)
                }
            }
        let (host, port) = (place.url.host, place.url.port)
        // A local address fits remote ones of its family only.
        let peer = place.access.bind.flatMap { LocalEnd($0).peers(host, port).first }
        let attempt = peer.map { ready.connect(to: $0) } ?? ready.connect(host: host, port: port)
        attempt.whenFailure { _ in seen.succeed(nil) }
        let timer = ServerPlace.group.any().scheduleTask(in: .seconds(5)) { seen.succeed(nil) }
        let found = (try? seen.futureResult.wait()) ?? nil
        timer.cancel()
        attempt.whenSuccess { $0.close(promise: nil) }
        return found
    }
}
