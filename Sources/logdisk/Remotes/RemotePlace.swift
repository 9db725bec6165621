// Where a remote lies and what opens it, as the user said: a URL, and paths of files. Secrets are
// in those files only. The one place that decides by the URL which kind of remote it is.

import ObjectStorage
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
    /// What else an s3 URL needs; means nothing to others.
    var object = ObjectSettings()

    init(url: String) { self.url = url }

    /// Of a command that reads.
    init(url: String, _ files: RemoteAccessFiles) {
        self.url = url
        tokenFile = files.token
        caFiles = files.ca.map { [$0] } ?? []
        object = files.object
    }

    var kind: RemoteKind { RemoteKind(url: url) }

    /// Whether the user means a URL and no path.
    static func isMeant(by text: String) -> Bool { RemoteURL.isMeant(by: text) }

    /// The URL as it is kept and compared; throws where it is none.
    func canonicalURL() throws(RemoteSetupError) -> String {
        switch kind {
        case .logServer: "\(try RemoteURL(url))"
        case .objectStorage: "\(try ObjectURL(url))"
        }
    }

    /// Who answers there: a name or an address.
    func host() throws(RemoteSetupError) -> String {
        switch kind {
        case .logServer: try RemoteURL(url).host
        case .objectStorage: ObjectRemote.host(self)
        }
    }

    /// What a volume calls this remote where the user does not say.
    func usualName() throws(RemoteSetupError) -> String {
        switch kind {
        case .logServer: try host()
        case .objectStorage: try ObjectURL(url).bucket
        }
    }

    /// The URL that a user gave for the volume in `folder`, as it is kept: where it names no
    /// volume, that of the folder does.
    static func url(_ given: String, for folder: String) throws(RemoteSetupError) -> String {
        var text = given
        while text.hasSuffix("/"), !text.hasSuffix("://") { text.removeLast() }
        let path = text.split(separator: "/", omittingEmptySubsequences: true)
        if path.count == 2, let name = folder.split(separator: "/").last { text += "/\(name)" }
        return try RemotePlace(url: text).canonicalURL()
    }

    /// Reads the files that open it; connects to nothing yet. `writer` is who changes the volume;
    /// nil only reads. `traffic` hears of bytes that no shipper counts.
    func open(
        writer: String? = nil, traffic: OwnTraffic? = nil,
        isCancelled: @escaping @Sendable () -> Bool
    ) throws(RemoteSetupError) -> any VolumeRemote {
        switch kind {
        case .logServer:
            try LogServerRemote(
                RemoteURL(url),
                RemoteAccess(
                    tokenFile: tokenFile, caFiles: caFiles, bind: bind, isCancelled: isCancelled),
                writer: writer)
        case .objectStorage:
            try ObjectRemote(
                ObjectURL(url), self, writer: writer, traffic: traffic, isCancelled: isCancelled)
        }
    }
}

/// The files that open a volume at a remote for a command that reads; absolute paths.
struct RemoteAccessFiles: Equatable, Sendable {
    var token: String?
    /// Trusted certificates; nil: those of the system.
    var ca: String?
    var key: String?
    var object = ObjectSettings()

    init(token: String? = nil, ca: String? = nil, key: String? = nil) {
        (self.token, self.ca, self.key) = (token, ca, key)
    }
}
