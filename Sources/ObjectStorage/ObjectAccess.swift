// How object storage is reached and what is shown to it. A value: what the user set, and what the
// process around gives. Secrets are not in it, only where they lie.

import Foundation
import Shipping

/// What goes with an ObjectURL.
public struct ObjectAccess: Sendable {
    /// http[s]://HOST[:PORT]; nil: Amazon's own store in `region`.
    public var endpoint: String?
    public var region = "us-east-1"
    /// The bucket goes in the path instead of the host's name. Always so where the endpoint is an
    /// address or `localhost`.
    public var isPathStyle = false
    /// PEM files of the certificates to trust instead of the system's.
    public var caFiles: [String] = []
    /// The file with the keys; nil: environment, then the profile file.
    public var credentialsFile: String?
    /// A local address to connect from, or an interface whose address is taken.
    public var bind: String?
    /// The user vouches that nobody else ever writes: a store without create-only puts will do.
    public var isSingleWriter = false
    /// Objects that are larger by more than a quarter go in parts of this size, 5 MiB at least.
    /// nil: 8 MiB.
    public var objectBytes: Int?
    /// So many parts or entries are under way at once.
    public var connections = 8
    /// So long a connection may take to come about.
    public var connectSeconds: Int64 = 10
    /// So long nothing may move in a request that is under way.
    public var idleSeconds: Int64 = 30
    /// So often a request is sent before it counts as failed.
    public var attemptsMax = 6
    /// Before the second attempt about so long, then doubling.
    public var pauseMilliseconds: Int64 = 100
    /// Asked ten times a second while a call blocks; true ends it with `ShipError.stopped`.
    public var isCancelled: @Sendable () -> Bool
    /// Where the keys are looked for when there is no file.
    public var environment: [String: String]
    /// Told of all bytes but those of which `put` tells its `pace`.
    public var traffic: OwnTraffic?

    public init(
        environment: [String: String] = ProcessInfo.processInfo.environment,
        isCancelled: @escaping @Sendable () -> Bool = { false }
    ) {
        self.environment = environment
        self.isCancelled = isCancelled
    }

    static let partBytesMin = 5 << 20
    static let partBytesUsual = 8 << 20

    var partBytes: Int {
        min(max(objectBytes ?? Self.partBytesUsual, Self.partBytesMin), 1 << 30)
    }

    /// What is not longer goes in one put: a last part of little would cost three requests more.
    var wholeBytesMax: UInt64 { UInt64(partBytes + partBytes / 4) }

    func place() throws(RemoteSetupError) -> ObjectEndpoint {
        let isWord = region.utf8.allSatisfy {
            (0x30...0x39).contains($0) || (0x61...0x7A).contains($0) || (0x41...0x5A).contains($0)
                || $0 == 0x2D || $0 == 0x5F
        }
        guard isWord, (1...64).contains(region.utf8.count) else {
            throw RemoteSetupError("'\(region)' is not a region", hint: "--region us-east-1")
        }
        if let endpoint { return try ObjectEndpoint(endpoint) }
        return .amazon(region: region)
    }
}
