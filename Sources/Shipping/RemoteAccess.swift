// How a log server is reached and what is shown to it: token, certificates, local address, times.
// The token and the certificates are read from files, so that neither is on a command line.

import Foundation
import NIOSSL

#if canImport(Glibc)
    import Glibc
#endif

/// What goes with a RemoteURL. A value.
public struct RemoteAccess: Sendable {
    /// The file with the token: its first line. Nobody but the owner may read it.
    public var tokenFile: String?
    /// PEM files of the certificates to trust instead of the system's.
    public var caFiles: [String]
    /// A local address to connect from, or an interface to go through.
    public var bind: String?
    /// So long a connection may take to come about.
    public var connectSeconds: Int64 = 10
    /// So long nothing may move in a request that is under way.
    public var idleSeconds: Int64 = 30
    /// Asked ten times a second while a call blocks; true ends it with `ShipError.stopped`.
    public var isCancelled: @Sendable () -> Bool

    public init(
        tokenFile: String? = nil, caFiles: [String] = [], bind: String? = nil,
        isCancelled: @escaping @Sendable () -> Bool = { false }
    ) {
        self.tokenFile = tokenFile
        self.caFiles = caFiles
        self.bind = bind
        self.isCancelled = isCancelled
    }

    /// Reads a token: visible ASCII on the first line of `path`, a file of mode 0600 or narrower.
    public static func token(in path: String) throws(RemoteSetupError) -> String {
        let bytes = try SecretFile.bytes("the token", in: path, countMax: 4096)
        let line = bytes.prefix { $0 != 0x0A && $0 != 0x0D }
        guard !line.isEmpty, line.count < 4096, line.allSatisfy({ (0x21...0x7E) ~= $0 }) else {
            throw RemoteSetupError(
                "there is no token in the first line of \(path)",
                hint: "logdisk access create prints one")
        }
        return String(decoding: line, as: UTF8.self)
    }

    func tlsContext() throws(RemoteSetupError) -> NIOSSLContext {
        let tls = try Self.tlsConfiguration(caFiles)
        do {
            return try NIOSSLContext(configuration: tls)
        } catch {
            throw RemoteSetupError("cannot set up TLS (\(error))")
        }
    }

    /// TLS 1.2 or newer, with the name and the whole chain of the server's certificate checked.
    package static func tlsConfiguration(
        _ caFiles: [String]
    ) throws(RemoteSetupError) -> TLSConfiguration {
        var tls = TLSConfiguration.makeClientConfiguration()
        tls.minimumTLSVersion = .tlsv12
        tls.certificateVerification = .fullVerification
        tls.applicationProtocols = ["http/1.1"]
        tls.shutdownTimeout = .seconds(2)
        if !caFiles.isEmpty {
            var trusted: [NIOSSLCertificate] = []
            for path in caFiles {
                do {
                    trusted += try NIOSSLCertificate.fromPEMFile(path)
                } catch {
                    let isThere = access(path, R_OK) == 0
                    let cause =
                        isThere ? "no certificates in PEM form" : String(cString: strerror(errno))
                    throw RemoteSetupError("cannot read certificates from \(path) (\(cause))")
                }
            }
            guard !trusted.isEmpty else {
                throw RemoteSetupError("there are no certificates in \(caFiles[0])")
            }
            tls.trustRoots = .certificates(trusted)
        }
        return tls
    }
}
