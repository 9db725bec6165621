// TLS: which versions, which certificate, and a new one while the server runs.

import DiskIO
import Foundation
import LogServer
import Logging
import NIOCore
import NIOPosix
import NIOSSL
import ServerAPI
import Testing

@Suite struct TLSTests {
    /// A folder with the first certificate; removed with the value.
    private final class Folder {
        let path: String

        init() throws {
            var template = Array("/tmp/logdisk-tls.XXXXXX".utf8CString)
            path = String(cString: try #require(mkdtemp(&template)))
            try TestCertificate.first.write(to: path)
        }

        deinit { try? FileManager.default.removeItem(atPath: path) }

        var files: LogServerConfiguration.Certificate {
            .init(chain: path + "/cert.pem", key: path + "/key.pem")
        }
    }

    /// Whether a client that trusts only `certificate` gets the answer of /v1/health.
    private func answers(
        _ port: Int, trusting certificate: TestCertificate, atMost: TLSVersion? = nil
    ) throws -> Bool {
        var settings = TLSConfiguration.makeClientConfiguration()
        let root = try NIOSSLCertificate(bytes: Array(certificate.chain.utf8), format: .pem)
        settings.trustRoots = .certificates([root])
        settings.minimumTLSVersion = .tlsv1
        settings.maximumTLSVersion = atMost
        let context = try NIOSSLContext(configuration: settings)
        let loops = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        defer { try? loops.syncShutdownGracefully() }
        let found = loops.next().makePromise(of: Bool.self)
        let channel = try ClientBootstrap(group: loops).channelInitializer { channel in
            channel.eventLoop.makeCompletedFuture {
                try channel.pipeline.syncOperations.addHandlers([
                    try NIOSSLClientHandler(context: context, serverHostname: "localhost"),
                    FirstBytes(found),
                ])
            }
        }.connect(host: "127.0.0.1", port: port).wait()
        let request = "GET /v1/health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        channel.writeAndFlush(ByteBuffer(string: request), promise: nil)
        return try found.futureResult.wait()
    }

    private func server(_ folder: Folder) throws -> TestServer {
        try TestServer { $0.certificate = folder.files }
    }

    @Test func versions() throws {
        let folder = try Folder()
        let server = try server(folder)
        #expect(try answers(server.port, trusting: .first))
        #expect(try answers(server.port, trusting: .first, atMost: .tlsv12))
        #expect(try !answers(server.port, trusting: .first, atMost: .tlsv11))
        #expect(try !answers(server.port, trusting: .second))
        // Plain HTTP gets nothing.
        let plain = try RawClient(port: server.port)
        plain.send("GET /v1/health HTTP/1.1\r\nHost: x\r\n\r\n")
        #expect(plain.reply() == nil)
    }

    @Test func aNewCertificateCountsAtOnce() throws {
        let folder = try Folder()
        let server = try server(folder)
        try TestCertificate.second.write(to: folder.path)
        #expect(try answers(server.port, trusting: .first))
        try server.server.reloadCertificate()
        #expect(try answers(server.port, trusting: .second))
        #expect(try !answers(server.port, trusting: .first))
        // One that cannot be used leaves the one before: no PEM, another's key, no file.
        for (chain, key) in [
            ("no certificate", TestCertificate.second.key),
            (TestCertificate.second.chain, TestCertificate.first.key),
            (TestCertificate.second.chain, ""), ("", TestCertificate.second.key),
        ] {
            try TestCertificate(chain: chain, key: key).write(to: folder.path)
            #expect(throws: LogServerError.self) { try server.server.reloadCertificate() }
            #expect(try answers(server.port, trusting: .second))
        }
        try FileManager.default.removeItem(atPath: folder.path + "/cert.pem")
        #expect(throws: LogServerError.self) { try server.server.reloadCertificate() }
        #expect(try answers(server.port, trusting: .second))
    }

    @Test func plainOnlyOnLoopback() throws {
        for host in ["0.0.0.0", "::", "192.0.2.1", "example.org", "127.0.0.1.example.org", "127.1"]
        {
            #expect(!LogServerConfiguration.isLoopback(host))
            #expect(throws: LogServerError.self) { _ = try TestServer { $0.host = host } }
        }
        for host in ["127.0.0.1", "127.8.9.1", "::1", "localhost"] {
            #expect(LogServerConfiguration.isLoopback(host))
        }
    }
}

/// Whether anything that begins like an answer comes before the connection ends.
private final class FirstBytes: ChannelInboundHandler, Sendable {
    typealias InboundIn = ByteBuffer
    private let found: EventLoopPromise<Bool>

    init(_ found: EventLoopPromise<Bool>) { self.found = found }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let bytes = unwrapInboundIn(data)
        found.succeed(bytes.readableBytesView.starts(with: "HTTP/1.1 200".utf8))
        context.close(promise: nil)
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        context.close(promise: nil)
    }

    func channelInactive(context: ChannelHandlerContext) { found.succeed(false) }
}
