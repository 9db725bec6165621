// How a log server is to run. A value.

import DiskIO
import History
import Logging
import ServerAPI

#if canImport(Glibc)
    import Glibc
#endif

/// Settings of a log server.
public struct LogServerConfiguration: Sendable {
    /// Files of the certificate (PEM, with those that lead to its root) and of its key (PEM).
    public struct Certificate: Hashable, Sendable {
        public var chain: String
        public var key: String

        public init(chain: String, key: String) {
            self.chain = chain
            self.key = key
        }
    }

    /// Bounds against too many and too slow clients.
    public struct Limits: Hashable, Sendable {
        /// Open at once; more wait to be accepted.
        public var connections = 1000
        /// Requests that send bytes at once; more are asked to wait.
        public var uploads = 64
        /// Threads that work on the disk.
        public var diskThreads = 8
        /// Bytes of all header fields of a request.
        public var headerBytes = 16 << 10
        /// From the connection to its first whole request head, the TLS handshake included.
        public var firstHeadSeconds: Int64 = 20
        /// From an answer to the next whole request head.
        public var idleSeconds: Int64 = 90
        /// In each such span a body must bring some bytes, and a client take some of an answer.
        public var stallSeconds: Int64 = 45
        /// `Retry-After` of 503.
        public var retrySeconds: Int64 = 5
        /// After the start nothing is pruned for so long: leases of before may be in use.
        public var pruneRestSeconds: Int64 = ServerAPI.leaseSeconds
        /// A volume is not looked at by retention more often than that.
        public var pruneEverySeconds: Int64 = 60

        public init() {}
    }

    public var storage: Storage
    /// The folder; made when it is empty or missing.
    public var store: String
    /// A name or address: `127.0.0.1`, `::1`, `0.0.0.0`.
    public var host: String
    /// 0: one that is free.
    public var port: Int
    /// nil: plain HTTP, on loopback addresses only.
    public var certificate: Certificate?
    /// The ladder of new volumes that come without one; nil: everything is kept.
    public var keep: Ladder?
    /// Nothing is taken while less is free on the file system.
    public var reserveBytes: UInt64 = 0
    public var limits = Limits()
    /// Wall time, nanoseconds since 1970-01-01 UTC.
    public var clock: @Sendable () -> Int64 = {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
    }
    public var log: Logger
    /// What `GET /v1/health` tells.
    public var version = ""

    public init(
        storage: Storage, store: String, host: String = "127.0.0.1", port: Int = 0,
        certificate: Certificate? = nil, log: Logger
    ) {
        self.storage = storage
        self.store = store
        self.host = host
        self.port = port
        self.certificate = certificate
        self.log = log
    }

    /// Whether `host` is reached from this machine only.
    public static func isLoopback(_ host: String) -> Bool {
        if host == "localhost" || host == "::1" { return true }
        let parts = host.split(separator: ".", omittingEmptySubsequences: false)
        return parts.count == 4 && parts[0] == "127" && parts.allSatisfy { UInt8($0) != nil }
    }
}

/// Why a server does not start or take a new certificate.
public enum LogServerError: Error, Sendable {
    case store(ServerStoreError)
    /// The certificate or its key cannot be used; in words.
    case certificate(String)
    /// The address cannot be listened on; in words.
    case address(String)
    /// Plain HTTP on an address that others reach.
    case insecure(host: String)
}
