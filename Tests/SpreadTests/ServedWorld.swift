// A log server in this process, and devices of it.

import DiskIO
import Foundation
import LogServer
import Logging
import Offsite
import Shipping
import Spread
import Testing

/// A server over simulated storage, on a loopback port that stays the same over restarts. Stops
/// when it goes.
final class ServedWorld: @unchecked Sendable {
    // @unchecked: one thread at a time stops and starts it.
    let storage: SimulatedStorage
    private var server: LogServer
    private let port: Int
    private let reserveBytes: UInt64
    private var files: [String] = []

    init(seed: UInt64 = 5, reserveBytes: UInt64 = 0) throws {
        storage = SimulatedStorage(seed: seed)
        self.reserveBytes = reserveBytes
        server = try LogServer(Self.configuration(storage, reserveBytes, port: 0))
        port = try server.start()
    }

    deinit {
        stop()
        for file in files { unlink(file) }
    }

    private static func configuration(
        _ storage: SimulatedStorage, _ reserveBytes: UInt64, port: Int
    ) -> LogServerConfiguration {
        var log = Logger(label: "test")
        log.logLevel = .critical
        var made = LogServerConfiguration(
            storage: storage, store: "/store", port: port, log: log)
        made.reserveBytes = reserveBytes
        return made
    }

    func stop() { server.stop(graceSeconds: 0) }

    func start() throws {
        server = try LogServer(Self.configuration(storage, reserveBytes, port: port))
        try server.start()
    }

    private var tokens: AccessFolder {
        get throws { AccessFolder(try ServerStore(opening: "/store", in: storage)) }
    }

    /// A file with a token of its own.
    func token(_ level: AccessLevel = .full, named name: String = "\(UUID())") throws -> String {
        let text = try tokens.create(name: name, level: level, volumes: ["*"], now: 0)
        let path = "\(NSTemporaryDirectory())/logdisk-token-\(UUID())"
        try #require(
            FileManager.default.createFile(
                atPath: path, contents: Data((text + "\n").utf8),
                attributes: [.posixPermissions: 0o600]))
        files.append(path)
        return path
    }

    func revoke(_ name: String) throws { try tokens.revoke(name: name) }

    func device(
        _ name: String, called: String? = nil, tokenFile: String? = nil
    ) throws -> ServerDevice {
        let url = "http://127.0.0.1:\(port)/\(name)"
        return try ServerDevice(
            name: called ?? url, RemoteURL(url),
            access: RemoteAccess(tokenFile: tokenFile ?? token()))
    }
}
