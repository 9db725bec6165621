// Asks a running mount over its control socket.

import AsyncHTTPClient
import CommandText
import Foundation
import NIOCore

/// One volume's mount, as seen from another process. Calls block.
struct ControlClient: Sendable {
    /// The volume as the user named it, for messages.
    let object: String
    private let socket: ControlSocket
    /// Without a time limit for answers: a snapshot takes as long as it takes.
    private static let http = HTTPClient(
        configuration: HTTPClient.Configuration(
            timeout: HTTPClient.Configuration.Timeout(connect: .seconds(10))))

    init(
        volume: String, socketName: String = ControlSocket.fileName, object: String
    ) throws(CommandFailure) {
        self.object = object
        socket = try ControlSocket(volume: volume, name: socketName)
    }

    func get<Reply: Decodable>(_ path: String) throws -> Reply {
        try call(.get, path, body: nil)
    }

    func post<Reply: Decodable>(_ path: String, _ request: NameRequest? = nil) throws -> Reply {
        try call(.post, path, body: try request.map { try JSONEncoder().encode($0) })
    }

    /// Waits for the answer also when this command is interrupted.
    func postToTheEnd<Reply: Decodable>(_ path: String, _ request: some Encodable) throws -> Reply {
        try call(.post, path, body: try JSONEncoder().encode(request), isInterruptible: false)
    }

    private func call<Reply: Decodable>(
        _ method: HTTPMethodName, _ path: String, body: Data?, isInterruptible: Bool = true
    ) throws -> Reply {
        let (status, bytes) = try send(method, path, body: body, isInterruptible)
        let decoder = JSONDecoder()
        guard status == 200 else {
            if let reply = try? decoder.decode(FailureReply.self, from: bytes) {
                throw reply.failure(object: object)
            }
            throw CommandFailure(
                .failed, object, "the mount gave no usable answer", cause: "HTTP status \(status)")
        }
        do {
            return try decoder.decode(Reply.self, from: bytes)
        } catch {
            throw CommandFailure(
                .failed, object, "the mount gave no usable answer", cause: "unexpected JSON",
                hint: "is another version of logdisk mounted?")
        }
    }

    private func send(
        _ method: HTTPMethodName, _ path: String, body: Data?, _ isInterruptible: Bool
    ) throws -> (Int, Data) {
        guard let url = URL(httpURLWithSocketPath: socket.path, uri: path) else {
            throw CommandFailure(.unreachable, object, "the control socket has no usable path")
        }
        let text = url.absoluteString
        do {
            return try waiting(isInterruptible: isInterruptible) {
                var request = HTTPClientRequest(url: text)
                request.method = method == .get ? .GET : .POST
                if let body {
                    request.headers.add(name: "Content-Type", value: "application/json")
                    request.body = .bytes(ByteBuffer(bytes: body))
                }
                let response = try await Self.http.execute(request, timeout: .hours(24 * 365))
                let bytes = try await response.body.collect(upTo: 16 << 20)
                return (Int(response.status.code), Data(bytes.readableBytesView))
            }
        } catch let failure as CommandFailure {
            throw failure
        } catch {
            throw CommandFailure(
                .unreachable, object, "the mount does not answer", cause: "\(error)",
                hint: "look at its log: mount.log in the volume's folder")
        }
    }
}

/// The two methods in use.
enum HTTPMethodName: Sendable {
    case get, post
}
