// Where a remote lies and what opens it, as the user said: a URL, and paths of files. Secrets are in
// those files only. The one place that decides by the URL which kind of remote it is.

import ServerAPI
import Shipping

/// A value; nothing is asked or read before `open`.
struct RemotePlace: Hashable, Sendable {
    var url: String
    var tokenFile: String?
    /// Certificates to trust; none: those of the system.
    var caFiles: [String] = []
    /// Local address or interface to connect from.
    var bind: String?

    init(url: String) { self.url = url }

    /// Of a command that reads.
    init(url: String, _ files: RemoteAccessFiles) {
        self.url = url
        tokenFile = files.token
        caFiles = files.ca.map { [$0] } ?? []
    }

    var kind: RemoteKind { RemoteKind(url: url) }

    /// Whether the user means a URL and no path.
    static func isMeant(by text: String) -> Bool { RemoteURL.isMeant(by: text) }

    /// The URL as it is kept and compared; throws where it is none.
    func canonicalURL() throws(RemoteSetupError) -> String {
        switch kind {
        case .logServer: "\(try RemoteURL(url))"
        }
    }

    /// Who answers there: a name or an address.
    func host() throws(RemoteSetupError) -> String {
        switch kind {
        case .logServer: try RemoteURL(url).host
        }
    }

    /// What a volume calls this remote where the user does not say.
    func usualName() throws(RemoteSetupError) -> String { try host() }

    /// Reads the files that open it; connects to nothing yet. `writer` is who changes the volume;
    /// nil only reads.
    func open(
        writer: String? = nil, isCancelled: @escaping @Sendable () -> Bool
    ) throws(RemoteSetupError) -> any VolumeRemote {
        switch kind {
        case .logServer:
            try LogServerRemote(
                RemoteURL(url),
                RemoteAccess(
                    tokenFile: tokenFile, caFiles: caFiles, bind: bind, isCancelled: isCancelled),
                writer: writer)
        }
    }
}

/// The files that open a volume at a remote for a command that reads; absolute paths.
struct RemoteAccessFiles: Equatable, Sendable {
    var token: String?
    /// Trusted certificates; nil: those of the system.
    var ca: String?
    var key: String?

    init(token: String? = nil, ca: String? = nil, key: String? = nil) {
        (self.token, self.ca, self.key) = (token, ca, key)
    }
}
