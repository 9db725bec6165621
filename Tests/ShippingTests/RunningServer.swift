// A real log server over TLS on a port of the loopback address, its certificates, and clients.

import BlockModel
import DiskIO
import Foundation
import LogServer
import Logging
import SegmentStoreSuite
import ServerAPI
import Shipping

/// Certificates in a folder of their own, made by openssl.
final class Certificates: Sendable {
    let folder: String
    /// The authority that clients trust, and one that they do not.
    var ca: String { "\(folder)/ca.pem" }
    var otherCA: String { "\(folder)/other.pem" }

    static let shared = Result { try Certificates() }

    private init() throws {
        // Shared by all tests, so it goes with the process.
        atexit {
            if case .success(let made) = Certificates.shared {
                try? FileManager.default.removeItem(atPath: made.folder)
            }
        }
        folder = "\(NSTemporaryDirectory())/logdisk-certificates-\(UUID())"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        for name in ["ca", "other"] {
            try openssl(
                "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
                "-nodes", "-keyout", "\(name).key", "-out", "\(name).pem", "-days", "30",
                "-subj", "/CN=\(name)")
        }
        let here = "IP:127.0.0.1,IP:::1,DNS:localhost"
        try issue("good", names: here, days: 30)
        try issue("expired", names: here, days: -1)
        try issue("elsewhere", names: "DNS:backup.example.org", days: 30)
    }

    func certificate(_ name: String) -> LogServerConfiguration.Certificate {
        .init(chain: "\(folder)/\(name).pem", key: "\(folder)/\(name).key")
    }

    private func issue(_ name: String, names: String, days: Int) throws {
        try openssl(
            "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-keyout", "\(name).key", "-out", "\(name).csr", "-subj", "/CN=\(name)")
        try Data("subjectAltName=\(names)\n".utf8)
            .write(to: URL(fileURLWithPath: "\(folder)/\(name).ext"))
        try openssl(
            "x509", "-req", "-in", "\(name).csr", "-CA", "ca.pem", "-CAkey", "ca.key",
            "-CAcreateserial", "-out", "\(name).pem", "-days", "\(days)", "-extfile",
            "\(name).ext")
    }

    struct Failed: Error { var arguments: [String] }

    private func openssl(_ arguments: String...) throws {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = ["openssl"] + arguments
        process.currentDirectoryURL = URL(fileURLWithPath: folder)
        process.standardOutput = FileHandle.nullDevice
        process.standardError = FileHandle.nullDevice
        try process.run()
        process.waitUntilExit()
        if process.terminationStatus != 0 { throw Failed(arguments: arguments) }
    }
}

/// Stops when it goes.
final class RunningServer {
    let storage = SimulatedStorage(seed: 3)
    let server: LogServer
    let port: Int
    private let tokens: AccessFolder
    private let isSecure: Bool
    private var files: [String] = []
    static let writer = "writer-of-tests"

    /// `certificate` is the name of one of `Certificates`; nil: plain HTTP.
    init(certificate: String? = "good") throws {
        var log = Logger(label: "test")
        log.logLevel = .critical
        var configuration = LogServerConfiguration(storage: storage, store: "/store", log: log)
        isSecure = certificate != nil
        if let certificate {
            configuration.certificate = try Certificates.shared.get().certificate(certificate)
        }
        server = try LogServer(configuration)
        port = try server.start()
        tokens = AccessFolder(try ServerStore(opening: "/store", in: storage))
    }

    deinit {
        server.stop(graceSeconds: 1)
        for file in files { unlink(file) }
    }

    /// The path of a file with a new token.
    func token(
        _ name: String, _ level: AccessLevel, volumes: [String] = ["*"]
    ) throws -> String {
        file(with: try tokens.create(name: name, level: level, volumes: volumes, now: 0))
    }

    func revoke(_ name: String) throws { try tokens.revoke(name: name) }

    func file(with token: String) -> String {
        let path = "\(NSTemporaryDirectory())/logdisk-token-\(UUID())"
        _ = FileManager.default.createFile(
            atPath: path, contents: Data((token + "\n").utf8),
            attributes: [.posixPermissions: 0o600])
        files.append(path)
        return path
    }

    func client(
        tokenFile: String?, volume: String = "v", port: Int? = nil, host: String = "127.0.0.1",
        idleSeconds: Int64 = 30, bind: String? = nil
    ) throws -> LogServerClient {
        var access = RemoteAccess(
            tokenFile: tokenFile, caFiles: isSecure ? [try Certificates.shared.get().ca] : [],
            bind: bind)
        access.idleSeconds = idleSeconds
        let url = "http\(isSecure ? "s" : "")://\(host):\(port ?? self.port)/\(volume)"
        return try LogServerClient(RemoteURL(url), access: access, writer: Self.writer)
    }

    /// The volume of SegmentMaker.
    static func volume() -> VolumeRequest {
        let maker = SegmentMaker(seed: 0)
        return VolumeRequest(
            uuid: "\(maker.volume)", sizeBytes: maker.volumeBytes, writer: writer, host: "tests",
            isSealed: false, keep: nil)
    }
}
