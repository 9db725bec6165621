// HTTP by hand over a plain socket, so that tests can send what no client library would. Blocks.

import Foundation

struct RawReply {
    var status: Int
    /// Names in lower case.
    var fields: [String: String]
    var body: [UInt8]

    func json<Value: Decodable>(_ type: Value.Type = Value.self) throws -> Value {
        try JSONDecoder().decode(Value.self, from: Data(body))
    }
}

struct SocketFailure: Error {
    var what: String
    var code = errno
}

/// One connection. One thread.
final class RawClient {
    private let descriptor: Int32
    private var buffer: [UInt8] = []

    init(port: Int, receiveBytes: Int32? = nil) throws {
        descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        guard descriptor >= 0 else { throw SocketFailure(what: "socket") }
        if var bytes = receiveBytes {
            setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &bytes, socklen_t(4))
        }
        var patience = timeval(tv_sec: 60, tv_usec: 0)
        let size = socklen_t(MemoryLayout<timeval>.size)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &patience, size)
        setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &patience, size)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = in_port_t(UInt16(port).bigEndian)
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        let length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let result = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(descriptor, $0, length)
            }
        }
        guard result == 0 else {
            let failure = SocketFailure(what: "connect")
            close(descriptor)
            throw failure
        }
    }

    deinit { close(descriptor) }

    /// False when the server has closed.
    @discardableResult
    func send(_ bytes: [UInt8]) -> Bool {
        var done = 0
        while done < bytes.count {
            let count = bytes.withUnsafeBytes {
                Glibc.send(
                    descriptor, $0.baseAddress! + done, $0.count - done, Int32(MSG_NOSIGNAL))
            }
            if count < 0, errno == EINTR { continue }
            if count <= 0 { return false }
            done += count
        }
        return true
    }

    @discardableResult
    func send(_ text: String) -> Bool { send(Array(text.utf8)) }

    /// Says that nothing more comes.
    func endSending() { shutdown(descriptor, Int32(SHUT_WR)) }

    /// Resets the connection instead of ending it.
    func cut() {
        var setting = linger(l_onoff: 1, l_linger: 0)
        setsockopt(
            descriptor, SOL_SOCKET, SO_LINGER, &setting, socklen_t(MemoryLayout<linger>.size))
        shutdown(descriptor, Int32(SHUT_RDWR))
    }

    /// False at the end of the connection.
    private func receive() -> Bool {
        var piece = [UInt8](repeating: 0, count: 64 << 10)
        while true {
            let count = recv(descriptor, &piece, piece.count, 0)
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { return false }
            buffer += piece[..<count]
            return true
        }
    }

    /// The next answer; nil when the connection ends before it is whole.
    func reply(isHead: Bool = false) -> RawReply? {
        let end = Array("\r\n\r\n".utf8)
        var found: Range<Int>?
        while true {
            found = buffer.firstRange(of: end)
            if found != nil || !receive() { break }
        }
        guard let found else { return nil }
        let lines = String(decoding: buffer[..<found.lowerBound], as: UTF8.self)
            .components(separatedBy: "\r\n")
        buffer.removeFirst(found.upperBound)
        var fields: [String: String] = [:]
        for line in lines.dropFirst() {
            let parts = line.split(separator: ":", maxSplits: 1)
            guard parts.count == 2 else { continue }
            fields[parts[0].lowercased()] = parts[1].trimmingCharacters(in: .whitespaces)
        }
        let status = lines[0].split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0
        let length = isHead ? 0 : fields["content-length"].flatMap { Int($0) } ?? 0
        while buffer.count < length {
            guard receive() else { return nil }
        }
        let body = Array(buffer[..<length])
        buffer.removeFirst(length)
        return RawReply(status: status, fields: fields, body: body)
    }

    /// Reads until the server closes; whether it did so in time.
    func waitForEnd() -> Bool {
        while receive() { buffer = [] }
        return errno != EAGAIN
    }
}
