// A real object store for the tests: SeaweedFS or Ceph with its S3 gateway, on this machine, with
// keys made for it. One of each kind is started at first use and shared by the whole test process;
// a test that kills parts of one starts its own. Everything ends with the test process, however
// that ends (EngineHost.swift). Not the store under test: nothing of logdisk is used here.
// Threads: any.

import Foundation
import Synchronization

public final class ObjectEngine: Sendable, CustomStringConvertible {
    public enum Kind: String, CaseIterable, Sendable, CustomStringConvertible {
        case seaweedFS = "SeaweedFS"
        case ceph = "Ceph"

        public var description: String { rawValue }

        /// What it needs and is not here, in words; nil: nothing.
        public var missing: String? {
            switch self {
            case .seaweedFS: SeaweedFS.missing
            case .ceph: Ceph.missing
            }
        }

        /// Kinds that tests are run on: those that are here; with CI set in the environment all,
        /// so that a missing one fails.
        public static var toTest: [Kind] {
            let isCI = ProcessInfo.processInfo.environment["CI"].map { !$0.isEmpty } ?? false
            return isCI ? allCases : allCases.filter { $0.missing == nil }
        }
    }

    /// What can be killed and started again.
    public enum Part: String, CaseIterable, Sendable {
        /// The S3 gateway.
        case gateway
        /// Where the bytes lie: the volume server, or one of three OSDs.
        case storage
    }

    public struct Key: Hashable, Sendable {
        public var access: String
        public var secret: String

        public init(access: String, secret: String) {
            (self.access, self.secret) = (access, secret)
        }

        /// A profile file's content.
        public var profile: String {
            "[default]\naws_access_key_id = \(access)\naws_secret_access_key = \(secret)\n"
        }
    }

    public let kind: Kind
    /// Of the gateway, at 127.0.0.1.
    public let port: Int
    /// The same over TLS.
    public let securePort: Int
    public let region = "us-east-1"
    /// May do everything.
    public let writer = Key(access: "LOGDISKWRITER", secret: "writer/secret+0123456789")
    /// May read and list everything.
    public let reader = Key(access: "LOGDISKREADER", secret: "reader/secret+0123456789")
    /// The writer's name with another secret.
    public let wrong = Key(access: "LOGDISKWRITER", secret: "another/secret+0123456789")

    public var endpoint: String { "http://127.0.0.1:\(port)" }
    public var secureEndpoint: String { "https://127.0.0.1:\(securePort)" }
    /// The certificate of that one.
    public var certificateFile: String { host.certificate }
    public var description: String { kind.rawValue }

    private let host: EngineHost
    private let running: Mutex<[Part: pid_t]>
    private let begin: @Sendable (Part) throws(EngineFailure) -> pid_t
    private let buckets = Atomic<Int>(0)

    /// What starting one of a kind gives.
    struct Started {
        var host: EngineHost
        var port: Int
        var securePort: Int
        /// Only parts that are processes of their own.
        var running: [Part: pid_t]
        var begin: @Sendable (Part) throws(EngineFailure) -> pid_t
    }

    private init(_ kind: Kind, isApart: Bool) throws(EngineFailure) {
        self.kind = kind
        if let missing = kind.missing { throw EngineFailure("\(kind): \(missing)") }
        let keys = (writer, reader)
        let started =
            switch kind {
            case .seaweedFS: try SeaweedFS.start(writer: keys.0, reader: keys.1, isApart: isApart)
            case .ceph: try Ceph.start(writer: keys.0, reader: keys.1)
            }
        (host, begin) = (started.host, started.begin)
        (port, securePort) = (started.port, started.securePort)
        running = Mutex(started.running)
        do {
            try waitUntilReady()
        } catch {
            host.end()
            throw error
        }
    }

    private static let sharedSeaweedFS = Result { () throws(EngineFailure) in
        try ObjectEngine(.seaweedFS, isApart: false)
    }
    private static let sharedCeph = Result { () throws(EngineFailure) in
        try ObjectEngine(.ceph, isApart: false)
    }

    /// The one that all tests of this process share; its parts are not to be killed.
    public static func shared(_ kind: Kind) throws(EngineFailure) -> ObjectEngine {
        switch kind {
        case .seaweedFS: try sharedSeaweedFS.get()
        case .ceph: try sharedCeph.get()
        }
    }

    /// One whose parts are processes of their own; the caller stops it.
    public static func own(_ kind: Kind) throws(EngineFailure) -> ObjectEngine {
        try ObjectEngine(kind, isApart: true)
    }

    /// Ends it and removes its folder.
    public func stop() { host.end() }

    /// SIGKILL for a part.
    public func kill(_ part: Part) {
        guard let process = running.withLock({ $0.removeValue(forKey: part) }) else {
            preconditionFailure("\(part) is no process of its own, or is dead already")
        }
        EngineHost.kill(process)
    }

    /// Starts a part that was killed. Returns when it has been started, not when it serves.
    public func start(_ part: Part) throws(EngineFailure) {
        let process = try begin(part)
        running.withLock { $0[part] = process }
    }

    /// Until objects can be written and read.
    public func waitUntilReady() throws(EngineFailure) {
        let bucket = "ready-\(UUID().uuidString.lowercased())"
        try EngineHost.wait(for: "\(kind) at \(endpoint)") {
            status("PUT", "/\(bucket)") == 200
        }
        try EngineHost.wait(for: "a put to \(kind)") {
            status("PUT", "/\(bucket)/object", body: Array("x".utf8)) == 200
        }
        _ = status("DELETE", "/\(bucket)/object")
        _ = status("DELETE", "/\(bucket)")
    }

    private func status(_ method: String, _ path: String, body: [UInt8] = []) -> Int? {
        try? request(method, path, body: body).status
    }

    /// A new, empty bucket; its name.
    public func newBucket(_ options: BucketOption...) throws(EngineFailure) -> String {
        try newBucket(options)
    }

    public func newBucket(_ options: [BucketOption]) throws(EngineFailure) -> String {
        let number = buckets.add(1, ordering: .relaxed).newValue
        let name = "bucket-\(getpid())-\(number)"
        var headers: [String: String] = [:]
        if options.contains(.objectLock) { headers["x-amz-bucket-object-lock-enabled"] = "true" }
        try expect(200, "PUT", "/\(name)", headers: headers)
        if options.contains(.versioning) {
            try expect(
                200, "PUT", "/\(name)", query: ["versioning": ""],
                body: """
                    <VersioningConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">\
                    <Status>Enabled</Status></VersioningConfiguration>
                    """)
        }
        if options.contains(.objectLock) {
            try expect(
                200, "PUT", "/\(name)", query: ["object-lock": ""],
                body: """
                    <ObjectLockConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">\
                    <ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention>\
                    <Mode>COMPLIANCE</Mode><Days>1</Days></DefaultRetention></Rule>\
                    </ObjectLockConfiguration>
                    """)
        }
        return name
    }

    public enum BucketOption: Sendable {
        case versioning
        /// Every object is kept for a day, whoever asks. Implies versions.
        case objectLock
    }

    private func expect(
        _ status: Int, _ method: String, _ path: String, query: [String: String] = [:],
        headers: [String: String] = [:], body: String = ""
    ) throws(EngineFailure) {
        let answer = try request(
            method, path, query: query, headers: headers, body: Array(body.utf8))
        if answer.status != status {
            throw EngineFailure("\(kind): \(method) \(path): \(answer)")
        }
    }

    /// A signed request of one's own: what a test wants to see or do there without the code under
    /// test. `path` is `/BUCKET/KEY`; the answer is whole.
    public func request(
        _ method: String, _ path: String, query: [String: String] = [:],
        headers: [String: String] = [:], body: [UInt8] = [], key: Key? = nil
    ) throws(EngineFailure) -> SignedRequest.Answer {
        let request = SignedRequest(
            method: method, path: path, query: query, headers: headers, body: body)
        return try request.send(toPort: port, key: key ?? writer, region: region)
    }

    /// Keys below a prefix, in order; at most a thousand.
    public func keys(in bucket: String, prefix: String = "") throws(EngineFailure) -> [String] {
        let answer = try request(
            "GET", "/\(bucket)", query: ["list-type": "2", "prefix": prefix])
        if answer.status != 200 { throw EngineFailure("listing \(bucket): \(answer)") }
        let pieces = String(decoding: answer.body, as: UTF8.self).components(separatedBy: "<Key>")
        return pieces.dropFirst().compactMap { $0.components(separatedBy: "</Key>").first }
    }
}
